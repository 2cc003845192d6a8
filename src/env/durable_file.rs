//! Small files that are replaced as a whole: after a crash there is the old content or the new,
//! and damage is detected.
//!
//! Layout, little-endian: magic `RSDF`, version (u32), length (u32), CRC-32 of version, length and
//! content (u32), content.

use std::io;

use super::disk::Disk;

const MAGIC: &[u8; 4] = b"RSDF";
const VERSION: u32 = 1;
const HEADER: usize = 16;
/// Far above what a replica keeps so (a promise, a configuration, an epoch history): a length
/// beyond it is damage, not a reason to allocate.
const MAX_CONTENT: usize = 16 << 20;

/// Replaces the file durably: when this returns, the new content is what any later
/// [`read_small`] finds. One writer at a time per name; `<name>.tmp` is used on the way.
pub fn write_small(disk: &dyn Disk, name: &str, content: &[u8]) -> io::Result<()> {
    if content.len() > MAX_CONTENT {
        let message = format!("{} bytes are no small file", content.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let data = encoded(content);
    let temporary = format!("{name}.tmp");
    let file = disk.open(&temporary, true, false)?;
    // What a crash left there may be longer.
    file.set_len(0)?;
    file.write_at(&data, 0)?;
    // Before the rename, or a crash could leave the new name with no content.
    file.sync()?;
    disk.rename(&temporary, name)?;
    disk.sync_dir()
}

fn encoded(content: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(HEADER + content.len());
    data.extend_from_slice(MAGIC);
    data.extend_from_slice(&VERSION.to_le_bytes());
    data.extend_from_slice(&(content.len() as u32).to_le_bytes());
    data.extend_from_slice(&checksum(VERSION, content).to_le_bytes());
    data.extend_from_slice(content);
    data
}

/// As [`write_twice`], over what is there: for a disk without room for another file. Both copies must exist, and
/// at each moment one of them is whole.
pub fn overwrite_twice(disk: &dyn Disk, name: &str, content: &[u8]) -> io::Result<()> {
    let data = encoded(content);
    for name in [copy_of(name), name.to_owned()] {
        read_small(disk, &name)?.ok_or(io::ErrorKind::NotFound)?;
        let file = disk.open(&name, false, false)?;
        file.write_at(&data, 0)?;
        file.sync()?;
    }
    Ok(())
}

/// The content of a file that [`write_small`] wrote; `None` if there is no such file, and an
/// error of kind `InvalidData` if it is damaged.
pub fn read_small(disk: &dyn Disk, name: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(name, false, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut header = [0; HEADER];
    let complete = file.read_at(&mut header, 0)? == HEADER && &header[..4] == MAGIC;
    let word = |at: usize| {
        let bytes = header[at..].first_chunk();
        u32::from_le_bytes(*bytes.expect("every word lies within the header"))
    };
    let (version, length, expected) = (word(4), word(8) as usize, word(12));
    if !complete || length > MAX_CONTENT {
        return Err(damaged(name));
    }
    let mut content = vec![0; length];
    let read = file.read_at(&mut content, HEADER as u64)?;
    if read != length || checksum(version, &content) != expected {
        return Err(damaged(name));
    }
    if version != VERSION {
        let message = format!("{name} has version {version}, this program knows {VERSION}");
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    Ok(Some(content))
}

/// Where the second copy of a file is that [`write_twice`] wrote.
pub fn copy_of(name: &str) -> String {
    format!("{name}.copy")
}

/// As [`write_small`], with a second copy beside it: damage to either loses nothing.
pub fn write_twice(disk: &dyn Disk, name: &str, content: &[u8]) -> io::Result<()> {
    write_small(disk, name, content)?;
    write_small(disk, &copy_of(name), content)
}

/// What [`read_twice`] has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Twice {
    /// There is no such file.
    Missing,
    /// Both copies are damaged, or one is and the other is missing.
    Damaged,
    /// The content, of the first copy if that is whole.
    Found {
        /// The content.
        content: Vec<u8>,
        /// What the second copy holds, if that is something else: a crash came between the two, or
        /// somebody has replaced one of them.
        other: Option<Vec<u8>>,
        /// The two copies are not the same, and whole: they are to be written again.
        worn: bool,
    },
}

/// The content of a file that [`write_twice`] wrote, or [`write_small`]. What stands in its place and is no
/// file counts as damage.
pub fn read_twice(disk: &dyn Disk, name: &str) -> io::Result<Twice> {
    let read = |name: &str| match read_small(disk, name) {
        Err(error) if is_damage(&error) => Ok(Err(())),
        read => read.map(Ok),
    };
    let found = match (read(name)?, read(&copy_of(name))?) {
        (Ok(None), Ok(None)) => Twice::Missing,
        (Ok(Some(content)), Ok(Some(copy))) => {
            let same = content == copy;
            Twice::Found {
                content,
                other: (!same).then_some(copy),
                worn: !same,
            }
        }
        (Ok(Some(content)), _) | (_, Ok(Some(content))) => Twice::Found {
            content,
            other: None,
            worn: true,
        },
        _ => Twice::Damaged,
    };
    Ok(found)
}

/// Whether the file is there and is not what was written.
pub fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory
    )
}

fn checksum(version: u32, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&version.to_le_bytes());
    hasher.update(&(content.len() as u32).to_le_bytes());
    hasher.update(content);
    hasher.finalize()
}

