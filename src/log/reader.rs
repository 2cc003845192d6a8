//! Streams frames from any position, while the writer goes on.

use super::error::LogError;
use super::frame::Frame;
use super::scan::Scan;
use super::segment;
use super::shared::Log;
use crate::replication::Lsn;

/// A reader that remembers where it is in the files: reading on searches for nothing.
pub struct Cursor {
    log: Log,
    /// The segment in which `scan` reads.
    number: u64,
    scan: Scan,
    /// The end of that segment, as of the last look.
    end: Lsn,
    generation: u64,
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor")
            .field("at", &self.at())
            .finish_non_exhaustive()
    }
}

impl Log {
    /// A reader of what follows `after`, which must be the end of a frame (or where the log
    /// begins).
    pub fn cursor(&self, after: Lsn) -> Result<Cursor, LogError> {
        loop {
            let place = self.place(after)?;
            if place.point.lsn != after {
                return Err(LogError::NotAFrame { lsn: after });
            }
            let view = self.0.view.read();
            // Trimmed or cut since: look again, which tells.
            let current = view.by_number(place.number);
            if let Some(segment) = current.filter(|_| view.generation == place.generation) {
                return Ok(Cursor {
                    log: self.clone(),
                    number: segment.number,
                    scan: segment.scan(place.point),
                    end: segment.end.lsn,
                    generation: view.generation,
                });
            }
        }
    }

    /// The frames after `after`: as many as have about `max_bytes` together, one at least; none
    /// only at the end of the log. Only what is durable is read.
    pub fn read_from(&self, after: Lsn, max_bytes: usize) -> Result<Vec<Frame>, LogError> {
        self.cursor(after)?.read(max_bytes)
    }
}

impl Cursor {
    /// The end of the last frame that was read.
    pub fn at(&self) -> Lsn {
        self.scan.at().lsn
    }

    /// The next frames, as [`Log::read_from`] gives them.
    ///
    /// [`LogError::NotAFrame`] if what was read before has been cut off since.
    pub fn read(&mut self, max_bytes: usize) -> Result<Vec<Frame>, LogError> {
        let mut frames = Vec::new();
        let mut bytes = 0;
        self.look()?;
        while bytes < max_bytes.max(1) {
            if self.at() == self.end {
                self.look()?;
            }
            let Some(frame) = self.next()? else { break };
            bytes += frame.wire_len();
            frames.push(frame);
        }
        Ok(frames)
    }

    fn next(&mut self) -> Result<Option<Frame>, LogError> {
        while self.at() < self.end {
            let next = self.scan.next();
            let next = next.map_err(|error| LogError::io("read", &self.file())(error))?;
            if next.is_some() {
                return Ok(next);
            }
            self.log
                .explain(self.number, self.generation, self.scan.at())?;
            // It was cut off meanwhile, and perhaps others stand there by now.
            self.look()?;
        }
        Ok(None)
    }

    fn file(&self) -> String {
        segment::name(self.number)
    }

    /// Learns how far the segment goes by now, and goes over to the next one at its end.
    fn look(&mut self) -> Result<(), LogError> {
        let log = self.log.clone();
        loop {
            let view = log.0.view.read();
            if view.generation != self.generation {
                drop(view);
                return self.seek_again();
            }
            let next = view.segment_after(self.number);
            if let Some(segment) = view.by_number(self.number)
                && (self.at() < segment.end.lsn || next.is_none())
            {
                self.scan.set_limit(segment.end.offset);
                self.end = segment.end.lsn;
                return Ok(());
            }
            let Some(next) = next.filter(|next| next.base() == self.at()) else {
                let oldest = view.oldest();
                return Err(LogError::Trimmed { oldest });
            };
            self.number = next.number;
            self.scan = next.scan(next.first());
            self.end = next.end.lsn;
        }
    }

    /// Finds the same place again after frames were taken away, if it still exists.
    fn seek_again(&mut self) -> Result<(), LogError> {
        let at = self.scan.at();
        let found = self.log.cursor(at.lsn)?;
        if found.scan.at().chain != at.chain {
            return Err(LogError::NotAFrame { lsn: at.lsn });
        }
        *self = found;
        Ok(())
    }
}
