//! Segment files: names, headers, alignment.

use super::frame::{u32_at, u64_at};
use crate::replication::{Epoch, EpochHistory, EpochStart, Lsn};

const MAGIC: [u8; 4] = *b"RSLS";
const VERSION: u32 = 2;
/// The version before, without a salt of its own.
const UNSALTED: u32 = 1;
/// Bytes that tell how long the header is.
const BEGINNING: usize = 32;
const EPOCH: usize = 16;
/// A header beyond this is damage: it has room for a million epochs.
pub(super) const MAX_HEADER: usize = 16 << 20;

/// A torn write never spoils the sector of the header before it.
const SECTOR: u64 = 512;
/// Whole pages are written, so that the kernel need not read them first.
pub(super) const PAGE: u64 = 4096;

pub(super) const INTENT: &str = "log-intent";
const SEGMENT_PREFIX: &str = "log-";
const SPARE_PREFIX: &str = "spare-";
const ASIDE_PREFIX: &str = "aside-";

/// Bytes that a frame of this length takes in a file.
pub(super) fn stored(wire_len: usize) -> u64 {
    (wire_len as u64).next_multiple_of(8)
}

/// The salt of the frames in a new segment, see the format.
pub(super) fn salt(seed: u64, number: u64) -> u32 {
    // Mixed as SplitMix64 does it: one salt says nothing of another.
    let mut mixed = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    nonzero((mixed >> 32) as u32)
}

/// The same in a segment of the version before.
pub(super) fn unsalted(number: u64) -> u32 {
    nonzero(number as u32)
}

/// 0 is the wire's.
fn nonzero(salt: u32) -> u32 {
    salt.max(1)
}

pub(super) fn name(number: u64) -> String {
    format!("{SEGMENT_PREFIX}{number:010}")
}

pub(super) fn spare_name(number: u64) -> String {
    format!("{SPARE_PREFIX}{number:010}")
}

/// The number of a segment, if this is the name of one.
pub(super) fn number_of(file: &str) -> Option<u64> {
    let digits = file.strip_prefix(SEGMENT_PREFIX)?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

pub(super) fn is_spare(file: &str) -> bool {
    file.starts_with(SPARE_PREFIX)
}

/// What a segment is called that was given up, and is kept for people.
pub(super) fn aside_name(number: u64) -> String {
    format!("{ASIDE_PREFIX}{}", name(number))
}

/// What a segment says about the log before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) number: u64,
    pub(super) base: Lsn,
    pub(super) chain: u32,
    pub(super) salt: u32,
    pub(super) history: EpochHistory,
}

/// What is at the beginning of a file that has the name of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// It is in use.
    Header(SegmentHeader),
    /// It is not in use yet: nothing is there, or what a recycled file held before.
    Unused,
    /// Something else. Its frames have this salt, as far as that can be told.
    Unreadable {
        /// The salt.
        salt: u32,
        /// Whether a crash may have left it so: a header of one sector is there or not.
        torn: bool,
    },
}

/// Bytes before the epochs.
fn fixed(version: u32) -> usize {
    BEGINNING + if version == UNSALTED { 0 } else { 4 }
}

impl SegmentHeader {
    /// Where the first frame begins, given the number of epochs. It is the same in both versions, as
    /// the larger one never reaches a sector further.
    pub(super) fn data_start(epochs: usize) -> u64 {
        ((fixed(VERSION) + epochs * EPOCH + 4) as u64).next_multiple_of(SECTOR)
    }

