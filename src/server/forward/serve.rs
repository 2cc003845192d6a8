//! The leader's end: executes what followers hand over, one batch after the other, and answers each
//! when it may be answered. A batch that waits to be released holds up no other.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::batch::{commands, parts};
use super::{BEAT, ROOM, cost};
use crate::command::{Session, execute};
use crate::replication::message::{ForwardOutcome, Message};
use crate::replication::{Lsn, Position};
use crate::resp::{OwnedArgs, Protocol, Writer};
use crate::server::gate::Slot;
use crate::server::hold;
use crate::server::host::NodeHost;
use crate::server::inner::Inner;
use crate::server::node::Node;
use crate::server::peer::link::{LinkReader, LinkWriter};
use crate::server::peer::{PeerContext, SILENCE};
use crate::server::view::StoreView;

/// Replies that are larger cannot travel.
const MAX_REPLY: usize = 1 << 30;

/// An answer as it goes out.
struct Answer {
    id: u64,
    outcome: ForwardOutcome,
    reply: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

type Waiting = BoxFuture<'static, Answer>;

/// Serves a follower whose `ForwardOpen` was read.
pub(in crate::server) async fn serve(
    context: PeerContext,
    mut reader: LinkReader,
    mut writer: LinkWriter,
) -> io::Result<()> {
    let node = context.node;
    writer.send(&Message::ForwardReady { id: node.id }).await?;
    let (waiting, inbox) = mpsc::unbounded_channel();
    let host = NodeHost::new(
        Arc::clone(&node),
        context.clients,
        context.stats,
        context.process,
    );
    let mut executor = Executor {
        node,
        host,
        session: Session::new(0, String::new(), String::new(), true),
        room: Arc::new(Semaphore::new(ROOM)),
        waiting,
    };
    tokio::select! {
        ended = executor.run(&mut reader) => ended,
        ended = answer(&mut writer, inbox) => ended,
    }
}

/// Sends answers as they come to be ready.
async fn answer(
    writer: &mut LinkWriter,
    mut inbox: mpsc::UnboundedReceiver<Waiting>,
) -> io::Result<()> {
    let mut waiting = FuturesUnordered::new();
    let mut beat = tokio::time::interval(BEAT);
    loop {
        tokio::select! {
            more = inbox.recv() => match more {
                Some(more) => waiting.push(more),
                None => return Ok(()),
            },
            Some(first) = waiting.next(), if !waiting.is_empty() => {
                push(writer, &first)?;
                while let Some(Some(next)) = waiting.next().now_or_never() {
                    push(writer, &next)?;
                }
                writer.flush().await?;
            }
            _ = beat.tick() => writer.send(&Message::ForwardBeat).await?,
        }
    }
}

fn push(writer: &mut LinkWriter, answer: &Answer) -> io::Result<()> {
    let (id, outcome) = (answer.id, answer.outcome);
    let bytes = answer.reply.len() as u32;
    writer.push(&Message::Forwarded { id, outcome, bytes })?;
    writer.push_raw(&answer.reply);
    Ok(())
}

/// What a batch came to.
struct Executed {
    reply: Vec<u8>,
    need: Lsn,
    reign: u64,
    /// There if the reply rests on a leader's state.
    slot: Option<Slot>,
    at: Position,
    /// Since when what it wrote is on its way.
    wrote: Option<Instant>,
}

/// Takes batches from the connection and executes them.
struct Executor {
    node: Arc<Node>,
    host: NodeHost,
    session: Session,
    /// For replies that wait.
    room: Arc<Semaphore>,
    waiting: mpsc::UnboundedSender<Waiting>,
}

impl Executor {
    async fn run(&mut self, reader: &mut LinkReader) -> io::Result<()> {
        loop {
            let message = tokio::time::timeout(SILENCE * 6, reader.message()).await??;
            let waiting = match message {
                Message::Forward {
                    id,
                    resp3,
                    transaction,
                    watched_bytes,
                    bytes,
                } => {
                    let raw = reader.raw(bytes as usize).await?;
                    self.session.end_transaction();
                    self.session.protocol = if resp3 {
                        Protocol::Resp3
                    } else {
                        Protocol::Resp2
                    };
                    let watched = transaction.then_some(watched_bytes);
                    let commands = raw.get(watched.unwrap_or(0) as usize..).unwrap_or_default();
                    hold::read_ahead(&self.node, &self.session, commands).await;
                    let executed = self.execute(&raw, watched).await?;
                    self.settle(id, executed).await
                }
                Message::ForwardWait {
                    id,
                    written,
                    replicas,
                    timeout_ms,
                } => wait(Arc::clone(&self.node), id, written, replicas, timeout_ms).boxed(),
                Message::ForwardBeat => continue,
                other => return Err(io::Error::other(format!("unexpected {other:?}"))),
            };
            let _ = self.waiting.send(waiting); // its receiver ends together with this task
        }
    }

