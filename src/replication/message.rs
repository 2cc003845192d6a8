//! The messages between two replicas. A follower connects to its leader; the follower speaks first.
//!
//! | message | from | when |
//! |---|---|---|
//! | `Hello` | follower | first on every connection |
//! | `Welcome` | leader | answers `Hello`: it leads this epoch |
//! | `Refuse` | leader | it does not lead, or is of a lower epoch than the follower promised |
//! | `History` | follower | once the promise of the leader's epoch is durable |
//! | `Resume` | leader | where the histories part: the follower truncates to there, if it has the same up to there |
//! | `Parted` | follower | it has not: its log is not the leader's |
//! | `Seed` | leader | the log does not reach back that far: fetch a snapshot |
//! | `Ready` | follower | its log ends at that point durably, records after it are welcome |
//! | `Append` | leader | frames follow this message as they stand in the leader's log |
//! | `Heartbeat` | leader | nothing to append; what is released moved, or time passed |
//! | `Ack` | follower | what is durable and applied; echoes the newest send time seen |
//! | `SeedOpen`, `SeedManifest` | both | on a connection of its own: which snapshot |
//! | `SeedFetch`, `SeedChunk` | both | a piece of one file of the snapshot |
//! | `SeedDone` | follower | the snapshot is no longer needed |
//! | `ForwardOpen`, `ForwardReady` | both | on a connection of its own: for commands of the follower's clients |
//! | `Forward`, `ForwardWait` | follower | commands to execute; a WAIT to wait |
//! | `Forwarded` | leader | what became of it, in any order |
//! | `ForwardBeat` | both | nothing to say |

use serde::{Deserialize, Serialize};

use super::types::{Epoch, EpochHistory, Lsn, Position, ReplicaId, StoreId};

/// Version of these messages; replicas of different versions refuse each other.
pub const PROTOCOL_VERSION: u16 = 4;

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeedFile {
    /// Path relative to the snapshot, with `/`.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// XXH3-128 (seed 0, little-endian) of the whole file, where the source knows it.
    pub xxh3: Option<[u8; 16]>,
}

/// A snapshot that can be fetched: the state at an LSN.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeedManifest {
    /// Names the snapshot at its source.
    pub id: u64,
    /// The state is the one at this LSN; the log is needed from here on.
    pub lsn: Lsn,
    /// CRC chain of the log at `lsn`.
    pub chain: u32,
    /// Epochs of the log up to `lsn`.
    pub history: EpochHistory,
    /// Everything to copy.
    pub files: Vec<SeedFile>,
}

impl SeedManifest {
    /// Bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Keys under WATCH, each with the LSN of its entry if there was one: an entry has the same LSN on
/// every replica.
pub type Watches = Vec<(Vec<u8>, Option<u64>)>;

/// What became of commands that a follower handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ForwardOutcome {
    /// They were executed, and their replies may be given.
    Done {
        /// What the replies rest on: a later read of that client must not be older.
        at: Position,
        /// How many, from the first on: reads end where their replies have grown large.
        commands: u32,
    },
    /// The receiver does not lead, or is cut off: nothing was executed.
    Refused,
    /// They were executed by a leader that was deposed since: nobody knows.
    Unknown,
}

/// What is handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ForwardKind {
    /// Commands, one after the other.
    Commands,
    /// Those of a transaction: the reply is EXEC's. Watched keys come before them.
    Transaction,
    /// A WATCH: the reply is `+` and [`Watches`], encoded as a message is, or an error.
    Watch,
}

