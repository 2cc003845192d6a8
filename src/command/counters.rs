//! Strings: numbers counted up and down.

use super::decimal::Decimal;
use super::table::{ONE, flags::*};
use super::{Call, Error, Handled, Outcome, rows};
use crate::resp::parse_i64;

rows! { String;
    "incr", 2, WRITE | DENYOOM | FAST, ONE, "1.0.0", incr,
        "Increments the integer value of a key by one. Uses 0 as initial value.";
    "decr", 2, WRITE | DENYOOM | FAST, ONE, "1.0.0", decr,
        "Decrements the integer value of a key by one. Uses 0 as initial value.";
    "incrby", 3, WRITE | DENYOOM | FAST, ONE, "1.0.0", incrby,
        "Increments the integer value of a key by a number. Uses 0 as initial value.";
    "decrby", 3, WRITE | DENYOOM | FAST, ONE, "1.0.0", decrby,
        "Decrements a number from the integer value of a key. Uses 0 as initial value.";
    "incrbyfloat", 3, WRITE | DENYOOM | FAST, ONE, "2.6.0", incrbyfloat,
        "Increment the floating point value of a key by a number. Uses 0 as initial value.";
}

fn incr(call: &mut Call<'_>) -> Handled {
    add(call, 1)
}

fn decr(call: &mut Call<'_>) -> Handled {
    add(call, -1)
}

fn incrby(call: &mut Call<'_>) -> Handled {
    add(call, call.integer(2)?)
}

fn decrby(call: &mut Call<'_>) -> Handled {
    let by = call.integer(2)?;
    add(
        call,
        by.checked_neg()
            .ok_or(Error::text("ERR decrement would overflow"))?,
    )
}

fn add(call: &mut Call<'_>, by: i64) -> Handled {
    let key = call.args.at(1);
    let (old, expire_at) = match call.view.get(key)? {
        Some(entry) => (
            parse_i64(entry.value).ok_or(Error::NOT_INTEGER)?,
            entry.expire_at_ms,
        ),
        None => (0, 0),
    };
    let new = old
        .checked_add(by)
        .ok_or(Error::text("ERR increment or decrement would overflow"))?;
    call.view
        .put(key, itoa::Buffer::new().format(new).as_bytes(), expire_at)?;
    call.out.integer(new);
    Ok(Outcome::Reply)
}

fn incrbyfloat(call: &mut Call<'_>) -> Handled {
    let key = call.args.at(1);
    let (old, expire_at) = match call.view.get(key)? {
        Some(entry) => (
            Decimal::parse(entry.value).ok_or(Error::NOT_FLOAT)?,
            entry.expire_at_ms,
        ),
        None => (Decimal::ZERO, 0),
    };
    let by = Decimal::parse(call.args.at(2)).ok_or(Error::NOT_FLOAT)?;
    let new = old
        .plus(by)
        .ok_or(Error::text("ERR increment would produce NaN or Infinity"))?
        .to_string();
    call.view.put(key, new.as_bytes(), expire_at)?;
    call.out.bulk(new.as_bytes());
    Ok(Outcome::Reply)
}
