//! Frames: what is written, checked, sent and acknowledged as one piece.

use bytes::Bytes;
use thiserror::Error;

use crate::replication::{Epoch, Lsn, Position};

const MAGIC: [u8; 4] = *b"RSLF";
const VERSION: u8 = 1;
const FLAG_MARK: u8 = 1;

/// A frame that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// There are too few bytes to tell.
    #[error("the frame is not complete: {needed} bytes are needed")]
    Incomplete {
        /// Bytes from its beginning that are needed to go on.
        needed: usize,
    },
    /// No frame begins here.
    #[error("no frame begins here")]
    NoFrame,
    /// The header's checksum is wrong.
    #[error("the frame's header is damaged")]
    Header,
    /// Another version of the format.
    #[error("the frame has version {0}, this program knows {VERSION}")]
    Version(u8),
    /// A length or flag that this version never writes.
    #[error("the frame's header makes no sense")]
    Malformed,
    /// The payload's checksum, or the chain over the header, is wrong.
    #[error("the frame's content is damaged")]
    Content,
}

/// The fields of a frame's header, see the module's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) flags: u8,
    pub(super) length: u32,
    pub(super) records: u32,
    pub(super) epoch: Epoch,
    pub(super) start: Lsn,
    pub(super) time_ms: u64,
    pub(super) durable: Lsn,
    pub(super) prev_chain: u32,
    pub(super) payload_crc: u32,
    pub(super) chain: u32,
}

impl Header {
    pub(super) const LENGTH: usize = 64;
    pub(super) const MAGIC: [u8; 4] = MAGIC;

    /// A mark at the end of a log, see the format.
    pub(super) fn mark(tip: Tip) -> Self {
        Self {
            flags: FLAG_MARK,
            length: 0,
            records: 0,
            epoch: tip.position.epoch,
            start: tip.position.lsn,
            time_ms: 0,
            durable: tip.position.lsn,
            prev_chain: tip.chain,
            payload_crc: 0,
            chain: tip.chain,
        }
    }

    pub(super) fn is_mark(&self) -> bool {
        self.flags & FLAG_MARK != 0
    }

    pub(super) fn encode(&self, salt: u32) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.flags;
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.records.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.start.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.time_ms.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.durable.0.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.prev_chain.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.chain.to_le_bytes());
        let crc = salted_crc(&bytes[..60], salt);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads and checks a header: not yet what it says about the payload.
    pub(super) fn decode(bytes: &[u8; Self::LENGTH], salt: u32) -> Result<Self, FrameError> {
        if bytes[0..4] != MAGIC {
            return Err(FrameError::NoFrame);
        }
        if salted_crc(&bytes[..60], salt) != u32_at(bytes, 60) {
            return Err(FrameError::Header);
        }
        if bytes[4] != VERSION {
            return Err(FrameError::Version(bytes[4]));
        }
        let header = Self {
            flags: bytes[5],
            length: u32_at(bytes, 8),
            records: u32_at(bytes, 12),
            epoch: Epoch(u64_at(bytes, 16)),
            start: Lsn(u64_at(bytes, 24)),
            time_ms: u64_at(bytes, 32),
            durable: Lsn(u64_at(bytes, 40)),
            prev_chain: u32_at(bytes, 48),
            payload_crc: u32_at(bytes, 52),
            chain: u32_at(bytes, 56),
        };
        let length_fits = match header.flags {
            0 => (1..=Frame::MAX_PAYLOAD).contains(&(header.length as usize)),
            FLAG_MARK => header.length == 0,
            _ => false,
        };
        // A peer must not make the sum overflow either.
        let end = header.start.0.checked_add(u64::from(header.length));
        if !length_fits || end.is_none() {
            return Err(FrameError::Malformed);
        }
        Ok(header)
    }

    /// The chain over what is the same in every copy.
    fn compute_chain(&self) -> u32 {
        let mut bytes = [0; 41];
        bytes[0..4].copy_from_slice(&self.prev_chain.to_le_bytes());
        bytes[4] = self.flags;
        bytes[5..9].copy_from_slice(&self.length.to_le_bytes());
        bytes[9..13].copy_from_slice(&self.records.to_le_bytes());
        bytes[13..21].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[21..29].copy_from_slice(&self.start.0.to_le_bytes());
        bytes[29..37].copy_from_slice(&self.time_ms.to_le_bytes());
        bytes[37..41].copy_from_slice(&self.payload_crc.to_le_bytes());
        crc32fast::hash(&bytes)
    }
}

