//! Opens a log after whatever happened, by the rule in the module's documentation: what a crash
//! tore is cut, what is damaged is reported and left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use parking_lot::{Mutex, RwLock};

use super::cut;
use super::error::LogError;
use super::found::{Found, Known, SegmentFile, Torn, find_files};
use super::frame::Tip;
use super::segment::{self, PAGE};
use super::shared::{Log, Options, Pool, Segment, Shared};
use super::watermark::{self, Watermark};
use super::writer::{Active, LogWriter};
use crate::env::{Disk, File, is_full};
use crate::replication::{EpochHistory, Lsn};

/// What can be read and may not be on the disk is written again in pieces of this size.
const PIECE: u64 = 1 << 20;

/// What was found when a log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The end of the log.
    pub tip: Tip,
    /// The LSN before the first frame that it holds.
    pub oldest: Lsn,
    /// Its epochs, from the beginning of the store's life.
    pub history: EpochHistory,
    /// Bytes in the files of what a crash tore and nobody was ever told, as far as recognizable.
    pub truncated_bytes: u64,
}

impl Log {
    /// Opens the log in a directory, beginning one if there is none.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
    ) -> Result<(LogWriter, Self, Recovered), LogError> {
        Opening::look(disk, None, options)?.open()
    }

    /// Opens the log whose end is noted in the directory `home`, so that what is missing is noticed.
    pub fn open_noted(
        disk: Arc<dyn Disk>,
        home: &dyn Disk,
        options: Options,
    ) -> Result<(LogWriter, Self, Recovered), LogError> {
        Opening::look(disk, Some(home), options)?.open()
    }

    /// Makes what was noted of the log's end durable: to be called several times a second, from a
    /// thread for which nobody waits. Does nothing if nothing was noted.
    pub fn settle(&self) -> Result<(), LogError> {
        match &self.0.watermark {
            Some(watermark) => watermark
                .settle()
                .map_err(LogError::io("sync", watermark::NAME)),
            None => Ok(()),
        }
    }
}

/// A log that is being opened.
pub(super) struct Opening {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) watermark: Option<Watermark>,
    pub(super) options: Options,
    pub(super) files: Vec<SegmentFile>,
    pub(super) known: Known,
    pub(super) found: Found,
    /// A cut or a reset was completed, and is not told to be done yet.
    changed: bool,
}

impl Opening {
    pub(super) fn look(
        disk: Arc<dyn Disk>,
        home: Option<&dyn Disk>,
        options: Options,
    ) -> Result<Self, LogError> {
        // What an earlier process was doing when it ended may be seen and yet not be on the disk:
        // nothing may rest on it before it is.
        disk.sync_dir()
            .map_err(LogError::io("sync", "the directory"))?;
        let opened = match home
            .map(|home| Watermark::open(home, options.owner))
            .transpose()
        {
            // A disk that is full is no reason not to start: the next start notes it.
            Err(error) if is_full(&error) => None,
            opened => opened.map_err(LogError::io("open", watermark::NAME))?,
        };
        let (watermark, note) = opened.unzip();
        let note = note.flatten();
        // What takes frames away lowers the note by itself, and that may not be done yet.
        let changed = cut::complete(&*disk, options.seed)?;
        let known = Known {
            state: options.known_durable,
            follows: options.follows,
            noted: note.filter(|_| !changed),
        };
        let mut files = find_files(&*disk)?;
        let was_there = known.durable() > Lsn::ZERO || (options.expected && note.is_none());
        if files.is_empty() && !was_there {
            cut::create(&*disk, options.seed)?;
            files = find_files(&*disk)?;
        }
        let found = Found::scan(&files, &known)?;
        Ok(Self {
            disk,
            watermark,
            options,
            files,
            known,
            found,
            changed,
        })
    }

    fn open(self) -> Result<(LogWriter, Log, Recovered), LogError> {
        let torn = self.found.judge(&self.files, &self.known)?;
        self.finish(torn)
    }

