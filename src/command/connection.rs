//! The connection itself.

use super::acl::authenticate;
use super::client::set_name;
use super::table::{NONE, flags::*};
use super::{Call, Error, Handled, Outcome, rows};
use crate::resp::{Protocol, parse_i64};

rows! { Connection;
    "ping", -1, FAST | LOADING | STALE, NONE, "1.0.0", ping,
        "Returns the server's liveliness response.";
    "echo", 2, FAST | LOADING | STALE, NONE, "1.0.0", echo,
        "Returns the given string.";
    "hello", -1, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH, NONE, "6.0.0", hello,
        "Handshakes with the Redis server.";
    "select", 2, LOADING | STALE | FAST, NONE, "1.0.0", select,
        "Changes the selected database.";
    "reset", 1, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | IMMEDIATE, NONE, "6.2.0", reset,
        "Resets the connection.";
    "quit", -1, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | IMMEDIATE, NONE, "1.0.0", quit,
        "Closes the connection.";
    "readonly", 1, LOADING | STALE | FAST, NONE, "3.0.0", readonly,
        "Enables read-only queries for a connection to a follower.";
    "readwrite", 1, LOADING | STALE | FAST, NONE, "3.0.0", readwrite,
        "Disables read-only queries for a connection to a follower.";
}

/// The version of Redis whose behaviour clients may expect.
pub(super) const REDIS_VERSION: &str = "7.2.5";

fn ping(call: &mut Call<'_>) -> Handled {
    match call.args.len() {
        1 => call.out.simple("PONG"),
        2 => call.out.bulk(call.args.at(1)),
        _ => return Err(Error::arity(call.command.name)),
    }
    Ok(Outcome::Reply)
}

fn echo(call: &mut Call<'_>) -> Handled {
    call.out.bulk(call.args.at(1));
    Ok(Outcome::Reply)
}

fn hello(call: &mut Call<'_>) -> Handled {
    let mut protocol = call.session.protocol;
    let mut rest = call.args.skip(1).iter();
    if let Some(version) = rest.next() {
        protocol = match parse_i64(version) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(Error::text("NOPROTO unsupported protocol version")),
            None => {
                return Err(Error::text(
                    "ERR Protocol version is not an integer or out of range",
                ));
            }
        };
    }
    let mut credentials = None;
    let mut name = None;
    while let Some(option) = rest.next() {
        if option.eq_ignore_ascii_case(b"auth") && rest.len() >= 2 {
            credentials = rest.next().zip(rest.next());
        } else if option.eq_ignore_ascii_case(b"setname") && rest.len() >= 1 {
            name = rest.next();
        } else {
            return Err(Error::quoting(
                "ERR Syntax error in HELLO option '",
                option,
                "'",
            ));
        }
    }
    if let Some((user, password)) = credentials {
        authenticate(call, user, password)?;
    }
    if !call.session.authenticated {
        return Err(Error::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        set_name(call.session, name)?;
    }
    call.session.protocol = protocol;
    call.session.changed = true;
    call.out.set_protocol(protocol);
    greet(call);
    Ok(Outcome::Reply)
}

/// The reply to HELLO.
fn greet(call: &mut Call<'_>) {
    // What is handed to the leader is answered as by the leader.
    let leads = call.session.at_leader || call.view.leads();
    let out = &mut *call.out;
    out.map(7);
    out.bulk(b"server");
    out.bulk(b"redis");
    out.bulk(b"version");
    out.bulk(REDIS_VERSION.as_bytes());
    out.bulk(b"proto");
    out.integer(call.session.protocol.number());
    out.bulk(b"id");
    out.integer(call.session.id as i64);
    out.bulk(b"mode");
    out.bulk(b"standalone");
    out.bulk(b"role");
    out.bulk(if leads { b"master" } else { b"replica" });
    out.bulk(b"modules");
    out.array(0);
}

fn select(call: &mut Call<'_>) -> Handled {
    match call.integer(1)? {
        0 => {}
        -0x8000_0000..=0x7fff_ffff => return Err(Error::DB_INDEX),
        _ => {
            return Err(Error::text(
                "ERR value is out of range, value must between -2147483648 and 2147483647",
            ));
        }
    }
    call.out.ok();
    Ok(Outcome::Reply)
}

fn reset(call: &mut Call<'_>) -> Handled {
    let authenticated = !call.host.password_required();
    call.session.reset(authenticated);
    call.out.set_protocol(call.session.protocol);
    call.out.simple("RESET");
    Ok(Outcome::Reply)
}

fn quit(call: &mut Call<'_>) -> Handled {
    call.out.ok();
    Ok(Outcome::Close)
}

fn readonly(call: &mut Call<'_>) -> Handled {
    call.session.reads_followers = true;
    call.out.ok();
    Ok(Outcome::Reply)
}

fn readwrite(call: &mut Call<'_>) -> Handled {
    call.session.reads_followers = false;
    call.out.ok();
    Ok(Outcome::Reply)
}
