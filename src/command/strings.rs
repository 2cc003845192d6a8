//! Strings: whole values read and written.

use super::table::{ONE, flags::*};
use super::{Call, Handled, Outcome, rows};

rows! { String;
    "get", 2, READONLY | FAST, ONE, "1.0.0", get,
        "Returns the string value of a key.";
    "set", -3, WRITE | DENYOOM, ONE, "1.0.0", set,
        "Sets the string value of a key, ignoring its type.";
}

fn get(call: &mut Call<'_>) -> Handled {
    match call.view.get(call.args.at(1))? {
        Some(entry) => {
            call.host.stats().hits.bump();
            call.out.bulk(entry.value);
        }
        None => {
            call.host.stats().misses.bump();
            call.out.null();
        }
    }
    Ok(Outcome::Reply)
}

fn set(call: &mut Call<'_>) -> Handled {
    call.view.put(call.args.at(1), call.args.at(2), 0)?;
    call.out.ok();
    Ok(Outcome::Reply)
}
