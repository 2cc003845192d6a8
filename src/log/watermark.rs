//! How far the log was durable, noted apart from it: a file of the log that is gone, emptied or cut
//! short is told by it from one that never held more.
//!
//! A note costs the writer no sync: it is a write of one sector to the kernel's cache, after the frames
//! that it speaks of are durable. So it is exact after the end of a process, however it ended; after the end
//! of a machine it may be as old as the last [`settle`](Watermark::settle). It is never too high: what takes
//! frames away lowers it, durably, before it begins.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::frame::{Tip, u32_at, u64_at};
use crate::env::{Disk, File};
use crate::replication::{Epoch, Lsn, Position};

pub(super) const NAME: &str = "watermark";
const MAGIC: [u8; 4] = *b"RSWM";
const VERSION: u32 = 1;
/// Two copies in turn, each in a sector of its own: a write of one never spoils the other.
const SLOT: usize = 512;
const LENGTH: usize = 56;

/// The file of the notes.
pub(super) struct Watermark {
    file: Arc<dyn File>,
    owner: u128,
    last: Mutex<Last>,
    /// Whether there is a note that may not be on the disk.
    unsettled: AtomicBool,
}

#[derive(Default)]
struct Last {
    tip: Tip,
    sequence: u64,
}

impl Watermark {
    /// Opens the file, making it if there is none, and answers the newest note; `None` if none can be
    /// read, or it is another's, which is as good as none: what it says is there twice, here and in the
    /// log.
    pub(super) fn open(home: &dyn Disk, owner: u128) -> io::Result<(Self, Option<Tip>)> {
        let file = match home.open(NAME, false, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = home.open(NAME, true, false)?;
                home.sync_dir()?;
                file
            }
            opened => opened?,
        };
        let mut bytes = [0; 2 * SLOT];
        let read = file.read_at(&mut bytes, 0)?;
        let slots = bytes[..read].chunks_exact(SLOT);
        let newest = slots
            .filter_map(|slot| decode(slot, owner))
            .max_by_key(|(sequence, _)| *sequence);
        let (sequence, tip) = newest.unzip();
        let last = Last {
            tip: tip.unwrap_or_default(),
            sequence: sequence.unwrap_or_default(),
        };
        let watermark = Self {
            file,
            owner,
            last: Mutex::new(last),
            unsettled: AtomicBool::new(false),
        };
        Ok((watermark, tip))
    }

    /// The log is durable up to here now.
    pub(super) fn note(&self, tip: Tip) -> io::Result<()> {
        let mut last = self.last.lock();
        if last.tip == tip {
            return Ok(());
        }
        self.write(&mut last, tip)?;
        self.unsettled.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes the last note durable.
    pub(super) fn settle(&self) -> io::Result<()> {
        if self.unsettled.swap(false, Ordering::AcqRel) {
            // Not under the lock: the writer must not wait for it.
            self.file.sync()?;
        }
        Ok(())
    }

    /// Notes this, durably and in both copies: also where it is lower than before.
    pub(super) fn set(&self, tip: Tip) -> io::Result<()> {
        let mut last = self.last.lock();
        self.write(&mut last, tip)?;
        self.write(&mut last, tip)?;
        self.file.sync()
    }

    fn write(&self, last: &mut Last, tip: Tip) -> io::Result<()> {
        last.sequence += 1;
        last.tip = tip;
        let offset = last.sequence % 2 * SLOT as u64;
        let bytes = encode(last.sequence, self.owner, tip);
        self.file.write_at(&bytes, offset)
    }
}

fn encode(sequence: u64, owner: u128, tip: Tip) -> [u8; SLOT] {
    let mut bytes = [0; SLOT];
    bytes[0..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
    bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
    bytes[16..32].copy_from_slice(&owner.to_le_bytes());
    bytes[32..40].copy_from_slice(&tip.position.epoch.0.to_le_bytes());
    bytes[40..48].copy_from_slice(&tip.position.lsn.0.to_le_bytes());
    bytes[48..52].copy_from_slice(&tip.chain.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..LENGTH - 4]);
    bytes[LENGTH - 4..LENGTH].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8], owner: u128) -> Option<(u64, Tip)> {
    let whole = bytes[..4] == MAGIC
        && u32_at(bytes, 4) == VERSION
        && bytes[16..32] == owner.to_le_bytes()
        && u32_at(bytes, LENGTH - 4) == crc32fast::hash(&bytes[..LENGTH - 4]);
    if !whole {
        return None;
    }
    let position = Position {
        epoch: Epoch(u64_at(bytes, 32)),
        lsn: Lsn(u64_at(bytes, 40)),
    };
    let tip = Tip {
        position,
        chain: u32_at(bytes, 48),
    };
    Some((u64_at(bytes, 8), tip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SimDisk;

    const OWNER: u128 = 0x0102;

    fn example() -> Tip {
        Tip {
            position: Position {
                epoch: Epoch(3),
                lsn: Lsn(700),
            },
            chain: 9,
        }
    }

    fn found(disk: &SimDisk) -> Option<Tip> {
        Watermark::open(disk, OWNER).unwrap().1
    }

    /// Changing these bytes is changing the version.
    #[test]
    fn the_format_is_fixed() {
        // The CRC as zlib computes it.
        let golden = b"RSWM\x01\0\0\0\x02\0\0\0\0\0\0\0\
            \x02\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
            \x03\0\0\0\0\0\0\0\xbc\x02\0\0\0\0\0\0\x09\0\0\0\
            \x1e\x7c\x38\x3a\0";
        assert_eq!(encode(2, OWNER, example())[..57], golden[..]);
        let bytes = encode(2, OWNER, example());
        assert_eq!(decode(&bytes, OWNER), Some((2, example())));
        assert_eq!(decode(&bytes, OWNER + 1), None, "it is another's");
        for at in 0..LENGTH {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged, OWNER), None, "byte {at}");
        }
    }

    #[test]
    fn a_note_is_one_write_and_is_lost_at_most() {
        let disk = SimDisk::new(1);
        let (watermark, nothing) = Watermark::open(&disk, OWNER).unwrap();
        assert_eq!(nothing, None);
        watermark.set(example()).unwrap();
        let before = disk.operations();
        let mut next = example();
        next.position.lsn = Lsn(800);
        watermark.note(next).unwrap();
        watermark.note(next).unwrap();
        assert_eq!(disk.operations() - before, 1);
        assert_eq!(found(&disk.copy()), Some(next));
        for _ in 0..20 {
            let found = found(&disk.crash()).unwrap();
            assert!([example(), next].contains(&found), "{found:?}");
        }
    }

    #[test]
    fn what_is_settled_or_set_survives() {
        let disk = SimDisk::new(2);
        let (watermark, _) = Watermark::open(&disk, OWNER).unwrap();
        watermark.note(example()).unwrap();
        watermark.settle().unwrap();
        assert_eq!(found(&disk.crash()), Some(example()));

        let disk = disk.copy();
        let (watermark, _) = Watermark::open(&disk, OWNER).unwrap();
        watermark.set(Tip::default()).unwrap();
        // In both copies, so that damage to one does not bring the old one back.
        for at in [0, SLOT as u64] {
            let disk = disk.copy();
            disk.flip(NAME, at, 0);
            assert_eq!(found(&disk), Some(Tip::default()));
        }
    }
}
