//! One number that tells whether two flushed states hold the same.

use super::engine::Engine;
use super::entry::parse_stored;
use super::error::Result;
use super::meta::Meta;

/// The digest of a flushed state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The number of keys that were found.
    pub keys: u64,
    /// Sum modulo 2^128 of SipHash-2-4-128 (key: all zero) of every entry's length of key (`u64`,
    /// little endian), key, expiry (`u64`) and value. LSNs do not count.
    pub sum: u128,
}

/// Reads the whole state: what it is, and its digest. Flushes may go on meanwhile.
pub fn digest(engine: &dyn Engine) -> Result<(Meta, Digest)> {
    let (meta, entries) = loop {
        let meta = engine.meta()?;
        let entries = engine.range(meta.generation, b"");
        // The entries are those of this moment: of the meta record before it, if that still holds.
        if engine.meta()? == meta {
            break (meta, entries);
        }
    };
    let mut digest = Digest { keys: 0, sum: 0 };
    for item in entries {
        let (key, stored) = item?;
        let entry = parse_stored(&stored)?;
        let mut hash = SipHash::new();
        hash.write(&(key.len() as u64).to_le_bytes());
        hash.write(&key);
        hash.write(&entry.expire_at_ms.to_le_bytes());
        hash.write(entry.value);
        digest.keys += 1;
        digest.sum = digest.sum.wrapping_add(hash.finish());
    }
    Ok((meta, digest))
}

/// SipHash-2-4 with 128 bits of output and a key of zeros, after the reference implementation.
struct SipHash {
    v: [u64; 4],
    tail: [u8; 8],
    len: usize,
}

impl SipHash {
    fn new() -> Self {
        Self::with_key(0, 0)
    }

    fn with_key(k0: u64, k1: u64) -> Self {
        Self {
            v: [
                0x736f_6d65_7073_6575 ^ k0,
                0x646f_7261_6e64_6f6d ^ k1 ^ 0xee,
                0x6c79_6765_6e65_7261 ^ k0,
                0x7465_6462_7974_6573 ^ k1,
            ],
            tail: [0; 8],
            len: 0,
        }
    }

    fn write(&mut self, mut bytes: &[u8]) {
        let filled = self.len % 8;
        self.len += bytes.len();
        if filled > 0 {
            let taken = bytes.len().min(8 - filled);
            self.tail[filled..filled + taken].copy_from_slice(&bytes[..taken]);
            if filled + taken < 8 {
                return;
            }
            self.word(u64::from_le_bytes(self.tail));
            bytes = &bytes[taken..];
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        self.tail[..rest.len()].copy_from_slice(rest);
    }

    fn word(&mut self, word: u64) {
        self.v[3] ^= word;
        self.rounds(2);
        self.v[0] ^= word;
    }

    fn rounds(&mut self, count: usize) {
        let [mut a, mut b, mut c, mut d] = self.v;
        for _ in 0..count {
            a = a.wrapping_add(b);
            c = c.wrapping_add(d);
            b = b.rotate_left(13) ^ a;
            d = d.rotate_left(16) ^ c;
            a = a.rotate_left(32);
            c = c.wrapping_add(b);
            a = a.wrapping_add(d);
            b = b.rotate_left(17) ^ c;
            d = d.rotate_left(21) ^ a;
            c = c.rotate_left(32);
        }
        self.v = [a, b, c, d];
    }

    fn finish(mut self) -> u128 {
        self.tail[self.len % 8..].fill(0);
        self.tail[7] = self.len as u8;
        self.word(u64::from_le_bytes(self.tail));
        let fold = |v: [u64; 4]| u128::from(v[0] ^ v[1] ^ v[2] ^ v[3]);
        self.v[2] ^= 0xee;
        self.rounds(4);
        let low = fold(self.v);
        self.v[1] ^= 0xdd;
        self.rounds(4);
        low | fold(self.v) << 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `vectors_sip128` of the reference implementation: key 00 01 .. 0f, input 00 01 .. n-1.
    #[test]
    fn siphash_gives_the_reference_values() {
        let input: Vec<u8> = (0..64).collect();
        let hash = |len: usize, piece: usize| {
            let mut hash = SipHash::with_key(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
            for piece in input[..len].chunks(piece) {
                hash.write(piece);
            }
            hash.finish().to_le_bytes()
        };
        let empty = 0xa3_81_7f_04_ba_25_a8_e6_6d_f6_72_14_c7_55_02_93_u128;
        assert_eq!(hash(0, 1), empty.to_be_bytes());
        let one = 0xda_87_c1_d8_6b_99_af_44_34_76_59_11_9b_22_fc_45_u128;
        assert_eq!(hash(1, 1), one.to_be_bytes());
        for len in 0..64 {
            for piece in 1..20 {
                assert_eq!(hash(len, piece), hash(len, 64));
            }
        }
    }
}
