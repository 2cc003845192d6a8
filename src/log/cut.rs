//! What takes frames away: truncate and reset. Both first write down what they are about to do, so
//! that the next start completes what a crash interrupts: at no time can a start find a part of
//! what was to go and take it for the end of the log.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::LogError;
use super::frame::Tip;
use super::scan::Point;
use super::segment::{self, INTENT, PAGE, SegmentHeader};
use super::shared::{Log, Place, Pool, Segment, View};
use super::writer::{Active, LogWriter};
use crate::env::durable_file::{read_small, write_small};
use crate::env::{Disk, File};
use crate::replication::{EpochHistory, Lsn, Position};

/// Zeros are written in pieces of this size.
const ZEROS: u64 = 1 << 20;

/// What is under way.
#[derive(Debug, Serialize, Deserialize)]
enum Intent {
    /// Segment `number` ends at `offset`, and is the last.
    Cut { number: u64, offset: u64 },
    /// The log begins anew, in segment `number`.
    Reset {
        number: u64,
        at: Lsn,
        chain: u32,
        history: EpochHistory,
    },
}

/// What [`Log::save_tail`] has saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedTail {
    /// Frames.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of records.
    pub bytes: u64,
}

impl LogWriter {
    /// Cuts off everything after `to`, which is the end of a frame (or where the log begins).
    /// Durable on return.
    pub fn truncate(&mut self, to: Lsn) -> Result<(), LogError> {
        self.check_usable()?;
        if to == self.tip.position.lsn {
            return Ok(());
        }
        let log = self.log.clone();
        let _alone = log.0.maintenance.lock();
        let place = log.place(to)?;
        if place.point.lsn != to {
            return Err(LogError::NotAFrame { lsn: to });
        }
        self.guarded(|writer| writer.cut(&place))
    }

    fn cut(&mut self, place: &Place) -> Result<(), LogError> {
        let disk = &*self.log.0.disk;
        let (file, salt, end, later) = self.log.0.view.write().cut(place);
        let (number, offset) = (place.number, place.point.offset);
        let name = segment::name(number);
        let len = file.len().map_err(LogError::io("read", &name))?;
        write_intent(disk, &Intent::Cut { number, offset })?;
        self.log.0.set_watermark(self.log.tip())?;
        // A mark may stand behind the last frame.
        zero(&*file, &name, offset, len.min(end + PAGE))?;
        remove_all(disk, later.into_iter().map(segment::name))?;
        finish_intent(disk)?;

        let capacity = self.log.0.options.segment_bytes;
        self.active = Active::resumed(number, salt, file, place.point, capacity, len);
        let view = self.log.0.view.read();
        self.tip = view.tip;
        self.history.clone_from(&view.history);
        Ok(())
    }

    /// Throws everything away and begins an empty log at `at`, as it is where the store has been
    /// installed from elsewhere: with the epochs up to there and the chain that the next frame
    /// continues. Durable on return.
    pub fn reset(&mut self, at: Lsn, history: EpochHistory, chain: u32) -> Result<(), LogError> {
        self.check_usable()?;
        let log = self.log.clone();
        let _alone = log.0.maintenance.lock();
        self.guarded(|writer| writer.begin_anew(at, history, chain))
    }

    fn begin_anew(
        &mut self,
        at: Lsn,
        mut history: EpochHistory,
        chain: u32,
    ) -> Result<(), LogError> {
        history.truncate(at);
        let shared = Arc::clone(&self.log.0);
        let number = shared.pool.lock().take_number();
        let intent = Intent::Reset {
            number,
            at,
            chain,
            history: history.clone(),
        };
        let (disk, seed) = (&*shared.disk, shared.options.seed);
        write_intent(disk, &intent)?;
        shared.set_watermark(tip_at(at, chain, &history))?;
        let (file, first) = apply_reset(disk, number, seed, at, chain, &history)?;
        finish_intent(disk)?;

        {
            let mut pool = shared.pool.lock();
            *pool = Pool::new(number + 1);
            shared.count_reserve(&pool);
        }
        let salt = segment::salt(seed, number);
        let segment = Segment::new(number, salt, Arc::clone(&file), first);
        shared.view.write().begin_anew(segment, history.clone());
        self.tip = self.log.tip();
        self.history = history;
        let capacity = shared.options.segment_bytes;
        self.active = Active::resumed(number, salt, file, first, capacity, 0);
        Ok(())
    }
}

