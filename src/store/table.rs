//! A hash table of entries that never stops for long: it is made of many small tables, so that
//! growing, draining and sampling go in steps of one of them.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::entry::Entry;

/// Parts of a table. One million entries make parts of a thousand, which grow in about 0.1 ms.
pub(super) const SHARDS: usize = 1024;

/// Where an entry is, until the table changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    shard: usize,
    bucket: usize,
}

/// Entries by key, at most one a key.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[HashTable<Entry>]>,
    hasher: DefaultHashBuilder,
    len: usize,
    bytes: usize,
    /// Room that a part makes with its first entry.
    room: usize,
}

impl Table {
    /// An empty one. Tables among which entries move share the hasher.
    pub(super) fn new(hasher: DefaultHashBuilder) -> Self {
        Self::for_about(0, hasher)
    }

    /// An empty one that will hold about so many entries: it need not grow step by step, which
    /// would hash each of them once or twice more, and wait for the memory that they lie in.
    pub(super) fn for_about(entries: usize, hasher: DefaultHashBuilder) -> Self {
        let average = entries / SHARDS;
        let shards = std::iter::repeat_with(HashTable::new).take(SHARDS);
        Self {
            shards: shards.collect(),
            hasher,
            len: 0,
            bytes: 0,
            // Some parts get more than others.
            room: average + average / 8,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that the entries take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<Slot> {
        let shard = shard_of(hash);
        let bucket = self.shards[shard].find_bucket_index(hash, |entry| entry.key() == key)?;
        Some(Slot { shard, bucket })
    }

    /// As [`Self::find`] without the key: what is probably the entry, and a byte of it.
    pub(super) fn touch(&self, hash: u64) -> Option<u8> {
        let found = self.shards[shard_of(hash)].find(hash, |_| true);
        found.map(Entry::first_byte)
    }

    /// The entry of a slot that was just found.
    pub(super) fn at(&self, slot: Slot) -> &Entry {
        let entry = self.shards[slot.shard].get_bucket(slot.bucket);
        entry.expect("the table did not change since the slot was found")
    }

    /// Notes that an entry was read, so that the clock spares it.
    pub(super) fn visit(&mut self, slot: Slot) {
        if let Some(entry) = self.shards[slot.shard].get_bucket_mut(slot.bucket) {
            entry.warm();
        }
    }

    pub(super) fn insert(&mut self, hash: u64, entry: Entry) -> Option<Entry> {
        self.bytes += entry.memory();
        let shard = &mut self.shards[shard_of(hash)];
        if let Some(old) = shard.find_mut(hash, |old| old.key() == entry.key()) {
            let old = std::mem::replace(old, entry);
            self.bytes -= old.memory();
            return Some(old);
        }
        let hasher = &self.hasher;
        if shard.capacity() == 0 {
            shard.reserve(self.room, |entry| hasher.hash_one(entry.key()));
        }
        shard.insert_unique(hash, entry, |entry| hasher.hash_one(entry.key()));
        self.len += 1;
        None
    }

    pub(super) fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        let shard = &mut self.shards[shard_of(hash)];
        let found = shard.find_entry(hash, |entry| entry.key() == key).ok()?;
        let (entry, _) = found.remove();
        self.forget(&entry);
        Some(entry)
    }

    fn forget(&mut self, entry: &Entry) {
        self.len -= 1;
        self.bytes -= entry.memory();
    }

    /// Takes every entry of one shard out.
    pub(super) fn drain_shard(&mut self, shard: usize) -> impl Iterator<Item = Entry> + use<> {
        let taken = std::mem::take(&mut self.shards[shard]);
        for entry in &taken {
            self.forget(entry);
        }
        taken.into_iter()
    }

    pub(super) fn shard(&self, shard: usize) -> impl Iterator<Item = &Entry> {
        self.shards[shard].iter()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.shards.iter().flat_map(HashTable::iter)
    }

    /// The entry at a position that is as good as any other: each has exactly one.
    pub(super) fn nth(&self, position: usize) -> Option<&Entry> {
        let mut rest = position;
        for shard in &self.shards {
            match rest.checked_sub(shard.len()) {
                Some(further) => rest = further,
                None => return shard.iter().nth(rest),
            }
        }
        None
    }

    /// One step of a clock's hand: an entry that was read cools down, one that is cold goes and is
    /// returned. Advances the hand by one place.
    pub(super) fn evict_step(&mut self, hand: &mut Hand) -> Option<Entry> {
        let shard = &mut self.shards[hand.shard];
        let bucket = hand.bucket;
        if bucket >= shard.num_buckets() || shard.is_empty() {
            *hand = Hand {
                shard: (hand.shard + 1) % SHARDS,
                bucket: 0,
            };
            return None;
        }
        hand.bucket += 1;
        let mut found = shard.get_bucket_entry(bucket).ok()?;
        if found.get_mut().cool() {
            return None;
        }
        let (entry, _) = found.remove();
        self.forget(&entry);
        Some(entry)
    }
}

/// Where the clock's hand of a cache stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hand {
    shard: usize,
    bucket: usize,
}

/// Bits of the hash that the small tables use neither as a position nor as a tag.
fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::Lsn;

    fn filled(count: u32) -> Table {
        let mut table = Table::new(DefaultHashBuilder::default());
        for i in 0..count {
            let entry = Entry::put(&i.to_le_bytes(), b"v", 0, Lsn(1));
            let hash = table.hasher.hash_one(entry.key());
            table.insert(hash, entry);
        }
        table
    }

    #[test]
    fn entries_are_found_replaced_and_removed() {
        let mut table = filled(5000);
        let key = 77_u32.to_le_bytes();
        let hash = table.hasher.hash_one(&key[..]);
        let slot = table.find(hash, &key).unwrap();
        assert_eq!(table.at(slot).key(), key);
        assert!(table.insert(hash, Entry::tombstone(&key, Lsn(2))).is_some());
        assert_eq!(table.len(), 5000);
        assert!(table.at(slot).is_tombstone());
        assert!(table.remove(hash, &key).is_some());
        assert!(table.find(hash, &key).is_none());
        assert_eq!(table.len(), 4999);
        for shard in 0..SHARDS {
            let _ = table.drain_shard(shard);
        }
        assert_eq!((table.len(), table.bytes()), (0, 0));
    }

    #[test]
    fn the_clock_spares_what_was_read() {
        let mut table = filled(2000);
        let key = 5_u32.to_le_bytes();
        let slot = table.find(table.hasher.hash_one(&key[..]), &key).unwrap();
        table.visit(slot);
        table.visit(slot);
        let mut hand = Hand::default();
        while table.len() > 1 {
            table.evict_step(&mut hand);
        }
        assert_eq!(table.iter().next().unwrap().key(), key);
        assert!(table.nth(0).is_some());
        while table.len() > 0 {
            table.evict_step(&mut hand);
        }
        assert!(table.nth(0).is_none());
        assert_eq!(table.bytes(), 0);
    }
}
