//! A small value that is replaced often: two copies in a file that never changes its size, so that a
//! replacement costs one write of one page in place, and no commit of the file system's journal.
//!
//! Layout: two slots of 4096 bytes. A slot, little-endian: magic `RSSL`, version (u32), sequence
//! number (u64), length (u32), CRC-32 of all of these but the magic, and of the content (u32),
//! content, zeros. A slot of zeros was never written.
//!
//! A replacement goes to the older slot; what a crash tears there was never acknowledged. Soon
//! after, the other slot is made the same, so that damage to either loses nothing. At the opening the
//! newest is written again, in both: a write that failed in an earlier process may be readable and yet
//! not be on the disk.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::disk::{Disk, File};

const MAGIC: &[u8; 4] = b"RSSL";
const VERSION: u32 = 1;
const SLOT: usize = 4096;
const HEADER: usize = 24;

/// A value with its file.
pub struct Slots {
    file: Arc<dyn File>,
    sequence: u64,
    /// The slot that the next replacement goes to.
    next: usize,
    /// What the other slot holds and that one does not yet.
    unmirrored: Option<Vec<u8>>,
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut it = f.debug_struct("Slots");
        it.field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

enum Slot {
    Unwritten,
    Damaged,
    Valid(u64, Vec<u8>),
}

impl Slots {
    /// Opens the file, making it if there is none, and answers the value that was written last, twice
    /// on the disk by now; `None` if none was. An error of kind `InvalidData` if both copies are
    /// damaged. One owner at a time per name; `<name>.tmp` is used to make the file.
    pub fn open(disk: &dyn Disk, name: &str) -> io::Result<(Self, Option<Vec<u8>>)> {
        let file = match disk.open(name, false, true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(disk, name)?,
            opened => opened?,
        };
        let (newest, sequence, value) = newest(&*file, name)?;
        let mut slots = Self {
            file,
            sequence,
            next: newest,
            unmirrored: None,
        };
        if let Some(value) = &value {
            // First where it is: until that is durable, the older value is the only one that is.
            slots.write(value)?;
            slots.write(value)?;
        }
        Ok((slots, value))
    }

    /// The value that was written last, of a file that is there; nothing is written, so it may not be
    /// on the disk.
    pub fn read(disk: &dyn Disk, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = disk.open(name, false, false)?;
        Ok(newest(&*file, name)?.2)
    }

    /// Makes the file anew, without a value, in the place of one that is damaged.
    pub fn anew(disk: &dyn Disk, name: &str) -> io::Result<Self> {
        Ok(Self {
            file: create(disk, name)?,
            sequence: 0,
            next: 0,
            unmirrored: None,
        })
    }

