//! One key with its newest change: how its bytes lie in memory, and what they mean.
//!
//! In memory: length of the key (one byte, or three), key, length of what follows (one byte, three or
//! five), then what the LSM tree stores as the value: tag, LSN, expiry, value (see `format.md`). So a flush
//! copies nothing to take an entry apart, and entries that lie one after the other can be walked.
//!
//! It must not know where the bytes lie.

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
pub(super) const TYPE_STRING: u8 = 0x00;
/// An expiry follows the LSN.
pub(super) const EXPIRES: u8 = 0x10;
/// In memory only: the key is gone.
pub(super) const TOMBSTONE: u8 = 0x20;
/// In memory only: how often it was read, up to three times, less one for each pass of the hand of the
/// cache's clock. What is read again and again outlives what is read once, as with S3-FIFO.
const HEAT: u8 = 0xc0;
const ONE_READ: u8 = 0x40;

/// Instead of a key's length: it follows in two bytes.
pub(super) const LONG_KEY: u8 = 255;
/// Instead of the length of what is stored: it follows in two bytes, or in four.
pub(super) const LONG: u8 = 254;
pub(super) const VERY_LONG: u8 = 255;

pub(super) const TAG: usize = 1;
pub(super) const LSN: usize = 8;
pub(super) const EXPIRY: usize = 8;

/// A key with its newest change, a value or a tombstone, where it lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    key: &'a [u8],
    stored: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The entry that bytes begin with, and how many bytes it takes.
    #[inline]
    pub(super) fn read(bytes: &'a [u8]) -> (Self, usize) {
        let (key_at, key_end) = key_range(bytes);
        let (at, len) = stored_range(bytes, key_end);
        let entry = Self {
            key: &bytes[key_at..key_end],
            stored: &bytes[at..at + len],
        };
        (entry, at + len)
    }

    pub(super) fn key(self) -> &'a [u8] {
        self.key
    }

    /// What the LSM tree stores as the value of the key. Not of a tombstone, and not of an entry
    /// that was in the cache.
    pub(super) fn stored(self) -> &'a [u8] {
        self.stored
    }

    pub(super) fn is_tombstone(self) -> bool {
        self.stored[0] & TOMBSTONE != 0
    }

    pub(super) fn lsn(self) -> Lsn {
        Lsn(read_u64(&self.stored[TAG..]))
    }

    /// The entry, or `None` if it is a tombstone.
    pub(super) fn value(self) -> Option<EntryRef<'a>> {
        if self.is_tombstone() {
            return None;
        }
        let expires = self.stored[0] & EXPIRES != 0;
        let at = TAG + LSN;
        let value_at = if expires { at + EXPIRY } else { at };
        Some(EntryRef {
            value: &self.stored[value_at..],
            expire_at_ms: if expires {
                read_u64(&self.stored[at..])
            } else {
                0
            },
            lsn: self.lsn(),
        })
    }

    /// When it expires, 0 for never and for a tombstone.
    pub(super) fn expire_at_ms(self) -> u64 {
        self.value().map_or(0, |entry| entry.expire_at_ms)
    }
}

/// The key of the entry that bytes begin with.
#[inline]
pub(super) fn key_of(bytes: &[u8]) -> &[u8] {
    let (start, end) = key_range(bytes);
    &bytes[start..end]
}

/// Where the key begins and where it ends.
#[inline]
fn key_range(bytes: &[u8]) -> (usize, usize) {
    match bytes[0] {
        LONG_KEY => (3, 3 + usize::from(u16::from_le_bytes([bytes[1], bytes[2]]))),
        len => (1, 1 + usize::from(len)),
    }
}

/// Where what is stored begins, and its length, which stands behind the key.
#[inline]
fn stored_range(bytes: &[u8], key_end: usize) -> (usize, usize) {
    let number = |width: usize| {
        let mut number = [0; 4];
        number[..width].copy_from_slice(&bytes[key_end + 1..][..width]);
        u32::from_le_bytes(number) as usize
    };
    match bytes[key_end] {
        VERY_LONG => (key_end + 5, number(4)),
        LONG => (key_end + 3, number(2)),
        len => (key_end + 1, usize::from(len)),
    }
}

/// What is stored for the entry that bytes begin with.
#[inline]
pub(super) fn stored_of(bytes: &mut [u8]) -> &mut [u8] {
    let (at, len) = stored_range(bytes, key_range(bytes).1);
    &mut bytes[at..at + len]
}

/// Notes a read of the entry that bytes begin with.
pub(super) fn warm(bytes: &mut [u8]) {
    let tag = &mut stored_of(bytes)[0];
    if *tag & HEAT != HEAT {
        *tag += ONE_READ;
    }
}

