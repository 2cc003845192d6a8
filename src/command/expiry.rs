//! When keys expire.

use super::table::{ONE, flags::*};
use super::{Call, Error, Handled, Outcome, rows};
use crate::resp::parse_i64;

rows! { Generic;
    "expire", -3, WRITE | FAST, ONE, "1.0.0", expire,
        "Sets the expiration time of a key in seconds.";
    "pexpire", -3, WRITE | FAST, ONE, "2.6.0", pexpire,
        "Sets the expiration time of a key in milliseconds.";
    "expireat", -3, WRITE | FAST, ONE, "1.2.0", expireat,
        "Sets the expiration time of a key to a Unix timestamp.";
    "pexpireat", -3, WRITE | FAST, ONE, "2.6.0", pexpireat,
        "Sets the expiration time of a key to a Unix milliseconds timestamp.";
    "ttl", 2, READONLY | FAST, ONE, "1.0.0", ttl,
        "Returns the expiration time in seconds of a key.";
    "pttl", 2, READONLY | FAST, ONE, "2.6.0", pttl,
        "Returns the expiration time in milliseconds of a key.";
    "expiretime", 2, READONLY | FAST, ONE, "7.0.0", expiretime,
        "Returns the expiration time of a key as a Unix timestamp.";
    "pexpiretime", 2, READONLY | FAST, ONE, "7.0.0", pexpiretime,
        "Returns the expiration time of a key as a Unix milliseconds timestamp.";
    "persist", 2, WRITE | FAST, ONE, "2.2.0", persist,
        "Removes the expiration time of a key.";
}

/// What an expiry is counted in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
}

/// An expiry as the client wrote it.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) unit: Unit,
    /// Since 1970, or from now on.
    pub(super) absolute: bool,
    pub(super) text: &'a [u8],
}

impl<'a> At<'a> {
    /// One of the options EX, PX, EXAT and PXAT with its argument. Redis lets the same option come
    /// twice, but not two of them.
    pub(super) fn option(
        name: &[u8],
        argument: Option<&'a [u8]>,
        before: Option<Self>,
    ) -> Result<Self, Error> {
        let is = |option: &[u8]| name.eq_ignore_ascii_case(option);
        let (unit, absolute) = if is(b"ex") {
            (Unit::Seconds, false)
        } else if is(b"px") {
            (Unit::Milliseconds, false)
        } else if is(b"exat") {
            (Unit::Seconds, true)
        } else if is(b"pxat") {
            (Unit::Milliseconds, true)
        } else {
            return Err(Error::SYNTAX);
        };
        if before.is_some_and(|before| (before.unit, before.absolute) != (unit, absolute)) {
            return Err(Error::SYNTAX);
        }
        let text = argument.ok_or(Error::SYNTAX)?;
        Ok(Self {
            unit,
            absolute,
            text,
        })
    }

    /// Milliseconds since 1970; zero and less are errors, the past is not.
    pub(super) fn resolve(self, call: &Call<'_>) -> Result<u64, Error> {
        let given = parse_i64(self.text).ok_or(Error::NOT_INTEGER)?;
        let at = self.milliseconds(given, call)?;
        if given <= 0 {
            return Err(invalid(call));
        }
        Ok(at as u64)
    }

    fn milliseconds(self, given: i64, call: &Call<'_>) -> Result<i64, Error> {
        let start = if self.absolute {
            0
        } else {
            call.view.now_ms() as i64
        };
        match self.unit {
            Unit::Seconds => given.checked_mul(1000),
            Unit::Milliseconds => Some(given),
        }
        .and_then(|given| given.checked_add(start))
        .ok_or_else(|| invalid(call))
    }
}

fn invalid(call: &Call<'_>) -> Error {
    Error::from(format!(
        "ERR invalid expire time in '{}' command",
        call.command.name
    ))
}

fn expire(call: &mut Call<'_>) -> Handled {
    change(call, Unit::Seconds, false)
}

fn pexpire(call: &mut Call<'_>) -> Handled {
    change(call, Unit::Milliseconds, false)
}

fn expireat(call: &mut Call<'_>) -> Handled {
    change(call, Unit::Seconds, true)
}

fn pexpireat(call: &mut Call<'_>) -> Handled {
    change(call, Unit::Milliseconds, true)
}

fn change(call: &mut Call<'_>, unit: Unit, absolute: bool) -> Handled {
    let key = call.args.at(1);
    let conditions = Conditions::parse(call)?;
    let given = call.integer(2)?;
    let at = At {
        unit,
        absolute,
        text: b"",
    }
    .milliseconds(given, call)?;
    let Some((value, current)) = call.owned(key)? else {
        call.out.integer(0);
        return Ok(Outcome::Reply);
    };
    let wanted = conditions.allow(current, at);
    if wanted {
        // The past is the past: 1 stands for it, as 0 would mean never.
        call.store(key, &value, at.max(1) as u64)?;
    }
    call.out.integer(i64::from(wanted));
    Ok(Outcome::Reply)
}

/// NX, XX, GT and LT.
#[derive(Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn parse(call: &Call<'_>) -> Result<Self, Error> {
        let mut conditions = Self::default();
        for option in call.args.skip(3).iter() {
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            if is(b"nx") {
                conditions.nx = true;
            } else if is(b"xx") {
                conditions.xx = true;
            } else if is(b"gt") {
                conditions.gt = true;
            } else if is(b"lt") {
                conditions.lt = true;
            } else {
                return Err(Error::quoting("ERR Unsupported option ", option, ""));
            }
        }
        let Self { nx, xx, gt, lt } = conditions;
        if nx && (xx || gt || lt) {
            return Err(Error::text(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if gt && lt {
            return Err(Error::text(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(conditions)
    }

    /// `current` is 0 for never, which is later than any time.
    fn allow(&self, current: u64, at: i64) -> bool {
        let never = current == 0;
        let current = current as i64;
        !(self.nx && !never
            || self.xx && never
            || self.gt && (never || at <= current)
            || self.lt && !never && at >= current)
    }
}

fn ttl(call: &mut Call<'_>) -> Handled {
    remaining(call, |at, now| (at.saturating_sub(now) + 500) / 1000)
}

fn pttl(call: &mut Call<'_>) -> Handled {
    remaining(call, u64::saturating_sub)
}

fn expiretime(call: &mut Call<'_>) -> Handled {
    remaining(call, |at, _| (at + 500) / 1000)
}

fn pexpiretime(call: &mut Call<'_>) -> Handled {
    remaining(call, |at, _| at)
}

/// Replies with what becomes of the expiry and the present time; -1 without expiry, -2 without key.
fn remaining(call: &mut Call<'_>, form: fn(u64, u64) -> u64) -> Handled {
    let now = call.view.now_ms();
    let reply = match call.read(call.args.at(1))? {
        None => -2,
        Some(entry) if entry.expire_at_ms == 0 => -1,
        Some(entry) => form(entry.expire_at_ms, now) as i64,
    };
    call.out.integer(reply);
    Ok(Outcome::Reply)
}

fn persist(call: &mut Call<'_>) -> Handled {
    let key = call.args.at(1);
    let expires = call
        .view
        .get(key)?
        .is_some_and(|entry| entry.expire_at_ms != 0);
    if expires {
        let (value, _) = call.owned(key)?.unwrap_or_default();
        call.view.put(key, &value, 0)?;
    }
    call.out.integer(i64::from(expires));
    Ok(Outcome::Reply)
}
