//! Reads the frames of one segment, one after another, in large blocks.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use memchr::memmem;

use super::frame::{Frame, FrameError, Header};
use super::segment::stored;
use crate::env::File;
use crate::replication::{Epoch, Lsn};

/// Large enough that streaming is bound by the disk, not by calls; frames keep their block alive.
const BLOCK: u64 = 512 << 10;

/// A boundary between frames in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) lsn: Lsn,
    pub(super) offset: u64,
    /// Chain of the frame that ends here.
    pub(super) chain: u32,
}

impl Point {
    /// The boundary behind `frame`, which begins here.
    pub(super) fn after(self, frame: &Frame) -> Self {
        Self {
            lsn: frame.end(),
            offset: self.offset + stored(frame.wire_len()),
            chain: frame.chain(),
        }
    }
}

/// Walks along the frames of a file.
pub(super) struct Scan {
    file: Arc<dyn File>,
    salt: u32,
    at: Point,
    /// No frame is looked for beyond this offset.
    limit: u64,
    /// What was read ahead, from `at` on.
    block: Bytes,
}

impl Scan {
    pub(super) fn new(file: Arc<dyn File>, salt: u32, at: Point, limit: u64) -> Self {
        Self {
            file,
            salt,
            at,
            limit,
            block: Bytes::new(),
        }
    }

    pub(super) fn at(&self) -> Point {
        self.at
    }

    /// There is more to read now.
    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// The next frame; `None` if what comes next is not a valid one that continues the last.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            match Frame::decode_salted(&self.block, self.salt) {
                Ok((frame, _)) => {
                    let fits = frame.start() == self.at.lsn && frame.prev_chain() == self.at.chain;
                    if !fits {
                        return Ok(None);
                    }
                    let next = self.at.after(&frame);
                    let taken = (next.offset - self.at.offset) as usize;
                    self.block.advance(taken.min(self.block.len()));
                    self.at = next;
                    return Ok(Some(frame));
                }
                Err(FrameError::Incomplete { needed }) => {
                    if !self.fill(needed as u64)? {
                        return Ok(None);
                    }
                }
                Err(_) => return Ok(None),
            }
        }
    }

    /// Reads at least `needed` bytes from `at` on; says whether there are as many.
    fn fill(&mut self, needed: u64) -> io::Result<bool> {
        let available = self.limit.saturating_sub(self.at.offset);
        if available < needed {
            return Ok(false);
        }
        // At the end of a log that is being written there is little, and no more is allocated.
        let mut block = vec![0; available.min(BLOCK.max(needed)) as usize];
        let read = self.file.read_at(&mut block, self.at.offset)?;
        block.truncate(read);
        self.block = block.into();
        Ok(read as u64 >= needed)
    }
}

/// What is left in a file behind the point at which the valid frames end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Leftover {
    /// The log was durable up to here when some of it was written.
    pub(super) durable: Lsn,
    /// Where the last frame that can be recognized ends in the file; 0 if there is none.
    pub(super) end: u64,
}

/// Searches a file from `offset` on for headers of frames from `from` on, of `epoch` or later.
///
/// A header is believed by its own checksum: what it says about durability is true even if its
/// payload was torn or damaged.
pub(super) fn search(
    file: &dyn File,
    salt: u32,
    offset: u64,
    from: Lsn,
    epoch: Epoch,
) -> io::Result<Leftover> {
    let finder = memmem::Finder::new(&Header::MAGIC);
    let mut leftover = Leftover::default();
    let mut block = vec![0; BLOCK as usize];
    let mut at = offset;
    loop {
        let read = file.read_at(&mut block, at)?;
        let bytes = &block[..read];
        for found in finder.find_iter(bytes) {
            let Some(head) = bytes[found..].first_chunk() else {
                break;
            };
            let Ok(header) = Header::decode(head, salt) else {
                continue;
            };
            if header.start < from || header.epoch < epoch {
                continue;
            }
            leftover.durable = leftover.durable.max(header.durable);
            if !header.is_mark() {
                let end = at + found as u64 + stored(Frame::HEADER + header.length as usize);
                leftover.end = leftover.end.max(end);
            }
        }
        if read < block.len() {
            return Ok(leftover);
        }
        // Blocks overlap by all but one byte of a header, so that none is missed.
        at += BLOCK - (Header::LENGTH as u64 - 1);
    }
}
