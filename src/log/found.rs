//! What is found in the files of a log: how far they hold together, and whether that is all that was
//! durable once. Nothing is changed here.

use std::collections::VecDeque;
use std::sync::Arc;

use super::cut;
use super::error::{LogError, Loss};
use super::frame::Tip;
use super::scan::{self, Leftover, Point};
use super::segment::{self, Beginning, SegmentHeader};
use super::shared::{Segment, View};
use crate::env::{Disk, File};
use crate::replication::{EpochHistory, Lsn};

/// A segment file with what its header says.
pub(super) struct SegmentFile {
    pub(super) number: u64,
    pub(super) file: Arc<dyn File>,
    pub(super) len: u64,
    beginning: Beginning,
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
        let beginning = SegmentHeader::read(&bytes, number);
        Ok(Self {
            number,
            file,
            len,
            beginning,
        })
    }

    pub(super) fn name(&self) -> String {
        segment::name(self.number)
    }

    fn header(&self) -> Option<&SegmentHeader> {
        match &self.beginning {
            Beginning::Header(header) => Some(header),
            _ => None,
        }
    }

    fn is_unreadable(&self) -> bool {
        matches!(self.beginning, Beginning::Unreadable { .. })
    }
}

/// The segments, ascending. Spares are removed: nobody knows how far they were prepared.
pub(super) fn find_files(disk: &dyn Disk) -> Result<Vec<SegmentFile>, LogError> {
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

/// What is known of the log from elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// The owner's state has everything up to here.
    pub(super) state: Lsn,
    /// The log must reach back to there.
    pub(super) follows: bool,
    /// It was durable to here when that was noted.
    pub(super) noted: Option<Tip>,
}

impl Known {
    /// The log was durable up to here.
    pub(super) fn durable(&self) -> Lsn {
        let noted = self.noted.map_or(Lsn::ZERO, |tip| tip.position.lsn);
        noted.max(self.state)
    }
}

/// The part of a log that holds together.
pub(super) struct Found {
    pub(super) view: View,
    /// Index among the files of the one in which that part ends.
    pub(super) last: usize,
    /// Files before that one which are none of it.
    pub(super) stale: Vec<usize>,
    /// There is a file among those that are not read, or before them, that cannot be read.
    hidden: bool,
    /// What was noted to be the end is none in these files.
    foreign: bool,
    /// A segment does not continue this part, and ought to: one of the two is not of this log.
    misfit: bool,
    /// What was noted to be the end is in this part.
    verified: bool,
    /// Its frames say that it was durable up to here.
    said: Lsn,
}

/// What is behind that part and was never acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Torn {
    /// Bytes of frames, as far as recognizable.
    pub(super) bytes: u64,
    /// Whether some of them are in the last file.
    pub(super) in_last: bool,
    /// Up to here the log is known to be durable; what is after it can be read, and that is all.
    pub(super) durable: Lsn,
    /// There is a segment that was begun, and its header is not what a crash leaves.
    pub(super) spoiled: bool,
}

impl Found {
    /// Reads headers and frames up to the first that is not valid.
    pub(super) fn scan(files: &[SegmentFile], known: &Known) -> Result<Self, LogError> {
        let headed: Vec<(usize, &SegmentHeader)> = files
            .iter()
            .enumerate()
            .filter_map(|(index, file)| Some((index, file.header()?)))
            .collect();
        let Some((_, first)) = headed.first() else {
            return Ok(Self::nothing());
        };
        // What the owner has taken over already is not read, only counted: if its state is all that it
        // needs of that, as far back as there is no file among it that cannot be read.
        let skipped = headed.iter().skip(1);
        let skipped = skipped.take_while(|(_, header)| header.base <= known.state);
        let start = skipped.count();
        let spoiled = |at: &usize| {
            let between = headed[at - 1].0 + 1..headed[*at].0;
            files[between].iter().any(SegmentFile::is_unreadable)
        };
        let spoiled = (1..=start).rev().find(spoiled);
        let begin = spoiled.filter(|_| known.follows).unwrap_or(0);
        let before = files[..headed[0].0].iter().any(SegmentFile::is_unreadable);
        let needed = !known.follows || headed[begin].1.base > known.state;
        let mut found = Self {
            view: view_from(first),
            last: headed[begin].0,
            stale: Vec::new(),
            hidden: needed && (before || spoiled.is_some()),
            foreign: false,
            misfit: false,
            verified: false,
            said: Lsn::ZERO,
        };
        for at in begin..headed.len() {
            let (index, header) = headed[at];
            if at > start && !found.continues_with(header) {
                found.misfit = header.base <= found.view.tip.position.lsn;
                break;
            }
            let mut segment = found.add(&files[index], header);
            match headed.get(at + 1).filter(|_| at < start) {
                Some((_, next)) => {
                    segment.leave_unread(next.base, next.chain, files[index].len);
                }
                None => found.read_frames(&mut segment, files[index].len, known)?,
            }
            found.view.segments.push_back(segment);
            found.last = index;
        }
        let numbers: Vec<u64> = found.view.segments.iter().map(|it| it.number).collect();
        found.stale = (0..found.last)
            .filter(|index| !numbers.contains(&files[*index].number))
            .collect();
        Ok(found)
    }

    /// A log without a file.
    fn nothing() -> Self {
        Self {
            view: View {
                segments: VecDeque::new(),
                tip: Tip::default(),
                history: EpochHistory::default(),
                generation: 0,
            },
            last: 0,
            stale: Vec::new(),
            hidden: false,
            foreign: false,
            misfit: false,
            verified: false,
            said: Lsn::ZERO,
        }
    }

