//! Opens a log after whatever happened, by the rule in the module's documentation: what a crash
//! tore is cut, what is damaged is reported and left alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::{Mutex, RwLock};

use super::cut;
use super::error::LogError;
use super::frame::Tip;
use super::scan::{self, Point};
use super::segment::{self, SegmentHeader};
use super::shared::{Log, Options, Pool, Segment, Shared, View};
use super::writer::{Active, LogWriter};
use crate::env::{Disk, File};
use crate::replication::{EpochHistory, Lsn, Position};

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
        // What an earlier process was doing when it ended may be seen and yet not be on the disk:
        // nothing may rest on it before it is.
        disk.sync_dir()
            .map_err(LogError::io("sync", "the directory"))?;
        cut::complete(&*disk)?;
        let mut files = find_files(&*disk)?;
        if files.is_empty() {
            cut::create(&*disk)?;
            files = find_files(&*disk)?;
        }
        let mut found = Found::scan(&files, options.known_durable)?;
        let truncated_bytes = found.cut_torn(&*disk, &files, options.known_durable)?;
        files[found.last].sync()?;

        let view = &found.view;
        let recovered = Recovered {
            tip: view.tip,
            oldest: view.oldest(),
            history: view.history.clone(),
            truncated_bytes,
        };
        let active = found.active(options.segment_bytes)?;
        let next_number = files.last().map_or(0, |file| file.number) + 1;
        let log = Self(Arc::new(Shared {
            disk,
            options,
            view: RwLock::new(found.view),
            pool: Mutex::new(Pool::new(next_number)),
            reserve: AtomicUsize::new(0),
            maintenance: Mutex::new(()),
        }));
        Ok((LogWriter::new(log.clone(), active), log, recovered))
    }
}

/// A segment file with what its header says.
struct SegmentFile {
    number: u64,
    file: Arc<dyn File>,
    len: u64,
    /// `None` if it is not in use yet, or torn, or damaged.
    header: Option<SegmentHeader>,
}

impl SegmentFile {
    fn open(disk: &dyn Disk, number: u64) -> Result<Self, LogError> {
        let name = segment::name(number);
        let file = disk
            .open(&name, false, true)
            .map_err(LogError::io("open", &name))?;
        let len = file.len().map_err(LogError::io("read", &name))?;
        let mut bytes = vec![0; segment::PAGE as usize];
        let read =
            |bytes: &mut Vec<u8>| file.read_at(bytes, 0).map_err(LogError::io("read", &name));
        read(&mut bytes)?;
        // The header says itself how long it is.
        if let Some(length) = SegmentHeader::length(&bytes)
            && length > bytes.len()
        {
            bytes.resize(length, 0);
            read(&mut bytes)?;
        }
        let header = SegmentHeader::decode(&bytes, number);
        Ok(Self {
            number,
            file,
            len,
            header,
        })
    }

    fn name(&self) -> String {
        segment::name(self.number)
    }

    fn sync(&self) -> Result<(), LogError> {
        self.file.sync().map_err(LogError::io("sync", &self.name()))
    }
}

/// The segments, ascending. Spares are removed: nobody knows how far they were prepared.
fn find_files(disk: &dyn Disk) -> Result<Vec<SegmentFile>, LogError> {
    let names = cut::list(disk)?;
    let spares = names.iter().filter(|name| segment::is_spare(name));
    cut::remove_all(disk, spares.cloned())?;
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| segment::number_of(name))
        .collect();
    numbers.sort_unstable();
    numbers
        .into_iter()
        .map(|number| SegmentFile::open(disk, number))
        .collect()
}

/// The valid part of a log.
struct Found {
    view: View,
    /// Index among the files of the one in which the valid part ends.
    last: usize,
}

impl Found {
    /// Reads headers and frames up to the first that is not valid.
    fn scan(files: &[SegmentFile], known_durable: Lsn) -> Result<Self, LogError> {
        let headers: Vec<_> = files
            .iter()
            .map_while(|file| file.header.as_ref())
            .collect();
        let Some(first) = headers.first() else {
            // The first segment's header is durable before anything else is written, so it was
            // intact once.
            let bases = files.iter().filter_map(|file| file.header.as_ref());
            let durable = bases.map(|header| header.base).max().unwrap_or_default();
            return Err(LogError::Damaged {
                at: Lsn::ZERO,
                file: files[0].name(),
                offset: 0,
                durable: durable.max(known_durable),
            });
        };
        // What the owner has taken over already is not read, only counted.
        let skipped = headers
            .iter()
            .skip(1)
            .take_while(|header| header.base <= known_durable);
        let start = skipped.count();
        let mut found = Self {
            view: View {
                segments: VecDeque::new(),
                tip: tip_at(first),
                history: EpochHistory::default(),
                generation: 0,
            },
            last: start,
        };
        for (index, header) in headers.iter().enumerate() {
            if index > start && !found.continues_with(header) {
                break;
            }
            let mut segment = found.add(&files[index], header);
            match headers.get(index + 1).filter(|_| index < start) {
                Some(next) => segment.end = bound(&files[index], next),
                None => found.read_frames(&mut segment, files[index].len)?,
            }
            found.view.segments.push_back(segment);
            found.last = index;
        }
        Ok(found)
    }

