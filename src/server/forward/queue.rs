//! Where a client's task leaves a batch for the leader, and waits. As long as it lies here it can be
//! taken back; once the link has taken it, only the leader knows what becomes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::batch::Batch;
use super::{ROOM, cost};
use crate::replication::Position;
use crate::server::node::Node;

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Answer {
    Done {
        at: Position,
        /// How many, from the first on.
        commands: usize,
        reply: Bytes,
    },
    /// Nothing was executed: offer it again, or execute it here by now.
    Again,
    /// No leader has taken it in time; nothing was executed.
    Late,
    /// It may have been executed.
    Unknown,
}

/// A batch that waits, or is on its way.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) batch: Batch,
    reply: oneshot::Sender<Answer>,
    _room: OwnedSemaphorePermit,
}

impl Request {
    /// Tells the client's task. A request that is dropped without a word is of unknown outcome.
    pub(super) fn answer(self, answer: Answer) {
        let _ = self.reply.send(answer); // the client may be gone
    }
}

/// The batches that wait for the link, in the order of their arrival.
#[derive(Debug)]
pub(in crate::server) struct Queue {
    waiting: Mutex<BTreeMap<u64, Request>>,
    next: AtomicU64,
    arrived: Notify,
    room: Arc<Semaphore>,
}

/// Takes a batch back when its client's task ends first.
struct Withdraw<'a> {
    queue: &'a Queue,
    id: u64,
}

impl Withdraw<'_> {
    /// `false` if the link has taken it.
    fn now(&self) -> bool {
        self.queue.waiting.lock().remove(&self.id).is_some()
    }
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.now();
    }
}

impl Queue {
    pub(in crate::server) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            next: AtomicU64::new(0),
            arrived: Notify::new(),
            room: Arc::new(Semaphore::new(ROOM)),
        }
    }

    /// Takes the next batch; from then on it counts as sent.
    pub(super) fn take(&self) -> Option<Request> {
        self.waiting.lock().pop_first().map(|(_, request)| request)
    }

    /// Waits for the next batch, and for `ready` if there is one.
    pub(super) async fn next(&self, ready: impl Fn() -> bool, pace: Duration) -> Request {
        loop {
            let arrived = self.arrived.notified();
            let waiting = !self.waiting.lock().is_empty();
            if waiting && !ready() {
                tokio::time::sleep(pace).await;
                continue;
            }
            if let Some(request) = self.take() {
                return request;
            }
            arrived.await;
        }
    }

    /// Offers a batch to the leader until `deadline`, and waits for what becomes of it. Once it was
    /// sent there is no deadline: the link knows when its other end is gone.
    pub(super) async fn offer(&self, node: &Node, batch: Batch, deadline: Instant) -> Answer {
        let room = Arc::clone(&self.room).acquire_many_owned(cost(batch.raw.len()));
        let Ok(Ok(room)) = tokio::time::timeout_at(deadline, room).await else {
            return Answer::Late;
        };
        let (reply, mut answered) = oneshot::channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let request = Request {
            batch,
            reply,
            _room: room,
        };
        self.waiting.lock().insert(id, request);
        let waiting = Withdraw { queue: self, id };
        self.arrived.notify_one();
        let mut sent = false;
        loop {
            let role_changed = node.role_changed.notified();
            tokio::pin!(role_changed);
            role_changed.as_mut().enable();
            if node.leads.load(Ordering::Acquire) && waiting.now() {
                return Answer::Again;
            }
            tokio::select! {
                biased;
                answer = &mut answered => return answer.unwrap_or(Answer::Unknown),
                () = role_changed => {}
                () = tokio::time::sleep_until(deadline), if !sent => {
                    if waiting.now() {
                        return Answer::Late;
                    }
                    sent = true;
                }
            }
        }
    }
}
