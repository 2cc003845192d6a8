//! What a command may see and do: the boundary between commands and the rest of the replica.

use super::Facts;

/// A live entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// The value.
    pub value: &'a [u8],
    /// Milliseconds since 1970 (UTC) at which it expires, 0 for never.
    pub expire_at_ms: u64,
    /// LSN of the record that wrote it.
    pub lsn: u64,
}

/// Why a view could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// Answered to the client as it stands: it begins with the error's code, e.g. `READONLY`.
    #[error("{0}")]
    Refused(String),
    /// The state could not be read; the client gets `ERR` and the text.
    #[error("ERR the state could not be read: {0}")]
    Storage(String),
}

/// The state as one command sees it. On a leader, changes are appended to the log and seen by the
/// commands after it at once; the reply is held back until what it rests on is committed.
///
/// All changes of one call of [`execute`](super::execute()) belong together (MSET, RENAME, EXEC): a
/// replica that recovers must see all of them or none. What could stand against a change is for
/// `writable` to say, before the first of them.
#[expect(clippy::len_without_is_empty, reason = "no command asks")]
pub trait View {
    /// The live entry of a key; an expired one does not exist.
    fn get(&mut self, key: &[u8]) -> Result<Option<EntryRef<'_>>, ViewError>;
    /// Gives the key a whole new value and expiry (0 for never).
    fn put(&mut self, key: &[u8], value: &[u8], expire_at_ms: u64) -> Result<(), ViewError>;
    /// Removes the key; `false` if it did not exist.
    fn delete(&mut self, key: &[u8]) -> Result<bool, ViewError>;
    /// Removes every key.
    fn clear(&mut self) -> Result<(), ViewError>;
    /// The number of keys.
    fn len(&mut self) -> Result<u64, ViewError>;
    /// The number of keys as far as it is known, for people: nothing may rest on it.
    fn len_hint(&mut self) -> u64 {
        self.len().unwrap_or(0)
    }
    /// A key chosen at random, or `None` if there is none.
    fn random_key(&mut self) -> Result<Option<Vec<u8>>, ViewError>;
    /// Up to about `count` keys from `cursor` on (0 begins), and the cursor to go on with (0 at the
    /// end). A key that exists from the first call to the last is returned at least once, and exactly
    /// once if nothing changes in between.
    fn scan(&mut self, cursor: u64, count: usize) -> Result<(u64, Vec<Vec<u8>>), ViewError>;
    /// Milliseconds since 1970 (UTC), the same throughout one command.
    fn now_ms(&self) -> u64;
    /// `Ok` if this replica takes writes, and so reads, now; else the error for the client.
    fn writable(&self) -> Result<(), ViewError>;
    /// `Ok` if there is room for more data; asked after `writable`, for commands that may need some.
    fn growable(&self) -> Result<(), ViewError> {
        Ok(())
    }
    /// `Ok` if this replica takes reads now; else the error for the client (`LOADING ...`).
    fn readable(&self) -> Result<(), ViewError>;
    /// The end of the log as this view sees it, uncommitted records included.
    fn end_lsn(&self) -> u64;
    /// Whether this replica takes writes itself.
    fn leads(&self) -> bool;
    /// How many followers of this leader have everything up to `lsn` on disk.
    fn copies(&self, lsn: u64) -> u64;
    /// Facts for people and monitoring, as of now: nothing may rest on them.
    fn facts(&self) -> Facts;
}
