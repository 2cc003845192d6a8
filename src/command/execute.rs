//! From arguments to a reply.

use super::error::{Error, Handled, MAX_QUOTED, quoted};
use super::session::{Replies, Session, Transaction};
use super::table::{self, Command, flags};
use super::{Host, View};
use crate::resp::{Args, Writer};

/// What the shell has to do after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The reply was written.
    Reply,
    /// There is no reply.
    Nothing,
    /// What was written goes out, then the connection is closed.
    Close,
    /// WAIT: nothing was written. The shell replies with the number (an integer) of followers that
    /// have all of the connection's writes on disk, once there are `replicas`, or after the timeout.
    Wait {
        /// Followers to wait for.
        replicas: u64,
        /// Milliseconds, 0 for no limit.
        timeout_ms: u64,
    },
}

/// One command being executed.
pub(super) struct Call<'a> {
    pub(super) session: &'a mut Session,
    pub(super) args: Args<'a>,
    pub(super) command: &'static Command,
    pub(super) view: &'a mut dyn View,
    pub(super) host: &'a dyn Host,
    pub(super) out: &'a mut Writer,
    /// Whether EXEC runs it.
    pub(super) in_exec: bool,
}

/// Bytes that the commands of a transaction may take until it is executed: as many as one command.
const MAX_QUEUED: usize = if cfg!(test) { 1 << 20 } else { 1 << 30 };

/// Executes one command: changes the state through `view`, writes the reply to `out`.
///
/// The caller holds the lock of the state throughout, so that a command, and EXEC with all of its
/// commands, is atomic. What a command changed belongs into one frame of the log, or follows one
/// another without another connection's records between.
#[inline]
pub fn execute(
    session: &mut Session,
    args: Args<'_>,
    view: &mut dyn View,
    host: &dyn Host,
    out: &mut Writer,
) -> Outcome {
    if args.is_empty() {
        return Outcome::Nothing;
    }
    if session.replies == Replies::SkipNext {
        session.replies = Replies::Skipping;
    }
    out.set_protocol(session.protocol);
    let before = out.len();
    let outcome = match run(session, args, view, host, out) {
        Ok(outcome) => outcome,
        Err(error) => refuse(session, host, out, before, &error),
    };
    if session.replies == Replies::On {
        outcome
    } else {
        mute(session, out, before, outcome)
    }
}

/// Finds, checks and calls the command.
#[inline]
fn run(
    session: &mut Session,
    args: Args<'_>,
    view: &mut dyn View,
    host: &dyn Host,
    out: &mut Writer,
) -> Handled {
    let command = match resolve(args) {
        Ok(command) => command,
        Err(Unresolved::Attack) => return Ok(Outcome::Close),
        Err(Unresolved::Unknown(error)) => return Err(reject(session, None, error)),
    };
    let stats = host.stats();
    if let Err(error) = check(session, command, args, view) {
        if let Some(stats) = stats.command(command) {
            stats.rejected.bump();
        }
        return Err(reject(session, Some(command), error));
    }
    session.last_command = command.name;
    if let Some(transaction) = &mut session.transaction
        && !command.has(flags::IMMEDIATE)
    {
        return enqueue(transaction, command, args, out);
    }
    call(&mut Call {
        session,
        args,
        command,
        view,
        host,
        out,
        in_exec: false,
    })
}

/// Calls the handler, and counts it.
#[inline]
pub(super) fn call(call: &mut Call<'_>) -> Handled {
    let command = call.command;
    let result = (command.handler)(call);
    let stats = call.host.stats();
    stats.commands.bump();
    if let Some(stats) = stats.command(command) {
        stats.calls.bump();
        if result.is_err() {
            stats.failed.bump();
        }
    }
    result
}

/// Why there is no command to call.
pub(super) enum Unresolved {
    Unknown(Error),
    /// Not a client: a browser was made to send HTTP to us.
    Attack,
}

