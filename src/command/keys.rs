//! Keys, whatever they hold.

use super::table::{ALL, NONE, ONE, TWO, flags::*};
use super::{Call, Error, Handled, Outcome, rows};
use crate::resp::parse_i64;

rows! { Generic;
    "del", -2, WRITE, ALL, "1.0.0", del,
        "Deletes one or more keys.";
    "unlink", -2, WRITE | FAST, ALL, "4.0.0", del,
        "Asynchronously deletes one or more keys.";
    "exists", -2, READONLY | FAST, ALL, "1.0.0", exists,
        "Determines whether one or more keys exist.";
    "touch", -2, READONLY | FAST, ALL, "3.2.1", exists,
        "Returns the number of existing keys out of those specified.";
    "type", 2, READONLY | FAST, ONE, "1.0.0", kind,
        "Determines the type of value stored at a key.";
    "rename", 3, WRITE, TWO, "1.0.0", rename,
        "Renames a key and overwrites the destination.";
    "renamenx", 3, WRITE | FAST, TWO, "1.0.0", renamenx,
        "Renames a key only when the target key name doesn't exist.";
    "copy", -3, WRITE | DENYOOM, TWO, "6.2.0", copy,
        "Copies the value of a key to a new key.";
    "randomkey", 1, READONLY, NONE, "1.0.0", randomkey,
        "Returns a random key name from the database.";
    "dbsize", 1, READONLY | FAST, NONE, "1.0.0", dbsize,
        "Returns the number of keys in the database.";
    "flushall", -1, WRITE | DANGEROUS, NONE, "1.0.0", flush,
        "Removes all keys from all databases.";
    "flushdb", -1, WRITE | DANGEROUS, NONE, "1.0.0", flush,
        "Remove all keys from the current database.";
}

fn del(call: &mut Call<'_>) -> Handled {
    let mut deleted = 0;
    for key in call.args.skip(1).iter() {
        deleted += i64::from(call.view.delete(key)?);
    }
    call.out.integer(deleted);
    Ok(Outcome::Reply)
}

fn exists(call: &mut Call<'_>) -> Handled {
    let mut found = 0;
    for key in call.args.skip(1).iter() {
        found += i64::from(call.read(key)?.is_some());
    }
    call.out.integer(found);
    Ok(Outcome::Reply)
}

fn kind(call: &mut Call<'_>) -> Handled {
    let exists = call.view.get(call.args.at(1))?.is_some();
    call.out.simple(if exists { "string" } else { "none" });
    Ok(Outcome::Reply)
}

fn rename(call: &mut Call<'_>) -> Handled {
    let (from, to) = (call.args.at(1), call.args.at(2));
    let (value, expire_at) = call.owned(from)?.ok_or(Error::NO_SUCH_KEY)?;
    if from != to {
        call.view.put(to, &value, expire_at)?;
        call.view.delete(from)?;
    }
    call.out.ok();
    Ok(Outcome::Reply)
}

fn renamenx(call: &mut Call<'_>) -> Handled {
    let (from, to) = (call.args.at(1), call.args.at(2));
    let (value, expire_at) = call.owned(from)?.ok_or(Error::NO_SUCH_KEY)?;
    let free = call.view.get(to)?.is_none();
    if free {
        call.view.put(to, &value, expire_at)?;
        call.view.delete(from)?;
    }
    call.out.integer(i64::from(free));
    Ok(Outcome::Reply)
}

fn copy(call: &mut Call<'_>) -> Handled {
    let (from, to) = (call.args.at(1), call.args.at(2));
    let mut replace = false;
    let mut rest = call.args.skip(3).iter();
    while let Some(option) = rest.next() {
        if option.eq_ignore_ascii_case(b"replace") {
            replace = true;
        } else if option.eq_ignore_ascii_case(b"db") {
            let index = parse_i64(rest.next().ok_or(Error::SYNTAX)?).ok_or(Error::NOT_INTEGER)?;
            if index != 0 {
                return Err(Error::DB_INDEX);
            }
        } else {
            return Err(Error::SYNTAX);
        }
    }
    if from == to {
        return Err(Error::text(
            "ERR source and destination objects are the same",
        ));
    }
    let copied = match call.owned(from)? {
        Some((value, expire_at)) if replace || call.view.get(to)?.is_none() => {
            call.view.put(to, &value, expire_at)?;
            true
        }
        _ => false,
    };
    call.out.integer(i64::from(copied));
    Ok(Outcome::Reply)
}

fn randomkey(call: &mut Call<'_>) -> Handled {
    match call.view.random_key()? {
        Some(key) => call.out.bulk(&key),
        None => call.out.null(),
    }
    Ok(Outcome::Reply)
}

fn dbsize(call: &mut Call<'_>) -> Handled {
    call.out.integer(call.view.len()? as i64);
    Ok(Outcome::Reply)
}

fn flush(call: &mut Call<'_>) -> Handled {
    let known = match call.args.get(1) {
        None => true,
        // Either is one record of the log, and takes no time.
        Some(how) => how.eq_ignore_ascii_case(b"async") || how.eq_ignore_ascii_case(b"sync"),
    };
    if !known || call.args.len() > 2 {
        return Err(Error::SYNTAX);
    }
    call.view.clear()?;
    call.out.ok();
    Ok(Outcome::Reply)
}
