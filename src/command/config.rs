//! CONFIG: a fixed set of settings as clients and tools ask for them, and those of the process.

use super::glob;
use super::table::{NONE, flags::*};
use super::{Call, Error, Handled, Outcome, help, rows};
use std::collections::BTreeMap;

rows! { Server;
    "config", -2, 0, NONE, "2.0.0", help,
        "A container for server configuration commands.";
    "config|get", -3, ADMIN | NOSCRIPT | LOADING | STALE, NONE, "2.0.0", get,
        "Returns the effective values of configuration parameters.";
    "config|set", -4, ADMIN | NOSCRIPT | LOADING | STALE, NONE, "2.0.0", set,
        "Sets configuration parameters in-flight.";
    "config|resetstat", 2, ADMIN | NOSCRIPT | LOADING | STALE, NONE, "2.0.0", resetstat,
        "Resets the server's statistics.";
    "config|rewrite", 2, ADMIN | NOSCRIPT | LOADING | STALE, NONE, "2.8.0", rewrite,
        "Persists the effective configuration to file.";
    "config|help", 2, LOADING | STALE, NONE, "5.0.0", help,
        "Returns helpful text about the different subcommands.";
}

/// Settings of Redis and what is true of this server in their words. The host may know better.
const FIXED: [(&str, &str); 24] = [
    // Every write is on disk, here and on voters, before it is answered.
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("aof-use-rdb-preamble", "no"),
    ("save", ""),
    ("bind", "* -::*"),
    ("cluster-enabled", "no"),
    ("databases", "1"),
    ("dir", "/"),
    ("hash-max-listpack-entries", "128"),
    ("hash-max-listpack-value", "64"),
    ("io-threads", "1"),
    ("lazyfree-lazy-expire", "yes"),
    ("lazyfree-lazy-user-del", "yes"),
    ("list-max-listpack-size", "-2"),
    ("maxmemory-policy", "noeviction"),
    ("min-replicas-max-lag", "10"),
    ("min-replicas-to-write", "0"),
    ("notify-keyspace-events", ""),
    ("proto-max-bulk-len", "536870912"),
    ("repl-diskless-sync", "yes"),
    ("replica-read-only", "yes"),
    ("slowlog-log-slower-than", "-1"),
    ("tcp-keepalive", "300"),
    ("timeout", "0"),
];

fn get(call: &mut Call<'_>) -> Handled {
    let mut settings: BTreeMap<&str, String> = FIXED
        .iter()
        .map(|&(name, value)| (name, value.to_owned()))
        .collect();
    settings.insert("maxmemory", call.view.facts().maxmemory.to_string());
    settings.extend(call.host.settings());
    settings.retain(|name, _| {
        let mut patterns = call.args.skip(2).iter();
        patterns.any(|pattern| glob::matches_ignoring_case(pattern, name.as_bytes()))
    });
    call.out.map(settings.len());
    for (name, value) in &settings {
        call.out.bulk(name.as_bytes());
        call.out.bulk(value.as_bytes());
    }
    Ok(Outcome::Reply)
}

fn set(call: &mut Call<'_>) -> Handled {
    if call.args.len() % 2 == 1 {
        return Err(Error::arity(call.command.name));
    }
    for at in (2..call.args.len()).step_by(2) {
        set_one(call, call.args.at(at), call.args.at(at + 1))?;
    }
    call.out.ok();
    Ok(Outcome::Reply)
}

fn set_one(call: &mut Call<'_>, name: &[u8], value: &[u8]) -> Result<(), Error> {
    let unknown = || {
        let before = "ERR Unknown option or number of arguments for CONFIG SET - '";
        Error::quoting(before, name, "'")
    };
    let text = std::str::from_utf8(name)
        .map_err(|_| unknown())?
        .to_ascii_lowercase();
    let failed = |why: &str| {
        let before = format!("ERR CONFIG SET failed (possibly related to argument '{text}') - ");
        Error::quoting(&before, why.as_bytes(), "")
    };
    let value = std::str::from_utf8(value).map_err(|_| failed("the value is no text"))?;
    if call.host.set(&text, value).map_err(|why| failed(&why))? {
        return Ok(());
    }
    let (_, fixed) = FIXED
        .iter()
        .find(|(known, _)| *known == text)
        .ok_or_else(unknown)?;
    // To set what holds anyway is no error: tools do so to be sure.
    if value.eq_ignore_ascii_case(fixed) {
        return Ok(());
    }
    Err(failed("can't set immutable config"))
}

fn resetstat(call: &mut Call<'_>) -> Handled {
    call.host.stats().reset();
    call.out.ok();
    Ok(Outcome::Reply)
}

fn rewrite(_: &mut Call<'_>) -> Handled {
    Err(Error::text(
        "ERR The server is running without a config file",
    ))
}