    fn continues_with(&self, header: &SegmentHeader) -> bool {
        header.base == self.view.tip.position.lsn && header.chain == self.view.tip.chain
    }

    fn add(&mut self, file: &SegmentFile, header: &SegmentHeader) -> Segment {
        self.view.tip = tip_at(header);
        self.view.history = header.history.clone();
        let first = Point {
            lsn: header.base,
            offset: SegmentHeader::data_start(header.history.entries().len()),
            chain: header.chain,
        };
        Segment::new(file.number, Arc::clone(&file.file), first)
    }

    fn read_frames(&mut self, segment: &mut Segment, len: u64) -> Result<(), LogError> {
        let mut scan = segment.scan_until(len);
        let name = segment::name(segment.number);
        while let Some(frame) = scan.next().map_err(LogError::io("read", &name))? {
            if frame.epoch() < self.view.tip.position.epoch {
                break;
            }
            segment.extend(scan.at());
            self.view.tip = frame.tip();
            self.view.history.append(frame.epoch(), frame.start());
        }
        Ok(())
    }

    fn end(&self) -> Point {
        let last = self
            .view
            .segments
            .back()
            .expect("the first segment is valid");
        last.end
    }

    /// Cuts what is behind the valid part, durably, unless it was acknowledged. Says how many
    /// bytes of frames that was.
    fn cut_torn(
        &mut self,
        disk: &dyn Disk,
        files: &[SegmentFile],
        known_durable: Lsn,
    ) -> Result<u64, LogError> {
        let Tip { position, .. } = self.view.tip;
        let end = self.end();
        let mut durable = known_durable;
        let mut torn = 0;
        let mut zero_to = None;
        for (index, file) in files.iter().enumerate().skip(self.last) {
            let from = if index == self.last { end.offset } else { 0 };
            let leftover = scan::search(
                &*file.file,
                segment::salt(file.number),
                from,
                position.lsn,
                position.epoch,
            );
            let leftover = leftover.map_err(LogError::io("read", &file.name()))?;
            durable = durable.max(leftover.durable);
            if leftover.end > 0 {
                torn += leftover.end.min(file.len) - from;
                if index == self.last {
                    zero_to = Some(file.len);
                }
            }
            // A segment is begun only when all before it is durable.
            if let Some(header) = file.header.as_ref().filter(|_| index > self.last) {
                durable = durable.max(header.base);
            }
        }
        let last = &files[self.last];
        if durable > position.lsn {
            return Err(LogError::Damaged {
                at: position.lsn,
                file: last.name(),
                offset: end.offset,
                durable,
            });
        }
        // Nothing in them is valid, so it does not matter which of them a crash here leaves.
        let later = files[self.last + 1..].iter().map(SegmentFile::name);
        cut::remove_all(disk, later)?;
        if let Some(to) = zero_to {
            cut::zero(&*last.file, &last.name(), end.offset, to)?;
        }
        Ok(torn)
    }

    fn active(&self, capacity: u64) -> Result<Active, LogError> {
        let last = self
            .view
            .segments
            .back()
            .expect("the first segment is valid");
        let name = segment::name(last.number);
        let len = last.file.len().map_err(LogError::io("read", &name))?;
        let file = Arc::clone(&last.file);
        Ok(Active::resumed(last.number, file, last.end, capacity, len))
    }
}

fn tip_at(header: &SegmentHeader) -> Tip {
    Tip {
        position: Position {
            epoch: header.history.epoch_at(header.base),
            lsn: header.base,
        },
        chain: header.chain,
    }
}

/// The end of a segment that is not read, as the next one tells it.
fn bound(file: &SegmentFile, next: &SegmentHeader) -> Point {
    Point {
        lsn: next.base,
        offset: file.len,
        chain: next.chain,
    }
}
