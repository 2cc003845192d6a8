//! What was executed, counted.

use super::table;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts only ever written by the thread that executes, and read by any.
///
/// A load and a store instead of one locked addition: `execute` is called under the lock of the
/// state, and the addition alone would cost as much as the look-up of a key.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    #[inline]
    pub fn bump(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// What became of a command's calls.
#[derive(Debug, Default)]
pub struct CommandStats {
    /// Executed, whether they failed or not.
    pub calls: Count,
    /// Refused before they were executed.
    pub rejected: Count,
    /// Executed and answered by an error.
    pub failed: Count,
}

/// The counters of one replica.
#[derive(Debug)]
pub struct Stats {
    /// Reads that found their key.
    pub hits: Count,
    /// Reads that did not.
    pub misses: Count,
    /// Executed commands.
    pub commands: Count,
    /// Error replies.
    pub errors: Count,
    /// By command, in the order of the table.
    pub(super) by_command: Box<[CommandStats]>,
    /// By the error's code. Bounded: codes are ours, but for those inside of refusals.
    pub(super) by_error: Mutex<BTreeMap<String, u64>>,
}

/// Codes of errors that are counted apart.
const MAX_CODES: usize = 128;

impl Default for Stats {
    fn default() -> Self {
        Self {
            hits: Count::default(),
            misses: Count::default(),
            commands: Count::default(),
            errors: Count::default(),
            by_command: table::all()
                .iter()
                .map(|_| CommandStats::default())
                .collect(),
            by_error: Mutex::default(),
        }
    }
}

impl Stats {
    /// What became of a command's calls.
    #[inline]
    pub fn command(&self, command: &table::Command) -> Option<&CommandStats> {
        self.by_command.get(usize::from(command.index))
    }

    pub(super) fn error(&self, code: &[u8]) {
        self.errors.bump();
        let code = String::from_utf8_lossy(code);
        let mut by_error = self.by_error.lock();
        if let Some(count) = by_error.get_mut(code.as_ref()) {
            *count += 1;
        } else if by_error.len() < MAX_CODES {
            by_error.insert(code.into_owned(), 1);
        }
    }

    /// CONFIG RESETSTAT.
    pub(super) fn reset(&self) {
        for count in [&self.hits, &self.misses, &self.commands, &self.errors] {
            count.reset();
        }
        for stats in &self.by_command {
            for count in [&stats.calls, &stats.rejected, &stats.failed] {
                count.reset();
            }
        }
        self.by_error.lock().clear();
    }
}