fn damaged(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{name} is damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SimDisk;

    #[test]
    fn without_room_both_copies_are_written_over_and_one_is_always_whole() {
        for operation in 0..6 {
            let disk = SimDisk::new(7);
            write_twice(&disk, "f", b"the first one").unwrap();
            disk.lose_power_at(disk.operations() + operation);
            let done = overwrite_twice(&disk, "f", b"the second").is_ok();
            let disk = disk.crash();
            let Twice::Found { content, other, .. } = read_twice(&disk, "f").unwrap() else {
                panic!("{operation}: nothing is left");
            };
            let all = [Some(content), other];
            let whole = all
                .iter()
                .flatten()
                .all(|it| it == b"the first one" || it == b"the second");
            assert!(whole, "{operation}: {all:?}");
            assert!(
                !done || all.iter().flatten().any(|it| it == b"the second"),
                "{operation}"
            );
        }
        let disk = SimDisk::new(7);
        assert!(overwrite_twice(&disk, "f", b"nothing is there").is_err());
    }

    #[test]
    fn the_format_is_fixed() {
        let disk = SimDisk::new(1);
        write_small(&disk, "promise", b"7").unwrap();
        // The CRC as zlib computes it.
        let golden = b"RSDF\x01\0\0\0\x01\0\0\0\x52\x8c\xaf\x747";
        assert_eq!(disk.contents("promise").unwrap(), golden);
    }

    #[test]
    fn a_crash_leaves_the_old_or_the_new_content() {
        for seed in 0..200 {
            for operation in 1.. {
                let disk = SimDisk::new(seed);
                write_small(&disk, "promise", b"the old content").unwrap();
                disk.lose_power_at(disk.operations() + operation);
                let done = write_small(&disk, "promise", b"new").is_ok();
                let found = read_small(&disk.crash(), "promise").unwrap().unwrap();
                let ok = found == b"new" || (!done && found == b"the old content");
                assert!(ok, "seed {seed}, operation {operation}: {found:?}");
                if done {
                    break;
                }
            }
        }
    }

    /// Also where a call failed, and another process of the same kernel reads what that left.
    #[test]
    fn what_is_read_is_durable_whatever_failed_before() {
        use crate::env::sim_disk::{Outcome, Survives};

        for outcome in [Outcome::Done, Outcome::Undone, Outcome::Readable] {
            for operation in 0..8 {
                let disk = SimDisk::new(operation);
                write_small(&disk, "promise", b"the old content").unwrap();
                let at = disk.operations() + operation;
                disk.fail_with(at, io::ErrorKind::Other, outcome);
                let done = write_small(&disk, "promise", b"new").is_ok();
                // As a start does before it reads anything.
                let started = disk.sync_dir().or_else(|_| disk.sync_dir());
                started.unwrap();
                let found = read_small(&disk, "promise").unwrap().unwrap();
                assert!(!done || found == b"new");
                let after = read_small(&disk.crash_with(Survives::Nothing), "promise").unwrap();
                assert_eq!(after, Some(found), "operation {operation}, {outcome:?}");
            }
        }
    }

    #[test]
    fn one_of_two_copies_is_enough() {
        let disk = SimDisk::new(1);
        let found = |disk: &SimDisk| read_twice(disk, "current").unwrap();
        let whole = |content: &[u8], other: Option<&[u8]>, worn| Twice::Found {
            content: content.to_vec(),
            other: other.map(<[u8]>::to_vec),
            worn,
        };
        assert_eq!(found(&disk), Twice::Missing);
        write_small(&disk, "current", b"of an earlier release").unwrap();
        assert_eq!(found(&disk), whole(b"of an earlier release", None, true));
        write_twice(&disk, "current", b"state").unwrap();
        assert_eq!(found(&disk), whole(b"state", None, false));
        for (one, other) in [("current", "current.copy"), ("current.copy", "current")] {
            let damaged = disk.copy();
            damaged.flip(one, 17, 3);
            assert_eq!(found(&damaged), whole(b"state", None, true));
            damaged.flip(other, 17, 3);
            assert_eq!(found(&damaged), Twice::Damaged);
            let without = disk.copy();
            without.remove(one).unwrap();
            assert_eq!(found(&without), whole(b"state", None, true));
        }
        write_small(&disk, "current", b"newer").unwrap();
        assert_eq!(found(&disk), whole(b"newer", Some(b"state"), true));
    }

    #[test]
    fn damage_is_detected() {
        let disk = SimDisk::new(1);
        assert!(read_small(&disk, "promise").unwrap().is_none());
        write_small(&disk, "promise", b"content").unwrap();
        for at in 0..disk.contents("promise").unwrap().len() as u64 {
            let damaged = disk.copy();
            damaged.flip("promise", at, 3);
            let error = read_small(&damaged, "promise").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "byte {at}");
        }
        disk.open("promise", false, false)
            .unwrap()
            .set_len(20)
            .unwrap();
        assert!(read_small(&disk, "promise").is_err());
    }
}