fn salted_crc(bytes: &[u8], salt: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes[at..].first_chunk();
    u32::from_le_bytes(*field.expect("the field lies within the header"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes[at..].first_chunk();
    u64::from_le_bytes(*field.expect("the field lies within the header"))
}

/// The end of a log: its last record, and the chain that its next frame continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tip {
    /// Epoch and LSN of the last record.
    pub position: Position,
    /// Chain of the frame that ends there.
    pub chain: u32,
}

/// One group commit: whole records under a header. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    header: Header,
    payload: Bytes,
}

impl Frame {
    /// Bytes of a frame's header on the wire.
    pub const HEADER: usize = Header::LENGTH;
    /// The longest payload: one record of the longest value (512 MiB) with its key, joined to a
    /// group of the size at which leaders seal (16 MiB at most), and room to spare.
    pub const MAX_PAYLOAD: usize = 576 << 20;

    /// Makes a frame of `records` whole records that follow `start` and the frame with the chain
    /// `prev_chain`. This is the one pass over the payload that computes its checksum.
    ///
    /// The payload is not empty and no longer than [`MAX_PAYLOAD`](Self::MAX_PAYLOAD).
    pub fn seal(
        payload: impl Into<Bytes>,
        records: u32,
        epoch: Epoch,
        start: Lsn,
        time_ms: u64,
        prev_chain: u32,
    ) -> Self {
        let payload = payload.into();
        assert!(!payload.is_empty(), "a frame moves the log on");
        assert!(payload.len() <= Self::MAX_PAYLOAD, "the frame is too large");
        let mut header = Header {
            flags: 0,
            length: payload.len() as u32,
            records,
            epoch,
            start,
            time_ms,
            durable: Lsn::ZERO,
            prev_chain,
            payload_crc: crc32fast::hash(&payload),
            chain: 0,
        };
        header.chain = header.compute_chain();
        Self { header, payload }
    }

    /// Reads the frame at the beginning of `bytes`, as it comes over the wire, checks all of it,
    /// and says how many bytes it took. The payload is not copied.
    ///
    /// On [`FrameError::Incomplete`], come again with as many bytes as it says.
    pub fn decode(bytes: &Bytes) -> Result<(Self, usize), FrameError> {
        Self::decode_salted(bytes, 0)
    }

    pub(super) fn decode_salted(bytes: &Bytes, salt: u32) -> Result<(Self, usize), FrameError> {
        let Some(head) = bytes.first_chunk() else {
            let needed = Self::HEADER;
            return Err(FrameError::Incomplete { needed });
        };
        let header = Header::decode(head, salt)?;
        if header.is_mark() {
            return Err(FrameError::NoFrame);
        }
        let needed = Self::HEADER + header.length as usize;
        if bytes.len() < needed {
            return Err(FrameError::Incomplete { needed });
        }
        let payload = bytes.slice(Self::HEADER..needed);
        let intact = header.compute_chain() == header.chain
            && crc32fast::hash(&payload) == header.payload_crc;
        if !intact {
            return Err(FrameError::Content);
        }
        Ok((Self { header, payload }, needed))
    }

    /// The header as it goes over the wire, before the payload.
    pub fn header(&self) -> [u8; Self::HEADER] {
        self.header.encode(0)
    }

    /// The header as it is stored in a segment with this salt, in a log durable up to `durable`.
    pub(super) fn header_in(&self, salt: u32, durable: Lsn) -> [u8; Self::HEADER] {
        let header = Header {
            durable,
            ..self.header
        };
        header.encode(salt)
    }

    /// The records.
    pub fn payload(&self) -> Bytes {
        self.payload.clone()
    }

    /// Bytes on the wire.
    pub fn wire_len(&self) -> usize {
        Self::HEADER + self.payload.len()
    }

    /// The same frame in a log that is known to be durable up to `lsn`.
    #[must_use]
    pub fn with_durable(mut self, lsn: Lsn) -> Self {
        self.header.durable = lsn;
        self
    }

    /// What was known to be durable in the log that this copy comes from, when it was written.
    pub fn durable(&self) -> Lsn {
        self.header.durable
    }

    /// The epoch in which the records were appended.
    pub fn epoch(&self) -> Epoch {
        self.header.epoch
    }

    /// The LSN before the first record.
    pub fn start(&self) -> Lsn {
        self.header.start
    }

    /// The LSN of the last record.
    pub fn end(&self) -> Lsn {
        self.start().advance(u64::from(self.header.length))
    }

