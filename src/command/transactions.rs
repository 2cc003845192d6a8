//! MULTI, EXEC and what belongs to them.

use super::execute;
use super::session::{Transaction, Watched};
use super::table::{ALL, NONE, flags::*};
use super::{Call, Error, Handled, Outcome, rows};

rows! { Transactions;
    "multi", 1, NOSCRIPT | LOADING | STALE | FAST | IMMEDIATE, NONE, "1.2.0", multi,
        "Starts a transaction.";
    "exec", 1, NOSCRIPT | LOADING | STALE | IMMEDIATE, NONE, "1.2.0", exec,
        "Executes all commands in a transaction.";
    "discard", 1, NOSCRIPT | LOADING | STALE | FAST | IMMEDIATE, NONE, "2.0.0", discard,
        "Discards a transaction.";
    "watch", -2, NOSCRIPT | FAST | IMMEDIATE, ALL, "2.2.0", watch,
        "Monitors changes to keys to determine the execution of a transaction.";
    "unwatch", 1, NOSCRIPT | LOADING | STALE | FAST, NONE, "2.2.0", unwatch,
        "Forgets about watched keys of a transaction.";
}

/// Keys that a connection may watch: every one is looked up at EXEC, under the lock of the state.
pub(super) const MAX_WATCHED: usize = 100_000;
pub(super) const TOO_MANY_WATCHED: &str = "ERR too many watched keys";

fn multi(call: &mut Call<'_>) -> Handled {
    if call.session.transaction.is_some() {
        return Err(Error::text("ERR MULTI calls can not be nested"));
    }
    call.session.transaction = Some(Transaction::default());
    call.out.ok();
    Ok(Outcome::Reply)
}

fn discard(call: &mut Call<'_>) -> Handled {
    if call.session.transaction.take().is_none() {
        return Err(Error::text("ERR DISCARD without MULTI"));
    }
    call.session.watched.clear();
    call.out.ok();
    Ok(Outcome::Reply)
}

fn exec(call: &mut Call<'_>) -> Handled {
    let Some(transaction) = call.session.transaction.take() else {
        return Err(Error::text("ERR EXEC without MULTI"));
    };
    let watched = std::mem::take(&mut call.session.watched);
    if transaction.aborted {
        return Err(Error::text(
            "EXECABORT Transaction discarded because of previous errors.",
        ));
    }
    for Watched { key, lsn } in &watched {
        let now = call.view.get(key)?.map(|entry| entry.lsn);
        if now != *lsn {
            call.out.null_array();
            return Ok(Outcome::Reply);
        }
    }
    run_queued(call, &transaction)
}

/// Executes what was queued. A command that fails answers so, and those behind it are executed.
fn run_queued(call: &mut Call<'_>, transaction: &Transaction) -> Handled {
    let mut outcome = Outcome::Reply;
    call.out.array(transaction.queue.len());
    for (command, args) in &transaction.queue {
        let before = call.out.len();
        let result = execute::call(&mut Call {
            session: call.session,
            args: args.as_args(),
            command,
            view: call.view,
            host: call.host,
            out: call.out,
            in_exec: true,
        });
        match result {
            Ok(Outcome::Close) => outcome = Outcome::Close,
            Ok(_) => {}
            Err(error) => execute::write_error(call.host, call.out, before, &error),
        }
    }
    Ok(outcome)
}

fn watch(call: &mut Call<'_>) -> Handled {
    if call.session.transaction.is_some() {
        return Err(Error::text("ERR WATCH inside MULTI is not allowed"));
    }
    for key in call.args.skip(1).iter() {
        // A key watched twice is compared twice: the first watch, which has seen more, decides.
        if call.session.watched.len() == MAX_WATCHED {
            return Err(Error::text(TOO_MANY_WATCHED));
        }
        let lsn = call.view.get(key)?.map(|entry| entry.lsn);
        call.session.watched.push(Watched {
            key: key.to_vec(),
            lsn,
        });
    }
    call.out.ok();
    Ok(Outcome::Reply)
}

fn unwatch(call: &mut Call<'_>) -> Handled {
    call.session.watched.clear();
    call.out.ok();
    Ok(Outcome::Reply)
}
