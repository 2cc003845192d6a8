//! Files of one directory, as the log and the replica's small durable state need them.

use std::io;
use std::sync::Arc;

pub use super::real_disk::{DirLock, RealDisk, make_dir};

/// A directory of files. Every call blocks. Names are plain: no `/`, no directories below.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file, which must exist unless `create`. With `sync`, every write is durable when
    /// it returns (O_DSYNC).
    fn open(&self, name: &str, create: bool, sync: bool) -> io::Result<Arc<dyn File>>;
    /// The names of the files in the directory, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Renames, replacing what `to` was; durable after [`sync_dir`](Self::sync_dir).
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; durable after [`sync_dir`](Self::sync_dir). Who has it open can go on
    /// reading it.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Free and total bytes of the file system.
    fn space(&self) -> io::Result<(u64, u64)>;
}

/// An open file. Positions are absolute, so it can be shared.
#[expect(
    clippy::len_without_is_empty,
    reason = "asking a disk can fail, and nobody asks that"
)]
pub trait File: Send + Sync {
    /// Writes all of `data` at `offset`.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Cuts or grows (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;
}

/// Whether there was no room for what was to be written: the disk is full, or what this user may take
/// of it. Trying again is sound.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_disk_that_is_full() {
        for (number, full) in [
            (rustix::io::Errno::NOSPC, true),
            (rustix::io::Errno::DQUOT, true),
            (rustix::io::Errno::IO, false),
        ] {
            let error = io::Error::from_raw_os_error(number.raw_os_error());
            assert_eq!(is_full(&error), full, "{error}");
        }
    }
}
