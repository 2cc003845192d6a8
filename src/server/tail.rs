//! The newest frames of the log in memory, so that senders and the applier need not read the disk.

use std::collections::VecDeque;

use crate::log::Frame;
use crate::replication::Lsn;

/// Bytes of frames that are kept; less where memory is short. Who is further behind than a tenth of a
/// second reads the log's files, which are still in the page cache then.
const MOST: u64 = 8 << 20;
const LEAST: u64 = 4 << 20;

/// A bounded queue of the newest frames; each one starts where the one before it ends.
#[derive(Debug)]
pub(super) struct Tail {
    frames: VecDeque<Frame>,
    bytes: usize,
    limit: usize,
}

impl Tail {
    /// Keeps the newest frame, and as many before it as fit into a share of the memory budget.
    pub(super) fn within(memory_budget: u64) -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
            limit: (memory_budget / 16).clamp(LEAST, MOST) as usize,
        }
    }

    /// Adds the next frame.
    pub(super) fn push(&mut self, frame: Frame) {
        if self
            .frames
            .back()
            .is_some_and(|last| last.end() != frame.start())
        {
            self.clear();
        }
        self.bytes += frame.wire_len();
        self.frames.push_back(frame);
        while self.bytes > self.limit && self.frames.len() > 1 {
            if let Some(oldest) = self.frames.pop_front() {
                self.bytes -= oldest.wire_len();
            }
        }
    }

    /// Drops everything after `to`.
    pub(super) fn truncate(&mut self, to: Lsn) {
        while self.frames.back().is_some_and(|frame| frame.end() > to) {
            if let Some(newest) = self.frames.pop_back() {
                self.bytes -= newest.wire_len();
            }
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }

    /// The frames that follow `after`, of up to `max_bytes` (one at least); `None` if the first
    /// of them is not in memory, nothing if there is none.
    pub(super) fn after(&self, after: Lsn, max_bytes: usize) -> Option<Vec<Frame>> {
        let from = self.frames.partition_point(|frame| frame.start() < after);
        match self.frames.get(from) {
            Some(first) if first.start() == after => {}
            Some(_) => return None,
            None => {
                let end = self.frames.back().map(Frame::end);
                return (end == Some(after)).then(Vec::new);
            }
        }
        let mut bytes = 0;
        let within = self.frames.range(from..).take_while(|frame| {
            let first = bytes == 0;
            bytes += frame.wire_len();
            first || bytes <= max_bytes
        });
        Some(within.cloned().collect())
    }
}
