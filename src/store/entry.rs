//! One key with its newest change, in a single allocation.
//!
//! In memory: length of the key (one byte, or three), key, then what the LSM tree stores as the value: tag,
//! LSN, expiry, value (see `format.md`). So a flush copies nothing to take an entry apart.

use super::error::{Result, StoreError};
use crate::replication::Lsn;

/// A live or expired entry: the store compares no expiry with a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// The value.
    pub value: &'a [u8],
    /// Milliseconds since 1970 (UTC) at which it expires, 0 for never.
    pub expire_at_ms: u64,
    /// LSN of the record that wrote it.
    pub lsn: Lsn,
}

/// The low bits of the tag: the type of the value. Others than strings are to come.
const TYPE_MASK: u8 = 0x0f;
const TYPE_STRING: u8 = 0x00;
/// An expiry follows the LSN.
const EXPIRES: u8 = 0x10;
/// In memory only: the key is gone.
const TOMBSTONE: u8 = 0x20;
/// In memory only: how often it was read, up to three times, less one for each pass of the hand of the
/// cache's clock. What is read again and again outlives what is read once, as with S3-FIFO.
const HEAT: u8 = 0xc0;
const ONE_READ: u8 = 0x40;

/// First byte of an entry whose key's length follows in two bytes; else it is the length.
const LONG_KEY: u8 = 255;

const TAG: usize = 1;
const LSN: usize = 8;
const EXPIRY: usize = 8;

/// Estimated bytes that an entry takes besides its contents: 16 for the slot in the table at an
/// average load of 2/3, one control byte, and half a rounding step and a header of the allocator.
const OVERHEAD: usize = 40;

/// A key with its newest change: a value or a tombstone.
#[derive(Clone, Debug)]
pub(super) struct Entry(Box<[u8]>);

impl Entry {
    pub(super) fn put(key: &[u8], value: &[u8], expire_at_ms: u64, lsn: Lsn) -> Self {
        let expiry = if expire_at_ms == 0 { 0 } else { EXPIRY };
        let size = prefix_len(key) + TAG + LSN + expiry + value.len();
        let mut bytes = buffer_for(key, size);
        bytes.push(TYPE_STRING | if expiry == 0 { 0 } else { EXPIRES });
        bytes.extend_from_slice(&lsn.0.to_le_bytes());
        if expiry != 0 {
            bytes.extend_from_slice(&expire_at_ms.to_le_bytes());
        }
        bytes.extend_from_slice(value);
        Self(bytes.into_boxed_slice())
    }

    pub(super) fn tombstone(key: &[u8], lsn: Lsn) -> Self {
        let mut bytes = buffer_for(key, prefix_len(key) + TAG + LSN);
        bytes.push(TOMBSTONE);
        bytes.extend_from_slice(&lsn.0.to_le_bytes());
        Self(bytes.into_boxed_slice())
    }

    /// From a buffer that [`buffer_for`] began and to which a stored value was appended.
    pub(super) fn from_buffer(bytes: Vec<u8>) -> Result<Self> {
        let entry = Self(bytes.into_boxed_slice());
        parse_stored(entry.stored())?;
        Ok(entry)
    }

    /// What looking at the entry begins with.
    pub(super) fn first_byte(&self) -> u8 {
        self.0[0]
    }

    /// Where the key begins and where it ends.
    fn key_range(&self) -> (usize, usize) {
        match self.0[0] {
            LONG_KEY => (
                3,
                3 + usize::from(u16::from_le_bytes([self.0[1], self.0[2]])),
            ),
            len => (1, 1 + usize::from(len)),
        }
    }

    fn stored_at(&self) -> usize {
        self.key_range().1
    }

    fn tag(&self) -> u8 {
        self.0[self.stored_at()]
    }

    pub(super) fn key(&self) -> &[u8] {
        let (start, end) = self.key_range();
        &self.0[start..end]
    }

    /// What the LSM tree stores as the value of the key. Not of a tombstone, and not of an entry
    /// that was in the cache.
    pub(super) fn stored(&self) -> &[u8] {
        &self.0[self.stored_at()..]
    }

    pub(super) fn is_tombstone(&self) -> bool {
        self.tag() & TOMBSTONE != 0
    }

    pub(super) fn lsn(&self) -> Lsn {
        let at = self.stored_at() + TAG;
        Lsn(read_u64(&self.0[at..]))
    }

