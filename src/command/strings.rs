//! Strings: whole values read and written.

use super::expiry::{At, Unit};
use super::table::{ALL, ONE, PAIRS, flags::*};
use super::{Call, Error, Handled, Outcome, rows};

rows! { String;
    "get", 2, READONLY | FAST, ONE, "1.0.0", get,
        "Returns the string value of a key.";
    "set", -3, WRITE | DENYOOM, ONE, "1.0.0", set,
        "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.";
    "setnx", 3, WRITE | DENYOOM | FAST, ONE, "1.0.0", setnx,
        "Set the string value of a key only when the key doesn't exist.";
    "setex", 4, WRITE | DENYOOM, ONE, "2.0.0", setex,
        "Sets the string value and expiration time of a key.";
    "psetex", 4, WRITE | DENYOOM, ONE, "2.6.0", psetex,
        "Sets both string value and expiration time in milliseconds of a key.";
    "mget", -2, READONLY | FAST, ALL, "1.0.0", mget,
        "Atomically returns the string values of one or more keys.";
    "mset", -3, WRITE | DENYOOM, PAIRS, "1.0.1", mset,
        "Atomically creates or modifies the string values of one or more keys.";
    "msetnx", -3, WRITE | DENYOOM, PAIRS, "1.0.1", msetnx,
        "Atomically modifies the string values of keys only when all keys don't exist.";
    "getset", 3, WRITE | DENYOOM | FAST, ONE, "1.0.0", getset,
        "Returns the previous string value of a key after setting it to a new value.";
    "getdel", 2, WRITE | FAST, ONE, "6.2.0", getdel,
        "Returns the string value of a key after deleting the key.";
    "getex", -2, WRITE | FAST, ONE, "6.2.0", getex,
        "Returns the string value of a key after setting its expiration time.";
}

fn get(call: &mut Call<'_>) -> Handled {
    call.reply_value(call.args.at(1))?;
    Ok(Outcome::Reply)
}

fn set(call: &mut Call<'_>) -> Handled {
    if call.args.len() == 3 {
        // The hot path: no options, nothing to look up.
        call.view.put(call.args.at(1), call.args.at(2), 0)?;
        call.out.ok();
        return Ok(Outcome::Reply);
    }
    let options = SetOptions::parse(call)?;
    let expire_at = match options.expiry {
        Some(at) => at.resolve(call)?,
        None => 0,
    };
    set_with(call, &options, expire_at)
}

/// SET with whatever of its options; the expiry was resolved, 0 for none.
fn set_with(call: &mut Call<'_>, options: &SetOptions<'_>, expire_at: u64) -> Handled {
    let key = call.args.at(1);
    let (exists, kept) = {
        let entry = call.view.get(key)?;
        if options.get {
            match &entry {
                Some(entry) => call.out.bulk(entry.value),
                None => call.out.null(),
            }
        }
        (entry.is_some(), entry.map_or(0, |entry| entry.expire_at_ms))
    };
    let wanted = match options.condition {
        Condition::Always => true,
        Condition::Missing => !exists,
        Condition::Existing => exists,
    };
    if wanted {
        let expire_at = if options.keep_ttl { kept } else { expire_at };
        call.store(key, call.args.at(2), expire_at)?;
    }
    match (options.get, wanted) {
        (true, _) => {} // the old value was the reply
        (false, true) => call.out.ok(),
        (false, false) => call.out.null(),
    }
    Ok(Outcome::Reply)
}

/// When SET may set.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Condition {
    #[default]
    Always,
    /// NX.
    Missing,
    /// XX.
    Existing,
}

/// The options of SET.
#[derive(Default)]
struct SetOptions<'a> {
    condition: Condition,
    get: bool,
    keep_ttl: bool,
    expiry: Option<At<'a>>,
}

impl<'a> SetOptions<'a> {
    fn parse(call: &Call<'a>) -> Result<Self, Error> {
        let mut options = Self::default();
        let mut rest = call.args.skip(3).iter();
        while let Some(option) = rest.next() {
            let mut condition = |wanted, other| {
                if options.condition == other {
                    return Err(Error::SYNTAX);
                }
                options.condition = wanted;
                Ok(())
            };
            if option.eq_ignore_ascii_case(b"nx") {
                condition(Condition::Missing, Condition::Existing)?;
            } else if option.eq_ignore_ascii_case(b"xx") {
                condition(Condition::Existing, Condition::Missing)?;
            } else if option.eq_ignore_ascii_case(b"get") {
                options.get = true;
            } else if option.eq_ignore_ascii_case(b"keepttl") && options.expiry.is_none() {
                options.keep_ttl = true;
            } else {
                if options.keep_ttl {
                    return Err(Error::SYNTAX);
                }
                options.expiry = Some(At::option(option, rest.next(), options.expiry)?);
            }
        }
        Ok(options)
    }
}

