//! Fingerprints of states: 64 bits. That two states have the same one, and the later is left out, has
//! a chance of about one in a million among ten million states.

use std::hash::Hasher;

const SECRET: [u64; 2] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db];

/// Multiplies and folds, as `wyhash` does.
#[derive(Default)]
pub(crate) struct Fingerprint(u64, u64);

impl Fingerprint {
    fn mix(&mut self, word: u64) {
        self.0 = fold(self.0 ^ word ^ SECRET[0], self.1 ^ SECRET[1]);
        self.1 = self.1.wrapping_add(word).rotate_left(29) ^ self.0;
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(bytes.len() as u64);
    }

    fn write_u8(&mut self, word: u8) {
        self.mix(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.mix(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    fn write_u128(&mut self, word: u128) {
        self.mix(word as u64 ^ (word >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        fold(self.0 ^ SECRET[1], self.1 ^ SECRET[0])
    }
}

/// Fingerprints need not be hashed again.
#[derive(Default)]
pub(crate) struct Kept(u64);

impl Hasher for Kept {
    fn write(&mut self, _: &[u8]) {
        unreachable!("fingerprints are words");
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
