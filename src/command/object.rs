//! What there is to know about an entry besides its value.

use super::table::{NONE, SECOND, flags::*};
use super::{Call, Error, Handled, Outcome, help, rows};
use crate::resp::parse_i64;

rows! { Generic;
    "object", -2, 0, NONE, "2.2.3", help,
        "A container for object introspection commands.";
    "object|encoding", 3, READONLY, SECOND, "2.2.3", encoding,
        "Returns the internal encoding of an object.";
    "object|refcount", 3, READONLY, SECOND, "2.2.3", refcount,
        "Returns the reference count of a value of a key.";
    "object|idletime", 3, READONLY, SECOND, "2.2.3", idletime,
        "Returns the time since the last access to an object.";
    "object|freq", 3, READONLY, SECOND, "4.0.0", freq,
        "Returns the logarithmic access frequency counter of an object.";
    "object|help", 2, LOADING | STALE, NONE, "6.2.0", help,
        "Returns helpful text about the different subcommands.";
    "memory", -2, 0, NONE, "4.0.0", help,
        "A container for memory diagnostics commands.";
    "memory|usage", -3, READONLY, SECOND, "4.0.0", usage,
        "Estimates the memory usage of a key.";
    "memory|purge", 2, LOADING | STALE, NONE, "4.0.0", purge,
        "Asks the allocator to release memory.";
    "memory|help", 2, LOADING | STALE, NONE, "4.0.0", help,
        "Returns helpful text about the different subcommands.";
}

/// Bytes that an entry takes besides its key and value: hash slot, lengths, LSN, expiry, allocation.
const OVERHEAD: usize = 64;

fn encoding(call: &mut Call<'_>) -> Handled {
    // The names that Redis has for strings of these kinds; clients' tests look at them.
    let encoding = call
        .view
        .get(call.args.at(2))?
        .map(|entry| match entry.value {
            value if parse_i64(value).is_some() => "int",
            value if value.len() <= 44 => "embstr",
            _ => "raw",
        });
    match encoding {
        Some(encoding) => call.out.bulk(encoding.as_bytes()),
        None => call.out.null(),
    }
    Ok(Outcome::Reply)
}

fn refcount(call: &mut Call<'_>) -> Handled {
    reply_if_exists(call, 1)
}

fn idletime(call: &mut Call<'_>) -> Handled {
    // Accesses are not recorded with their time: no key is known to be idle.
    reply_if_exists(call, 0)
}

fn reply_if_exists(call: &mut Call<'_>, reply: i64) -> Handled {
    match call.view.get(call.args.at(2))? {
        Some(_) => call.out.integer(reply),
        None => call.out.null(),
    }
    Ok(Outcome::Reply)
}

fn freq(call: &mut Call<'_>) -> Handled {
    if call.view.get(call.args.at(2))?.is_none() {
        call.out.null();
        return Ok(Outcome::Reply);
    }
    Err(Error::text(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note \
         that when switching between policies at runtime LRU and LFU data will take some time to \
         adjust.",
    ))
}

fn usage(call: &mut Call<'_>) -> Handled {
    match (call.args.get(3), call.args.get(4)) {
        (None, _) => {}
        (Some(option), Some(samples)) if option.eq_ignore_ascii_case(b"samples") => {
            if parse_i64(samples).ok_or(Error::NOT_INTEGER)? < 0 || call.args.len() > 5 {
                return Err(Error::SYNTAX);
            }
        }
        _ => return Err(Error::SYNTAX),
    }
    let key = call.args.at(2);
    match call.view.get(key)?.map(|entry| entry.value.len()) {
        Some(length) => call.out.integer((key.len() + length + OVERHEAD) as i64),
        None => call.out.null(),
    }
    Ok(Outcome::Reply)
}

fn purge(call: &mut Call<'_>) -> Handled {
    call.out.ok();
    Ok(Outcome::Reply)
}
