//! The process: its role, its time, its logs, and what it has not.

use super::connection::REDIS_VERSION;
use super::table::{NONE, flags::*};
use super::{Call, Error, Handled, Link, Outcome, Role, help, rows};

rows! { Server;
    "role", 1, NOSCRIPT | LOADING | STALE | FAST, NONE, "2.8.12", role,
        "Returns the replication role.";
    "wait", 3, BLOCKING, NONE, "3.0.0", wait,
        "Blocks until the asynchronous replication of all preceding write commands is completed.";
    "time", 1, LOADING | STALE | FAST, NONE, "2.6.0", time,
        "Returns the server time.";
    "lolwut", -1, READONLY | LOADING | STALE | FAST, NONE, "5.0.0", lolwut,
        "Displays computer art and the Redis version";
    "debug", -2, ADMIN | NOSCRIPT | LOADING | STALE, NONE, "1.0.0", debug,
        "A container for debugging commands.";
    "slowlog", -2, 0, NONE, "2.2.12", help,
        "A container for slow log commands.";
    "slowlog|get", -2, ADMIN | LOADING | STALE, NONE, "2.2.12", slowlog_get,
        "Returns the slow log's entries.";
    "slowlog|len", 2, ADMIN | LOADING | STALE, NONE, "2.2.12", slowlog_len,
        "Returns the number of entries in the slow log.";
    "slowlog|reset", 2, ADMIN | LOADING | STALE, NONE, "2.2.12", slowlog_reset,
        "Clears all entries from the slow log.";
    "slowlog|help", 2, LOADING | STALE, NONE, "6.2.0", help,
        "Returns helpful text about the different subcommands.";
    "latency", -2, 0, NONE, "2.8.13", help,
        "A container for latency diagnostics commands.";
    "latency|latest", 2, ADMIN | LOADING | STALE, NONE, "2.8.13", latency_latest,
        "Returns the latest latency samples for all events.";
    "latency|history", 3, ADMIN | LOADING | STALE, NONE, "2.8.13", latency_latest,
        "Returns timestamp-latency samples for an event.";
    "latency|histogram", -2, ADMIN | LOADING | STALE, NONE, "7.0.0", latency_histogram,
        "Returns the cumulative distribution of latencies of a subset or all commands.";
    "latency|reset", -2, ADMIN | LOADING | STALE, NONE, "2.8.13", latency_reset,
        "Resets the latency data for one or more events.";
    "latency|help", 2, LOADING | STALE, NONE, "2.8.13", help,
        "Returns helpful text about the different subcommands.";
}

rows! { CLUSTER_ROWS Cluster;
    "cluster", -2, LOADING | STALE, NONE, "3.0.0", cluster,
        "A container for Redis Cluster commands.";
}

fn role(call: &mut Call<'_>) -> Handled {
    let replication = call.view.facts().replication;
    let out = &mut *call.out;
    match replication.role {
        Role::Leader { followers } => {
            out.array(3);
            out.bulk(b"master");
            out.integer(replication.offset as i64);
            out.array(followers.len());
            for follower in followers {
                out.array(3);
                out.bulk(follower.host.as_bytes());
                out.bulk(follower.port.to_string().as_bytes());
                out.bulk(follower.durable_lsn.to_string().as_bytes());
            }
        }
        Role::Follower {
            host, port, link, ..
        } => {
            out.array(5);
            out.bulk(b"slave");
            out.bulk(host.as_bytes());
            out.integer(i64::from(port));
            out.bulk(match link {
                Link::Connecting => b"connect".as_slice(),
                Link::Seeding => b"sync",
                Link::Connected => b"connected",
            });
            out.integer(replication.offset as i64);
        }
    }
    Ok(Outcome::Reply)
}

fn wait(call: &mut Call<'_>) -> Handled {
    let replicas = call.integer(1)?;
    let timeout_ms = match call.integer(2) {
        Ok(timeout) => {
            u64::try_from(timeout).map_err(|_| Error::text("ERR timeout is negative"))?
        }
        Err(_) => return Err(Error::text("ERR timeout is not an integer or out of range")),
    };
    if !call.view.leads() {
        return Err(Error::text(
            "ERR WAIT cannot be used with replica instances. Please also note that since Redis \
             4.0 if a replica is configured to be writable (which is not the default) writes to \
             replicas are just local and are not propagated.",
        ));
    }
    if call.in_exec {
        // The transaction is one step: it cannot wait, only look.
        let copies = call.view.copies(call.view.end_lsn());
        call.out.integer(copies as i64);
        return Ok(Outcome::Reply);
    }
    Ok(Outcome::Wait {
        replicas: replicas.max(0) as u64,
        timeout_ms,
    })
}

fn time(call: &mut Call<'_>) -> Handled {
    let now = call.view.now_ms();
    call.out.array(2);
    call.out.bulk((now / 1000).to_string().as_bytes());
    call.out.bulk((now % 1000 * 1000).to_string().as_bytes());
    Ok(Outcome::Reply)
}

fn lolwut(call: &mut Call<'_>) -> Handled {
    let version = call.host.server().version;
    let text = format!("Redis ver. {REDIS_VERSION}, as replicated-store {version} speaks it\n");
    call.out.verbatim("txt", text.as_bytes());
    Ok(Outcome::Reply)
}

fn debug(_: &mut Call<'_>) -> Handled {
    Err(Error::text("ERR DEBUG command not allowed."))
}

fn slowlog_get(call: &mut Call<'_>) -> Handled {
    match (call.args.len(), call.integer(2)) {
        (2, _) | (3, Ok(-1..)) => {}
        (3, _) => {
            return Err(Error::text(
                "ERR count should be greater than or equal to -1",
            ));
        }
        _ => return Err(Error::subcommand(call)),
    }
    call.out.array(0);
    Ok(Outcome::Reply)
}

fn slowlog_len(call: &mut Call<'_>) -> Handled {
    call.out.integer(0);
    Ok(Outcome::Reply)
}

fn slowlog_reset(call: &mut Call<'_>) -> Handled {
    call.out.ok();
    Ok(Outcome::Reply)
}

fn latency_latest(call: &mut Call<'_>) -> Handled {
    call.out.array(0);
    Ok(Outcome::Reply)
}

fn latency_histogram(call: &mut Call<'_>) -> Handled {
    call.out.map(0);
    Ok(Outcome::Reply)
}

fn latency_reset(call: &mut Call<'_>) -> Handled {
    call.out.integer(0);
    Ok(Outcome::Reply)
}

fn cluster(call: &mut Call<'_>) -> Handled {
    // Tools ask for INFO to learn whether there is a cluster, and do not expect an error.
    if call.args.len() == 2 && call.args.at(1).eq_ignore_ascii_case(b"info") {
        call.out.verbatim("txt", b"cluster_enabled:0\r\n");
        return Ok(Outcome::Reply);
    }
    Err(Error::text(
        "ERR This instance has cluster support disabled",
    ))
}
