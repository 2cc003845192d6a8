//! What handlers have in common.

use super::error::Error;
use super::execute::Call;
use super::view::EntryRef;
use crate::resp::parse_i64;

impl Call<'_> {
    /// The integer at `index`.
    pub(super) fn integer(&self, index: usize) -> Result<i64, Error> {
        parse_i64(self.args.at(index)).ok_or(Error::NOT_INTEGER)
    }

    /// The entry of a key, counted as a read.
    pub(super) fn read(&mut self, key: &[u8]) -> Result<Option<EntryRef<'_>>, Error> {
        let entry = self.view.get(key)?;
        let stats = self.host.stats();
        if entry.is_some() {
            stats.hits.bump();
        } else {
            stats.misses.bump();
        }
        Ok(entry)
    }

    /// Replies with the value of a key, straight out of the state; whether there is one.
    #[inline]
    pub(super) fn reply_value(&mut self, key: &[u8]) -> Result<bool, Error> {
        if let Some(entry) = self.view.get(key)? {
            self.host.stats().hits.bump();
            self.out.bulk(entry.value);
            return Ok(true);
        }
        self.host.stats().misses.bump();
        self.out.null();
        Ok(false)
    }

    /// Value and expiry of a key, for a command that writes it after it has read it.
    pub(super) fn owned(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u64)>, Error> {
        let entry = self.view.get(key)?;
        Ok(entry.map(|entry| (entry.value.to_vec(), entry.expire_at_ms)))
    }

    /// Gives the key a value and an expiry; if that has passed already, the key is gone.
    pub(super) fn store(&mut self, key: &[u8], value: &[u8], expire_at: u64) -> Result<(), Error> {
        if expire_at != 0 && expire_at <= self.view.now_ms() {
            self.view.delete(key)?;
        } else {
            self.view.put(key, value, expire_at)?;
        }
        Ok(())
    }
}