/// The hand passes: `false` if nobody has read the entry for long.
pub(super) fn cool(bytes: &mut [u8]) -> bool {
    let tag = &mut stored_of(bytes)[0];
    let warm = *tag & HEAT != 0;
    if warm {
        *tag -= ONE_READ;
    }
    warm
}

/// An entry in memory of its own.
#[derive(Clone, Debug)]
pub(super) struct EntryBuf {
    /// The key, then what is stored.
    bytes: Vec<u8>,
    key_len: usize,
}

impl EntryBuf {
    /// From a key with what the LSM tree stores for it behind.
    pub(super) fn new(bytes: Vec<u8>, key_len: usize) -> Result<Self> {
        parse_stored(&bytes[key_len..])?;
        Ok(Self { bytes, key_len })
    }

    pub(super) fn entry(&self) -> Entry<'_> {
        let (key, stored) = self.bytes.split_at(self.key_len);
        Entry { key, stored }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
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
    use super::super::draft::{Draft, written};
    use super::*;

    #[test]
    fn the_stored_form_is_fixed() {
        let bytes = written(&Draft::put(b"k", b"val", 0, Lsn(0x0102)));
        let entry = Entry::read(&bytes).0;
        assert_eq!(entry.stored(), b"\x00\x02\x01\0\0\0\0\0\0val");
        let bytes = written(&Draft::put(b"k", b"", 7, Lsn(1)));
        let entry = Entry::read(&bytes).0;
        assert_eq!(entry.stored(), b"\x10\x01\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0");
    }

    #[test]
    fn an_entry_gives_back_what_it_was_made_of() {
        let bytes = written(&Draft::put(b"key", b"value", 99, Lsn(5)));
        let (entry, len) = Entry::read(&bytes);
        assert_eq!((entry.key(), len), (&b"key"[..], bytes.len()));
        let expected = EntryRef {
            value: b"value",
            expire_at_ms: 99,
            lsn: Lsn(5),
        };
        assert_eq!(entry.value(), Some(expected));
        assert_eq!(parse_stored(entry.stored()).unwrap(), expected);
        assert_eq!(written(&Draft::copy(entry)), bytes);
        let bytes = written(&Draft::tombstone(b"key", Lsn(6)));
        let gone = Entry::read(&bytes).0;
        assert_eq!((gone.value(), gone.lsn()), (None, Lsn(6)));
    }

    #[test]
    fn keys_and_values_of_every_length_come_back() {
        for key_len in [0, 1, 254, 255, 256, super::super::MAX_KEY] {
            for len in [0, 1, 118, 244, 245, 246, 65_526, 65_527, 70_000] {
                let (key, value) = (vec![b'k'; key_len], vec![b'v'; len]);
                let mut bytes = written(&Draft::put(&key, &value, 0, Lsn(5)));
                let end = bytes.len();
                bytes.extend_from_slice(b"what comes next");
                let (entry, size) = Entry::read(&bytes);
                assert_eq!((entry.key(), size), (&key[..], end));
                assert_eq!(key_of(&bytes), key);
                assert_eq!(entry.value().unwrap().value, value);
            }
        }
    }

    #[test]
    fn reads_are_counted_and_change_nothing_else() {
        let mut bytes = written(&Draft::put(b"", b"v", 1, Lsn(5)));
        let before = bytes.clone();
        for reads in [0, 1, 3, 5] {
            (0..reads).for_each(|_| warm(&mut bytes));
            let value = |bytes| Entry::read(bytes).0.value();
            assert_eq!(value(&bytes), value(&before));
            (0..reads.min(3)).for_each(|_| assert!(cool(&mut bytes)));
            assert!(!cool(&mut bytes));
            assert_eq!(bytes, before);
        }
    }

    #[test]
    fn a_stored_value_that_is_cut_or_unknown_is_an_error() {
        let bytes = written(&Draft::put(b"k", b"", 9, Lsn(5)));
        let stored = Entry::read(&bytes).0.stored();
        for cut in 0..stored.len() {
            assert!(parse_stored(&stored[..cut]).is_err());
            assert!(EntryBuf::new([b"k", &stored[..cut]].concat(), 1).is_err());
        }
        let whole = EntryBuf::new([b"k", stored].concat(), 1).unwrap();
        assert_eq!(whole.entry(), Entry::read(&bytes).0);
        for tag in [0x01, 0x20, 0x40, 0x80] {
            assert!(parse_stored(&[tag; 20]).is_err());
        }
    }
}
