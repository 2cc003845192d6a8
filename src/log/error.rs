//! What can go wrong with a log.

use std::fmt;
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
        "the log is damaged after LSN {at} ({file}, byte {offset}: {what}), though it was durable up to LSN \
         {durable}; nothing was cut: seed this replica anew from another one, or give up the {} bytes of \
         records in between", .durable.since(*.at)
    )]
    Damaged {
        /// The end of what is intact.
        at: Lsn,
        /// The file with the damage.
        file: String,
        /// Where in the file what is intact ends.
        offset: u64,
        /// Up to here the log was durable, at the least.
        durable: Lsn,
        /// What was found there.
        what: Loss,
    },
    /// The files are not as this program leaves them.
    #[error("the log cannot be opened: {0}")]
    Unusable(String),
}

/// What is found where records should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Something else than what was written.
    Unreadable,
    /// Nothing: a file is gone, or was emptied or cut.
    Missing,
    /// Records of another history.
    Foreign,
    /// There is no file of a log at all.
    Gone,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "what is there is not what was written",
            Self::Missing => "what followed is gone",
            Self::Foreign => "what is there is of another history",
            Self::Gone => "there is no log",
        })
    }
}

/// A range of records that are not there any more, though they were durable once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// The end of what is there.
    pub from: Lsn,
    /// Up to here the log was durable, at the least.
    pub to: Lsn,
}

impl LogError {
    /// What is missing, if something that was durable is.
    pub fn lost(&self) -> Option<Lost> {
        match *self {
            Self::Damaged { at, durable, .. } => Some(Lost {
                from: at,
                to: durable,
            }),
            _ => None,
        }
    }

    /// Whether what is found in the files is at least of the log that was there.
    pub(super) fn is_of_this_log(&self) -> bool {
        !matches!(
            self,
            Self::Damaged {
                what: Loss::Foreign,
                ..
            }
        )
    }

    /// Makes an error of the disk one of the log.
    pub(super) fn io(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            file: file.to_owned(),
            source,
        }
    }
}
