//! Writes that a power cut may undo. What is written with O_DSYNC, or synced later, stays.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::SmallRng;

/// What is lost is lost by the sector.
const SECTOR: u64 = 4096;

/// One write, in a piece that lies in one sector.
#[derive(Debug)]
struct Piece {
    at: u64,
    len: usize,
    /// What was there; shorter at the end of the file.
    before: Vec<u8>,
}

#[derive(Debug)]
struct Writes {
    file: Arc<File>,
    /// The length that the file had when it was synced.
    len: u64,
    pieces: Vec<Piece>,
}

/// By the number of the file.
#[derive(Debug, Default)]
pub(super) struct Unsynced(Mutex<BTreeMap<u64, Writes>>);

impl Unsynced {
    /// So many bytes are about to be written there.
    pub(super) fn note(&self, ino: u64, file: &Arc<File>, at: u64, len: usize) -> io::Result<()> {
        let mut all = self.0.lock();
        let now = file.metadata()?.len();
        let writes = all.entry(ino).or_insert_with(|| Writes {
            file: Arc::clone(file),
            len: now,
            pieces: Vec::new(),
        });
        let end = at + len as u64;
        let mut from = at;
        while from < end {
            let to = end.min((from / SECTOR + 1) * SECTOR);
            let len = (to - from) as usize;
            let mut before = vec![0; now.saturating_sub(from).min(len as u64) as usize];
            file.read_exact_at(&mut before, from)?;
            writes.pieces.push(Piece {
                at: from,
                len,
                before,
            });
            from = to;
        }
        Ok(())
    }

    /// All that was written to the file is durable.
    pub(super) fn synced(&self, ino: u64) {
        self.0.lock().remove(&ino);
    }

    pub(super) fn forget_some(&self, rng: &mut SmallRng) -> io::Result<usize> {
        let mut undone = 0;
        for writes in std::mem::take(&mut *self.0.lock()).into_values() {
            // A disk that writes in the background may have kept nearly all, or nothing.
            let lost: f64 = rng.random();
            let mut len = writes.len;
            for piece in writes.pieces.iter().rev() {
                if rng.random_bool(lost) {
                    let mut before = piece.before.clone();
                    before.resize(piece.len, 0);
                    writes.file.write_all_at(&before, piece.at)?;
                    undone += 1;
                } else {
                    len = len.max(piece.at + piece.len as u64);
                }
            }
            writes.file.set_len(len)?;
        }
        Ok(undone)
    }
}
