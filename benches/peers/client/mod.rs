//! The load generator for everything that speaks the Redis protocol: many connections, one thread.
//! With an open pace it sends on a schedule and counts latency from the time at which an operation was
//! *due*, so that a server that stalls is charged for all that had to wait (no coordinated omission).

mod connection;
mod control;
mod keys;
mod record;
mod replies;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::event::{PollFd, PollFlags, Timespec, epoll};

use crate::load::{Keys, Load, Order, Outcome, Pace};
use connection::{Batch, Connection};
pub(crate) use control::{Control, Phase};
use keys::Chooser;
use record::Record;

/// Longest wait for sockets: then the clock is looked at.
const BEAT: Duration = Duration::from_millis(10);
/// Demands that a write is on the disks of the server and of one replica, however long that takes.
const WAITAOF: &[u8] = b"*4\r\n$7\r\nWAITAOF\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n0\r\n";

/// Puts a load on the server at this port. With `waits` each batch of writes ends with a WAITAOF, and
/// is done when that is answered.
pub(crate) fn run(port: u16, waits: bool, load: &Load, control: &Control) -> Result<Outcome> {
    let mut run = Run::new(port, waits, load)?;
    run.until_stopped(control)?;
    let misses: u64 = run.connections.iter().map(|one| one.misses).sum();
    run.record.outcome(misses)
}

/// Writes every key once.
pub(crate) fn fill(port: u16, keys: Keys, value: usize) -> Result<()> {
    write(port, keys, Order::Sequence, value)
}

/// The same in an order, which must be one in which each comes once.
pub(crate) fn write(port: u16, keys: Keys, order: Order, value: usize) -> Result<()> {
    let load = Load {
        clients: 8,
        pipeline: 128,
        reads: 0.0,
        keys: Keys { order, ..keys },
        value,
        pace: Pace::Closed,
        seconds: 0.0,
        neutral: false,
    };
    let all = Control::gated();
    run(port, false, &load, &all).map(|_| ())
}

struct Run<'a> {
    load: &'a Load,
    waits: bool,
    chooser: Chooser,
    random: SmallRng,
    value: Vec<u8>,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    /// Operations that are due and have no connection.
    backlog: VecDeque<Instant>,
    /// When the next one is due.
    due: Instant,
    epoll: OwnedFd,
    record: Record,
}

impl<'a> Run<'a> {
    fn new(port: u16, waits: bool, load: &'a Load) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(load.clients);
        for index in 0..load.clients {
            let connection = Connection::open(port)?;
            let data = epoll::EventData::new_u64(index as u64);
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            epoll::add(&epoll, connection.stream(), data, flags)?;
            connections.push(connection);
        }
        let mut random = SmallRng::from_os_rng();
        // Letters at random: nobody gains by compressing them.
        let letters = (0..load.value).map(|_| random.random_range(b'a'..=b'z'));
        let mut value = format!("${}\r\n", load.value).into_bytes();
        value.extend(letters);
        value.extend_from_slice(b"\r\n");
        Ok(Self {
            load,
            waits,
            chooser: Chooser::new(load.keys),
            random,
            value,
            connections,
            idle: (0..load.clients).collect(),
            backlog: VecDeque::new(),
            due: Instant::now(),
            epoll,
            record: Record::new()?,
        })
    }

    fn until_stopped(&mut self, control: &Control) -> Result<()> {
        let mut ready = Vec::with_capacity(self.connections.len());
        let start = Instant::now();
        self.due = start;
        loop {
            let now = Instant::now();
            match control.phase(now - start) {
                Phase::Warm => {}
                Phase::Measure => self.record.begin(now),
                Phase::Stop => break,
            }
            self.send_due(now)?;
            if self.chooser.done() && self.idle.len() == self.connections.len() {
                break;
            }
            self.wait(now, &mut ready)?;
            for event in &ready {
                let index = event.data.u64() as usize;
                let connection = &mut self.connections[index];
                connection.flush()?;
                if let Some(batch) = connection.receive()? {
                    let now = Instant::now();
                    self.record
                        .done(batch.reads, batch.operations, now - batch.due);
                    self.idle.push(index);
                    self.send_due(now)?;
                }
            }
        }
        // What was due and was not sent has waited, too.
        let now = Instant::now();
        for due in &self.backlog {
            self.record.late(now - *due);
        }
        self.record.end(now);
        Ok(())
    }

    /// Sends what is due, as far as there are connections that have nothing to do.
    fn send_due(&mut self, now: Instant) -> Result<()> {
        if let Pace::Open(rate) = self.load.pace {
            ensure!(rate > 0.0, "an open load needs a rate");
            while self.due <= now {
                self.backlog.push_back(self.due);
                let gap =
                    -(1.0 - self.random.random::<f64>()).ln() * self.load.pipeline as f64 / rate;
                self.due += Duration::from_secs_f64(gap);
            }
        }
        while let Some(&index) = self.idle.last()
            && !self.chooser.done()
        {
            let due = match self.load.pace {
                Pace::Closed => Some(now),
                Pace::Open(_) => self.backlog.pop_front(),
            };
            let Some(due) = due else { break };
            self.idle.pop();
            self.send(index, due)?;
        }
        Ok(())
    }

    fn send(&mut self, index: usize, due: Instant) -> Result<()> {
        let reads = self.load.reads > 0.0 && self.random.random::<f64>() < self.load.reads;
        let operations = self.load.pipeline as u32;
        let waits = self.waits && !reads;
        let batch = Batch {
            due,
            operations,
            replies: operations + u32::from(waits),
            reads,
        };
        let (chooser, random, value) = (&mut self.chooser, &mut self.random, &self.value);
        self.connections[index].send(batch, |out| {
            for _ in 0..operations {
                if reads {
                    out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
                    chooser.write(random, out);
                } else {
                    out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n");
                    chooser.write(random, out);
                    out.extend_from_slice(value);
                }
            }
            if waits {
                out.extend_from_slice(WAITAOF);
            }
        })
    }

    /// Waits for sockets, and in an open load for the next time at which something is due.
    fn wait(&self, now: Instant, ready: &mut Vec<epoll::Event>) -> Result<()> {
        let mut longest = Timespec::try_from(BEAT)?;
        if matches!(self.load.pace, Pace::Open(_)) {
            // `epoll_wait` rounds up to milliseconds, `ppoll` does not.
            let wait = self.due.saturating_duration_since(now).min(BEAT);
            let wait = Timespec::try_from(wait)?;
            let mut all = [PollFd::new(&self.epoll, PollFlags::IN)];
            rustix::event::poll(&mut all, Some(&wait))?;
            longest = Timespec::default();
        }
        ready.clear();
        epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(ready),
            Some(&longest),
        )?;
        Ok(())
    }
}
