//! The leader's end for what changes nothing: each batch goes its own way, so that one that waits for the
//! disk, or walks over all keys, holds up no other. None of it has happened until it is answered: a
//! replica that ceases to lead meanwhile refuses it whole.

use std::io;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::batch::parts;
use super::serve::{Answer, MAX_REPLY, seen};
use super::{PATIENCE, cost};
use crate::command::{Session, Stats, execute};
use crate::replication::message::{ForwardKind, Watches};
use crate::replication::{Lsn, Position};
use crate::resp::{Decoded, Decoder, Protocol, Writer};
use crate::server::clients::Clients;
use crate::server::gate::Slot;
use crate::server::hold::{self, Hold};
use crate::server::host::{NodeHost, Process};
use crate::server::inner::Inner;
use crate::server::node::Node;
use crate::server::view::StoreView;
use crate::server::waiting::Unanswered;
use crate::server::walk::Walked;

/// Batches that are executed at a time on one connection: each may hold a large reply.
const AT_ONCE: usize = 64;
/// A batch ends when its replies have grown to this size; the rest is asked for again.
const MAX_STEP_REPLY: usize = 1 << 20;

type Parts = (Arc<Clients>, Arc<Stats>, Arc<Process>);

/// Begins the reads of one connection.
pub(super) struct Reader {
    node: Arc<Node>,
    parts: Parts,
    /// For replies that wait.
    room: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(node: Arc<Node>, parts: Parts, room: Arc<Semaphore>) -> Self {
        Self {
            node,
            parts,
            room,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// A batch that is to be executed; an error if it is none.
    pub(super) fn begin(
        &self,
        protocol: Protocol,
        kind: ForwardKind,
        raw: &Bytes,
        watched_bytes: u32,
    ) -> Result<Reading, String> {
        let mut session = Session::new(0, String::new(), String::new(), true);
        session.protocol = protocol;
        let raw = if kind == ForwardKind::Transaction {
            let (queue, watches) = parts(raw, watched_bytes)?;
            session.adopt_transaction(queue, watches.into_iter());
            Bytes::from_static(b"EXEC\r\n")
        } else {
            raw.clone()
        };
        let (clients, stats, process) = &self.parts;
        let host = NodeHost::new(
            Arc::clone(&self.node),
            Arc::clone(clients),
            Arc::clone(stats),
            Arc::clone(process),
        );
        Ok(Reading {
            node: Arc::clone(&self.node),
            room: Arc::clone(&self.room),
            turns: Arc::clone(&self.turns),
            host,
            out: Writer::new(protocol),
            session,
            watches: kind == ForwardKind::Watch,
            raw,
            reign: None,
            consumed: 0,
            commands: 0,
            read_ahead: 0,
            walked: None,
            need: Lsn::ZERO,
            touched: false,
        })
    }
}

/// A batch on its way.
pub(super) struct Reading {
    node: Arc<Node>,
    room: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    host: NodeHost,
    session: Session,
    /// It is a WATCH.
    watches: bool,
    raw: Bytes,
    /// In which it began.
    reign: Option<u64>,
    consumed: usize,
    commands: u32,
    /// Commands from here on whose keys have been read.
    read_ahead: usize,
    walked: Option<Walked>,
    out: Writer,
    need: Lsn,
    touched: bool,
}

/// How far a batch has come.
enum Step {
    /// The next command waits for something that does not take the lock.
    Hold(Hold),
    /// This replica does not lead, or is cut off, or what was begun belongs to an earlier reign.
    Refused,
    /// What was executed may be answered when this turn may be.
    Done(Slot, Position),
    Broken(String),
}

impl Reading {
    /// Executes it, and waits until it may be answered.
    pub(super) async fn run(mut self, id: u64) -> Answer {
        match self.answer(id).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "reads that another replica has handed on");
                Answer::unknown(id)
            }
        }
    }

    async fn answer(&mut self, id: u64) -> io::Result<Answer> {
        let turns = Arc::clone(&self.turns);
        let turn = turns.acquire().await.map_err(io::Error::other)?;
        let node = Arc::clone(&self.node);
        let (slot, at) = loop {
            let step = node.once_relieved(|| self.step(&node));
            let Ok(step) = tokio::time::timeout(PATIENCE, step).await else {
                return Ok(Answer::refused(id));
            };
            match step {
                Step::Hold(hold) => {
                    let held = hold.wait(&node).await;
                    self.read_ahead = held.commands;
                    self.walked = held.walked;
                }
                Step::Refused => return Ok(Answer::refused(id)),
                Step::Done(slot, at) => break (slot, at),
                Step::Broken(error) => return Err(io::Error::other(error)),
            }
        };
        let reply = self.reply()?;
        let room = Arc::clone(&self.room).acquire_many_owned(cost(reply.len()));
        let room = room.await.map_err(io::Error::other)?;
        drop(turn);
        let reign = self.reign.unwrap_or_default();
        if self.touched {
            match node.released(self.need, reign, &slot, None).await {
                Ok(()) => {}
                Err(Unanswered::Deposed) => return Ok(Answer::refused(id)),
                Err(Unanswered::Withheld) => {
                    return Ok(Answer::in_doubt(id, &node, self.commands));
                }
            }
        }
        Ok(Answer::done(id, at, self.commands, reply, Some(room)))
    }

    /// `None` if clients are held.
    fn step(&mut self, node: &Node) -> Option<Step> {
        node.with(|inner| (!inner.holds_clients()).then(|| self.execute(node, inner)))
    }

    fn execute(&mut self, node: &Node, inner: &mut Inner) -> Step {
        let reign = *self.reign.get_or_insert(inner.reign);
        if !inner.accepting || inner.gate.bars() || reign != inner.reign {
            return Step::Refused;
        }
        let (mut decoder, mut held) = (Decoder::default(), None);
        let mut view = StoreView::new(node, inner);
        (view.need, view.touched) = (self.need, self.touched);
        while let Some(rest) = self.raw.get(self.consumed..).filter(|it| !it.is_empty()) {
            let (args, used) = match decoder.decode(rest) {
                Ok(Decoded::Command { args, consumed }) => (args, consumed),
                Ok(Decoded::Incomplete { .. }) => return Step::Broken("half a command".to_owned()),
                Err(error) => return Step::Broken(error.to_string()),
            };
            let life = view.inner().life();
            if let Some(walked) = self.walked.take().filter(|it| it.life == life) {
                self.session.collected = Some(walked.collected);
            }
            let hold = hold::before(view.inner(), &self.session, args, rest, self.read_ahead > 0);
            if hold.is_some() {
                held = hold;
                break;
            }
            execute(
                &mut self.session,
                args,
                &mut view,
                &self.host,
                &mut self.out,
            );
            self.session.collected = None;
            self.read_ahead = self.read_ahead.saturating_sub(1);
            self.consumed += used;
            self.commands += 1;
            if self.out.len() >= MAX_STEP_REPLY {
                break;
            }
        }
        view.delete_overdue();
        if view.wrote {
            node.written(view.inner_mut());
        }
        (self.need, self.touched) = (view.need, view.touched);
        if let Some(hold) = held {
            return Step::Hold(hold);
        }
        let mut slot = Slot::new();
        view.begin_wait(&mut slot, Waker::noop());
        Step::Done(slot, seen(view.inner(), self.need))
    }

    /// What goes back.
    fn reply(&mut self) -> io::Result<Vec<u8>> {
        let reply = self.out.take();
        if reply.len() > MAX_REPLY {
            let mut out = Writer::new(self.session.protocol);
            for _ in 0..self.commands {
                out.error(
                    b"ERR the reply is too large to be handed on, connect to the leader itself",
                );
            }
            return Ok(out.take());
        }
        if !self.watches || reply.starts_with(b"-") {
            return Ok(reply);
        }
        let watched = self.session.watches();
        let watched: Watches = watched.map(|(key, lsn)| (key.to_vec(), lsn)).collect();
        let encoded = postcard::to_stdvec(&watched).map_err(io::Error::other)?;
        Ok([b"+", encoded.as_slice()].concat())
    }
}
