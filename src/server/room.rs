//! Room on the disk. A write of the log that fails ends the process, so writes are refused before that can
//! happen: below a low-water mark those that need room, and all of them where the log has no file in
//! reserve. Reads go on, and as soon as there is room again, writes do.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::data_dir::DataDir;
use super::inner::Inner;
use super::node::Node;

/// Below this share of the disk, and never more than so many bytes, there is little room: enough for what
/// brings room back, which needs some itself.
const LOW_SHARE: u64 = 10;
const MOST_LOW: u64 = 1 << 30;
/// The log kept for followers takes at most this share of the disk, whatever is configured.
const LOG_SHARE: u64 = 4;
/// How often is looked.
const LOOK: Duration = Duration::from_millis(100);

/// What may still be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Everything.
    Enough,
    /// What needs no room by itself: deletions.
    Little,
    /// Nothing.
    None,
}

/// The disk as it was looked at last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    pub(super) low: bool,
    /// There is room, but so little that nothing may be written faster than the log's files are prepared.
    tight: bool,
    pub(super) used_percent: u8,
    /// Bytes of log that may be kept for others.
    pub(super) log_bound: u64,
    /// Bytes of log that may come to be replayed at a start.
    pub(super) replay_bound: u64,
    /// As [`flush_bytes`] has it.
    pub(super) flush_bytes: u64,
}

impl Default for Disk {
    /// A large one, for as long as nobody has looked.
    fn default() -> Self {
        Self::of(u64::MAX / 256, u64::MAX / 256, false)
    }
}

impl Disk {
    fn of(free: u64, total: u64, was_low: bool) -> Self {
        let mark = (total / LOW_SHARE).min(MOST_LOW);
        // Once it is low, a little more is needed, or it would go up and down.
        let mark_now = if was_low { mark / 5 * 6 } else { mark };
        let used = total.saturating_sub(free) * 100 / total.max(1);
        Self {
            low: free < mark_now,
            tight: free < mark * 4,
            used_percent: u8::try_from(used).unwrap_or(100),
            log_bound: total / LOG_SHARE,
            replay_bound: replay_bound(total),
            flush_bytes: flush_bytes(total),
        }
    }
}

/// Bytes of a segment of the log on a disk of this size.
pub(super) fn segment_bytes(total: u64) -> u64 {
    (total / 32)
        .clamp(2 << 20, 64 << 20)
        .next_multiple_of(1 << 20)
}

/// Most bytes of a table on a disk of this size: what is merged needs as much room again.
pub(super) fn table_bytes(total: u64) -> u64 {
    (total / 64).clamp(2 << 20, 64 << 20)
}

/// Most bytes of unflushed entries before a flush on a disk of this size. What is overwritten before it
/// is flushed costs no flush, so more is better, up to what a start may take to replay.
pub(super) fn flush_bytes(total: u64) -> u64 {
    (total / 32).clamp(2 << 20, 256 << 20)
}

fn replay_bound(total: u64) -> u64 {
    (total / 8).clamp(16 << 20, 512 << 20)
}

/// Looks until `stop` is cancelled.
pub(super) fn watch(node: &Arc<Node>, dir: &DataDir, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        look(node, dir);
        std::thread::sleep(LOOK);
    }
}

/// Looks once.
pub(super) fn look(node: &Node, dir: &DataDir) {
    let Ok((free, total)) = dir.space() else {
        return;
    };
    node.with(|inner| {
        let was = std::mem::take(&mut inner.disk);
        inner.disk = Disk::of(free, total, was.low);
        if inner.disk.low != was.low {
            let low = inner.disk.low;
            tracing::warn!(free, total, low, "disk space");
            node.relief.notify_waiters();
            node.changed();
        }
    });
}

/// What may still be written.
pub(super) fn room(inner: &Inner) -> Room {
    if !inner.disk.low {
        return Room::Enough;
    }
    let store = inner.store.as_ref();
    let full = store.is_some_and(|store| store.unflushed_bytes() >= store.most_unflushed());
    if full || inner.log.reserve() == 0 {
        Room::None
    } else {
        Room::Little
    }
}

/// Whether writers must wait until a file of the log is prepared.
pub(super) fn waits_for_log(inner: &Inner) -> bool {
    inner.disk.tight && inner.log.reserve() == 0
}

/// Why a command is refused, for clients.
pub(super) fn refusal(room: Room) -> Option<&'static str> {
    match room {
        Room::Enough => None,
        Room::Little => Some(
            "OOM the disk of this replica is nearly full: writes are refused until there is room, \
             reads and deletions go on. Delete keys or give it a larger volume",
        ),
        Room::None => Some(
            "OOM the disk of this replica is full: writes are refused until there is room, reads go on. \
             Give it a larger volume",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn the_marks_grow_with_the_disk_and_do_not_flutter() {
        assert!(!Disk::of(26 * MB, 256 * MB, false).low);
        assert!(Disk::of(25 * MB, 256 * MB, false).low);
        assert!(Disk::of(30 * MB, 256 * MB, true).low);
        assert!(!Disk::of(31 * MB, 256 * MB, true).low);
        assert!(!Disk::of(1024 * MB, 1 << 40, false).low);
        assert!(Disk::of(100 * MB, 256 * MB, false).tight);
    }

    /// What the log prepares is had from room that is not low yet, or it would never be prepared.
    #[test]
    fn a_segment_can_be_prepared_above_the_mark() {
        for total in [128 * MB, 256 * MB, 1 << 30, 20 << 30, 1 << 42] {
            let mark = (total / LOW_SHARE).min(MOST_LOW);
            assert!(segment_bytes(total) * 2 < mark, "{total}");
            assert!(table_bytes(total) * 3 < mark, "{total}");
            assert!(flush_bytes(total) * 3 < mark, "{total}");
        }
    }
}
