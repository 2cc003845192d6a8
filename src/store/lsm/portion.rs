//! Tables go to the disk in portions while they are written. The tree syncs each when it is whole: whoever else
//! writes to the same disk, and the log does, would wait for all of it. It must not know who writes them.

use std::fs;
use std::io;
use std::path::Path;

use super::table_ids;

/// Bytes of entries from one sync to the next: some milliseconds of a disk's time.
const PORTION: u64 = 8 << 20;
/// A flush and a compaction may write at the same time, and have a finished table each: so many of the
/// newest ones are synced. What is on the disk already takes no time.
const NEWEST: usize = 4;

/// Counts what is written.
#[derive(Debug, Default)]
pub(super) struct Portion(u64);

impl Portion {
    /// So many bytes more were written to tables below `dir`.
    pub(super) fn add(&mut self, bytes: usize, dir: &Path) -> io::Result<()> {
        self.0 += bytes as u64;
        if self.0 < PORTION {
            return Ok(());
        }
        self.0 = 0;
        let tables = dir.join("tables");
        for id in newest(&tables)? {
            match fs::File::open(tables.join(id.to_string())) {
                Ok(file) => file.sync_data()?,
                // It was merged, and removed, meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn newest(tables: &Path) -> io::Result<Vec<u64>> {
    let mut ids = table_ids(tables)?;
    ids.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
    ids.truncate(NEWEST);
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_tables_are_those_that_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let tables = dir.path().join("tables");
        let mut portion = Portion::default();
        portion.add(PORTION as usize - 1, dir.path()).unwrap();
        portion.add(1, dir.path()).unwrap_err(); // looks for them now
        fs::create_dir(&tables).unwrap();
        for name in ["9", "10", "11", "2", "100", "other"] {
            fs::write(tables.join(name), name).unwrap();
        }
        assert_eq!(newest(&tables).unwrap(), [100, 11, 10, 9]);
        portion.add(PORTION as usize, dir.path()).unwrap();
    }
}