    /// Executes a batch as soon as clients are not held; `None` if this replica does not lead, or is
    /// cut off. `watched` is the size of the watched keys of a transaction.
    async fn execute(&mut self, raw: &Bytes, watched: Option<u32>) -> io::Result<Option<Executed>> {
        let node = Arc::clone(&self.node);
        let executed = node.once_relieved(|| self.try_execute(&node, raw, watched));
        executed.await.map_err(io::Error::other)
    }

    /// `None` if clients are held.
    fn try_execute(
        &mut self,
        node: &Node,
        raw: &Bytes,
        watched: Option<u32>,
    ) -> Option<Result<Option<Executed>, String>> {
        node.with(|inner| {
            if inner.holds_clients() || inner.stalls_writers() {
                return None;
            }
            if !inner.accepting || inner.gate.bars() {
                return Some(Ok(None));
            }
            Some(self.execute_now(inner, raw, watched).map(Some))
        })
    }

    fn execute_now(
        &mut self,
        inner: &mut Inner,
        raw: &[u8],
        watched: Option<u32>,
    ) -> Result<Executed, String> {
        let node = Arc::clone(&self.node);
        let mut out = Writer::new(self.session.protocol);
        let mut view = StoreView::new(&node, inner);
        if let Some(watched_bytes) = watched {
            let (queue, watches) = parts(raw, watched_bytes)?;
            self.session.adopt_transaction(queue, watches.into_iter());
            let exec: OwnedArgs = ["EXEC"].into_iter().collect();
            execute(
                &mut self.session,
                exec.as_args(),
                &mut view,
                &self.host,
                &mut out,
            );
        } else {
            commands(raw, |args| {
                execute(&mut self.session, args, &mut view, &self.host, &mut out);
                ControlFlow::Continue(())
            })?;
        }
        view.delete_overdue();
        if view.wrote {
            node.written(view.inner_mut());
        }
        let (need, mut slot) = (view.need, Slot::new());
        let waits = view.begin_wait(&mut slot, Waker::noop());
        // What it saw besides is released: so the client's later reads are no older than this.
        let core = &view.inner().core;
        let seen = need.max(core.released());
        Ok(Executed {
            reply: out.take(),
            need,
            reign: view.reign(),
            slot: waits.then_some(slot),
            wrote: view.wrote.then(Instant::now),
            at: Position {
                epoch: core.history().epoch_at(seen),
                lsn: seen,
            },
        })
    }

    /// What is to wait for before the batch is answered.
    async fn settle(&self, id: u64, executed: Option<Executed>) -> Waiting {
        let Some(executed) = executed else {
            return std::future::ready(refused(id)).boxed();
        };
        let Ok(room) = Arc::clone(&self.room)
            .acquire_many_owned(cost(executed.reply.len()))
            .await
        else {
            return std::future::pending().boxed(); // the semaphore is never closed
        };
        let node = Arc::clone(&self.node);
        let settled = async move {
            let (need, reign) = (executed.need, executed.reign);
            let lost = match &executed.slot {
                Some(slot) => node.released(need, reign, slot, None).await.is_err(),
                None => false,
            };
            if let Some(begun) = executed.wrote
                && !lost
            {
                node.courtesy.wrote(begun);
            }
            let unknown = lost || executed.reply.len() > MAX_REPLY;
            let (outcome, reply) = if unknown {
                (ForwardOutcome::Unknown, Vec::new())
            } else {
                (ForwardOutcome::Done { at: executed.at }, executed.reply)
            };
            Answer {
                id,
                outcome,
                reply,
                _room: Some(room),
            }
        };
        settled.boxed()
    }
}

fn refused(id: u64) -> Answer {
    Answer {
        id,
        outcome: ForwardOutcome::Refused,
        reply: Vec::new(),
        _room: None,
    }
}

/// Waits for followers on behalf of a follower's client.
async fn wait(
    node: Arc<Node>,
    id: u64,
    written: Position,
    replicas: u64,
    timeout_ms: u64,
) -> Answer {
    if !node.with(|inner| inner.accepting && !inner.gate.bars()) {
        return refused(id);
    }
    let Some(count) = node.wait_for_followers(written, replicas, timeout_ms).await else {
        return refused(id);
    };
    let mut out = Writer::new(Protocol::Resp2);
    out.integer(count as i64);
    Answer {
        id,
        outcome: ForwardOutcome::Done { at: written },
        reply: out.take(),
        _room: None,
    }
}
