//! The bytes of one simulated file: as programs see them, and as they are on the platter.

use rand::Rng;
use rand::rngs::SmallRng;

use super::Survives;

const SECTOR: u64 = 512;

#[derive(Default)]
pub(super) struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// What was done since the last sync, in order.
    pending: Vec<Change>,
}

enum Change {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => write(image, data, *offset),
            Self::SetLen(len) => image.resize(*len as usize, 0),
        }
    }

    /// Applies any part of it.
    fn survive(&self, image: &mut Vec<u8>, rng: &mut SmallRng) {
        match self {
            Self::Write { offset, data } => tear(image, data, *offset, rng),
            Self::SetLen(_) if rng.random_bool(0.5) => self.apply(image),
            Self::SetLen(_) => {}
        }
    }
}

fn write(image: &mut Vec<u8>, data: &[u8], offset: u64) {
    let (start, end) = (offset as usize, offset as usize + data.len());
    if image.len() < end {
        image.resize(end, 0);
    }
    image[start..end].copy_from_slice(data);
}

impl Inode {
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self {
            live: bytes.clone(),
            durable: bytes,
            pending: Vec::new(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.live
    }

    pub(super) fn len(&self) -> u64 {
        self.live.len() as u64
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let rest = self.live.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        count
    }

    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        self.change(Change::Write {
            offset,
            data: data.to_vec(),
        });
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.change(Change::SetLen(len));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync has failed: what it was to write is read on, and is not written by the next one.
    pub(super) fn forget_pending(&mut self) {
        // The journal keeps the length all the same, or what is readable could not be so.
        for change in self.pending.drain(..) {
            if let Change::Write { offset, data } = change {
                let end = (offset as usize + data.len()).max(self.durable.len());
                self.durable.resize(end, 0);
            } else {
                change.apply(&mut self.durable);
            }
        }
    }

    /// The same, after any part of it was written.
    pub(super) fn sync_in_part(&mut self, rng: &mut SmallRng) {
        for change in self.pending.drain(..) {
            change.survive(&mut self.durable, rng);
        }
    }

    pub(super) fn flip(&mut self, offset: u64, bit: u32) {
        for image in [&mut self.live, &mut self.durable] {
            if let Some(byte) = image.get_mut(offset as usize) {
                *byte ^= 1 << bit;
            }
        }
    }

    /// What is found after a loss of power.
    pub(super) fn after_crash(&self, survives: Survives, rng: &mut SmallRng) -> Vec<u8> {
        let mut image = self.durable.clone();
        for change in &self.pending {
            match survives {
                Survives::Some => change.survive(&mut image, rng),
                Survives::All => change.apply(&mut image),
                Survives::Nothing => {}
            }
        }
        image
    }
}

/// Writes all of `data`, some of its sectors, or none.
fn tear(image: &mut Vec<u8>, data: &[u8], offset: u64, rng: &mut SmallRng) {
    let end = offset + data.len() as u64;
    let sectors = (offset / SECTOR)..end.div_ceil(SECTOR);
    let count = sectors.end - sectors.start;
    // The fates are equally likely, whatever the number of sectors.
    let (first, others) = match rng.random_range(0..4) {
        0 => (count, 0.0),
        1 => (0, 0.0),
        2 => (rng.random_range(0..=count), 0.0),
        _ => (0, 0.5),
    };
    for (index, sector) in sectors.enumerate() {
        if (index as u64) < first || rng.random_bool(others) {
            let from = (sector * SECTOR).max(offset);
            let to = ((sector + 1) * SECTOR).min(end);
            let part = &data[(from - offset) as usize..(to - offset) as usize];
            write(image, part, from);
        }
    }
}