    fn is_nothing(&self) -> bool {
        self.view.segments.is_empty()
    }

    fn continues_with(&self, header: &SegmentHeader) -> bool {
        header.base == self.view.tip.position.lsn && header.chain == self.view.tip.chain
    }

    fn add(&mut self, file: &SegmentFile, header: &SegmentHeader) -> Segment {
        self.view.tip = cut::tip_at(header.base, header.chain, &header.history);
        self.view.history = header.history.clone();
        let first = Point {
            lsn: header.base,
            offset: SegmentHeader::data_start(header.history.entries().len()),
            chain: header.chain,
        };
        Segment::new(file.number, header.salt, Arc::clone(&file.file), first)
    }

    fn read_frames(
        &mut self,
        segment: &mut Segment,
        len: u64,
        known: &Known,
    ) -> Result<(), LogError> {
        let mut scan = segment.scan_until(len);
        let name = segment::name(segment.number);
        self.compare(known, segment.first());
        while let Some(frame) = scan.next().map_err(LogError::io("read", &name))? {
            if frame.epoch() < self.view.tip.position.epoch {
                break;
            }
            segment.extend(scan.at());
            self.view.tip = frame.tip();
            self.view.history.append(frame.epoch(), frame.start());
            self.said = self.said.max(frame.durable());
            if let Some(noted) = known.noted {
                let noted = noted.position.lsn;
                self.foreign |= frame.start() < noted && noted < frame.end();
            }
            self.compare(known, scan.at());
        }
        Ok(())
    }

    /// Whether the log is what it was where its end was noted.
    fn compare(&mut self, known: &Known, at: Point) {
        let noted = known.noted.filter(|tip| tip.position.lsn == at.lsn);
        self.foreign |= noted.is_some_and(|tip| tip.chain != at.chain);
        self.verified |= noted.is_some_and(|tip| tip.chain == at.chain);
    }

    /// Where the valid part ends.
    pub(super) fn end(&self) -> Point {
        self.view.segments.back().map_or(
            Point {
                lsn: Lsn::ZERO,
                offset: 0,
                chain: 0,
            },
            |last| last.end,
        )
    }

    /// Says what is to be cut off as torn, or that something is missing that was durable once.
    pub(super) fn judge(&self, files: &[SegmentFile], known: &Known) -> Result<Torn, LogError> {
        let oldest = self.view.oldest();
        let end = self.view.tip.position.lsn;
        if self.is_nothing() {
            let what = if files.is_empty() {
                Loss::Gone
            } else {
                Loss::Unreadable
            };
            return Err(self.damage(files, Lsn::ZERO, known.durable(), what));
        }
        if self.hidden || (known.follows && oldest > known.state) {
            let durable = known.durable().max(end);
            return Err(self.damage(files, known.state, durable, Loss::Missing));
        }
        if self.foreign || (self.misfit && !self.verified) {
            let durable = known.durable().max(end);
            return Err(self.damage(files, known.state, durable, Loss::Foreign));
        }
        let torn = self.leftovers(files, known.durable().max(self.said))?;
        // If nothing is noted, what is no header may have been one.
        let spoiled = torn.spoiled && !self.verified;
        if torn.durable > end || spoiled {
            let what = if torn.bytes > 0 || spoiled {
                Loss::Unreadable
            } else {
                Loss::Missing
            };
            return Err(self.damage(files, end, torn.durable, what));
        }
        Ok(torn)
    }

    /// Searches what is behind the valid part for what says how far the log was durable.
    fn leftovers(&self, files: &[SegmentFile], durable: Lsn) -> Result<Torn, LogError> {
        let position = self.view.tip.position;
        let end = self.end();
        let mut torn = Torn {
            durable,
            ..Torn::default()
        };
        for (index, file) in files.iter().enumerate().skip(self.last) {
            let from = if index == self.last { end.offset } else { 0 };
            let salt = match &file.beginning {
                Beginning::Header(header) => header.salt,
                Beginning::Unreadable { salt, torn: may_be } => {
                    torn.spoiled |= !may_be;
                    *salt
                }
                // Whatever is in it was there before it was to be used.
                Beginning::Unused => continue,
            };
            let leftover = scan::search(&*file.file, salt, from, position.lsn, position.epoch);
            let Leftover { durable, end } = leftover.map_err(LogError::io("read", &file.name()))?;
            torn.durable = torn.durable.max(durable);
            if end > 0 {
                torn.bytes += end.min(file.len) - from;
                torn.in_last |= index == self.last;
            }
            // A segment is begun only when all before it is durable.
            if let Some(header) = file.header().filter(|_| index > self.last) {
                torn.durable = torn.durable.max(header.base);
            }
        }
        Ok(torn)
    }

    fn damage(&self, files: &[SegmentFile], at: Lsn, durable: Lsn, what: Loss) -> LogError {
        let file = files.get(self.last);
        LogError::Damaged {
            at,
            file: file.map_or_else(|| segment::name(1), SegmentFile::name),
            offset: self.end().offset,
            durable,
            what,
        }
    }
}

fn view_from(first: &SegmentHeader) -> View {
    View {
        segments: VecDeque::new(),
        tip: cut::tip_at(first.base, first.chain, &first.history),
        history: EpochHistory::default(),
        generation: 0,
    }
}