    /// The entry, or `None` if it is a tombstone.
    pub(super) fn value(&self) -> Option<EntryRef<'_>> {
        if self.is_tombstone() {
            return None;
        }
        let expires = self.tag() & EXPIRES != 0;
        let at = self.stored_at() + TAG + LSN;
        let value_at = if expires { at + EXPIRY } else { at };
        Some(EntryRef {
            value: &self.0[value_at..],
            expire_at_ms: if expires { read_u64(&self.0[at..]) } else { 0 },
            lsn: self.lsn(),
        })
    }

    /// When it expires, 0 for never and for a tombstone.
    pub(super) fn expire_at_ms(&self) -> u64 {
        self.value().map_or(0, |entry| entry.expire_at_ms)
    }

    /// Bytes of memory that it takes, its slot in a table included.
    pub(super) fn memory(&self) -> usize {
        self.0.len() + OVERHEAD
    }

    /// Notes a read.
    #[inline]
    pub(super) fn warm(&mut self) {
        let at = self.stored_at();
        let tag = &mut self.0[at];
        if *tag & HEAT != HEAT {
            *tag += ONE_READ;
        }
    }

    /// The hand passes: `false` if nobody has read the entry for long.
    pub(super) fn cool(&mut self) -> bool {
        let at = self.stored_at();
        let tag = &mut self.0[at];
        let warm = *tag & HEAT != 0;
        if warm {
            *tag -= ONE_READ;
        }
        warm
    }
}

/// A buffer of `size` bytes that begins as an entry of `key` does.
pub(super) fn buffer_for(key: &[u8], size: usize) -> Vec<u8> {
    assert!(key.len() <= super::MAX_KEY, "longer keys are refused");
    let mut bytes = Vec::with_capacity(size);
    match u8::try_from(key.len()) {
        Ok(len) if len != LONG_KEY => bytes.push(len),
        _ => {
            bytes.push(LONG_KEY);
            bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
        }
    }
    bytes.extend_from_slice(key);
    bytes
}

/// Bytes that an entry of `key` has before what is stored.
pub(super) fn prefix_len(key: &[u8]) -> usize {
    let len = if key.len() < usize::from(LONG_KEY) {
        1
    } else {
        3
    };
    len + key.len()
}

/// Takes apart what the LSM tree stores as a value.
pub(super) fn parse_stored(stored: &[u8]) -> Result<EntryRef<'_>> {
    let corrupt = || StoreError::Corrupt("a stored value has an unknown form".to_owned());
    let (tag, rest) = stored.split_first().ok_or_else(corrupt)?;
    if tag & TYPE_MASK != TYPE_STRING || tag & !(TYPE_MASK | EXPIRES) != 0 {
        return Err(corrupt());
    }
    let expires = tag & EXPIRES != 0;
    let header = if expires { LSN + EXPIRY } else { LSN };
    if rest.len() < header {
        return Err(corrupt());
    }
    Ok(EntryRef {
        value: &rest[header..],
        expire_at_ms: if expires { read_u64(&rest[LSN..]) } else { 0 },
        lsn: Lsn(read_u64(rest)),
    })
}

fn read_u64(bytes: &[u8]) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_is_fixed() {
        let entry = Entry::put(b"k", b"val", 0, Lsn(0x0102));
        assert_eq!(entry.stored(), b"\x00\x02\x01\0\0\0\0\0\0val");
        let entry = Entry::put(b"k", b"", 7, Lsn(1));
        assert_eq!(entry.stored(), b"\x10\x01\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0");
    }

    #[test]
    fn an_entry_gives_back_what_it_was_made_of() {
        let entry = Entry::put(b"key", b"value", 99, Lsn(5));
        assert_eq!(entry.key(), b"key");
        let expected = EntryRef {
            value: b"value",
            expire_at_ms: 99,
            lsn: Lsn(5),
        };
        assert_eq!(entry.value(), Some(expected));
        assert_eq!(parse_stored(entry.stored()).unwrap(), expected);
        let gone = Entry::tombstone(b"key", Lsn(6));
        assert_eq!((gone.value(), gone.lsn()), (None, Lsn(6)));
    }

    #[test]
    fn keys_of_every_length_come_back() {
        for len in [0, 1, 254, 255, 256, super::super::MAX_KEY] {
            let key = vec![b'k'; len];
            let entry = Entry::put(&key, b"v", 0, Lsn(5));
            assert_eq!(entry.key(), key);
            assert_eq!(entry.0.len(), prefix_len(&key) + entry.stored().len());
            assert_eq!(entry.value().unwrap().value, b"v");
        }
    }

    #[test]
    fn reads_are_counted_and_change_nothing_else() {
        let mut entry = Entry::put(b"", b"v", 1, Lsn(5));
        let before = entry.clone();
        for reads in [0, 1, 3, 5] {
            (0..reads).for_each(|_| entry.warm());
            assert_eq!(entry.value(), before.value());
            (0..reads.min(3)).for_each(|_| assert!(entry.cool()));
            assert!(!entry.cool());
            assert_eq!(entry.stored(), before.stored());
        }
    }

    #[test]
    fn a_stored_value_that_is_cut_or_unknown_is_an_error() {
        let entry = Entry::put(b"k", b"", 9, Lsn(5));
        let stored = entry.stored();
        for cut in 0..stored.len() {
            assert!(parse_stored(&stored[..cut]).is_err());
        }
        for tag in [0x01, 0x20, 0x40, 0x80] {
            assert!(parse_stored(&[tag; 20]).is_err());
        }
    }
}