impl Active {
    /// Goes on in a segment of `len` bytes whose header is on the disk.
    pub(super) fn resumed(
        number: u64,
        salt: u32,
        file: Arc<dyn File>,
        end: Point,
        capacity: u64,
        len: u64,
    ) -> Self {
        Self {
            number,
            salt,
            name: segment::name(number),
            file,
            end,
            capacity,
            zeroed: len >= capacity,
            started: true,
            marked: false,
        }
    }
}

impl View {
    /// Forgets what is behind `place`. Gives its file with its salt, where its last frame ended, and
    /// the segments behind it.
    fn cut(&mut self, place: &Place) -> (Arc<dyn File>, u32, u64, Vec<u64>) {
        let kept = self
            .segments
            .partition_point(|segment| segment.number <= place.number);
        let later = self
            .segments
            .drain(kept..)
            .map(|segment| segment.number)
            .collect();
        let segment = self
            .segments
            .back_mut()
            .expect("the place is in a segment that is kept");
        let end = segment.end.offset;
        let (file, salt) = (Arc::clone(&segment.file), segment.salt);
        segment.truncate(place.point);
        self.history.truncate(place.point.lsn);
        self.tip.position.lsn = place.point.lsn;
        self.tip.position.epoch = self.history.epoch_at(place.point.lsn);
        self.tip.chain = place.point.chain;
        self.generation += 1;
        (file, salt, end, later)
    }

    fn begin_anew(&mut self, segment: Segment, history: EpochHistory) {
        let first = segment.first();
        self.tip.position.lsn = first.lsn;
        self.tip.position.epoch = history.epoch_at(first.lsn);
        self.tip.chain = first.chain;
        self.segments.clear();
        self.segments.push_back(segment);
        self.history = history;
        self.generation += 1;
    }
}

impl Log {
    /// Copies the frames after `from` (the end of a frame) into the file `name`, durably, as they
    /// go over the wire: for what must be given up before a [`LogWriter::truncate`].
    pub fn save_tail(&self, from: Lsn, name: &str) -> Result<SavedTail, LogError> {
        let disk = &*self.0.disk;
        let temporary = format!("{name}.tmp");
        let write = LogError::io("write", name);
        let file = disk.open(&temporary, true, false);
        let file = file
            .and_then(|file| file.set_len(0).map(|()| file))
            .map_err(write)?;
        let mut saved = SavedTail::default();
        let mut offset = 0;
        let mut cursor = self.cursor(from)?;
        loop {
            let frames = cursor.read(ZEROS as usize)?;
            if frames.is_empty() {
                break;
            }
            for frame in frames {
                let bytes = [&frame.header()[..], &frame.payload()].concat();
                file.write_at(&bytes, offset)
                    .map_err(LogError::io("write", name))?;
                offset += bytes.len() as u64;
                saved.frames += 1;
                saved.records += u64::from(frame.records());
                saved.bytes += frame.end().since(frame.start());
            }
        }
        let synced = file.sync().and_then(|()| disk.rename(&temporary, name));
        let synced = synced.and_then(|()| disk.sync_dir());
        synced.map_err(LogError::io("write", name))?;
        Ok(saved)
    }
}

/// Begins the log of a directory that has none.
pub(super) fn create(disk: &dyn Disk, seed: u64) -> Result<(), LogError> {
    begin(disk, 1, seed, Lsn::ZERO, 0, EpochHistory::default())
}

/// Begins the log anew in segment `number`, before anybody has opened it.
pub(super) fn begin(
    disk: &dyn Disk,
    number: u64,
    seed: u64,
    at: Lsn,
    chain: u32,
    history: EpochHistory,
) -> Result<(), LogError> {
    let intent = Intent::Reset {
        number,
        at,
        chain,
        history,
    };
    write_intent(disk, &intent)?;
    complete(disk, seed)?;
    finish_intent(disk)
}

/// Ends the log at `offset` in segment `number`, before anybody has opened it.
pub(super) fn end(disk: &dyn Disk, number: u64, offset: u64) -> Result<(), LogError> {
    write_intent(disk, &Intent::Cut { number, offset })?;
    complete(disk, 0)?;
    finish_intent(disk)
}

