//! Appends frames, durably, in as few writes as there can be.

use std::sync::Arc;

use super::error::LogError;
use super::frame::{Frame, Header, Tip};
use super::scan::Point;
use super::segment::{self, PAGE, SegmentHeader, stored};
use super::shared::{Log, Segment};
use super::watermark;
use crate::env::File;
use crate::replication::EpochHistory;

/// What is gathered for one write at most. Batches are far smaller, unless a value is large.
const WRITE: usize = 4 << 20;

/// The one who writes to a log.
#[derive(Debug)]
pub struct LogWriter {
    pub(super) log: Log,
    pub(super) tip: Tip,
    pub(super) history: EpochHistory,
    pub(super) active: Active,
    /// A write has failed: nobody knows what is on the disk, and the kernel may have forgotten
    /// that it does not know either.
    poisoned: bool,
    /// Reused for every batch.
    buffer: Vec<u8>,
}

/// The segment that is being written.
pub(super) struct Active {
    pub(super) number: u64,
    pub(super) salt: u32,
    pub(super) name: String,
    pub(super) file: Arc<dyn File>,
    /// Where the next frame goes.
    pub(super) end: Point,
    /// The next segment is begun beyond this.
    pub(super) capacity: u64,
    /// Whether writing changes no extents of the file.
    pub(super) zeroed: bool,
    /// Whether the header is on the disk; else it goes with the first batch.
    pub(super) started: bool,
    /// Whether a mark stands at the end.
    pub(super) marked: bool,
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut output = f.debug_struct("Active");
        output
            .field("name", &self.name)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Active {
    /// How many of the frames have room here, with a mark behind them. A segment without frames
    /// takes at least one, however large.
    fn fitting(&self, frames: &[Frame]) -> usize {
        let room = self.capacity.saturating_sub(Header::LENGTH as u64);
        let mut offset = self.end.offset;
        let ends = frames.iter().map(|frame| {
            offset += stored(frame.wire_len());
            offset
        });
        let count = ends.take_while(|end| *end <= room).count();
        count.max(usize::from(!self.started))
    }
}

impl LogWriter {
    pub(super) fn new(log: Log, active: Active) -> Self {
        let (tip, history) = {
            let view = log.0.view.read();
            (view.tip, view.history.clone())
        };
        Self {
            log,
            tip,
            history,
            active,
            poisoned: false,
            buffer: Vec::new(),
        }
    }

    /// The end of the log.
    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// The epochs of the log.
    pub fn history(&self) -> &EpochHistory {
        &self.history
    }

    /// Appends frames that continue the log. When this returns they are durable, and readers see
    /// them. They go to the disk in one write, unless they are many megabytes or a segment ends
    /// between them.
    ///
    /// An error of the disk is final: see [`LogError::Poisoned`].
    pub fn append(&mut self, frames: &[Frame]) -> Result<(), LogError> {
        self.check_usable()?;
        let mut tip = self.tip;
        for frame in frames {
            if !frame.continues(&tip) {
                let (end, start) = (tip.position.lsn, frame.start());
                return Err(LogError::Discontinuous { end, start });
            }
            tip = frame.tip();
        }
        self.guarded(|writer| writer.append_all(frames))
    }

    /// Notes in the log that all of it is durable, so that damage to its last batch is noticed at
    /// the next start. To be called when the log falls idle and before the process ends; costs
    /// one small write, and nothing if nothing was appended since.
    pub fn mark_durable(&mut self) -> Result<(), LogError> {
        if self.active.marked {
            return self.check_usable();
        }
        self.beat()
    }

    /// Notes apart from the log how far it is durable, so that a piece that goes missing is noticed at
    /// the next start. To be called after [`append`](Self::append), once whoever waits for that is told:
    /// costs one small write to the kernel's cache, and [`Log::settle`] makes it durable now and then.
    ///
    /// Its failure harms nothing but that the note stays behind.
    pub fn note_durable(&self) -> Result<(), LogError> {
        match &self.log.0.watermark {
            Some(watermark) if !self.poisoned => {
                let noted = watermark.note(self.tip);
                noted.map_err(LogError::io("write", watermark::NAME))
            }
            _ => Ok(()),
        }
    }

    /// Writes the mark of [`Self::mark_durable`], there or not: shows whether the disk answers.
    pub fn beat(&mut self) -> Result<(), LogError> {
        self.check_usable()?;
        let mark = Header::mark(self.tip).encode(self.active.salt);
        self.guarded(|writer| {
            let active = &writer.active;
            let written = active.file.write_at(&mark, active.end.offset);
            written.map_err(LogError::io("write", &active.name))
        })?;
        self.active.marked = true;
        Ok(())
    }

    /// Goes on in another segment with the next append, so that this one can be trimmed some day.
    pub fn rotate(&mut self) {
        self.active.capacity = 0;
    }

    pub(super) fn check_usable(&self) -> Result<(), LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        Ok(())
    }

    /// Does what leaves the log unusable if it fails.
    pub(super) fn guarded<T>(
        &mut self,
        action: impl FnOnce(&mut Self) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        // Stays so if the action panics.
        self.poisoned = true;
        let result = action(self)?;
        self.poisoned = false;
        Ok(result)
    }