fn setnx(call: &mut Call<'_>) -> Handled {
    let key = call.args.at(1);
    let missing = call.view.get(key)?.is_none();
    if missing {
        call.view.put(key, call.args.at(2), 0)?;
    }
    call.out.integer(i64::from(missing));
    Ok(Outcome::Reply)
}

fn setex(call: &mut Call<'_>) -> Handled {
    set_expiring(call, Unit::Seconds)
}

fn psetex(call: &mut Call<'_>) -> Handled {
    set_expiring(call, Unit::Milliseconds)
}

fn set_expiring(call: &mut Call<'_>, unit: Unit) -> Handled {
    let expire_at = At {
        unit,
        absolute: false,
        text: call.args.at(2),
    }
    .resolve(call)?;
    call.store(call.args.at(1), call.args.at(3), expire_at)?;
    call.out.ok();
    Ok(Outcome::Reply)
}

fn mget(call: &mut Call<'_>) -> Handled {
    let keys = call.args.skip(1);
    call.out.array(keys.len());
    for key in keys.iter() {
        call.reply_value(key)?;
    }
    Ok(Outcome::Reply)
}

fn mset(call: &mut Call<'_>) -> Handled {
    put_pairs(call)?;
    call.out.ok();
    Ok(Outcome::Reply)
}

fn msetnx(call: &mut Call<'_>) -> Handled {
    if call.args.len().is_multiple_of(2) {
        return Err(Error::arity(call.command.name));
    }
    for key in call.args.skip(1).iter().step_by(2) {
        if call.view.get(key)?.is_some() {
            call.out.integer(0);
            return Ok(Outcome::Reply);
        }
    }
    put_pairs(call)?;
    call.out.integer(1);
    Ok(Outcome::Reply)
}

fn put_pairs(call: &mut Call<'_>) -> Result<(), Error> {
    if call.args.len().is_multiple_of(2) {
        return Err(Error::arity(call.command.name));
    }
    for at in (1..call.args.len()).step_by(2) {
        call.view.put(call.args.at(at), call.args.at(at + 1), 0)?;
    }
    Ok(())
}

fn getset(call: &mut Call<'_>) -> Handled {
    let key = call.args.at(1);
    call.reply_value(key)?;
    call.view.put(key, call.args.at(2), 0)?;
    Ok(Outcome::Reply)
}

fn getdel(call: &mut Call<'_>) -> Handled {
    let key = call.args.at(1);
    if call.reply_value(key)? {
        call.view.delete(key)?;
    }
    Ok(Outcome::Reply)
}

fn getex(call: &mut Call<'_>) -> Handled {
    let key = call.args.at(1);
    let expiry = GetexExpiry::parse(call)?;
    let Some((value, expire_at)) = call.owned(key)? else {
        call.host.stats().misses.bump();
        call.out.null();
        return Ok(Outcome::Reply);
    };
    call.host.stats().hits.bump();
    let changed = match expiry {
        GetexExpiry::Keep => expire_at,
        GetexExpiry::Persist => 0,
        GetexExpiry::At(at) => at.resolve(call)?,
    };
    if changed != expire_at {
        call.store(key, &value, changed)?;
    }
    call.out.bulk(&value);
    Ok(Outcome::Reply)
}

/// What GETEX does to the expiry.
enum GetexExpiry<'a> {
    Keep,
    Persist,
    At(At<'a>),
}

impl<'a> GetexExpiry<'a> {
    fn parse(call: &Call<'a>) -> Result<Self, Error> {
        let mut expiry = Self::Keep;
        let mut rest = call.args.skip(2).iter();
        while let Some(option) = rest.next() {
            let persist = option.eq_ignore_ascii_case(b"persist");
            expiry = match expiry {
                Self::Keep | Self::Persist if persist => Self::Persist,
                Self::Keep => Self::At(At::option(option, rest.next(), None)?),
                Self::At(at) => Self::At(At::option(option, rest.next(), Some(at))?),
                Self::Persist => return Err(Error::SYNTAX),
            };
        }
        Ok(expiry)
    }
}
