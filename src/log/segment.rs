//! Segment files: names, headers, alignment.

use super::frame::{u32_at, u64_at};
use crate::replication::{Epoch, EpochHistory, EpochStart, Lsn};

const MAGIC: [u8; 4] = *b"RSLS";
const VERSION: u32 = 1;
/// Bytes before the epochs.
const FIXED: usize = 32;
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

/// Bytes that a frame of this length takes in a file.
pub(super) fn stored(wire_len: usize) -> u64 {
    (wire_len as u64).next_multiple_of(8)
}

/// The salt of the frames in a segment, see the format.
pub(super) fn salt(number: u64) -> u32 {
    // 0 is the wire's.
    (number as u32).max(1)
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

/// What a segment says about the log before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) number: u64,
    pub(super) base: Lsn,
    pub(super) chain: u32,
    pub(super) history: EpochHistory,
}

impl SegmentHeader {
    /// Where the first frame begins, given the number of epochs.
    pub(super) fn data_start(epochs: usize) -> u64 {
        ((FIXED + epochs * EPOCH + 4) as u64).next_multiple_of(SECTOR)
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
        if beginning.len() < FIXED || beginning[..4] != MAGIC {
            return None;
        }
        let length = FIXED + (u32_at(beginning, 28) as usize) * EPOCH + 4;
        (length <= MAX_HEADER).then_some(length)
    }

    /// Reads the header of segment `number`; `None` if it is damaged, of another version or of
    /// another segment.
    pub(super) fn decode(bytes: &[u8], number: u64) -> Option<Self> {
        let bytes = bytes.get(..Self::length(bytes)?)?;
        let (content, crc) = bytes.split_at(bytes.len() - 4);
        let valid = crc32fast::hash(content) == u32_at(crc, 0)
            && u32_at(content, 4) == VERSION
            && u64_at(content, 8) == number;
        if !valid {
            return None;
        }
        let mut history = EpochHistory::default();
        for entry in content[FIXED..].chunks_exact(EPOCH) {
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
        let golden = b"RSLS\x01\0\0\0\x0c\0\0\0\0\0\0\0\
            \x64\0\0\0\0\0\0\0\x07\0\0\0\x02\0\0\0\
            \x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
            \x04\0\0\0\0\0\0\0\x46\0\0\0\0\0\0\0\
            \x38\x6c\x34\x22\0\0\0\0";
        assert_eq!(bytes[..72], golden[..]);
    }

    #[test]
    fn headers_round_trip_and_damage_is_noticed() {
        let header = example();
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        assert_eq!(SegmentHeader::decode(&bytes, 12), Some(header));
        assert_eq!(SegmentHeader::decode(&bytes, 11), None);
        for at in 0..68 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert_eq!(SegmentHeader::decode(&damaged, 12), None, "byte {at}");
        }
    }

    #[test]
    fn names_tell_the_number() {
        assert_eq!(name(12), "log-0000000012");
        assert_eq!(number_of(&name(12)), Some(12));
        assert_eq!(number_of(&name(u64::MAX)), Some(u64::MAX));
        for other in [INTENT, "log-", "log-+1", "spare-0000000001", "meta"] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
