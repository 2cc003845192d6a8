//! A state in memory, with a clock that the test sets.

use crate::command::{EntryRef, Facts, Follower, Link, Replication, Role, View, ViewError};
use std::collections::BTreeMap;

#[derive(Debug, PartialEq)]
struct Entry {
    value: Vec<u8>,
    expire_at_ms: u64,
    lsn: u64,
}

/// The only follower has the log up to here.
const COPIED: u64 = 2;

pub(super) struct TestView {
    entries: BTreeMap<Vec<u8>, Entry>,
    end_lsn: u64,
    pub(super) now_ms: u64,
    /// What `writable` answers.
    pub(super) refuses_writes: Option<&'static str>,
    /// What `readable` answers.
    pub(super) refuses_reads: Option<&'static str>,
    pub(super) follows: bool,
    pub(super) loading: bool,
}

impl Default for TestView {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            end_lsn: 0,
            now_ms: 1_700_000_000_000,
            refuses_writes: None,
            refuses_reads: None,
            follows: false,
            loading: false,
        }
    }
}

impl TestView {
    fn is_live(&self, entry: &Entry) -> bool {
        entry.expire_at_ms == 0 || entry.expire_at_ms > self.now_ms
    }

    /// Live keys in their order.
    pub(super) fn keys(&self) -> Vec<Vec<u8>> {
        let live = self.entries.iter().filter(|(_, entry)| self.is_live(entry));
        live.map(|(key, _)| key.clone()).collect()
    }
}

fn check(refusal: Option<&'static str>) -> Result<(), ViewError> {
    refusal.map_or(Ok(()), |text| Err(ViewError::Refused(text.to_owned())))
}

impl View for TestView {
    fn get(&mut self, key: &[u8]) -> Result<Option<EntryRef<'_>>, ViewError> {
        let entry = self.entries.get(key).filter(|entry| self.is_live(entry));
        Ok(entry.map(|entry| EntryRef {
            value: &entry.value,
            expire_at_ms: entry.expire_at_ms,
            lsn: entry.lsn,
        }))
    }

    fn put(&mut self, key: &[u8], value: &[u8], expire_at_ms: u64) -> Result<(), ViewError> {
        assert!(
            expire_at_ms == 0 || expire_at_ms > self.now_ms,
            "a command must delete what has expired, not put it"
        );
        self.end_lsn += 1;
        let entry = Entry {
            value: value.to_vec(),
            expire_at_ms,
            lsn: self.end_lsn,
        };
        self.entries.insert(key.to_vec(), entry);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<bool, ViewError> {
        let existed = self.get(key)?.is_some();
        self.entries.remove(key);
        self.end_lsn += u64::from(existed);
        Ok(existed)
    }

    fn clear(&mut self) -> Result<(), ViewError> {
        self.end_lsn += 1;
        self.entries.clear();
        Ok(())
    }

    fn len(&mut self) -> Result<u64, ViewError> {
        Ok(self.keys().len() as u64)
    }

    fn random_key(&mut self) -> Result<Option<Vec<u8>>, ViewError> {
        Ok(self.keys().into_iter().next())
    }

    fn scan(&mut self, cursor: u64, count: usize) -> Result<(u64, Vec<Vec<u8>>), ViewError> {
        let keys = self.keys();
        let end = keys.len().min(cursor as usize + count);
        let found = keys.get(cursor as usize..end).unwrap_or_default().to_vec();
        Ok((if end < keys.len() { end as u64 } else { 0 }, found))
    }

    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn writable(&self) -> Result<(), ViewError> {
        check(self.refuses_writes)
    }

    fn readable(&self) -> Result<(), ViewError> {
        check(self.refuses_reads)
    }

    fn end_lsn(&self) -> u64 {
        self.end_lsn
    }

    fn leads(&self) -> bool {
        !self.follows
    }

    fn copies(&self, lsn: u64) -> u64 {
        u64::from(lsn <= COPIED)
    }

    fn facts(&self) -> Facts {
        let follower = Follower {
            host: "b".to_owned(),
            port: 6379,
            online: true,
            durable_lsn: COPIED,
            lag_s: 0,
        };
        let role = if self.follows {
            let link = Link::Connected;
            Role::Follower {
                host: "a".to_owned(),
                port: 6379,
                link,
                last_io_s: Some(0),
            }
        } else {
            Role::Leader {
                followers: vec![follower],
            }
        };
        Facts {
            replication: Replication {
                role,
                history_id: "0123".to_owned(),
                offset: 9,
            },
            loading: self.loading,
            used_memory: 3 << 20,
            maxmemory: 0,
            keys_with_expiry: 0,
            more: vec![("stats", "commit_lsn".to_owned(), "17".to_owned())],
        }
    }
}
