//! The thread that reads everything on disk now and then, slowly, and compares it with its checksums: so
//! that damage is found while another replica still has what it spoils.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::data_dir::{DataDir, DataDirError};
use super::node::Node;
use super::upkeep::is_current;
use crate::log::{Log, LogError};
use crate::store::StoreError;

/// The log is read in pieces of about this size.
const PIECE: usize = 256 << 10;
/// How often is looked whether it is time, and whether to stop.
const LOOK: Duration = Duration::from_millis(500);

/// What the thread works with.
pub(super) struct Scrub {
    pub(super) node: Arc<Node>,
    pub(super) dir: Arc<DataDir>,
    pub(super) log: Log,
    /// Seconds from one pass to the next; 0 for none at all.
    pub(super) every: u64,
    /// Bytes a second.
    pub(super) rate: u64,
    pub(super) stop: CancellationToken,
}

impl Scrub {
    /// Runs until the stop token is cancelled.
    pub(super) fn run(self) -> Result<(), DataDirError> {
        let now = || self.node.clock.wall_ms() / 1000;
        // One that never was is not due at once: stores that are made together would read together.
        let mut last = self.dir.scrubbed()?.unwrap_or_else(|| {
            let share = rand::random::<u64>() % self.every.max(1);
            now().saturating_sub(share)
        });
        while !self.stop.is_cancelled() {
            self.node.wait(&self.node.upkeep, LOOK, |_| None::<()>);
            if self.every == 0 || now() < last.saturating_add(self.every) {
                continue;
            }
            self.pass();
            last = now();
            if let Err(error) = self.dir.note_scrubbed(last) {
                tracing::warn!(%error, "noting that everything was verified");
            }
        }
        Ok(())
    }

    /// Reads everything once.
    fn pass(&self) {
        let mut pace = Pace {
            scrub: self,
            bytes: 0,
            begun: Instant::now(),
        };
        if let Err(error) = self.state(&mut pace) {
            tracing::warn!(%error, "verifying the state on disk");
            self.node.suspect(&error);
        }
        match self.whole_log(&mut pace) {
            Err(error @ LogError::Damaged { .. }) => self.node.note_damaged_log(&error),
            // What is trimmed or cut meanwhile is none of ours.
            Err(error) => tracing::debug!(%error, "verifying the log"),
            Ok(()) => {}
        }
        tracing::debug!(bytes = pace.bytes, "verified what is on disk");
        self.node.with(|inner| inner.scrubs += 1);
    }

    fn state(&self, pace: &mut Pace<'_>) -> Result<(), StoreError> {
        let engine = self.node.with(|inner| {
            let whole = inner.damage.is_none();
            let store = inner.store.as_ref().filter(|_| whole)?;
            Some(Arc::clone(store.engine()))
        });
        let Some(engine) = engine else { return Ok(()) };
        let damages = match engine.verify(&mut |bytes| pace.pass(bytes)) {
            Err(_) if !is_current(&self.node, &engine) => return Ok(()),
            verified => verified?,
        };
        let Some(first) = damages.first().filter(|_| is_current(&self.node, &engine)) else {
            return Ok(());
        };
        let more = match damages.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more files"),
        };
        let what = format!("{}: {}{more}", first.file, first.reason);
        Err(StoreError::Corrupt(what))
    }

    fn whole_log(&self, pace: &mut Pace<'_>) -> Result<(), LogError> {
        let end = self.log.tip().position.lsn;
        let mut cursor = self.log.cursor(self.log.oldest())?;
        while cursor.at() < end {
            let before = cursor.at();
            let frames = cursor.read(PIECE)?;
            if frames.is_empty() || !pace.pass(cursor.at().since(before)) {
                break;
            }
        }
        Ok(())
    }
}

/// Keeps to the rate.
struct Pace<'a> {
    scrub: &'a Scrub,
    bytes: u64,
    begun: Instant,
}

impl Pace<'_> {
    /// So many bytes more were read; `false` if the replica stops.
    fn pass(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        let due = Duration::from_secs_f64(self.bytes as f64 / self.scrub.rate.max(1) as f64);
        while !self.scrub.stop.is_cancelled() {
            let early = due.saturating_sub(self.begun.elapsed());
            if early.is_zero() {
                return true;
            }
            std::thread::sleep(early.min(LOOK));
        }
        false
    }
}