    /// Replaces the value durably.
    pub fn replace(&mut self, value: &[u8]) -> io::Result<()> {
        if value.len() > SLOT - HEADER {
            let message = format!("{} bytes do not fit into a slot", value.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        self.sequence += 1;
        self.write(value)?;
        self.unmirrored = Some(value.to_vec());
        Ok(())
    }

    /// Writes the second copy of the newest value, if it is not there.
    pub fn mirror(&mut self) -> io::Result<()> {
        match self.unmirrored.take() {
            Some(value) => self.write(&value),
            None => Ok(()),
        }
    }

    fn write(&mut self, value: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(SLOT);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&checksum(&bytes[4..HEADER - 4], value).to_le_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(SLOT, 0);
        self.file.write_at(&bytes, (self.next * SLOT) as u64)?;
        self.next = 1 - self.next;
        Ok(())
    }
}

/// The slot with the newest value, its sequence number, and the value.
fn newest(file: &dyn File, name: &str) -> io::Result<(usize, u64, Option<Vec<u8>>)> {
    let mut bytes = vec![0; 2 * SLOT];
    let read = file.read_at(&mut bytes, 0)?;
    let (first, second) = bytes.split_at(SLOT);
    match (parse(first), parse(second)) {
        _ if read < bytes.len() => Err(damaged(name)),
        (Slot::Damaged, Slot::Damaged) => Err(damaged(name)),
        (Slot::Valid(a, value), Slot::Valid(b, _)) if a >= b => Ok((0, a, Some(value))),
        (_, Slot::Valid(b, value)) => Ok((1, b, Some(value))),
        (Slot::Valid(a, value), _) => Ok((0, a, Some(value))),
        // At most a torn first replacement, which nobody was told of.
        (Slot::Damaged, Slot::Unwritten) | (Slot::Unwritten, _) => Ok((0, 0, None)),
    }
}

/// All its blocks are written before it has its name, so that later writes change nothing else.
fn create(disk: &dyn Disk, name: &str) -> io::Result<Arc<dyn File>> {
    let temporary = format!("{name}.tmp");
    let file = disk.open(&temporary, true, true)?;
    file.set_len(0)?;
    file.write_at(&[0; 2 * SLOT], 0)?;
    file.sync()?;
    disk.rename(&temporary, name)?;
    disk.sync_dir()?;
    Ok(file)
}

fn parse(slot: &[u8]) -> Slot {
    let word = |at: usize| {
        let bytes = slot[at..].first_chunk();
        u32::from_le_bytes(*bytes.expect("every word lies within the slot"))
    };
    let sequence = u64::from(word(8)) | u64::from(word(12)) << 32;
    let (version, length, expected) = (word(4), word(16) as usize, word(20));
    if slot.iter().all(|byte| *byte == 0) {
        return Slot::Unwritten;
    }
    let Some(value) = slot[HEADER..].get(..length) else {
        return Slot::Damaged;
    };
    let whole = &slot[..4] == MAGIC && version == VERSION;
    if whole && checksum(&slot[4..HEADER - 4], value) == expected {
        Slot::Valid(sequence, value.to_vec())
    } else {
        Slot::Damaged
    }
}

fn checksum(header: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(value);
    hasher.finalize()
}

fn damaged(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{name} is damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SimDisk;

    fn value(disk: &SimDisk) -> Option<Vec<u8>> {
        Slots::open(disk, "hard").unwrap().1
    }

    #[test]
    fn the_format_is_fixed() {
        let disk = SimDisk::new(1);
        let (mut slots, nothing) = Slots::open(&disk, "hard").unwrap();
        assert_eq!(nothing, None);
        slots.replace(b"7").unwrap();
        let bytes = disk.contents("hard").unwrap();
        assert_eq!(bytes.len(), 8192);
        // The CRC as zlib computes it.
        let golden = b"RSSL\x01\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\xc4\x6f\x02\x167\0";
        let at = bytes.iter().position(|byte| *byte != 0).unwrap();
        assert_eq!(&bytes[at..at + golden.len()], golden);
    }

    #[test]
    fn a_crash_leaves_the_old_or_the_new_value() {
        for seed in 0..100 {
            for operation in 1.. {
                let disk = SimDisk::new(seed);
                let (mut slots, _) = Slots::open(&disk, "hard").unwrap();
                let mut written = 0u32;
                disk.lose_power_at(disk.operations() + operation);
                for number in 1..6u32 {
                    if slots.replace(&number.to_le_bytes()).is_err() {
                        break;
                    }
                    written = number;
                    if number % 2 == 1 && slots.mirror().is_err() {
                        break;
                    }
                }
                let found = value(&disk.crash()).map_or(0, |bytes| {
                    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
                });
                let ok = found == written || found == written + 1;
                assert!(
                    ok,
                    "seed {seed}, operation {operation}: {found}, not {written}"
                );
                if written == 5 {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_crash_at_the_first_opening_leaves_nothing_or_an_empty_file() {
        for operation in 1..8 {
            let disk = SimDisk::new(operation);
            disk.lose_power_at(disk.operations() + operation);
            let _ = Slots::open(&disk, "hard");
            assert_eq!(value(&disk.crash()), None);
        }
    }

    #[test]
    fn damage_to_one_copy_is_survived_and_to_both_is_detected() {
        let disk = SimDisk::new(1);
        let (mut slots, _) = Slots::open(&disk, "hard").unwrap();
        for number in 0..3u8 {
            slots.replace(&[number]).unwrap();
            slots.mirror().unwrap();
        }
        for at in 0..=HEADER as u64 {
            for other in [at, at + SLOT as u64] {
                let damaged = disk.copy();
                damaged.flip("hard", other, 3);
                assert_eq!(value(&damaged), Some(vec![2]), "byte {other}");
                let (mut slots, _) = Slots::open(&damaged, "hard").unwrap();
                slots.mirror().unwrap();
                assert_eq!(value(&damaged), Some(vec![2]));
            }
            let damaged = disk.copy();
            damaged.flip("hard", at, 3);
            damaged.flip("hard", at + SLOT as u64, 5);
            let error = Slots::open(&damaged, "hard").err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "byte {at}");
        }
    }

    /// Every call fails in every way, in a life that goes on after it with a new process on the same
    /// kernel; then the power goes. What was told to be the value at any opening, or was written since,
    /// is there.
    #[test]
    fn what_is_read_is_durable_whatever_failed_before() {
        use crate::env::sim_disk::{Outcome, Survives};

        let life = |disk: &SimDisk, known: &mut u8| -> io::Result<()> {
            disk.sync_dir()?;
            let (mut slots, found) = Slots::open(disk, "hard")?;
            *known = found.map_or(0, |value| value[0]);
            for _ in 0..4 {
                slots.replace(&[*known + 1])?;
                *known += 1;
                if *known % 2 == 1 {
                    slots.mirror()?;
                }
            }
            Ok(())
        };
        let mut failures = 0;
        for operation in 0.. {
            for outcome in [Outcome::Done, Outcome::Undone, Outcome::Readable] {
                for second in 0..6 {
                    let disk = SimDisk::new(operation);
                    let what = format!("operation {operation} {outcome:?}, then {second}");
                    let mut known = 0;
                    disk.fail_with(operation, io::ErrorKind::Other, outcome);
                    let done = life(&disk, &mut known).is_ok();
                    // The next process is cut off early in its life, or not.
                    disk.lose_power_at(disk.operations() + second);
                    let before = known;
                    let _ = life(&disk, &mut known);
                    let known = known.max(before);
                    for survives in [Survives::All, Survives::Nothing, Survives::Some] {
                        let found = value(&disk.crash_with(survives)).map_or(0, |value| value[0]);
                        let right = found == known || found == known + 1;
                        assert!(right, "{what}, {survives:?}: {found}, not {known}");
                    }
                    failures += usize::from(!done);
                    if done && second == 5 && outcome == Outcome::Readable {
                        assert!(failures > 20, "{failures}");
                        return;
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_too_long_is_refused_and_changes_nothing() {
        let disk = SimDisk::new(1);
        let (mut slots, _) = Slots::open(&disk, "hard").unwrap();
        slots.replace(b"old").unwrap();
        assert!(slots.replace(&[1; SLOT - HEADER + 1]).is_err());
        assert_eq!(value(&disk), Some(b"old".to_vec()));
    }
}