    fn append_all(&mut self, mut frames: &[Frame]) -> Result<(), LogError> {
        while !frames.is_empty() {
            let better = !self.active.zeroed && self.active.started && self.is_segment_ready();
            let count = if better {
                0
            } else {
                self.active.fitting(frames)
            };
            if count == 0 {
                self.begin_segment()?;
                continue;
            }
            let (batch, rest) = frames.split_at(count);
            self.write(batch)?;
            self.publish(batch);
            frames = rest;
        }
        Ok(())
    }

    fn is_segment_ready(&self) -> bool {
        !self.log.0.pool.lock().ready.is_empty()
    }

    /// Goes on in the next segment that was prepared, or else in one that grows as it is written:
    /// slower, but nobody waits until it is filled with zeros.
    fn begin_segment(&mut self) -> Result<(), LogError> {
        let shared = &self.log.0;
        let mut pool = shared.pool.lock();
        let (number, file, zeroed) = if let Some(ready) = pool.ready.pop_front() {
            shared.count_reserve(&pool);
            (ready.number, ready.file, true)
        } else {
            let number = pool.take_number();
            (number, create(&self.log, &segment::name(number))?, false)
        };
        self.active = Active {
            number,
            salt: segment::salt(shared.options.seed, number),
            name: segment::name(number),
            file,
            end: Point {
                lsn: self.tip.position.lsn,
                offset: SegmentHeader::data_start(self.history.entries().len()),
                chain: self.tip.chain,
            },
            capacity: shared.options.segment_bytes,
            zeroed,
            started: false,
            marked: false,
        };
        Ok(())
    }

    /// Writes frames into the active segment, with its header if it has none yet.
    fn write(&mut self, batch: &[Frame]) -> Result<(), LogError> {
        let salt = self.active.salt;
        let durable = self.tip.position.lsn;
        self.buffer.clear();
        let mut output = Output {
            active: &self.active,
            buffer: &mut self.buffer,
            offset: self.active.end.offset,
        };
        if !self.active.started {
            output.offset = 0;
            let header = SegmentHeader {
                number: self.active.number,
                base: durable,
                chain: self.tip.chain,
                salt,
                history: self.history.clone(),
            };
            header.encode(output.buffer);
        }
        for frame in batch {
            output.put(&frame.header_in(salt, durable))?;
            output.put(&frame.payload())?;
            output.put(&[0; 8][..stored(frame.wire_len()) as usize - frame.wire_len()])?;
        }
        output.finish()
    }

    /// Makes known what was written.
    fn publish(&mut self, batch: &[Frame]) {
        let mut view = self.log.0.view.write();
        if !self.active.started {
            self.active.started = true;
            let file = Arc::clone(&self.active.file);
            let Active {
                number, salt, end, ..
            } = self.active;
            let segment = Segment::new(number, salt, file, end);
            view.segments.push_back(segment);
        }
        let segment = view.segments.back_mut().expect("there is always a segment");
        for frame in batch {
            self.active.end = self.active.end.after(frame);
            segment.extend(self.active.end);
            self.tip = frame.tip();
        }
        self.active.marked = false;
        view.tip = self.tip;
        for frame in batch {
            if frame.epoch() > view.history.last() || view.history.entries().is_empty() {
                self.history.append(frame.epoch(), frame.start());
                view.history.append(frame.epoch(), frame.start());
            }
        }
    }
}

/// Creates a file that outlives a crash from now on.
pub(super) fn create(log: &Log, name: &str) -> Result<Arc<dyn File>, LogError> {
    let disk = &log.0.disk;
    let file = disk
        .open(name, true, true)
        .map_err(LogError::io("create", name))?;
    disk.sync_dir().map_err(LogError::io("create", name))?;
    Ok(file)
}

/// Gathers what is to be written to the active segment.
struct Output<'a> {
    active: &'a Active,
    buffer: &'a mut Vec<u8>,
    /// Where the buffer goes.
    offset: u64,
}

impl Output<'_> {
    fn put(&mut self, mut bytes: &[u8]) -> Result<(), LogError> {
        while self.buffer.len() + bytes.len() > WRITE {
            let (now, later) = bytes.split_at(WRITE.saturating_sub(self.buffer.len()));
            self.buffer.extend_from_slice(now);
            self.flush()?;
            bytes = later;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        let written = self.active.file.write_at(self.buffer, self.offset);
        written.map_err(LogError::io("write", &self.active.name))?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the rest, with zeros to the end of the page: a page that is written whole need not
    /// be read first, and what a recycled file held there is gone. A file never grows by it beyond
    /// the size of a segment, or it could not be recycled.
    fn finish(mut self) -> Result<(), LogError> {
        let end = self.offset + self.buffer.len() as u64;
        let limit = end.max(self.active.capacity);
        let padded = end.next_multiple_of(PAGE).min(limit);
        let zeros = (padded - end) as usize;
        self.buffer.resize(self.buffer.len() + zeros, 0);
        self.flush()
    }
}
