//! What the writer and the readers share: which segments there are, and where frames begin.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use super::error::{LogError, Loss};
use super::frame::Tip;
use super::scan::{Point, Scan};
use super::segment;
use super::watermark::{self, Watermark};
use crate::env::{Disk, File};
use crate::replication::{EpochHistory, Lsn, Position};

/// One entry of the index per this many bytes: little to hold, little to walk.
const INDEX_STEP: u64 = 64 << 10;

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of a segment, unless a single frame is larger.
    pub segment_bytes: u64,
    /// Segments that [`Log::prepare`] keeps ready ahead of use.
    pub ready: usize,
    /// Trimmed segments that are kept for [`Log::prepare`] to use again, beyond those ready.
    pub spares: usize,
    /// What the owner knows to be durable in this log, because its store has taken it over.
    /// Segments that end below it are not read at the start.
    pub known_durable: Lsn,
    /// Whether the owner's state goes on there: a log that begins later has lost records.
    pub follows: bool,
    /// Whether the owner knows that there has been a log, so that none at all is damage.
    pub expected: bool,
    /// Of the salts of new segments: random, where strangers store values.
    pub seed: u64,
    /// Whose log it is: what is noted of another's says nothing of this one.
    pub owner: u128,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            ready: 2,
            spares: 2,
            known_durable: Lsn::ZERO,
            follows: false,
            expected: false,
            seed: 0,
            owner: 0,
        }
    }
}

/// The log as everybody but its writer uses it: reading, preparing, trimming. Cheap to clone.
#[derive(Clone)]
pub struct Log(pub(super) Arc<Shared>);

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut output = f.debug_struct("Log");
        output.field("oldest", &self.oldest());
        output.field("tip", &self.tip()).finish_non_exhaustive()
    }
}

pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: Options,
    pub(super) view: RwLock<View>,
    pub(super) pool: Mutex<Pool>,
    /// How many segments are ready.
    pub(super) reserve: AtomicUsize,
    /// Held by whoever renames and removes files: prepare, trim, truncate, reset. Never by readers
    /// nor by append. Taken before the other locks.
    pub(super) maintenance: Mutex<()>,
    /// Says apart from the log how far it is durable.
    pub(super) watermark: Option<Watermark>,
    /// A change to the directory may not be durable: it must be before the next one is made.
    pub(super) unsynced: AtomicBool,
}

/// What can be read.
pub(super) struct View {
    /// Ascending, never empty; the last is the one being written.
    pub(super) segments: VecDeque<Segment>,
    pub(super) tip: Tip,
    pub(super) history: EpochHistory,
    /// Rises whenever frames are taken away at the end.
    pub(super) generation: u64,
}

pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) salt: u32,
    pub(super) file: Arc<dyn File>,
    /// Some of the boundaries, ascending, the first frame's always.
    index: Vec<Point>,
    /// The end of the last durable frame.
    pub(super) end: Point,
    /// It was not read at the start, and the offset of its end is only a bound.
    unread: bool,
}

impl Segment {
    pub(super) fn new(number: u64, salt: u32, file: Arc<dyn File>, first: Point) -> Self {
        Self {
            number,
            salt,
            file,
            index: vec![first],
            end: first,
            unread: false,
        }
    }

    /// It ends at `lsn`, as the next one says, and at `bound` in the file at the latest.
    pub(super) fn leave_unread(&mut self, lsn: Lsn, chain: u32, bound: u64) {
        self.end = Point {
            lsn,
            offset: bound,
            chain,
        };
        self.unread = true;
    }

    pub(super) fn first(&self) -> Point {
        self.index[0]
    }

    pub(super) fn base(&self) -> Lsn {
        self.first().lsn
    }

    /// A frame that begins at the end so far has been written.
    pub(super) fn extend(&mut self, end: Point) {
        let indexed = self.index.last().map_or(0, |point| point.offset);
        if self.end.offset >= indexed + INDEX_STEP {
            self.index.push(self.end);
        }
        self.end = end;
    }

    /// Forgets what is beyond a boundary.
    pub(super) fn truncate(&mut self, end: Point) {
        let kept = self.index.partition_point(|point| point.lsn < end.lsn);
        self.index.truncate(kept.max(1));
        self.end = end;
        self.unread = false;
    }

    /// A known boundary at or below a position that lies in this segment.
    pub(super) fn near(&self, lsn: Lsn) -> Point {
        if lsn >= self.end.lsn && !self.unread {
            return self.end;
        }
        let after = self.index.partition_point(|point| point.lsn <= lsn);
        self.index[after.max(1) - 1]
    }

    pub(super) fn scan(&self, from: Point) -> Scan {
        Scan::new(Arc::clone(&self.file), self.salt, from, self.end.offset)
    }

    /// Over the whole file, wherever the frames may end.
    pub(super) fn scan_until(&self, len: u64) -> Scan {
        Scan::new(Arc::clone(&self.file), self.salt, self.first(), len)
    }
}

/// The files that are not in use yet.
pub(super) struct Pool {
    /// The number of the next segment; none is ever used twice.
    pub(super) next_number: u64,
    /// In the order in which they are to be used.
    pub(super) ready: VecDeque<Ready>,
    pub(super) spares: Vec<Spare>,
    pub(super) next_spare: u64,
}

/// A segment with its final name, opened for durable writes, all of it written before. What a
/// recycled one holds bears another number, so it is never taken for anything.
pub(super) struct Ready {
    pub(super) number: u64,
    pub(super) file: Arc<dyn File>,
}

/// A trimmed segment.
pub(super) struct Spare {
    pub(super) name: String,
    pub(super) file: Arc<dyn File>,
}

