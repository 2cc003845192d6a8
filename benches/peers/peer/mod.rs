//! The systems that are compared.

pub(crate) mod etcd;
pub(crate) mod ours;
pub(crate) mod postgres;
pub(crate) mod valkey;

use anyhow::{Result, ensure};

use crate::bench::Bench;
use crate::client::{self, Control};
use crate::load::{Keys, Load, Outcome};
use crate::neutral::Neutral;

/// One of them, running.
pub(crate) trait System {
    /// The column of its results.
    fn column(&self) -> &'static str;
    /// Puts a load on it.
    fn run(&mut self, bench: &Bench, load: &Load) -> Result<Outcome>;
}

/// How clients reach a server that speaks the Redis protocol.
pub(crate) struct Door {
    pub(crate) port: u16,
    /// Writes are followed by WAITAOF.
    pub(crate) waits: bool,
    pub(crate) neutral: Option<Neutral>,
}

impl Door {
    pub(crate) fn new(port: u16, waits: bool) -> Self {
        let neutral = Neutral::new(port);
        Self {
            port,
            waits,
            neutral,
        }
    }

    /// Writes every key once, and waits until that is as durable as everything will be.
    pub(crate) fn fill(&self, keys: Keys, value: usize) -> Result<()> {
        client::fill(self.port, keys, value)?;
        if self.waits {
            let mut connection = connect(self.port)?;
            redis::cmd("SET")
                .arg("filled")
                .arg(1)
                .query::<()>(&mut connection)?;
            let waits = redis::cmd("WAITAOF")
                .arg(&[1, 1, 0])
                .query::<(u64, u64)>(&mut connection);
            ensure!(waits? >= (1, 1), "what was filled is not on both disks");
        }
        Ok(())
    }

    /// By Valkey's own client where that is asked for, else by ours.
    pub(crate) fn run(&mut self, bench: &Bench, load: &Load) -> Result<Outcome> {
        match &mut self.neutral {
            Some(neutral) if load.neutral => neutral.run(bench, load),
            _ => client::run(self.port, self.waits, load, &Control::timed(load.seconds)),
        }
    }
}

/// A connection for single commands.
pub(crate) fn connect(port: u16) -> Result<redis::Connection> {
    Ok(redis::Client::open(format!("redis://127.0.0.1:{port}/"))?.get_connection()?)
}

/// Whether somebody answers there.
pub(crate) fn answers(port: u16) -> bool {
    let ask = || {
        redis::cmd("PING")
            .query::<String>(&mut connect(port).ok()?)
            .ok()
    };
    ask().is_some()
}

/// A field of INFO.
pub(crate) fn info(port: u16, section: &str, field: &str) -> Option<String> {
    let mut connection = connect(port).ok()?;
    let text: String = redis::cmd("INFO")
        .arg(section)
        .query(&mut connection)
        .ok()?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.map(str::to_owned)
}
