//! The records of the log: effects that the leader decided, applied alike by every replica.
//!
//! The bytes are described in `format.md`. Every record has exactly one encoding.

/// One effect. Keys and values are borrowed from the frame that holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// Changes nothing: the first record of an epoch or of an adopted configuration.
    Barrier {
        /// Version of the configuration.
        version: u64,
    },
    /// The key has this value from now on.
    Put {
        /// The key.
        key: &'a [u8],
        /// The whole value.
        value: &'a [u8],
        /// Milliseconds since 1970 (UTC) at which the key expires, 0 for never.
        expire_at_ms: u64,
        /// Whether the store held no entry of the key, not even an expired one: the number of
        /// keys rises.
        created: bool,
    },
    /// The key, of which the store held an entry, is gone.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// Every key is gone.
    Clear,
}

/// Bytes that are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end before the record does.
    #[error("the record is cut short")]
    Truncated,
    /// The first byte is no record's.
    #[error("unknown record tag {0:#04x}")]
    UnknownTag(u8),
    /// A number has more than 64 bits, or more bytes than it needs.
    #[error("malformed number in a record")]
    Number,
}

const BARRIER: u8 = 1;
const PUT: u8 = 2;
const DELETE: u8 = 3;
const CLEAR: u8 = 4;
const CREATED: u8 = 0x10;
const EXPIRES: u8 = 0x20;

impl<'a> Record<'a> {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Barrier { version } => {
                out.push(BARRIER);
                put_varint(out, version);
            }
            Self::Put {
                key,
                value,
                expire_at_ms,
                created,
            } => {
                out.reserve(32 + key.len() + value.len());
                let expires = if expire_at_ms == 0 { 0 } else { EXPIRES };
                out.push(PUT | expires | if created { CREATED } else { 0 });
                if expires != 0 {
                    put_varint(out, expire_at_ms);
                }
                put_bytes(out, key);
                put_bytes(out, value);
            }
            Self::Delete { key } => {
                out.push(DELETE);
                put_bytes(out, key);
            }
            Self::Clear => out.push(CLEAR),
        }
    }

    /// Reads the record at the beginning of `bytes`, and tells how many bytes it took.
    pub fn decode(bytes: &'a [u8]) -> Result<(Self, usize), RecordError> {
        let mut rest = bytes;
        let (&tag, after) = rest.split_first().ok_or(RecordError::Truncated)?;
        rest = after;
        let record = match tag {
            BARRIER => Self::Barrier {
                version: take_varint(&mut rest)?,
            },
            DELETE => Self::Delete {
                key: take_bytes(&mut rest)?,
            },
            CLEAR => Self::Clear,
            _ if tag & !(CREATED | EXPIRES) == PUT => Self::Put {
                expire_at_ms: take_expiry(tag, &mut rest)?,
                key: take_bytes(&mut rest)?,
                value: take_bytes(&mut rest)?,
                created: tag & CREATED != 0,
            },
            _ => return Err(RecordError::UnknownTag(tag)),
        };
        Ok((record, bytes.len() - rest.len()))
    }
}

/// Seven bits a byte, lowest first; the high bit says that more follow.
fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, RecordError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(RecordError::Truncated)?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        let fits = bits << shift >> shift == bits;
        let shortest = byte != 0 || shift == 0;
        if !fits || !shortest {
            return Err(RecordError::Number);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(RecordError::Number)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], RecordError> {
    let len = take_varint(rest)?;
    if len > rest.len() as u64 {
        return Err(RecordError::Truncated);
    }
    let (bytes, after) = rest.split_at(len as usize);
    *rest = after;
    Ok(bytes)
}

fn take_expiry(tag: u8, rest: &mut &[u8]) -> Result<u64, RecordError> {
    if tag & EXPIRES == 0 {
        return Ok(0);
    }
    match take_varint(rest)? {
        0 => Err(RecordError::Number),
        expire_at_ms => Ok(expire_at_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(record: &Record<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes
    }

    fn put<'a>(key: &'a [u8], value: &'a [u8], expire_at_ms: u64, created: bool) -> Record<'a> {
        Record::Put {
            key,
            value,
            expire_at_ms,
            created,
        }
    }

    #[test]
    fn the_bytes_of_records_are_fixed() {
        let golden: &[(Record<'_>, &[u8])] = &[
            (Record::Barrier { version: 300 }, b"\x01\xac\x02"),
            (put(b"k", b"val", 0, false), b"\x02\x01k\x03val"),
            (put(b"k", b"", 0, true), b"\x12\x01k\x00"),
            (put(b"", b"v", 1, false), b"\x22\x01\x00\x01v"),
            (put(b"k", b"v", 128, true), b"\x32\x80\x01\x01k\x01v"),
            (Record::Delete { key: b"gone" }, b"\x03\x04gone"),
            (Record::Clear, b"\x04"),
        ];
        for (record, bytes) in golden {
            assert_eq!(encoded(record), *bytes);
            assert_eq!(Record::decode(bytes), Ok((*record, bytes.len())));
        }
    }

    #[test]
    fn malformed_numbers_and_unknown_tags_are_errors() {
        let number = Err(RecordError::Number);
        assert_eq!(Record::decode(b"\x01\x80\x00"), number, "not shortest");
        assert_eq!(Record::decode(b"\x22\x00\x00\x00"), number, "expiry of 0");
        let too_big = b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02";
        assert_eq!(Record::decode(too_big), number, "65 bits");
        for tag in [0x00, 0x05, 0x11, 0x42, 0x82, 0xff] {
            let bytes = [tag, 0, 0, 0];
            let result = Record::decode(&bytes);
            assert_eq!(result, Err(RecordError::UnknownTag(tag)));
        }
        let huge = b"\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert_eq!(Record::decode(huge), Err(RecordError::Truncated));
    }

    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..300)
    }

    proptest! {
        #[test]
        fn a_record_round_trips_and_its_prefixes_are_errors(
            key in any_bytes(), value in any_bytes(), number in any::<u64>(),
            created in any::<bool>(), kind in 0..4, tail in any_bytes(),
        ) {
            let record = match kind {
                0 => Record::Barrier { version: number },
                1 => put(&key, &value, number, created),
                2 => Record::Delete { key: &key },
                _ => Record::Clear,
            };
            let mut bytes = encoded(&record);
            for cut in 0..bytes.len() {
                prop_assert_eq!(Record::decode(&bytes[..cut]), Err(RecordError::Truncated));
            }
            let len = bytes.len();
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(Record::decode(&bytes), Ok((record, len)));
        }

        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(bytes in any_bytes()) {
            if let Ok((record, len)) = Record::decode(&bytes) {
                prop_assert_eq!(encoded(&record), &bytes[..len]);
            }
        }
    }
}
