//! The record that every flush writes together with the entries: what the LSM tree holds.

use serde::{Deserialize, Serialize};

use super::error::{Result, StoreError};
use crate::replication::{EpochHistory, Lsn};

/// First byte of an encoded [`Meta`].
const VERSION: u8 = 1;

/// What the flushed state is the state at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The flush LSN F: the effects of all records up to it are in, and of none after it.
    pub flushed: Lsn,
    /// The epochs of the log up to F.
    pub history: EpochHistory,
    /// The log's chain (CRC of the last frame) at F.
    pub chain: u32,
    /// The number of keys.
    pub keys: u64,
    /// The generation of keys that is alive; each `Clear` begins the next one.
    pub generation: u32,
    /// The most keys that may expire, if that is known.
    pub expiring: Option<u64>,
}

impl Meta {
    /// The bytes that are stored.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let encoded = postcard::to_extend(self, vec![VERSION]);
        encoded.map_err(|error| StoreError::Corrupt(format!("meta record: {error}")))
    }

    /// From the bytes that were stored.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let corrupt = |why: String| StoreError::Corrupt(format!("meta record: {why}"));
        match bytes.split_first() {
            Some((&VERSION, rest)) => {
                postcard::from_bytes(rest).map_err(|error| corrupt(error.to_string()))
            }
            Some((version, _)) => Err(corrupt(format!("unknown version {version}"))),
            None => Err(corrupt("empty".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::Epoch;

    #[test]
    fn the_bytes_are_fixed() {
        let mut history = EpochHistory::default();
        history.append(Epoch(3), Lsn(200));
        let meta = Meta {
            flushed: Lsn(300),
            history,
            chain: 5,
            keys: 7,
            generation: 1,
            expiring: Some(2),
        };
        let bytes = meta.encode().unwrap();
        assert_eq!(bytes, b"\x01\xac\x02\x01\x03\xc8\x01\x05\x07\x01\x01\x02");
        assert_eq!(Meta::decode(&bytes).unwrap(), meta);
        for cut in 0..bytes.len() {
            assert!(Meta::decode(&bytes[..cut]).is_err());
        }
        assert!(Meta::decode(b"\x02").is_err());
    }
}
