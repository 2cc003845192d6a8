//! The words of [`Core::step`](super::Core::step): what may happen, and what must be done then.

use std::time::Duration;

use super::lease::Lease;
use super::message::Message;
use super::types::{Addressee, Configuration, Epoch, EpochHistory, Lsn, ReplicaId};

/// What a replica must never forget, besides its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// Highest epoch promised: nothing of any epoch below it is taken or acknowledged.
    pub promised: Epoch,
    /// Highest epoch begun as leader: an epoch belongs to one process.
    pub begun: Epoch,
    /// The longest lease granted lately, in milliseconds: after a restart nobody knows to whom.
    pub lease_ms: u32,
    /// Highest epoch of a leader by whose word this log was cut, or thrown away for a seed: that
    /// explains why it holds less than it once acknowledged.
    pub cut: Epoch,
}

/// What a restarted replica finds on its disk.
#[derive(Clone, Debug, Default, Hash)]
pub struct Recovered {
    /// The saved hard state.
    pub hard: HardState,
    /// Epochs of the log.
    pub history: EpochHistory,
    /// End of the durable log.
    pub end: Lsn,
    /// Where the kept log begins.
    pub oldest: Lsn,
    /// LSN of the state on disk; it is committed.
    pub flushed: Lsn,
    /// Whether there is a whole state (an empty one of a new store counts).
    pub complete: bool,
    /// The configuration that it adopted last.
    pub adopted: Configuration,
    /// Whether something is lost of what it had promised or acknowledged: it may not vote as if it knew,
    /// before a leader has told it everything.
    pub forgotten: bool,
}

/// A connection to another replica, named by the shell.
pub type Peer = u64;

/// What happened.
#[derive(Clone, Debug, Hash)]
pub enum Input {
    /// The operator handed over the register.
    Configure(Configuration),
    /// The operator asks for a promise; the answer carries the ticket.
    Promise {
        /// The epoch asked for.
        epoch: Epoch,
        /// Names the request.
        ticket: u64,
        /// Whom it is meant for.
        to: Addressee,
    },
    /// The operator wants this leader to make room for `target`: to take no more writes, wait
    /// until the target has everything, and promise. The answer carries the ticket.
    Switchover {
        /// The epoch to promise.
        epoch: Epoch,
        /// Who is to lead.
        target: ReplicaId,
        /// The leader gives up and leads on after this long.
        within: Duration,
        /// Names the request.
        ticket: u64,
        /// Whom it is meant for.
        to: Addressee,
    },
    /// After [`Effect::Hold`]: everything that was executed is sealed.
    Quiet,
    /// The length of the leases to ask for from now on.
    SetLease(Duration),
    /// So many followers must hold durably what a reply rests on; 0: as many as a commit needs.
    SetReplySync(u32),
    /// After [`Effect::Beat`]: something was written durably.
    Beat,
    /// This hard state is on disk.
    Saved(HardState),
    /// This configuration is on disk.
    Adopted(Configuration),
    /// Follower: whether the own log has the same records up to `point` as the leader's.
    Compared {
        /// The connection on which it was asked.
        peer: Peer,
        /// Up to where.
        point: Lsn,
        /// Whether they are equal: the log has a frame that ends there, with the leader's chain.
        equal: bool,
    },
    /// Leader: a frame of the own epoch up to `end` is on its way to the log. `barrier` is the
    /// version of the barrier in it, if any, with the barrier's end.
    Sealed {
        /// End of the frame.
        end: Lsn,
        /// The barrier in it.
        barrier: Option<(u64, Lsn)>,
    },
    /// The log is durable up to here.
    Durable(Lsn),
    /// The log was truncated to here, durably.
    Truncated(Lsn),
    /// The log was thrown away and begins here, durably: a seed began.
    LogReset {
        /// The end of the log now: the beginning, or further on if the seed was begun before.
        at: Lsn,
        /// The beginning.
        oldest: Lsn,
        /// Epochs up to there.
        history: EpochHistory,
    },
    /// The state is being brought to disk at this LSN, or has been: the log is not cut below it.
    Flushed(Lsn),
    /// The seed is installed: there is a whole state at this LSN.
    SeedInstalled(Lsn),
    /// The log begins here now: older segments were freed.
    Trimmed(Lsn),
    /// The state has been brought up to here (for acknowledgements).
    Applied(Lsn),
    /// Time passed.
    Tick,
    /// The connection that [`Effect::Follow`] asked for is up.
    Connected(Peer),
    /// A message came in.
    Received(Peer, Message),
    /// Follower: frames that came with an `Append` were read whole. They continue one another.
    Frames {
        /// The connection.
        peer: Peer,
        /// Where the first one starts.
        start: Lsn,
        /// Epoch and start of each epoch in them, ascending.
        epochs: Vec<(Epoch, Lsn)>,
        /// Where the last one ends.
        end: Lsn,
    },
    /// A connection is gone.
    Closed(Peer),
}

