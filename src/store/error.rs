//! What can go wrong in the store.

use std::io;

/// Longest key in bytes: the LSM tree takes 64 KiB, some of which is ours.
pub const MAX_KEY: usize = 60 * 1024;

/// Longest value in bytes, as in Redis.
pub const MAX_VALUE: usize = 512 * 1024 * 1024;

/// An error of the store. Unless it says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The key is longer than [`MAX_KEY`].
    #[error("the key has {0} bytes, the limit is {MAX_KEY}")]
    KeyTooLong(usize),
    /// The value is longer than [`MAX_VALUE`].
    #[error("the value has {0} bytes, the limit is {MAX_VALUE}")]
    ValueTooLong(usize),
    /// The cursor was never given out, or so long ago that it is forgotten: scan from the start.
    #[error("the cursor {0} is unknown or has expired, start again from 0")]
    UnknownCursor(u64),
    /// The flush was aborted, or the store was reset, before the job ran.
    #[error("the flush was cancelled")]
    FlushCancelled,
    /// The job of this flush is running: its outcome has to be awaited.
    #[error("the flush is running")]
    FlushRunning,
    /// What is on disk is not what was written.
    #[error("corrupt data: {0}")]
    Corrupt(String),
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A manifest may have been installed although its installation failed: only opening the tree again
    /// tells what is there, and until then nothing may be written.
    #[error(
        "start again, to read what is on disk: the LSM tree cannot tell whether it changed ({0})"
    )]
    Unsettled(String),
    /// The LSM tree failed other than by an I/O error.
    #[error("the LSM tree failed: {0:?}")]
    Lsm(lsm_tree::Error),
}

impl StoreError {
    /// Whether what is on disk is not what was written: that does not heal by itself.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt(_) | Self::Lsm(_) => true,
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::InvalidData
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::NotADirectory
            ),
            _ => false,
        }
    }

    /// Whether the disk is full: the only failure of a flush after which trying again is sound.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io(error) if crate::env::is_full(error))
    }
}

impl From<lsm_tree::Error> for StoreError {
    fn from(error: lsm_tree::Error) -> Self {
        match error {
            lsm_tree::Error::Io(error) => Self::Io(error),
            lsm_tree::Error::ChecksumMismatch { got, expected } => Self::Corrupt(format!(
                "a block of the LSM tree has checksum {got}, not {expected}"
            )),
            other => Self::Lsm(other),
        }
    }
}

/// What the store's functions return.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