/// One message, see the module's table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// A follower introduces itself.
    Hello {
        /// [`PROTOCOL_VERSION`] of the sender.
        version: u16,
        /// Its identity.
        id: ReplicaId,
        /// Its name for people.
        name: String,
        /// The highest epoch that it promised.
        promised: Epoch,
        /// The store that its disk belongs to, if it knows.
        store: Option<StoreId>,
    },
    /// The receiver of a `Hello` leads.
    Welcome {
        /// The leader's identity.
        id: ReplicaId,
        /// Its epoch.
        epoch: Epoch,
        /// The store, if it knows.
        store: Option<StoreId>,
    },
    /// The receiver of a `Hello` does not lead this follower.
    Refuse {
        /// The highest epoch that it knows of.
        epoch: Epoch,
        /// For people.
        reason: String,
    },
    /// The epochs of the follower's log.
    History {
        /// The epochs and where each starts.
        history: EpochHistory,
        /// End of the durable log.
        end: Lsn,
        /// The state on disk is at this LSN and cannot go back below it.
        flushed: Lsn,
        /// Whether the follower has a whole state; if not it wants a seed.
        complete: bool,
    },
    /// Go on from here, after truncating to it.
    Resume {
        /// Where the histories part.
        point: Lsn,
        /// CRC chain of the leader's log there: the follower goes on only if its own is the same.
        chain: Option<u32>,
    },
    /// The logs differ before that point, though their epochs do not.
    Parted,
    /// Fetch a snapshot first.
    Seed {
        /// Where the histories part: what the follower has after that is in no other log.
        point: Lsn,
        /// As in `Resume`: whether a log that was begun for an earlier seed may go on.
        chain: Option<u32>,
    },
    /// The log ends here durably.
    Ready {
        /// The end.
        from: Lsn,
    },
    /// Frames of the log; their bytes follow this message.
    Append {
        /// Up to here records are committed, and replies may rest on them.
        commit: Lsn,
        /// The leader's end when this was sent: what lag is measured against.
        end: Lsn,
        /// Followers keep their logs from here on, for those that are behind.
        keep_from: Lsn,
        /// Leader's monotonic clock, in microseconds.
        sent_at: u64,
        /// Milliseconds of the lease that the leader asks for.
        lease_ms: u32,
        /// The leader's time by which deadlines are judged, in milliseconds since 1970.
        time_ms: u64,
        /// Bytes of frames that follow.
        frame_bytes: u32,
    },
    /// As `Append`, with nothing to append.
    Heartbeat {
        /// As in `Append`.
        commit: Lsn,
        /// As in `Append`.
        end: Lsn,
        /// As in `Append`.
        keep_from: Lsn,
        /// As in `Append`.
        sent_at: u64,
        /// As in `Append`.
        lease_ms: u32,
        /// As in `Append`.
        time_ms: u64,
    },
    /// What the follower has.
    Ack {
        /// Its log is durable up to here.
        durable: Lsn,
        /// Its state has been brought up to here.
        applied: Lsn,
        /// Whether it announces that it is ready: it has worked off the backlog.
        ready: bool,
        /// Whether it has a whole state: without, its log is of no use to anybody.
        complete: bool,
        /// `sent_at` of the newest message received.
        echo: u64,
        /// The lease that was granted when that message came, in milliseconds; 0 for none.
        lease_ms: u32,
    },
    /// Asks for a snapshot.
    SeedOpen {
        /// [`PROTOCOL_VERSION`] of the sender.
        version: u16,
        /// Who asks.
        id: ReplicaId,
        /// The snapshot that was begun before, if any: it goes on if the source still has it.
        resume: Option<u64>,
    },
    /// The snapshot to fetch.
    SeedManifest(SeedManifest),
    /// The source cannot give one now.
    SeedRefused {
        /// For people.
        reason: String,
    },
    /// Asks for a piece of a file.
    SeedFetch {
        /// The snapshot.
        snapshot: u64,
        /// Index into the manifest's files.
        file: u32,
        /// Where in the file.
        offset: u64,
        /// How much; the source may send less only at the end of the file.
        length: u32,
    },
    /// The piece; its bytes follow this message.
    SeedChunk {
        /// Index into the manifest's files.
        file: u32,
        /// Where in the file.
        offset: u64,
        /// CRC-32 of the bytes.
        crc: u32,
        /// Bytes that follow.
        length: u32,
    },
    /// The snapshot is no longer needed.
    SeedDone {
        /// The snapshot.
        snapshot: u64,
    },
    /// The first message of a follower that hands commands of its clients on.
    ForwardOpen {
        /// [`PROTOCOL_VERSION`] of the sender.
        version: u16,
        /// Who hands them on.
        id: ReplicaId,
    },
    /// The receiver takes such commands, and executes them as long as it leads.
    ForwardReady {
        /// Its identity.
        id: ReplicaId,
    },
    /// Commands to execute, in one step if they write; the watched keys and the commands follow this message.
    Forward {
        /// Names the batch on this connection.
        id: u64,
        /// Replies in RESP3 instead of RESP2.
        resp3: bool,
        /// What the commands are.
        kind: ForwardKind,
        /// One of them may change the state.
        writes: bool,
        /// Bytes of watched keys that follow: [`Watches`], encoded as this message is.
        watched_bytes: u32,
        /// Bytes that follow in all; the commands are in RESP.
        bytes: u32,
    },
    /// Asks to wait until followers have what a client wrote.
    ForwardWait {
        /// As in `Forward`.
        id: u64,
        /// The newest that the client wrote.
        written: Position,
        /// Followers to wait for.
        replicas: u64,
        /// Milliseconds to wait at the longest.
        timeout_ms: u64,
    },
    /// The answer to a `Forward` or a `ForwardWait`; the replies' bytes follow this message.
    Forwarded {
        /// What is answered.
        id: u64,
        /// What became of it.
        outcome: ForwardOutcome,
        /// Bytes that follow.
        bytes: u32,
    },
    /// The sender is there.
    ForwardBeat,
}
