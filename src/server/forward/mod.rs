//! A follower hands its clients' writes to the leader over one connection, and brings the replies
//! back; so a client works on whatever replica it has found. For clients that came to the leader's
//! address, it does the same with reads.
//!
//! | file | what it is for |
//! |---|---|
//! | `batch` | what travels: commands of one client that belong together |
//! | `queue` | where a client's task leaves a batch and waits |
//! | `link` | follower: the connection to the leader |
//! | `serve` | leader: executes what comes |
//! | `read` | leader: the part of it that changes nothing |
//! | `turn` | a client's connection: hands over, takes the replies |
//!
//! A batch is executed once or not at all as far as anybody tells the client: what was not sent, or
//! was refused by a replica that executed nothing, is offered again, and so is whatever only reads; where
//! nobody knows, the client's connection is closed without a reply.

mod batch;
mod link;
mod queue;
mod read;
mod serve;
mod turn;

pub(super) use batch::{Batch, gather, transaction, watch};
pub(super) use link::run;
pub(super) use queue::Queue;
pub(super) use serve::serve;
pub(super) use turn::Next;

use std::time::Duration;

/// A batch that no leader has taken by then is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Both ends say something at least this often.
const BEAT: Duration = Duration::from_secs(1);
/// Bytes of batches on their way, and of replies at the leader, on one connection.
const ROOM: usize = 64 << 20;

/// What bytes count as against [`ROOM`]: everything takes some, and the largest all of it.
fn cost(bytes: usize) -> u32 {
    bytes.saturating_add(1024).min(ROOM) as u32
}
