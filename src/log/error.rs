//! What can go wrong with a log.

use std::io;

use thiserror::Error;

use crate::replication::Lsn;

/// An operation on the log that failed.
#[derive(Debug, Error)]
pub enum LogError {
    /// The disk failed. If this comes from the writer, it writes no more.
    #[error("the log cannot {action} {file}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file (or directory) it was done to.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
    /// A write failed before, and nobody knows what is on the disk: this process must end.
    #[error("the log takes no more writes because one has failed")]
    Poisoned,
    /// Frames that the log does not hold any more.
    #[error("the log begins at LSN {oldest}, what is before that was dropped")]
    Trimmed {
        /// What the log still holds begins here.
        oldest: Lsn,
    },
    /// No frame ends at this position.
    #[error("LSN {lsn} is not the end of a frame in this log")]
    NotAFrame {
        /// The position.
        lsn: Lsn,
    },
    /// A frame that does not follow the last one.
    #[error("a frame that starts at LSN {start} does not continue the log, which ends at {end}")]
    Discontinuous {
        /// The end of the log.
        end: Lsn,
        /// The start of the frame.
        start: Lsn,
    },
    /// What was acknowledged cannot be read.
    #[error(
        "the log is damaged after LSN {at} ({file}, byte {offset}), though it was durable up to LSN \
         {durable}; nothing was cut: seed this replica anew from another one"
    )]
    Damaged {
        /// The end of what is intact.
        at: Lsn,
        /// The file with the damage.
        file: String,
        /// Where in the file what is intact ends.
        offset: u64,
        /// Up to here the log was durable.
        durable: Lsn,
    },
    /// The files are not as this program leaves them.
    #[error("the log cannot be opened: {0}")]
    Unusable(String),
}

impl LogError {
    /// Makes an error of the disk one of the log.
    pub(super) fn io(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            file: file.to_owned(),
            source,
        }
    }
}
