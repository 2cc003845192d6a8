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
use super::read::Reader;
use super::{BEAT, PATIENCE, ROOM, cost};
use crate::command::{Session, execute};
use crate::replication::message::{ForwardKind, ForwardOutcome, Message};
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
use crate::server::waiting::{IN_DOUBT, Unanswered};

/// Replies that are larger cannot travel.
pub(super) const MAX_REPLY: usize = 1 << 30;

/// An answer as it goes out.
pub(super) struct Answer {
    id: u64,
    is_beat: bool,
    outcome: ForwardOutcome,
    reply: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Answer {
    /// It was executed; the room that the reply takes is free again with the answer.
    pub(super) fn done(
        id: u64,
        at: Position,
        commands: u32,
        reply: Vec<u8>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            id,
            is_beat: false,
            outcome: ForwardOutcome::Done { at, commands },
            reply,
            _room: room,
        }
    }

    /// To nothing but a sign of life.
    fn beat() -> Self {
        Self {
            is_beat: true,
            ..Self::refused(0)
        }
    }

    /// Nothing was executed, as far as anybody can tell.
    pub(super) fn refused(id: u64) -> Self {
        Self::without_reply(id, ForwardOutcome::Refused)
    }

    /// Nobody knows whether it was executed.
    pub(super) fn unknown(id: u64) -> Self {
        Self::without_reply(id, ForwardOutcome::Unknown)
    }

    /// They were executed, and rest on what too few followers hold: each command is answered so.
    pub(super) fn in_doubt(id: u64, node: &Node, commands: u32) -> Self {
        let mut out = Writer::new(Protocol::Resp2);
        for _ in 0..commands {
            out.error(IN_DOUBT.as_bytes());
        }
        let at = node.with(|inner| seen(inner, Lsn(0)));
        Self::done(id, at, commands, out.take(), None)
    }

    fn without_reply(id: u64, outcome: ForwardOutcome) -> Self {
        Self {
            id,
            is_beat: false,
            outcome,
            reply: Vec::new(),
            _room: None,
        }
    }
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
    let room = Arc::new(Semaphore::new(ROOM));
    let host = NodeHost::new(
        Arc::clone(&node),
        Arc::clone(&context.clients),
        Arc::clone(&context.stats),
        Arc::clone(&context.process),
    );
    let reads = Reader::new(
        Arc::clone(&node),
        (context.clients, context.stats, context.process),
        Arc::clone(&room),
    );
    let mut executor = Executor {
        node,
        host,
        session: Session::new(0, String::new(), String::new(), true),
        room,
        waiting,
        reader: reads,
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
    if answer.is_beat {
        return writer.push(&Message::ForwardBeat);
    }
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
    commands: u32,
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
    reader: Reader,
}

impl Executor {
    async fn run(&mut self, reader: &mut LinkReader) -> io::Result<()> {
        loop {
            let message = tokio::time::timeout(SILENCE * 6, reader.message()).await??;
            let waiting = match message {
                Message::Forward {
                    id,
                    resp3,
                    kind,
                    writes,
                    watched_bytes,
                    bytes,
                } => {
                    let raw = reader.raw(bytes as usize).await?;
                    let protocol = if resp3 {
                        Protocol::Resp3
                    } else {
                        Protocol::Resp2
                    };
                    if !writes {
                        let reading = self.reader.begin(protocol, kind, &raw, watched_bytes);
                        let reading = reading.map_err(io::Error::other)?;
                        let _ = self.waiting.send(reading.run(id).boxed());
                        continue;
                    }
                    self.session.end_transaction();
                    self.session.protocol = protocol;
                    let transaction = kind == ForwardKind::Transaction;
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
                Message::ForwardBeat => std::future::ready(Answer::beat()).boxed(),
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
        match tokio::time::timeout(PATIENCE, executed).await {
            Ok(executed) => executed.map_err(io::Error::other),
            // Whoever handed it on looks for another leader.
            Err(_) => Ok(None),
        }
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
        let mut executed = 0;
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
            executed += 1;
        } else {
            commands(raw, |args| {
                executed += 1;
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
        Ok(Executed {
            reply: out.take(),
            need,
            reign: view.reign(),
            slot: waits.then_some(slot),
            wrote: view.wrote.then(Instant::now),
            at: seen(view.inner(), need),
            commands: executed,
        })
    }

    /// What is to wait for before the batch is answered.
    async fn settle(&self, id: u64, executed: Option<Executed>) -> Waiting {
        let Some(executed) = executed else {
            return std::future::ready(Answer::refused(id)).boxed();
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
            let (at, commands) = (executed.at, executed.commands);
            let settled = match &executed.slot {
                Some(slot) => node.released(need, reign, slot, None).await,
                None => Ok(()),
            };
            match settled {
                Ok(()) => {}
                Err(Unanswered::Deposed) => return Answer::unknown(id),
                Err(Unanswered::Withheld) => return Answer::in_doubt(id, &node, commands),
            }
            if let Some(begun) = executed.wrote {
                node.courtesy.wrote(begun);
            }
            if executed.reply.len() > MAX_REPLY {
                return Answer::unknown(id);
            }
            Answer::done(id, at, commands, executed.reply, Some(room))
        };
        settled.boxed()
    }
}

/// The newest that a batch has seen, which rests on `need`: what it saw besides is released, so the
/// client's later reads must be no older than this.
pub(super) fn seen(inner: &Inner, need: Lsn) -> Position {
    let lsn = need.max(inner.core.released());
    Position {
        epoch: inner.core.history().epoch_at(lsn),
        lsn,
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
        return Answer::refused(id);
    }
    let Some(count) = node.wait_for_followers(written, replicas, timeout_ms).await else {
        return Answer::refused(id);
    };
    let mut out = Writer::new(Protocol::Resp2);
    out.integer(count as i64);
    Answer::done(id, written, 1, out.take(), None)
}