    /// Makes durable what is valid, cuts off what is torn, and gives the log.
    pub(super) fn finish(self, torn: Torn) -> Result<(LogWriter, Log, Recovered), LogError> {
        for segment in &self.found.view.segments {
            write_again(segment, torn.durable)?;
        }
        let last = &self.files[self.found.last];
        last.file
            .sync()
            .map_err(LogError::io("sync", &last.name()))?;
        let tip = self.found.view.tip;
        if let Some(watermark) = &self.watermark {
            match watermark.set(tip) {
                Err(error) if is_full(&error) && !self.changed => {}
                set => set.map_err(LogError::io("write", watermark::NAME))?,
            }
        }
        if self.changed {
            cut::finish_intent(&*self.disk)?;
        }
        self.cut(torn)?;
        let recovered = self.recovered(torn.bytes);
        let active = self.active()?;
        let (writer, log) = self.build(active);
        Ok((writer, log, recovered))
    }

    /// Cuts what is behind the valid part, and removes what is before it and none of it, durably.
    fn cut(&self, torn: Torn) -> Result<(), LogError> {
        let disk = &*self.disk;
        for index in &self.found.stale {
            // Each by itself: a crash must not leave some of them in the midst of the others.
            cut::remove_all(disk, [self.files[*index].name()])?;
        }
        let last = &self.files[self.found.last];
        if torn.in_last {
            // As a cut that is noted first: if only some of the zeros come to the disk, what is left
            // might continue another frame some day.
            return cut::end(disk, last.number, self.found.end().offset);
        }
        // Nothing in them is valid, so it does not matter which of them a crash here leaves.
        let later = self.files[self.found.last + 1..].iter();
        cut::remove_all(disk, later.map(SegmentFile::name))
    }

    fn recovered(&self, truncated_bytes: u64) -> Recovered {
        let view = &self.found.view;
        Recovered {
            tip: view.tip,
            oldest: view.oldest(),
            history: view.history.clone(),
            truncated_bytes,
        }
    }

    fn active(&self) -> Result<Active, LogError> {
        let view = &self.found.view;
        let last = view.segments.back().expect("there is always a segment");
        let name = segment::name(last.number);
        let len = last.file.len().map_err(LogError::io("read", &name))?;
        let (salt, file) = (last.salt, Arc::clone(&last.file));
        let capacity = self.options.segment_bytes;
        Ok(Active::resumed(
            last.number,
            salt,
            file,
            last.end,
            capacity,
            len,
        ))
    }

    fn build(self, active: Active) -> (LogWriter, Log) {
        let next_number = self.files.last().map_or(0, |file| file.number) + 1;
        let log = Log(Arc::new(Shared {
            disk: self.disk,
            options: self.options,
            view: RwLock::new(self.found.view),
            pool: Mutex::new(Pool::new(next_number)),
            reserve: AtomicUsize::new(0),
            maintenance: Mutex::new(()),
            watermark: self.watermark,
            unsynced: AtomicBool::new(false),
        }));
        (LogWriter::new(log.clone(), active), log)
    }
}

/// Writes again what can be read of a segment and is not known to be durable: a write that failed in
/// an earlier process may have left it in the kernel's cache alone, where no sync finds it any more.
/// That it is torn by a loss of power meanwhile is as if it had not been found.
fn write_again(segment: &Segment, durable: Lsn) -> Result<(), LogError> {
    let header = segment.base() >= durable;
    if segment.end.lsn <= durable && !header {
        return Ok(());
    }
    let name = segment::name(segment.number);
    let from = if header {
        0
    } else {
        segment.near(durable).offset / PAGE * PAGE
    };
    let copied = copy(&*segment.file, &*segment.file, from, segment.end.offset);
    copied.map_err(LogError::io("write", &name))
}

/// Copies a range of a file to the same place in another one.
pub(super) fn copy(from: &dyn File, to: &dyn File, start: u64, end: u64) -> std::io::Result<()> {
    let mut offset = start;
    while offset < end {
        let mut bytes = vec![0; PIECE.min(end - offset) as usize];
        let read = from.read_at(&mut bytes, offset)?;
        if read == 0 {
            break;
        }
        to.write_at(&bytes[..read], offset)?;
        offset += read as u64;
    }
    Ok(())
}
