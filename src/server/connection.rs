//! One client's connection: reads what is there, executes all of it under one lock, waits until what
//! the replies rest on is released, and writes them with one call.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ahead;
use super::clients::{Clients, Waiting};
use super::forward::{self, Batch, Next};
use super::gate::Slot;
use super::hold::{self, Hold};
use super::host::NodeHost;
use super::inner::Inner;
use super::node::Node;
use super::view::StoreView;
use super::waiting::{IN_DOUBT, Unanswered};
use super::walk::Walked;
use crate::command::{Outcome, Route, Session, execute, route};
use crate::replication::{Lsn, Position};
use crate::resp::{Decoded, Decoder, Writer};

/// A turn ends when its replies have grown to this size, so that nobody holds the lock for long.
const MAX_TURN_REPLY: usize = 1 << 20;
/// A turn ends after this many commands.
const MAX_TURN_COMMANDS: usize = 2048;
/// Room made at once for a large command; more follows as it arrives.
const MAX_RESERVE: usize = 16 << 20;
/// So much input may be more than one command, and worth a look ahead.
const PIPELINE: usize = 256;
/// What is read at a time, at most,
const MAX_READ_SIZE: usize = 64 << 10;
/// and at first: of most clients no more is there, and what many of them take together stays in the caches.
const FIRST_READ_SIZE: usize = 2 << 10;
/// Said by one that is to lead, and does not yet.
const HELD_TOO_LONG: &str =
    "CLUSTERDOWN this replica is to lead and cannot yet: nothing was done, try again";
/// A client gets this long to take its last replies when this replica stops.
const GOODBYE: Duration = Duration::from_millis(500);

/// What Redis says to whom waits when a leader becomes a follower.
const UNBLOCKED: &[u8] =
    b"UNBLOCKED force unblock from blocking operation, instance state changed \
    (master -> replica?)";

/// What a turn came to.
struct Turn {
    need: Lsn,
    /// There if the replies rest on a leader's state: then they need its leases, too. It is woken
    /// when they may have come.
    waker: Option<Waker>,
    reign: u64,
    /// Since when what it wrote is on its way.
    wrote: Option<Instant>,
    consumed: usize,
    /// Bytes of replies that were there before.
    replied: usize,
    end: End,
}

enum End {
    /// Everything that was whole has been executed.
    /// So many bytes of room are needed to go on.
    Drained(usize),
    /// There is more to execute.
    More,
    /// A WAIT: so many followers must have what was written, within so many milliseconds.
    Wait {
        replicas: u64,
        timeout_ms: u64,
    },
    /// Commands for the leader come next.
    HandOver(Batch),
    /// The same for a WAIT that takes so many bytes.
    WaitThere {
        used: usize,
        replicas: u64,
        timeout_ms: u64,
    },
    /// An EXEC of so many bytes that nobody can execute, and why.
    Refuse(usize, &'static str),
    /// The next command waits for something that does not take the lock.
    Hold(Hold),
    /// A read comes next, and this follower has not got what the client has seen.
    Behind,
    Close,
}

/// A connection and everything that it needs.
pub(super) struct Connection {
    pub(super) node: Arc<Node>,
    pub(super) clients: Arc<Clients>,
    pub(super) host: NodeHost,
    pub(super) session: Session,
    pub(super) stream: TcpStream,
    pub(super) decoder: Decoder,
    /// For the look ahead.
    ahead: Decoder,
    input: Vec<u8>,
    pub(super) out: Writer,
    /// The newest record that this connection wrote here, or that a reply of the leader rested on.
    pub(super) written: Position,
    /// The newest state that it has been shown, or has written: it is shown no older one.
    pub(super) seen: Position,
    /// When that was last known to be a part of this replica's history.
    life: u64,
    /// Since when the batch at the beginning of the input has been offered to leaders.
    pub(super) handing_since: Option<tokio::time::Instant>,
    /// Since when a WAIT is at the leader.
    pub(super) waiting_since: Option<tokio::time::Instant>,
    pub(super) slot: Slot,
    /// It came to the leader's address: whatever is answered here is as the leader's own answer.
    pub(super) strict: bool,
    /// Commands at the beginning of the input whose keys have been read from the disk.
    read_ahead: usize,
    /// For the KEYS at the beginning of the input.
    walked: Option<Walked>,
    /// Bytes that are read at a time.
    read_size: usize,
}

impl Connection {
    pub(super) fn new(
        node: Arc<Node>,
        clients: Arc<Clients>,
        host: NodeHost,
        session: Session,
        stream: TcpStream,
        strict: bool,
    ) -> Self {
        let out = Writer::new(session.protocol);
        Self {
            node,
            clients,
            host,
            session,
            stream,
            decoder: Decoder::default(),
            ahead: Decoder::default(),
            input: Vec::new(),
            out,
            written: Position::default(),
            seen: Position::default(),
            life: 0,
            handing_since: None,
            waiting_since: None,
            slot: Slot::new(),
            strict,
            read_ahead: 0,
            walked: None,
            read_size: FIRST_READ_SIZE,
        }
    }