/// Completes what a crash interrupted, but for [`finish_intent`]; says whether there was anything.
pub(super) fn complete(disk: &dyn Disk, seed: u64) -> Result<bool, LogError> {
    let content = read_small(disk, INTENT).map_err(LogError::io("read", INTENT))?;
    let Some(content) = content else {
        return Ok(false);
    };
    let intent = postcard::from_bytes(&content)
        .map_err(|error| LogError::Unusable(format!("{INTENT} makes no sense: {error}")))?;
    let mut done = true;
    match intent {
        Intent::Cut { number, offset } => done = apply_cut(disk, number, offset)?,
        Intent::Reset {
            number,
            at,
            chain,
            history,
        } => {
            apply_reset(disk, number, seed, at, chain, &history)?;
        }
    }
    Ok(done)
}

/// Says whether the segment is there: if not, it was lost, and the rest is recovery's business.
fn apply_cut(disk: &dyn Disk, number: u64, offset: u64) -> Result<bool, LogError> {
    let name = segment::name(number);
    let file = match disk.open(&name, false, true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(LogError::io("open", &name))?,
    };
    let len = file.len().map_err(LogError::io("read", &name))?;
    zero(&*file, &name, offset, len)?;
    let names = list(disk)?.into_iter();
    let is_later = |name: &String| segment::number_of(name).is_some_and(|n| n > number);
    remove_all(disk, names.filter(is_later))?;
    Ok(true)
}

/// The end of a log that begins here, and holds nothing.
pub(super) fn tip_at(at: Lsn, chain: u32, history: &EpochHistory) -> Tip {
    let position = Position {
        epoch: history.epoch_at(at),
        lsn: at,
    };
    Tip { position, chain }
}

fn apply_reset(
    disk: &dyn Disk,
    number: u64,
    seed: u64,
    at: Lsn,
    chain: u32,
    history: &EpochHistory,
) -> Result<(Arc<dyn File>, Point), LogError> {
    let is_ours = |name: &String| segment::number_of(name).is_some() || segment::is_spare(name);
    remove_all(disk, list(disk)?.into_iter().filter(is_ours))?;
    let name = segment::name(number);
    let mut header = Vec::new();
    SegmentHeader {
        number,
        base: at,
        chain,
        salt: segment::salt(seed, number),
        history: history.clone(),
    }
    .encode(&mut header);
    let file = disk
        .open(&name, true, true)
        .map_err(LogError::io("create", &name))?;
    file.write_at(&header, 0)
        .map_err(LogError::io("write", &name))?;
    disk.sync_dir().map_err(LogError::io("create", &name))?;
    let first = Point {
        lsn: at,
        offset: header.len() as u64,
        chain,
    };
    Ok((file, first))
}

fn write_intent(disk: &dyn Disk, intent: &Intent) -> Result<(), LogError> {
    let content = postcard::to_stdvec(intent)
        .map_err(|error| LogError::Unusable(format!("{INTENT} cannot be made: {error}")))?;
    write_small(disk, INTENT, &content).map_err(LogError::io("write", INTENT))
}

/// It is done, and whatever is noted elsewhere says so.
pub(super) fn finish_intent(disk: &dyn Disk) -> Result<(), LogError> {
    let removed = disk.remove(INTENT).and_then(|()| disk.sync_dir());
    removed.map_err(LogError::io("remove", INTENT))
}

pub(super) fn list(disk: &dyn Disk) -> Result<Vec<String>, LogError> {
    disk.list().map_err(LogError::io("list", "the directory"))
}

/// Removes files durably.
pub(super) fn remove_all(
    disk: &dyn Disk,
    names: impl IntoIterator<Item = String>,
) -> Result<(), LogError> {
    let mut any = false;
    for name in names {
        disk.remove(&name).map_err(LogError::io("remove", &name))?;
        any = true;
    }
    if any {
        disk.sync_dir()
            .map_err(LogError::io("remove", "segments"))?;
    }
    Ok(())
}

/// Zeros a range of a file that was opened for durable writes, in pieces, so that others who
/// write to the disk need not wait for all of it.
pub(super) fn zero(file: &dyn File, name: &str, from: u64, to: u64) -> Result<(), LogError> {
    let zeros = vec![0; ZEROS.min(to.saturating_sub(from)) as usize];
    let mut offset = from;
    while offset < to {
        let count = ZEROS.min(to - offset);
        let written = file.write_at(&zeros[..count as usize], offset);
        written.map_err(LogError::io("write", name))?;
        offset += count;
    }
    Ok(())
}