    /// The number of records.
    pub fn records(&self) -> u32 {
        self.header.records
    }

    /// The leader's wall clock when it sealed the frame, in milliseconds since 1970.
    pub fn time_ms(&self) -> u64 {
        self.header.time_ms
    }

    /// The chain: it differs as soon as anything in this frame or before differs.
    pub fn chain(&self) -> u32 {
        self.header.chain
    }

    /// The chain of the frame before.
    pub fn prev_chain(&self) -> u32 {
        self.header.prev_chain
    }

    /// The end of a log that ends with this frame.
    pub fn tip(&self) -> Tip {
        Tip {
            position: Position {
                epoch: self.epoch(),
                lsn: self.end(),
            },
            chain: self.chain(),
        }
    }

    /// Whether a log that ends at `tip` can take this frame next.
    pub fn continues(&self, tip: &Tip) -> bool {
        self.start() == tip.position.lsn
            && self.prev_chain() == tip.chain
            && self.epoch() >= tip.position.epoch
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(frame: &Frame) -> Bytes {
        [&frame.header()[..], &frame.payload()].concat().into()
    }

    /// Changing these bytes is changing the version.
    #[test]
    fn the_format_is_fixed() {
        let payload = &b"three records"[..];
        let frame = Frame::seal(
            payload,
            3,
            Epoch(5),
            Lsn(1000),
            1_700_000_000_000,
            0xdead_beef,
        )
        .with_durable(Lsn(900));
        // The CRCs as zlib computes them.
        let golden = b"RSLF\x01\0\0\0\x0d\0\0\0\x03\0\0\0\
            \x05\0\0\0\0\0\0\0\xe8\x03\0\0\0\0\0\0\
            \x00\x68\xe5\xcf\x8b\x01\0\0\x84\x03\0\0\0\0\0\0\
            \xef\xbe\xad\xde\xe5\x4f\x94\x24\xbe\xac\x9e\x1c\xbf\x27\x71\x21\
            three records";
        assert_eq!(wire(&frame), golden[..]);
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let frame = Frame::seal(&b"payload"[..], 1, Epoch(1), Lsn(0), 0, 0);
        let bytes = wire(&frame);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= 1 << bit;
                let result = Frame::decode(&damaged.into());
                assert!(result.is_err(), "byte {at}, bit {bit}: {result:?}");
            }
        }
    }

    #[test]
    fn incomplete_frames_say_what_they_need() {
        let frame = Frame::seal(&b"payload"[..], 1, Epoch(1), Lsn(0), 0, 0);
        let bytes = wire(&frame);
        for length in 0..bytes.len() {
            let needed = if length < 64 { 64 } else { bytes.len() };
            let result = Frame::decode(&bytes.slice(..length));
            assert_eq!(result, Err(FrameError::Incomplete { needed }));
        }
    }

    #[test]
    fn the_salt_and_the_durable_position_are_local() {
        let frame = Frame::seal(&b"payload"[..], 1, Epoch(1), Lsn(0), 0, 0);
        let elsewhere = frame.clone().with_durable(Lsn(7));
        assert_eq!(elsewhere.chain(), frame.chain());
        let stored = [&frame.header_in(3, Lsn(7))[..], &frame.payload()].concat();
        let stored = Bytes::from(stored);
        assert_eq!(Frame::decode(&stored), Err(FrameError::Header));
        assert_eq!(Frame::decode_salted(&stored, 3).unwrap().0, elsewhere);
    }

    #[test]
    fn a_mark_is_no_frame() {
        let mark = Header::mark(Tip::default()).encode(0);
        let result = Frame::decode(&Bytes::copy_from_slice(&mark));
        assert_eq!(result, Err(FrameError::NoFrame));
    }

    proptest! {
        #[test]
        fn frames_round_trip(
            payload in proptest::collection::vec(any::<u8>(), 1..5000),
            records: u32, epoch: u64, start in 0..u64::MAX / 2, time_ms: u64,
            prev_chain: u32, durable: u64, follow in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            let frame = Frame::seal(payload, records, Epoch(epoch), Lsn(start), time_ms, prev_chain)
                .with_durable(Lsn(durable));
            let mut bytes = wire(&frame).to_vec();
            bytes.extend(follow);
            let (decoded, consumed) = Frame::decode(&bytes.into()).unwrap();
            prop_assert_eq!(consumed, frame.wire_len());
            prop_assert_eq!(decoded, frame);
        }
    }
}