    /// Says goodbye: what was answered must reach the client, which it would not if the connection
    /// were closed with commands in it that nobody has read.
    async fn close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let rest = async {
            self.input.clear();
            while self.stream.read_buf(&mut self.input).await? > 0 {
                self.input.clear();
            }
            Ok(())
        };
        tokio::time::timeout(GOODBYE, rest).await.unwrap_or(Ok(()))
    }

    /// Serves the client until it goes, or this replica stops.
    pub(super) async fn serve(&mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let waker = std::future::poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        self.clients.watch(self.session.id, waker);
        self.input.reserve(self.read_size);
        loop {
            let Some(read) = self.read().await? else {
                return self.close().await;
            };
            if read == 0 {
                return Ok(());
            }
            self.clients
                .received
                .fetch_add(read as u64, Ordering::Relaxed);
            loop {
                let Some(mut turn) = self.turn().await else {
                    self.out.error(HELD_TOO_LONG.as_bytes());
                    self.flush().await?;
                    return self.close().await;
                };
                self.input.drain(..turn.consumed);
                if !self.answer(&mut turn).await? {
                    return Ok(());
                }
                let next = match turn.end {
                    End::Drained(room) => {
                        self.input.reserve(room);
                        break;
                    }
                    End::HandOver(batch) => self.hand_over(batch).await,
                    End::WaitThere {
                        used,
                        replicas,
                        timeout_ms,
                    } => self.wait_at_leader(used, replicas, timeout_ms).await,
                    End::Refuse(used, why) => self.refuse_transaction(used, why),
                    End::Behind if !self.catch_up().await => {
                        self.flush().await?;
                        return Ok(());
                    }
                    End::Hold(hold) => {
                        let held = hold.wait(&self.node).await;
                        self.read_ahead = held.commands;
                        self.walked = held.walked;
                        continue;
                    }
                    _ => continue,
                };
                match next {
                    Next::Used(bytes) => drop(self.input.drain(..bytes)),
                    Next::Again => {}
                    Next::Close => {
                        self.flush().await?; // what came before it is known
                        return Ok(());
                    }
                }
            }
            if self.session.changed {
                self.session.changed = false;
                self.clients.update(&self.session);
            }
        }
    }

    /// Reads what is there, into the room that was made; `None` once clients are drained.
    async fn read(&mut self) -> io::Result<Option<usize>> {
        let room = self.input.capacity() - self.input.len();
        let clients = &self.clients;
        let mut read = pin!(self.stream.read_buf(&mut self.input));
        let read = std::future::poll_fn(|context| {
            if clients.draining() {
                return Poll::Ready(None);
            }
            read.as_mut().poll(context).map(Some)
        });
        let read = read.await.transpose()?;
        if read == Some(room) {
            self.read_size = (self.read_size * 2).min(MAX_READ_SIZE);
        }
        Ok(read)
    }

    /// Executes what has been read, up to what the leader must execute, or waits for the disk, under the
    /// lock. A switchover holds everybody for a moment. `None` if that lasts too long: nobody is to wait without
    /// end for a leader that never begins.
    async fn turn(&mut self) -> Option<Turn> {
        let waker = std::future::poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        let node = Arc::clone(&self.node);
        let turn = node.once_relieved(|| self.try_turn(&node, &waker));
        tokio::time::timeout(forward::PATIENCE, turn).await.ok()
    }

    /// `None` if clients are held.
    fn try_turn(&mut self, node: &Node, waker: &Waker) -> Option<Turn> {
        node.with(|inner| (!inner.holds_clients()).then(|| self.execute(node, inner, waker)))
    }

