//! A replica as far as commands see one: its state, its process, and some connections.

use super::view::TestView;
use crate::command::{ClientInfo, Host, Outcome, ServerInfo, Session, Stats, execute};
use crate::resp::{OwnedArgs, Protocol, Writer};
use std::cell::RefCell;

/// What a follower answers to a write.
pub(super) const READONLY: &str = "READONLY You can't write against a read only replica.";
/// What a replica answers to anything that needs its state, while it has none.
pub(super) const LOADING: &str = "LOADING Redis is loading the dataset in memory";

pub(super) struct TestHost {
    stats: Stats,
    pub(super) password: Option<&'static str>,
    pub(super) killed: RefCell<Vec<u64>>,
}

impl Host for TestHost {
    fn server(&self) -> ServerInfo {
        ServerInfo {
            version: "1.2.3".to_owned(),
            port: 6379,
            ..ServerInfo::default()
        }
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }

    fn clients(&self) -> Vec<ClientInfo> {
        let client = |id, address: &str| ClientInfo {
            id,
            address: address.to_owned(),
            protocol: 2,
            age_s: 20,
            ..ClientInfo::default()
        };
        vec![client(1, "10.0.0.1:1111"), client(77, "10.0.0.7:7777")]
    }

    fn kill(&self, ids: &[u64]) -> u64 {
        self.killed.borrow_mut().extend(ids);
        ids.len() as u64
    }

    fn password_required(&self) -> bool {
        self.password.is_some()
    }

    fn authenticate(&self, user: &[u8], password: &[u8]) -> bool {
        user == b"default"
            && self
                .password
                .is_some_and(|right| right.as_bytes() == password)
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("maxmemory", "1048576".to_owned()),
            ("port", "6379".to_owned()),
        ]
    }

    fn set(&self, name: &str, value: &str) -> Result<bool, String> {
        match (name, value.parse::<u64>()) {
            ("maxmemory", Ok(_)) => Ok(true),
            ("maxmemory", Err(_)) => Err("argument must be a memory value".to_owned()),
            _ => Ok(false),
        }
    }
}

pub(super) struct World {
    pub(super) view: TestView,
    pub(super) host: TestHost,
    /// By number, from 1 on.
    sessions: Vec<Session>,
}

impl Default for World {
    fn default() -> Self {
        let host = TestHost {
            stats: Stats::default(),
            password: None,
            killed: RefCell::default(),
        };
        let mut world = Self {
            view: TestView::default(),
            host,
            sessions: Vec::new(),
        };
        world.connect(true);
        world
    }
}

impl World {
    /// Opens another connection; its number.
    pub(super) fn connect(&mut self, authenticated: bool) -> usize {
        let number = self.sessions.len() + 1;
        let address = format!("10.0.0.{number}:{number}{number}{number}{number}");
        let local = "10.0.0.9:6379".to_owned();
        self.sessions
            .push(Session::new(number as u64, address, local, authenticated));
        number
    }

    pub(super) fn session(&mut self, number: usize) -> &mut Session {
        while self.sessions.len() < number {
            self.connect(true);
        }
        &mut self.sessions[number - 1]
    }

    /// Executes a command on a connection; the reply and what the shell has to do.
    pub(super) fn execute(&mut self, number: usize, args: &OwnedArgs) -> (Vec<u8>, Outcome) {
        self.session(number);
        let mut out = Writer::new(Protocol::Resp2);
        let session = &mut self.sessions[number - 1];
        let outcome = execute(
            session,
            args.as_args(),
            &mut self.view,
            &self.host,
            &mut out,
        );
        (out.take(), outcome)
    }

    /// Executes a command of plain words on the first connection; the reply.
    pub(super) fn run(&mut self, line: &str) -> Vec<u8> {
        self.execute(1, &line.split_whitespace().collect()).0
    }
}