/// What must be done. The order matters: a shell carries effects out in the order given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Make this durable, then say [`Input::Saved`].
    Save(HardState),
    /// Make this durable, then say [`Input::Adopted`]: whoever acts by a configuration remembers it.
    Adopt(Configuration),
    /// Answer the operator's request.
    AnswerPromise {
        /// The request.
        ticket: u64,
        /// Whether its epoch is promised now.
        granted: bool,
        /// The highest epoch that was promised before it was asked.
        before: Epoch,
        /// Leases to leaders of lower epochs that may still run.
        leases: Vec<Lease>,
    },
    /// Answer the operator's request: it comes to nothing.
    Refuse {
        /// The request.
        ticket: u64,
        /// For people.
        reason: String,
    },
    /// Take no client writes for a moment, and say [`Input::Quiet`] once all are sealed.
    Hold,
    /// Take client writes again.
    Resume,
    /// Write something durably, however little, and say [`Input::Beat`]: is the disk alive?
    Beat,
    /// Begin to lead: take client writes once the barrier is sealed.
    Lead(Epoch),
    /// Append a barrier of this version as a frame of its own.
    AppendBarrier {
        /// Epoch of the frame.
        epoch: Epoch,
        /// Version of the configuration.
        version: u64,
    },
    /// Stop leading: take no client write, drop what is not sealed.
    StepDown,
    /// Connect to this replica, and to no other.
    Follow(ReplicaId),
    /// Close the connection to the leader.
    Unfollow,
    /// Send a message.
    Send(Peer, Message),
    /// Leader: send [`Message::Resume`], with the chain of the own log at this point, or without if no
    /// frame ends there.
    SendResume {
        /// The connection.
        peer: Peer,
        /// Where the follower may go on.
        point: Lsn,
    },
    /// Leader: send [`Message::Seed`], with the chain likewise.
    SendSeed {
        /// The connection.
        peer: Peer,
        /// Where the logs part.
        point: Lsn,
    },
    /// Follower: compare the own log's chain at this point with the leader's, then say
    /// [`Input::Compared`].
    Compare {
        /// The connection to the leader.
        peer: Peer,
        /// Where.
        point: Lsn,
        /// The leader's chain there; `None` if its log has no frame that ends there.
        chain: Option<u32>,
    },
    /// Leader: send the follower everything after this, and what comes.
    Stream {
        /// The connection.
        peer: Peer,
        /// The end of its log.
        from: Lsn,
    },
    /// Close a connection; it is not good for anything.
    Close(Peer, String),
    /// Cut the log here durably, then say [`Input::Truncated`].
    Truncate(Lsn),
    /// Follower: the frames may be appended to the log.
    Take(Peer),
    /// Fetch a snapshot from the leader: reset the log at its LSN and say [`Input::LogReset`].
    FetchSeed {
        /// The connection to the leader.
        peer: Peer,
        /// What the log holds after this is in no other one.
        point: Lsn,
        /// The leader's chain there, if its log has a frame that ends there.
        chain: Option<u32>,
    },
    /// Records up to here are committed.
    Commit(Lsn),
    /// Replies may rest on records up to here, followers may apply them.
    Release(Lsn),
}
