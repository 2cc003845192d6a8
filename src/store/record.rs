//! The records of the log: effects that the leader decided, applied alike by every replica.

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
        /// Whether the key did not exist before: the number of keys rises.
        created: bool,
    },
    /// The key, which existed, is gone.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// Every key is gone.
    Clear,
}
