//! Strings: parts of values.

use super::table::{ONE, flags::*};
use super::{Call, Error, Handled, Outcome, rows};

rows! { String;
    "append", 3, WRITE | DENYOOM | FAST, ONE, "2.0.0", append,
        "Appends a string to the value of a key. Creates the key if it doesn't exist.";
    "strlen", 2, READONLY | FAST, ONE, "2.2.0", strlen,
        "Returns the length of a string value.";
    "setrange", 4, WRITE | DENYOOM, ONE, "2.2.0", setrange,
        "Overwrites a part of a string value with another by an offset.";
    "getrange", 4, READONLY, ONE, "2.4.0", getrange,
        "Returns a substring of the string stored at a key.";
    "substr", 4, READONLY, ONE, "1.0.0", getrange,
        "Returns a substring from a string value.";
}

/// The longest value: as long as the longest argument.
const MAX_VALUE: usize = 512 << 20;

fn append(call: &mut Call<'_>) -> Handled {
    let (key, tail) = (call.args.at(1), call.args.at(2));
    let (mut value, expire_at) = call.owned(key)?.unwrap_or_default();
    if value.len() + tail.len() > MAX_VALUE {
        return Err(Error::TOO_LONG);
    }
    value.extend_from_slice(tail);
    call.view.put(key, &value, expire_at)?;
    call.out.integer(value.len() as i64);
    Ok(Outcome::Reply)
}

fn strlen(call: &mut Call<'_>) -> Handled {
    let length = call
        .read(call.args.at(1))?
        .map_or(0, |entry| entry.value.len());
    call.out.integer(length as i64);
    Ok(Outcome::Reply)
}

fn setrange(call: &mut Call<'_>) -> Handled {
    let (key, part) = (call.args.at(1), call.args.at(3));
    let offset =
        usize::try_from(call.integer(2)?).map_err(|_| Error::text("ERR offset is out of range"))?;
    let (mut value, expire_at) = call.owned(key)?.unwrap_or_default();
    if part.is_empty() {
        call.out.integer(value.len() as i64);
        return Ok(Outcome::Reply);
    }
    let end = offset
        .checked_add(part.len())
        .filter(|&end| end <= MAX_VALUE);
    let end = end.ok_or(Error::TOO_LONG)?;
    if value.len() < end {
        value.resize(end, 0);
    }
    if let Some(place) = value.get_mut(offset..end) {
        place.copy_from_slice(part);
    }
    call.view.put(key, &value, expire_at)?;
    call.out.integer(value.len() as i64);
    Ok(Outcome::Reply)
}

fn getrange(call: &mut Call<'_>) -> Handled {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    if let Some(entry) = call.view.get(call.args.at(1))? {
        call.host.stats().hits.bump();
        call.out.bulk(part_of(entry.value, start, end));
    } else {
        call.host.stats().misses.bump();
        call.out.bulk(b"");
    }
    Ok(Outcome::Reply)
}

/// From `start` to `end`, both included, both from the end if negative.
fn part_of(value: &[u8], start: i64, end: i64) -> &[u8] {
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let length = value.len() as i64;
    let position = |at: i64| {
        if at < 0 {
            at.saturating_add(length).max(0)
        } else {
            at
        }
    };
    let (start, end) = (position(start), position(end).min(length - 1));
    if start > end {
        return b"";
    }
    value.get(start as usize..=end as usize).unwrap_or_default()
}