    fn execute(&mut self, node: &Node, inner: &mut Inner, waker: &Waker) -> Turn {
        let replied = self.out.len();
        let mut view = StoreView::new(node, inner);
        let (follows, forwards) = (view.follows(), view.forwards());
        let lacks = follows && !self.strict && view.lacks(self.seen);
        let parted = self.parted(&view);
        let mut reads = false;
        view.strict = self.strict;
        self.session.at_leader = self.strict && forwards;
        let mut consumed = 0;
        let mut commands = 0;
        let end = loop {
            if parted {
                break End::Close; // no answer would be one that goes on from what the client has seen
            }
            let rest = self.input.get(consumed..).unwrap_or_default();
            if commands % ahead::STEP == 0
                && rest.len() >= PIPELINE
                && let Some(store) = &view.inner().store
            {
                ahead::look(store, &mut self.ahead, rest);
            }
            match self.decoder.decode(rest) {
                Ok(Decoded::Command {
                    args,
                    consumed: used,
                }) => {
                    if follows {
                        let way = route(&self.session, args);
                        match way {
                            Route::Here { reads: true } if lacks => break End::Behind,
                            Route::Here { reads: here } => reads |= here,
                            _ if forwards => break self.elsewhere(way, consumed, used),
                            _ => {}
                        }
                    }
                    if let Some(walked) = self.walked.take() {
                        if walked.life == view.inner().life() {
                            self.session.collected = Some(walked.collected);
                        } else {
                            self.read_ahead = 0; // it has to be done once more
                        }
                    }
                    let read = commands < self.read_ahead;
                    let hold = hold::before(view.inner(), &self.session, args, rest, read);
                    if let Some(hold) = hold {
                        break End::Hold(hold);
                    }
                    consumed += used;
                    commands += 1;
                    let outcome = execute(
                        &mut self.session,
                        args,
                        &mut view,
                        &self.host,
                        &mut self.out,
                    );
                    self.session.collected = None;
                    match outcome {
                        Outcome::Close => break End::Close,
                        Outcome::Wait {
                            replicas,
                            timeout_ms,
                        } => {
                            break End::Wait {
                                replicas,
                                timeout_ms,
                            };
                        }
                        _ => {}
                    }
                }
                Ok(Decoded::Incomplete { needed }) => {
                    let more = needed.saturating_sub(rest.len()).min(MAX_RESERVE);
                    break End::Drained(more.max(self.read_size));
                }
                Err(error) => {
                    self.out.error(format!("ERR {error}").as_bytes());
                    break End::Close;
                }
            }
            if commands >= MAX_TURN_COMMANDS || self.out.len() >= MAX_TURN_REPLY {
                break End::More;
            }
        };
        view.delete_overdue();
        let waits = view.begin_wait(&mut self.slot, waker);
        let turn = Turn {
            need: view.need,
            reign: view.reign(),
            wrote: view.wrote.then(Instant::now),
            consumed,
            replied,
            end,
            waker: waits.then(|| waker.clone()),
        };
        if view.touched || reads {
            self.note_shown(&view);
        }
        if view.wrote {
            node.written(view.inner_mut());
        }
        if consumed > 0 {
            self.handing_since = None;
        }
        self.read_ahead = self.read_ahead.saturating_sub(commands);
        turn
    }

    /// Whether what this client has seen was given up meanwhile.
    fn parted(&mut self, view: &StoreView<'_>) -> bool {
        let life = view.inner().life();
        if view.follows() || self.life != life {
            self.life = life;
            return view.has_lost(self.seen);
        }
        false
    }

    /// Notes what the turn has shown, and has written.
    fn note_shown(&mut self, view: &StoreView<'_>) {
        if view.shows() > self.seen.lsn || view.wrote {
            let at = view.inner().core.history().position(view.shows());
            self.seen = self.seen.max(at);
        }
        if view.wrote {
            self.written = view.inner().core.history().position(view.need);
        }
    }

    /// The end of a turn at a command of `used` bytes that the leader is to execute.
    fn elsewhere(&mut self, way: Route, at: usize, used: usize) -> End {
        let rest = self.input.get(at..).unwrap_or_default();
        match way {
            Route::Transaction { writes } => {
                match forward::transaction(&self.session, used, writes) {
                    Some(batch) => End::HandOver(batch),
                    None => End::Refuse(
                        used,
                        "it is too large to be handed to the leader, connect to the leader itself",
                    ),
                }
            }
            Route::Mixed => End::Refuse(
                used,
                "commands about the connection cannot be handed to the leader in one transaction with \
                 others, connect to the leader itself",
            ),
            Route::Wait {
                replicas,
                timeout_ms,
            } => End::WaitThere {
                used,
                replicas,
                timeout_ms,
            },
            Route::Watch => End::HandOver(forward::watch(rest, used)),
            Route::Leader { writes } => {
                let session = &self.session;
                let batch = forward::gather(&mut self.decoder, rest, used, session, writes);
                End::HandOver(batch)
            }
            Route::Here { .. } => End::More,
        }
    }

    /// Sends the replies once they may be given. `false` ends the connection.
    async fn answer(&mut self, turn: &mut Turn) -> io::Result<bool> {
        if let Some(waker) = turn.waker.take() {
            let settled = self
                .node
                .released(turn.need, turn.reign, &self.slot, Some(waker));
            match settled.await {
                Ok(()) => {}
                // What became of the writes is not known: a clean close, no reply.
                Err(Unanswered::Deposed) => return Ok(false),
                Err(Unanswered::Withheld) => {
                    self.out.truncate(turn.replied);
                    self.out.error(IN_DOUBT.as_bytes());
                    self.flush().await?;
                    return Ok(false);
                }
            }
            if let Some(begun) = turn.wrote {
                self.node.courtesy.wrote(begun);
            }
        }
        if let End::Wait {
            replicas,
            timeout_ms,
        } = turn.end
        {
            let clients = Arc::clone(&self.clients);
            let _counted = Waiting::begin(&clients);
            let node = Arc::clone(&self.node);
            let waited = node.wait_for_followers(self.written, replicas, timeout_ms);
            match waited.await {
                Some(count) => self.out.integer(count as i64),
                None => self.out.error(UNBLOCKED),
            }
        }
        // The replies of what follows at the leader go out together with these.
        if !matches!(turn.end, End::HandOver(_)) || self.out.len() >= MAX_TURN_REPLY {
            self.flush().await?;
        }
        Ok(!matches!(turn.end, End::Close))
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all(self.out.as_slice()).await?;
            self.clients
                .sent
                .fetch_add(self.out.len() as u64, Ordering::Relaxed);
            self.out.truncate(0);
        }
        Ok(())
    }
}
