//! Which commands a follower hands on to its leader, and how a transaction travels there. It must not
//! know how they get there.

use super::execute::resolve;
use super::session::{Replies, Session, Transaction, Watched};
use super::table::{Command, Group, flags};
use crate::resp::{Args, OwnedArgs, parse_i64};

/// Who executes a command that came to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The follower itself.
    Here {
        /// The command looks at the state.
        reads: bool,
    },
    /// The leader.
    Leader,
    /// The leader, together with everything that was queued: the command is EXEC.
    Transaction,
    /// Nobody: the transaction both writes and speaks of the connection itself.
    Mixed,
    /// The leader waits for followers.
    Wait {
        /// Followers to wait for.
        replicas: u64,
        /// Milliseconds, 0 for no limit.
        timeout_ms: u64,
    },
}

/// Says who executes the command. One that is in error is answered here.
pub fn route(session: &Session, args: Args<'_>) -> Route {
    let here = |reads| Route::Here { reads };
    let Ok(command) = resolve(args) else {
        return here(false);
    };
    if !command.takes(args.len()) || !session.authenticated {
        return here(false);
    }
    match &session.transaction {
        Some(transaction) if command.name == "exec" => route_exec(transaction),
        Some(_) if !command.has(flags::IMMEDIATE) => here(false), // it is queued
        None if command.has(flags::WRITE) => Route::Leader,
        None if command.name == "wait" => route_wait(args).unwrap_or(here(false)),
        _ => here(!command.has(flags::LOADING)),
    }
}

fn route_exec(transaction: &Transaction) -> Route {
    if transaction.aborted {
        return Route::Here { reads: false };
    }
    if transaction.flags & flags::WRITE == 0 {
        let reads = transaction.flags & flags::LOADING == 0;
        return Route::Here { reads };
    }
    if transaction.queue.iter().any(|(command, _)| is_own(command)) {
        return Route::Mixed;
    }
    Route::Transaction
}

/// Whether the command is about the client's own connection, which the leader does not have.
fn is_own(command: &Command) -> bool {
    command.group == Group::Connection && !matches!(command.name, "ping" | "echo" | "select")
}

fn route_wait(args: Args<'_>) -> Option<Route> {
    let replicas = parse_i64(args.at(1))?;
    let timeout_ms = u64::try_from(parse_i64(args.at(2))?).ok()?;
    Some(Route::Wait {
        replicas: replicas.max(0) as u64,
        timeout_ms,
    })
}

impl Session {
    /// The commands that were queued.
    pub fn queued(&self) -> impl Iterator<Item = Args<'_>> {
        let queue = self.transaction.iter().flat_map(|it| &it.queue);
        queue.map(|(_, args)| args.as_args())
    }

    /// The keys under WATCH, and the LSN of each one's entry if there was one.
    pub fn watches(&self) -> impl Iterator<Item = (&[u8], Option<u64>)> {
        self.watched
            .iter()
            .map(|watched| (watched.key.as_slice(), watched.lsn))
    }

    /// EXEC is over, whoever executed it.
    pub fn end_transaction(&mut self) {
        self.transaction = None;
        self.watched.clear();
    }

    /// Takes over what was queued and watched elsewhere, so that EXEC executes it here.
    pub fn adopt_transaction(
        &mut self,
        queue: Vec<OwnedArgs>,
        watched: impl Iterator<Item = (Vec<u8>, Option<u64>)>,
    ) {
        let mut transaction = Transaction::default();
        for args in queue {
            let Ok(command) = resolve(args.as_args()) else {
                transaction.aborted = true; // queued by another release than this one
                continue;
            };
            transaction.admit(command);
            transaction.queue.push((command, args));
        }
        self.transaction = Some(transaction);
        self.watched = watched.map(|(key, lsn)| Watched { key, lsn }).collect();
    }

    /// Whether the reply to the next command is dropped.
    pub fn mutes(&self) -> bool {
        self.replies != Replies::On
    }

    /// Whether that is so for the next command alone.
    pub fn mutes_once(&self) -> bool {
        self.replies == Replies::SkipNext
    }

    /// A command was executed elsewhere, and its reply given or dropped.
    pub fn answered_elsewhere(&mut self) {
        if self.replies == Replies::SkipNext {
            self.replies = Replies::On;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::new(1, String::new(), String::new(), true)
    }

    fn args(line: &str) -> OwnedArgs {
        line.split(' ').collect()
    }

    fn way(session: &Session, line: &str) -> Route {
        route(session, args(line).as_args())
    }

    const READS: Route = Route::Here { reads: true };
    const IDLE: Route = Route::Here { reads: false };

    #[test]
    fn writes_go_to_the_leader_and_errors_are_answered_here() {
        let session = session();
        for (line, expected) in [
            ("set a 1", Route::Leader),
            ("FLUSHALL", Route::Leader),
            ("GET a", READS),
            ("WATCH a", READS),
            ("PING", IDLE),
            ("INFO", IDLE),
            ("SET a", IDLE),
            ("NOTHING a", IDLE),
            ("EXEC", IDLE),
            ("WAIT 1 x", READS),
        ] {
            assert_eq!(way(&session, line), expected, "{line}");
        }
        let wait = Route::Wait {
            replicas: 1,
            timeout_ms: 50,
        };
        assert_eq!(way(&session, "WAIT 1 50"), wait);
        let stranger = Session::new(1, String::new(), String::new(), false);
        assert_eq!(way(&stranger, "SET a 1"), IDLE);
    }

    #[test]
    fn exec_goes_where_its_commands_go() {
        let exec_of = |lines: &[&str]| {
            let mut session = session();
            let queue = lines.iter().map(|line| args(line)).collect();
            session.adopt_transaction(queue, std::iter::empty());
            assert_eq!(way(&session, "SET a 1"), IDLE, "it is queued");
            way(&session, "EXEC")
        };
        assert_eq!(exec_of(&["GET a", "SET a 1"]), Route::Transaction);
        assert_eq!(exec_of(&["PING", "SET a 1"]), Route::Transaction);
        assert_eq!(exec_of(&["CLIENT ID", "SET a 1"]), Route::Mixed);
        assert_eq!(exec_of(&["GET a"]), READS);
        assert_eq!(exec_of(&["PING"]), IDLE);
        assert_eq!(exec_of(&["NOTHING", "SET a 1"]), IDLE);
    }
}
