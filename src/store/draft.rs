//! What an entry is written from, and how: the counterpart of reading it in `entry`.
//!
//! It must not know where the bytes go.

use super::entry::{
    EXPIRES, EXPIRY, Entry, LONG, LONG_KEY, LSN, TAG, TOMBSTONE, TYPE_STRING, VERY_LONG, stored_of,
};
use super::error::MAX_KEY;
use crate::replication::Lsn;

/// What an entry is written from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft<'a> {
    key: &'a [u8],
    /// Of what is stored, the part before the value; empty where `rest` is all of it.
    head: [u8; TAG + LSN + EXPIRY],
    head_len: usize,
    rest: &'a [u8],
}

impl<'a> Draft<'a> {
    #[inline]
    pub(super) fn put(key: &'a [u8], value: &'a [u8], expire_at_ms: u64, lsn: Lsn) -> Self {
        let mut draft = Self::tombstone(key, lsn);
        draft.rest = value;
        draft.head[0] = TYPE_STRING;
        if expire_at_ms != 0 {
            draft.head[0] |= EXPIRES;
            draft.head[TAG + LSN..].copy_from_slice(&expire_at_ms.to_le_bytes());
            draft.head_len += EXPIRY;
        }
        draft
    }

    #[inline]
    pub(super) fn tombstone(key: &'a [u8], lsn: Lsn) -> Self {
        let mut head = [0; TAG + LSN + EXPIRY];
        head[0] = TOMBSTONE;
        head[TAG..][..LSN].copy_from_slice(&lsn.0.to_le_bytes());
        Self {
            key,
            head,
            head_len: TAG + LSN,
            rest: b"",
        }
    }

    /// The same as another entry.
    pub(super) fn copy(entry: Entry<'a>) -> Self {
        Self::stored(entry.key(), entry.stored())
    }

    /// A key with what was stored for it.
    pub(super) fn stored(key: &'a [u8], stored: &'a [u8]) -> Self {
        Self {
            key,
            head: [0; TAG + LSN + EXPIRY],
            head_len: 0,
            rest: stored,
        }
    }

    pub(super) fn key(&self) -> &'a [u8] {
        self.key
    }

    fn stored_len(&self) -> usize {
        self.head_len + self.rest.len()
    }

    /// Bytes of the entry.
    #[inline]
    pub(super) fn len(&self) -> usize {
        assert!(self.key.len() <= MAX_KEY, "longer keys are refused");
        let short_key = self.key.len() < usize::from(LONG_KEY);
        let prefix = if short_key { 1 } else { 3 };
        let stored = self.stored_len();
        let width = match u16::try_from(stored) {
            Ok(len) if len < u16::from(LONG) => 1,
            Ok(_) => 3,
            Err(_) => 5,
        };
        prefix + self.key.len() + width + stored
    }

    /// Appends the entry.
    #[inline]
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        match u8::try_from(self.key.len()) {
            Ok(len) if len != LONG_KEY => into.push(len),
            _ => {
                into.push(LONG_KEY);
                into.extend_from_slice(&(self.key.len() as u16).to_le_bytes());
            }
        }
        into.extend_from_slice(self.key);
        let stored = self.stored_len();
        match (u8::try_from(stored), u16::try_from(stored)) {
            (Ok(len), _) if len < LONG => into.push(len),
            (_, Ok(len)) => {
                into.push(LONG);
                into.extend_from_slice(&len.to_le_bytes());
            }
            _ => {
                let len = u32::try_from(stored).expect("longer values are refused");
                into.push(VERY_LONG);
                into.extend_from_slice(&len.to_le_bytes());
            }
        }
        into.extend_from_slice(&self.head[..self.head_len]);
        into.extend_from_slice(self.rest);
    }

    /// Takes the place of the entry of the same key that bytes begin with, if it is as long.
    #[inline]
    pub(super) fn overwrite(&self, bytes: &mut [u8]) -> bool {
        let stored = stored_of(bytes);
        if stored.len() != self.stored_len() {
            return false;
        }
        let (head, rest) = stored.split_at_mut(self.head_len);
        head.copy_from_slice(&self.head[..self.head_len]);
        rest.copy_from_slice(self.rest);
        true
    }
}

/// The bytes of an entry.
#[cfg(test)]
pub(super) fn written(draft: &Draft<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    draft.write(&mut bytes);
    assert_eq!(bytes.len(), draft.len());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_long_takes_its_place() {
        let mut bytes = written(&Draft::put(b"key", b"12345678", 0, Lsn(5)));
        let expires = Draft::put(b"key", b"", 9, Lsn(6));
        for other in [&b"1234567"[..], b"123456789", b""] {
            assert!(!Draft::put(b"key", other, 0, Lsn(6)).overwrite(&mut bytes));
        }
        assert!(expires.overwrite(&mut bytes));
        assert_eq!(bytes, written(&expires));
    }
}