/// The command or subcommand that the arguments name.
#[inline]
pub(super) fn resolve(args: Args<'_>) -> Result<&'static Command, Unresolved> {
    let name = args.at(0);
    let Some(command) = table::find(name) else {
        if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
            return Err(Unresolved::Attack);
        }
        return Err(Unresolved::Unknown(unknown_command(args)));
    };
    if command.children == 0 {
        return Ok(command);
    }
    let Some(name) = args.get(1) else {
        return Ok(command);
    };
    command
        .subcommand(name)
        .ok_or_else(|| Unresolved::Unknown(unknown_subcommand(command, name)))
}

/// What the table and the state of the replica say against the command.
#[inline]
fn check(
    session: &Session,
    command: &'static Command,
    args: Args<'_>,
    view: &mut dyn View,
) -> Result<(), Error> {
    if !command.takes(args.len()) {
        return Err(Error::arity(command.name));
    }
    if !session.authenticated && !command.has(flags::NO_AUTH) {
        return Err(Error::text("NOAUTH Authentication required."));
    }
    let flags = match &session.transaction {
        // EXEC does what its commands do.
        Some(transaction) if command.name == "exec" => transaction.flags,
        _ => command.flags,
    };
    if flags & flags::WRITE != 0 {
        view.writable()?;
        if flags & flags::DENYOOM != 0 {
            view.growable()?;
        }
    } else if flags & flags::LOADING == 0 {
        view.readable()?;
    }
    Ok(())
}

/// A refused command spoils the transaction that it was meant for; a refused EXEC ends it.
fn reject(session: &mut Session, command: Option<&Command>, error: Error) -> Error {
    let Some(transaction) = &mut session.transaction else {
        return error;
    };
    transaction.aborted = true;
    if command.is_none_or(|command| command.name != "exec") {
        return error;
    }
    session.transaction = None;
    session.watched.clear();
    let mut text = b"EXECABORT Transaction discarded because of: ".to_vec();
    text.extend_from_slice(error.0.strip_prefix(b"ERR ").unwrap_or(&error.0));
    Error(text.into())
}

/// Puts a command behind those of the transaction.
fn enqueue(
    transaction: &mut Transaction,
    command: &'static Command,
    args: Args<'_>,
    out: &mut Writer,
) -> Handled {
    // An aborted transaction only has to remember that it is one.
    if !transaction.aborted {
        let args = args.to_owned();
        transaction.footprint += args.footprint();
        if transaction.footprint > MAX_QUEUED {
            transaction.queue = Vec::new();
            transaction.aborted = true;
            return Err(Error::text("ERR the transaction is too large"));
        }
        transaction.queue.push((command, args));
    }
    transaction.admit(command);
    out.simple("QUEUED");
    Ok(Outcome::Reply)
}

/// Replaces what was written by the error.
#[cold]
fn refuse(
    session: &Session,
    host: &dyn Host,
    out: &mut Writer,
    before: usize,
    error: &Error,
) -> Outcome {
    out.set_protocol(session.protocol);
    write_error(host, out, before, error);
    Outcome::Reply
}

/// Takes back what was written behind `before`, writes the error and counts it.
pub(super) fn write_error(host: &dyn Host, out: &mut Writer, before: usize, error: &Error) {
    host.stats().error(error.code());
    out.truncate(before);
    out.error(&error.0);
}

/// Drops the reply for a client that wants none.
#[cold]
fn mute(session: &mut Session, out: &mut Writer, before: usize, outcome: Outcome) -> Outcome {
    out.truncate(before);
    if session.replies == Replies::Skipping {
        session.replies = Replies::On;
    }
    if outcome == Outcome::Close {
        Outcome::Close
    } else {
        Outcome::Nothing
    }
}

fn unknown_command(args: Args<'_>) -> Error {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(quoted(args.at(0), MAX_QUOTED));
    text.extend_from_slice(b"', with args beginning with: ");
    let start = text.len();
    for arg in args.skip(1).iter() {
        let room = MAX_QUOTED.saturating_sub(text.len() - start);
        if room == 0 {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(quoted(arg, room));
        text.extend_from_slice(b"' ");
    }
    Error(text.into())
}

fn unknown_subcommand(command: &Command, name: &[u8]) -> Error {
    let help = format!("'. Try {} HELP.", command.name.to_ascii_uppercase());
    Error::quoting("ERR unknown subcommand '", name, &help)
}
