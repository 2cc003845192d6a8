//! The connection itself.

use super::table::{NONE, flags::*};
use super::{Call, Error, Handled, Outcome, rows};

rows! { Connection;
    "ping", -1, FAST | LOADING | STALE, NONE, "1.0.0", ping,
        "Returns the server's liveliness response.";
    "quit", -1, FAST | LOADING | STALE | NOSCRIPT | NO_AUTH | IMMEDIATE, NONE, "1.0.0", quit,
        "Closes the connection.";
}

fn ping(call: &mut Call<'_>) -> Handled {
    match call.args.len() {
        1 => call.out.simple("PONG"),
        2 => call.out.bulk(call.args.at(1)),
        _ => return Err(Error::arity(call.command.name)),
    }
    Ok(Outcome::Reply)
}

fn quit(call: &mut Call<'_>) -> Handled {
    call.out.ok();
    Ok(Outcome::Close)
}
