//! A client's connection that hands commands over: keeps the batch until its fate is known, and makes
//! sure that the client never reads a state older than what it wrote.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::time::Instant;

use super::PATIENCE;
use super::batch::{Batch, Kind, bytes_of};
use super::queue::Answer;
use crate::replication::Position;
use crate::replication::message::Watches;
use crate::resp::{Decoder, Protocol, parse_i64};
use crate::server::clients::Waiting;
use crate::server::connection::Connection;

/// Pause before a batch is offered again that a replica has refused: another one is about to lead.
const PAUSE: Duration = Duration::from_millis(20);
/// WAIT is handed over in pieces of at most this, so that a client that has gone is noticed.
const WAIT_PIECE: Duration = Duration::from_secs(1);

/// How a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Next {
    /// The reply is there; so many bytes of the input are done with.
    Used(usize),
    /// The same input is to be executed again: this replica's role may be another by now.
    Again,
    /// Without a word: what became of the batch is not known.
    Close,
}

impl Connection {
    /// Hands a batch to the leader, and takes the replies.
    pub(in crate::server) async fn hand_over(&mut self, batch: Batch) -> Next {
        let began = *self.handing_since.get_or_insert_with(Instant::now);
        let (mut used, commands, writes) = (batch.used, batch.commands, batch.writes);
        let exec = matches!(batch.kind, Kind::Transaction { .. });
        let watch = batch.kind == Kind::Watch;
        let raw = batch.raw.clone();
        let before = self.out.len();
        match self.offer(batch, began).await {
            Answer::Done {
                at,
                commands: done,
                reply,
            } => {
                if at.epoch > self.seen.epoch && at.lsn < self.seen.lsn {
                    return Next::Close; // what this client has seen was given up
                }
                self.note_written(at);
                if watch {
                    self.take_watches(&reply);
                } else {
                    self.out.raw(&reply);
                }
                if done < commands {
                    used = bytes_of(&raw, done);
                }
                let counter = &self.clients.forwarded;
                counter.fetch_add(done as u64, std::sync::atomic::Ordering::Relaxed);
            }
            Answer::Again => return self.again(),
            // What only reads can be asked again.
            Answer::Unknown if !writes && began.elapsed() < PATIENCE => return self.again(),
            Answer::Unknown if writes => return Next::Close,
            Answer::Late | Answer::Unknown => self.refuse_late(commands),
        }
        self.handed_over(exec, before);
        Next::Used(used)
    }

    /// Watches what the leader has looked up.
    fn take_watches(&mut self, reply: &[u8]) {
        let watches = reply
            .strip_prefix(b"+")
            .map(postcard::from_bytes::<Watches>);
        match watches {
            None => self.out.raw(reply),
            Some(Ok(watches)) => match self.session.watch(watches.into_iter()) {
                Ok(()) => self.out.ok(),
                Err(text) => self.out.error(text.as_bytes()),
            },
            Some(Err(error)) => self.out.error(format!("ERR {error}").as_bytes()),
        }
    }

    /// Waits at the leader until followers have what this client wrote.
    pub(in crate::server) async fn wait_at_leader(
        &mut self,
        used: usize,
        replicas: u64,
        timeout_ms: u64,
    ) -> Next {
        let clients = std::sync::Arc::clone(&self.clients);
        let _counted = Waiting::begin(&clients);
        // It goes on where it was when another replica leads meanwhile.
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let end = (timeout_ms > 0).then(|| since + Duration::from_millis(timeout_ms));
        self.handing_since.get_or_insert_with(Instant::now);
        let before = self.out.len();
        loop {
            if matches!(self.stream.peek(&mut [0]).now_or_never(), Some(Ok(0))) {
                return Next::Close; // nobody waits for the answer any more
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let piece = left.map_or(WAIT_PIECE, |left| left.min(WAIT_PIECE));
            let batch = Batch {
                kind: Kind::Wait {
                    written: self.written,
                    replicas,
                    timeout_ms: (piece.as_micros().div_ceil(1000) as u64).max(1),
                },
                writes: false,
                resp3: self.session.protocol == Protocol::Resp3,
                raw: Bytes::new(),
                commands: 1,
                used,
            };
            match self.offer(batch, Instant::now()).await {
                Answer::Done { reply, .. } => {
                    self.handing_since = Some(Instant::now());
                    let over = left.is_some_and(|left| left <= piece);
                    if over || count(&reply).is_none_or(|count| count >= replicas) {
                        self.out.raw(&reply);
                        break;
                    }
                }
                // Asking twice does no harm.
                Answer::Again | Answer::Unknown => {
                    if end.is_some_and(|end| Instant::now() >= end) {
                        // Nobody has said that a follower has it.
                        self.out.integer(0);
                        break;
                    }
                    let silent = self
                        .handing_since
                        .is_some_and(|it| it.elapsed() >= PATIENCE);
                    if !silent {
                        return self.again();
                    }
                    self.refuse_late(1);
                    break;
                }
                Answer::Late => {
                    self.refuse_late(1);
                    break;
                }
            }
        }
        self.handed_over(false, before);
        Next::Used(used)
    }

    /// A transaction that neither this replica nor its leader can execute whole.
    pub(in crate::server) fn refuse_transaction(&mut self, used: usize, why: &str) -> Next {
        let before = self.out.len();
        let text = format!("EXECABORT Transaction discarded because of: {why}");
        self.out.error(text.as_bytes());
        self.handed_over(true, before);
        Next::Used(used)
    }

    /// Waits until this replica has applied what the client has seen; `false` if it takes too long.
    pub(in crate::server) async fn catch_up(&mut self) -> bool {
        let caught_up = self.node.applied(self.seen, &self.slot);
        if tokio::time::timeout(PATIENCE, caught_up).await.is_ok() {
            return true;
        }
        let text = "LOADING this replica is far behind its leader and has not got what this connection \
                    has seen, try another replica";
        self.out.error(text.as_bytes());
        false
    }

    async fn offer(&self, batch: Batch, began: Instant) -> Answer {
        let node = &self.node;
        let answer = node.forward.offer(node, batch, began + PATIENCE).await;
        if matches!(answer, Answer::Again) {
            let role_changed = node.role_changed.notified();
            let _ = tokio::time::timeout(PAUSE, role_changed).await;
            if began.elapsed() >= PATIENCE {
                return Answer::Late;
            }
        }
        answer
    }

    /// The newest that this client has written, or has seen written.
    pub(in crate::server) fn note_written(&mut self, at: Position) {
        self.written = self.written.max(at);
        self.seen = self.seen.max(at);
    }

    fn again(&mut self) -> Next {
        self.decoder = Decoder::default();
        Next::Again
    }

    fn refuse_late(&mut self, commands: usize) {
        let text = if self.strict {
            "CLUSTERDOWN no leader has taken this: nothing was done, try again"
        } else {
            "READONLY You can't write against a read only replica. There is no leader at the \
             moment, try again"
        };
        for _ in 0..commands {
            self.out.error(text.as_bytes());
        }
    }

    /// The command was answered: what was written behind `before` goes if the client wants no reply.
    fn handed_over(&mut self, exec: bool, before: usize) {
        if exec {
            self.session.end_transaction();
        }
        if self.session.mutes() {
            self.out.truncate(before);
        }
        self.session.answered_elsewhere();
        self.handing_since = None;
        self.waiting_since = None;
    }
}

/// The number in a reply.
fn count(reply: &[u8]) -> Option<u64> {
    let digits = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    parse_i64(digits).and_then(|count| u64::try_from(count).ok())
}