impl Shared {
    /// The pool has changed.
    pub(super) fn count_reserve(&self, pool: &Pool) {
        self.reserve.store(pool.ready.len(), Ordering::Release);
    }

    /// Changes the directory, durably. What a failure left undone comes first: after a crash there
    /// must not be the later change without the earlier one. Under the lock of the maintenance.
    pub(super) fn change_directory(
        &self,
        change: impl FnOnce(&dyn Disk) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.unsynced.load(Ordering::Acquire) {
            self.disk.sync_dir()?;
        }
        self.unsynced.store(true, Ordering::Release);
        change(&*self.disk)?;
        self.disk.sync_dir()?;
        self.unsynced.store(false, Ordering::Release);
        Ok(())
    }

    /// Notes where the log will end, durably: before frames are taken away.
    pub(super) fn set_watermark(&self, tip: Tip) -> Result<(), LogError> {
        let Some(watermark) = &self.watermark else {
            return Ok(());
        };
        let set = watermark.set(tip);
        set.map_err(LogError::io("lower", watermark::NAME))
    }
}

impl Pool {
    pub(super) fn new(next_number: u64) -> Self {
        Self {
            next_number,
            ready: VecDeque::new(),
            spares: Vec::new(),
            next_spare: 0,
        }
    }

    pub(super) fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    pub(super) fn take_spare_name(&mut self) -> String {
        self.next_spare += 1;
        segment::spare_name(self.next_spare - 1)
    }
}

/// A boundary between frames, with the segment that it is in.
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) point: Point,
    pub(super) generation: u64,
}

impl View {
    pub(super) fn oldest(&self) -> Lsn {
        self.segments.front().map_or(Lsn::ZERO, Segment::base)
    }

    /// The segment that holds the frame which ends at or contains `lsn`. It is the earlier one
    /// where two meet, so that a cut there removes the later one.
    fn segment_of(&self, lsn: Lsn) -> Option<&Segment> {
        let after = self
            .segments
            .partition_point(|segment| segment.base() < lsn);
        self.segments.get(after.max(1) - 1)
    }

    pub(super) fn by_number(&self, number: u64) -> Option<&Segment> {
        let found = self
            .segments
            .binary_search_by_key(&number, |segment| segment.number);
        found.ok().map(|index| &self.segments[index])
    }

    pub(super) fn segment_after(&self, number: u64) -> Option<&Segment> {
        let after = self
            .segments
            .partition_point(|segment| segment.number <= number);
        self.segments.get(after)
    }
}

impl Log {
    /// The end of what is durable.
    pub fn tip(&self) -> Tip {
        self.0.view.read().tip
    }

    /// The LSN before the first frame that the log still holds.
    pub fn oldest(&self) -> Lsn {
        self.0.view.read().oldest()
    }

    /// Segments that are ready, written with zeros before: what goes there finds room on a full disk.
    pub fn reserve(&self) -> usize {
        self.0.reserve.load(Ordering::Acquire)
    }

    /// The epochs of the log, from the beginning of the store's life.
    pub fn history(&self) -> EpochHistory {
        self.0.view.read().history.clone()
    }

    /// The last boundary between frames at or below `lsn` (the end of the log, if it ends before).
    pub fn locate(&self, lsn: Lsn) -> Result<Tip, LogError> {
        let place = self.place(lsn)?;
        let lsn = place.point.lsn;
        let epoch = self.0.view.read().history.epoch_at(lsn);
        Ok(Tip {
            position: Position { epoch, lsn },
            chain: place.point.chain,
        })
    }

    pub(super) fn place(&self, lsn: Lsn) -> Result<Place, LogError> {
        loop {
            let (number, generation, mut scan, target) = {
                let view = self.0.view.read();
                let oldest = view.oldest();
                let found = view.segment_of(lsn).filter(|_| lsn >= oldest);
                let segment = found.ok_or(LogError::Trimmed { oldest })?;
                let target = lsn.min(segment.end.lsn);
                let scan = segment.scan(segment.near(target));
                (segment.number, view.generation, scan, target)
            };
            if let Some(point) = walk(&mut scan, target, number)? {
                return Ok(Place {
                    number,
                    point,
                    generation,
                });
            }
            self.explain(number, generation, scan.at())?;
        }
    }

    /// Why a frame that should be there cannot be read: it was trimmed, it is damaged, or (no
    /// error) it was cut off meanwhile.
    pub(super) fn explain(&self, number: u64, generation: u64, at: Point) -> Result<(), LogError> {
        let view = self.0.view.read();
        if view.by_number(number).is_none() && at.lsn < view.oldest() {
            let oldest = view.oldest();
            return Err(LogError::Trimmed { oldest });
        }
        if view.generation != generation {
            return Ok(());
        }
        Err(LogError::Damaged {
            at: at.lsn,
            file: segment::name(number),
            offset: at.offset,
            durable: view.tip.position.lsn,
            what: Loss::Unreadable,
        })
    }
}

/// Goes on to the last boundary at or below `lsn`, which is not beyond the segment's end; `None`
/// if a frame on the way cannot be read.
fn walk(scan: &mut Scan, lsn: Lsn, number: u64) -> Result<Option<Point>, LogError> {
    let mut point = scan.at();
    while point.lsn < lsn {
        let next = scan.next();
        match next.map_err(|error| LogError::io("read", &segment::name(number))(error))? {
            Some(frame) if frame.end() > lsn => break,
            Some(_) => point = scan.at(),
            None => return Ok(None),
        }
    }
    Ok(Some(point))
}
