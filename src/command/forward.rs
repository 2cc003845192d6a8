//! Which commands a follower hands on to its leader, and how a transaction travels there. It must not
//! know how they get there.

use super::execute::resolve;
use super::session::{Replies, Session, Transaction, Watched};
use super::table::{Command, Group, flags};
use super::transactions::{MAX_WATCHED, TOO_MANY_WATCHED};
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
    Leader {
        /// The command may change the state.
        writes: bool,
    },
    /// The leader, together with everything that was queued: the command is EXEC.
    Transaction {
        /// One of them may change the state.
        writes: bool,
    },
    /// The leader looks the keys up that the session is to watch.
    Watch,
    /// Nobody: the transaction both needs the leader and speaks of the connection itself.
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
        Some(transaction) if command.name == "exec" => route_exec(session, transaction),
        Some(_) if !command.has(flags::IMMEDIATE) => here(false), // it is queued
        None if command.has(flags::WRITE) => Route::Leader { writes: true },
        None if command.name == "wait" => route_wait(args).unwrap_or(here(false)),
        None if session.at_leader && command.name == "watch" => Route::Watch,
        None if session.at_leader && is_of_leader(command) => Route::Leader { writes: false },
        _ => here(!command.has(flags::LOADING)),
    }
}

fn route_exec(session: &Session, transaction: &Transaction) -> Route {
    if transaction.aborted {
        return Route::Here { reads: false };
    }
    let writes = transaction.flags & flags::WRITE != 0;
    let mut queue = transaction.queue.iter().map(|(command, _)| command);
    let there = writes
        || session.at_leader
            && (!session.watched.is_empty() || queue.clone().any(|command| is_of_leader(command)));
    if !there {
        let reads = transaction.flags & flags::LOADING == 0;
        return Route::Here { reads };
    }
    if queue.any(|command| is_own(command)) {
        return Route::Mixed;
    }
    Route::Transaction { writes }
}

/// Whether the command looks at the state, or tells of it and of whoever has it.
fn is_of_leader(command: &Command) -> bool {
    !command.has(flags::LOADING) || matches!(command.name, "info" | "role")
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

    /// Watches what the leader has looked up.
    pub fn watch(
        &mut self,
        keys: impl ExactSizeIterator<Item = (Vec<u8>, Option<u64>)>,
    ) -> Result<(), &'static str> {
        if self.watched.len() + keys.len() > MAX_WATCHED {
            return Err(TOO_MANY_WATCHED);
        }
        self.watched
            .extend(keys.map(|(key, lsn)| Watched { key, lsn }));
        Ok(())
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

    const WRITES: Route = Route::Leader { writes: true };
    const READS: Route = Route::Here { reads: true };
    const IDLE: Route = Route::Here { reads: false };

    #[test]
    fn writes_go_to_the_leader_and_errors_are_answered_here() {
        let session = session();
        for (line, expected) in [
            ("set a 1", WRITES),
            ("FLUSHALL", WRITES),
            ("GET a", READS),
            ("WATCH a", READS),
            ("PING", IDLE),
            ("INFO", IDLE),
            ("SET a", IDLE),
            ("NOTHING a", IDLE),
            ("EXEC", IDLE),
            ("WAIT 1 x", IDLE),
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
        let transaction = Route::Transaction { writes: true };
        assert_eq!(exec_of(&["GET a", "SET a 1"]), transaction);
        assert_eq!(exec_of(&["PING", "SET a 1"]), transaction);
        assert_eq!(exec_of(&["CLIENT ID", "SET a 1"]), Route::Mixed);
        assert_eq!(exec_of(&["GET a"]), READS);
        assert_eq!(exec_of(&["PING"]), IDLE);
        assert_eq!(exec_of(&["NOTHING", "SET a 1"]), IDLE);
    }

    #[test]
    fn at_the_leaders_address_whatever_looks_at_the_state_goes_to_the_leader() {
        let mut session = session();
        session.at_leader = true;
        let there = Route::Leader { writes: false };
        for (line, expected) in [
            ("SET a 1", WRITES),
            ("GET a", there),
            ("DBSIZE", there),
            ("SCAN 0", there),
            ("OBJECT ENCODING a", there),
            ("INFO replication", there),
            ("ROLE", there),
            ("WATCH a", Route::Watch),
            ("UNWATCH", IDLE),
            ("PING", IDLE),
            ("CLIENT ID", IDLE),
            ("CONFIG GET port", IDLE),
            ("MULTI", IDLE),
            ("GET", IDLE),
            ("OBJECT", IDLE),
        ] {
            assert_eq!(way(&session, line), expected, "{line}");
        }
        session.reset(true);
        assert_eq!(way(&session, "GET a"), there, "RESET does not move it");
        for command in super::super::all() {
            let state = command.has(flags::READONLY) && !command.has(flags::LOADING);
            assert!(!state || is_of_leader(command), "{command:?}");
        }
    }

    #[test]
    fn at_the_leaders_address_a_transaction_goes_there_if_it_must_know_the_state() {
        let exec_of = |lines: &[&str], watched: &[&str]| {
            let mut session = session();
            session.at_leader = true;
            let queue = lines.iter().map(|line| args(line)).collect();
            let watched = watched.iter().map(|key| (key.as_bytes().to_vec(), Some(1)));
            session.adopt_transaction(queue, watched);
            way(&session, "EXEC")
        };
        let reads = Route::Transaction { writes: false };
        assert_eq!(exec_of(&["GET a"], &[]), reads);
        assert_eq!(exec_of(&["ROLE"], &[]), reads);
        assert_eq!(exec_of(&["PING"], &["a"]), reads);
        assert_eq!(exec_of(&["PING"], &[]), IDLE);
        assert_eq!(exec_of(&["CLIENT ID", "GET a"], &[]), Route::Mixed);
        assert_eq!(
            exec_of(&["GET a", "SET a 1"], &[]),
            Route::Transaction { writes: true }
        );
    }

    #[test]
    fn keys_that_the_leader_looked_up_are_watched_up_to_a_bound() {
        let mut session = session();
        let keys = |count: usize| vec![(b"a".to_vec(), None); count].into_iter();
        assert_eq!(session.watch(keys(MAX_WATCHED - 1)), Ok(()));
        assert_eq!(session.watch(keys(2)), Err(TOO_MANY_WATCHED));
        assert_eq!(session.watch(keys(1)), Ok(()));
        assert_eq!(session.watches().count(), MAX_WATCHED);
    }
}