    /// The header, filled up with zeros to the first frame, at the end of `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        let epochs = self.history.entries();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.base.0.to_le_bytes());
        out.extend_from_slice(&self.chain.to_le_bytes());
        out.extend_from_slice(&(epochs.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        for entry in epochs {
            out.extend_from_slice(&entry.epoch.0.to_le_bytes());
            out.extend_from_slice(&entry.start.0.to_le_bytes());
        }
        let crc = crc32fast::hash(&out[begin..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.resize(begin + Self::data_start(epochs.len()) as usize, 0);
    }

    /// Bytes of the header, as far as its beginning (32 bytes) tells.
    pub(super) fn length(beginning: &[u8]) -> Option<usize> {
        if beginning.len() < BEGINNING || beginning[..4] != MAGIC {
            return None;
        }
        let epochs = u32_at(beginning, 28) as usize;
        let length = fixed(u32_at(beginning, 4)) + epochs * EPOCH + 4;
        (length <= MAX_HEADER).then_some(length)
    }

    /// Reads what is at the beginning of the file of segment `number`.
    pub(super) fn read(bytes: &[u8], number: u64) -> Beginning {
        let sector = bytes.len().min(SECTOR as usize);
        if bytes[..sector].iter().all(|byte| *byte == 0) {
            return Beginning::Unused;
        }
        match Self::decode(bytes) {
            Some(header) if header.number == number => Beginning::Header(header),
            Some(_) => Beginning::Unused,
            None => Self::guess(bytes, number),
        }
    }

    /// What can be told from a header that is not valid.
    fn guess(bytes: &[u8], number: u64) -> Beginning {
        let length = Self::length(bytes).filter(|length| *length > SECTOR as usize);
        let (mut salt, torn) = (unsalted(number), length.is_some());
        if torn && u64_at(bytes, 8) != number {
            // Of what the file held before, and the first sector of the new one is not there.
            return Beginning::Unused;
        }
        if torn && u32_at(bytes, 4) == VERSION {
            salt = u32_at(bytes, BEGINNING);
        }
        Beginning::Unreadable { salt, torn }
    }

    /// Reads a header; `None` if it is damaged or of another version.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..Self::length(bytes)?)?;
        let (content, crc) = bytes.split_at(bytes.len() - 4);
        let (version, number) = (u32_at(content, 4), u64_at(content, 8));
        if crc32fast::hash(content) != u32_at(crc, 0) {
            return None;
        }
        let salt = match version {
            VERSION => u32_at(content, BEGINNING),
            UNSALTED => unsalted(number),
            _ => return None,
        };
        let mut history = EpochHistory::default();
        for entry in content[fixed(version)..].chunks_exact(EPOCH) {
            let (epoch, start) = (Epoch(u64_at(entry, 0)), Lsn(u64_at(entry, 8)));
            let rises = |last: &EpochStart| last.epoch < epoch && last.start <= start;
            if !history.entries().last().is_none_or(rises) {
                return None;
            }
            history.append(epoch, start);
        }
        Some(Self {
            number,
            base: Lsn(u64_at(content, 16)),
            chain: u32_at(content, 24),
            salt,
            history,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> SegmentHeader {
        let mut history = EpochHistory::default();
        history.append(Epoch(1), Lsn(0));
        history.append(Epoch(4), Lsn(70));
        SegmentHeader {
            number: 12,
            base: Lsn(100),
            chain: 7,
            salt: 0x0102_0304,
            history,
        }
    }

    /// Changing these bytes is changing the version.
    #[test]
    fn the_format_is_fixed() {
        let mut bytes = Vec::new();
        example().encode(&mut bytes);
        assert_eq!(bytes.len(), 512);
        // The CRC as zlib computes it.
        let golden = b"RSLS\x02\0\0\0\x0c\0\0\0\0\0\0\0\
            \x64\0\0\0\0\0\0\0\x07\0\0\0\x02\0\0\0\
            \x04\x03\x02\x01\
            \x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
            \x04\0\0\0\0\0\0\0\x46\0\0\0\0\0\0\0\
            \x71\x04\xdd\x73\0\0\0\0";
        assert_eq!(bytes[..76], golden[..]);
    }

    /// Segments of the release before are read as they are.
    #[test]
    fn the_version_before_is_read() {
        let golden = b"RSLS\x01\0\0\0\x0c\0\0\0\0\0\0\0\
            \x64\0\0\0\0\0\0\0\x07\0\0\0\x02\0\0\0\
            \x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
            \x04\0\0\0\0\0\0\0\x46\0\0\0\0\0\0\0\
            \x38\x6c\x34\x22\0\0\0\0";
        let salt = 12;
        let expected = SegmentHeader { salt, ..example() };
        assert_eq!(SegmentHeader::read(golden, 12), Beginning::Header(expected));
        // The first frame is where that version has it, whatever the number of epochs.
        for epochs in 0..100_000 {
            let before = ((32 + epochs * EPOCH + 4) as u64).next_multiple_of(SECTOR);
            assert_eq!(SegmentHeader::data_start(epochs), before);
        }
    }

    #[test]
    fn salts_differ_and_are_not_the_wire_s() {
        let salts: std::collections::BTreeSet<u32> = (0..10_000)
            .map(|number| salt(number / 100, number))
            .collect();
        assert!(salts.len() > 9_990 && !salts.contains(&0));
    }

    #[test]
    fn headers_round_trip_and_damage_is_noticed() {
        let header = example();
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        assert_eq!(SegmentHeader::read(&bytes, 12), Beginning::Header(header));
        assert_eq!(SegmentHeader::read(&bytes, 11), Beginning::Unused);
        assert_eq!(SegmentHeader::read(&[0; 512], 12), Beginning::Unused);
        assert_eq!(SegmentHeader::read(&[], 12), Beginning::Unused);
        for at in 0..72 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            let found = SegmentHeader::read(&damaged, 12);
            assert!(matches!(found, Beginning::Unreadable { .. }), "byte {at}");
        }
    }

    #[test]
    fn names_tell_the_number() {
        assert_eq!(name(12), "log-0000000012");
        assert_eq!(number_of(&name(12)), Some(12));
        assert_eq!(number_of(&name(u64::MAX)), Some(u64::MAX));
        let aside = aside_name(12);
        for other in [INTENT, "log-", "log-+1", "spare-0000000001", "meta", &aside] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
