//! A hash table of entries that never stops for long: it is made of many small tables, so that
//! growing, draining and sampling go in steps of one of them.
//!
//! It must not know what the entries mean.

use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use super::arena::{Handle, Pool};
use super::draft::Draft;
use super::entry::Entry;
use super::shard::Shard;

/// Parts of a table. One million entries make parts of a thousand, which grow in about 0.1 ms.
pub(super) const SHARDS: usize = 1024;

const HASH_RANGE: u64 = 1 << 20;

/// Where an entry is, until the table changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    shard: u32,
    handle: Handle,
}

/// What tables share among which entries move.
#[derive(Clone, Debug, Default)]
pub(super) struct Common {
    pub(super) hasher: DefaultHashBuilder,
    pub(super) pool: Arc<Pool>,
}

/// Entries by key, at most one a key.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Shard]>,
    common: Common,
    len: usize,
    bytes: usize,
    /// So many entries, and bytes, are expected: a part makes room for its share with its first one.
    expected: (f64, f64),
}

impl Table {
    /// An empty one.
    pub(super) fn new(common: Common) -> Self {
        let shards = std::iter::repeat_with(Shard::default).take(SHARDS);
        Self {
            shards: shards.collect(),
            common,
            len: 0,
            bytes: 0,
            expected: (0.0, 0.0),
        }
    }

    /// An empty one that will hold about as much as this one: it need not grow step by step, which
    /// would hash each entry once or twice more, and wait for the memory that they lie in.
    pub(super) fn next(&self) -> Self {
        Self {
            expected: (self.len as f64, self.bytes as f64),
            ..Self::new(self.common.clone())
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that it takes for entries: what it has for them, not only what they fill.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same, counted anew.
    #[cfg(test)]
    pub(super) fn recount(&self) -> usize {
        self.shards.iter().map(Shard::memory).sum()
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<Slot> {
        let shard = shard_of(hash);
        let handle = self.shards[shard].find(hash, key)?;
        Some(Slot {
            shard: shard as u32,
            handle,
        })
    }

    /// As [`Self::find`] without the key: what is probably the entry, and a byte of it.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> Option<u8> {
        self.shards[shard_of(hash)].touch(hash)
    }

    /// Bytes of the entry of a slot, to have it in the processor's caches when it is needed.
    #[inline]
    pub(super) fn touch_at(&self, slot: Slot) -> u8 {
        self.shards[slot.shard as usize].touch_at(slot.handle)
    }

    /// The entry of a slot that was just found.
    pub(super) fn at(&self, slot: Slot) -> Entry<'_> {
        self.shards[slot.shard as usize].get(slot.handle)
    }

    /// Notes that an entry was read, so that the clock spares it.
    pub(super) fn visit(&mut self, slot: Slot) {
        self.shards[slot.shard as usize].warm(slot.handle);
    }

    /// Changes one part, and counts what that did.
    #[inline]
    fn change<T>(&mut self, shard: usize, change: impl FnOnce(&mut Shard, &Common) -> T) -> T {
        let shard = &mut self.shards[shard];
        let before = (shard.memory(), shard.len());
        let result = change(shard, &self.common);
        self.bytes = self.bytes + shard.memory() - before.0;
        self.len = self.len + shard.len() - before.1;
        result
    }

    /// `true` if there was an entry of the key.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, draft: &Draft<'_>) -> bool {
        self.replace(hash, draft, |_| {})
    }

    /// The same, telling the entry that was there before it goes.
    #[inline]
    pub(super) fn replace(
        &mut self,
        hash: u64,
        draft: &Draft<'_>,
        goes: impl FnOnce(Entry<'_>),
    ) -> bool {
        let (number, expected) = (shard_of(hash), self.expected);
        self.change(number, |shard, common| {
            if expected.0 > 0.0 && shard.len() == 0 {
                let share = share(number);
                shard.prepare((expected.0 * share) as usize, (expected.1 * share) as usize);
            }
            shard.replace(hash, draft, common, goes)
        })
    }

    /// `true` if there was one.
    pub(super) fn remove(&mut self, hash: u64, key: &[u8]) -> bool {
        self.change(shard_of(hash), |shard, common| {
            shard.remove(hash, key, common)
        })
    }

    /// Takes every entry of one shard out.
    pub(super) fn drain_shard(&mut self, shard: usize) -> Drained {
        Drained {
            number: shard,
            shard: self.change(shard, |shard, _| std::mem::take(shard)),
            common: self.common.clone(),
        }
    }

    /// Takes some entries over that were in a shard of a table of the same hasher, told by their hashes;
    /// the rest is forgotten.
    pub(super) fn absorb(&mut self, mut drained: Drained, wanted: &[(u64, Handle)]) {
        let other = std::mem::take(&mut drained.shard);
        self.change(drained.number, |shard, common| {
            shard.absorb(other, wanted, common);
        });
    }

    pub(super) fn shard(&self, shard: usize) -> impl Iterator<Item = Entry<'_>> {
        self.shards[shard].iter()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        self.shards.iter().flat_map(Shard::iter)
    }

    /// Where all entries are.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        let shards = (0..).zip(&self.shards);
        shards.flat_map(|(number, shard)| {
            let slot = move |handle| Slot {
                shard: number,
                handle,
            };
            shard.handles().map(slot)
        })
    }

    /// The entry at a position that is as good as any other: each has exactly one.
    pub(super) fn nth(&self, position: usize) -> Option<Entry<'_>> {
        let mut rest = position;
        for shard in &self.shards {
            match rest.checked_sub(shard.len()) {
                Some(further) => rest = further,
                None => return shard.iter().nth(rest),
            }
        }
        None
    }

    /// One step of a clock's hand: an entry that was read cools down, one that is cold goes, and
    /// `true`. Advances the hand by one place.
    pub(super) fn evict_step(&mut self, hand: &mut Hand) -> bool {
        let Hand { shard, place } = *hand;
        let step = self.change(shard, |shard, common| shard.evict(place, common));
        *hand = match step {
            Some(_) => Hand {
                shard,
                place: place + 1,
            },
            None => Hand {
                shard: (shard + 1) % SHARDS,
                place: 0,
            },
        };
        step == Some(true)
    }
}

/// What was in one shard of a table. Its memory is for others once it is dropped.
#[derive(Debug)]
pub(super) struct Drained {
    number: usize,
    shard: Shard,
    common: Common,
}

impl Drained {
    pub(super) fn iter(&self) -> impl Iterator<Item = (Handle, Entry<'_>)> {
        let handles = self.shard.handles();
        handles.map(|handle| (handle, self.shard.get(handle)))
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        std::mem::take(&mut self.shard).recycle(&self.common);
    }
}

/// Where the clock's hand of a cache stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hand {
    shard: usize,
    place: usize,
}

/// By bits of the hash that the small tables use neither as a position nor as a tag. The last part gets
/// half as many entries as the first one: parts of one size would all grow, to twice the places, at
/// about the same time, and be half empty from then on.
pub(super) fn shard_of(hash: u64) -> usize {
    let x = (hash >> 36) & (HASH_RANGE - 1);
    // With x from 0 to 1: (2 x + x^2) / 3.
    ((x * (2 * HASH_RANGE + x) / 3) >> 30) as usize
}

/// The part of all entries that a shard gets.
fn share(shard: usize) -> f64 {
    let x = |shard: usize| (1.0 + 3.0 * shard as f64 / SHARDS as f64).sqrt();
    x(shard + 1) - x(shard)
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;
    use crate::replication::Lsn;

    fn filled(count: u32) -> Table {
        let mut table = Table::new(Common::default());
        for i in 0..count {
            let key = i.to_le_bytes();
            let hash = table.common.hasher.hash_one(&key[..]);
            table.insert(hash, &Draft::put(&key, b"v", 0, Lsn(1)));
        }
        table
    }

    #[test]
    fn entries_are_found_replaced_and_removed() {
        let mut table = filled(5000);
        let key = 77_u32.to_le_bytes();
        let hash = table.common.hasher.hash_one(&key[..]);
        let slot = table.find(hash, &key).unwrap();
        assert_eq!(table.at(slot).key(), key);
        assert!(table.insert(hash, &Draft::tombstone(&key, Lsn(2))));
        assert_eq!(table.len(), 5000);
        let slot = table.find(hash, &key).unwrap();
        assert!(table.at(slot).is_tombstone());
        assert!(table.remove(hash, &key));
        assert!(!table.remove(hash, &key));
        assert!(table.find(hash, &key).is_none());
        assert_eq!(table.len(), 4999);
        for shard in 0..SHARDS {
            let _ = table.drain_shard(shard);
        }
        assert_eq!((table.len(), table.bytes()), (0, 0));
    }

    #[test]
    fn parts_get_their_share() {
        let count = 300_000;
        let table = filled(count);
        assert!((share(0) / share(SHARDS - 1) - 2.0).abs() < 0.01);
        for (number, shard) in table.shards.iter().enumerate() {
            let expected = f64::from(count) * share(number);
            let off = (shard.len() as f64 - expected).abs();
            assert!(off < 8.0 * expected.sqrt(), "{number}: {off}");
        }
        assert_eq!((shard_of(0), shard_of(u64::MAX)), (0, SHARDS - 1));
    }

    #[test]
    fn the_clock_spares_what_was_read() {
        let mut table = filled(2000);
        let key = 5_u32.to_le_bytes();
        let slot = table
            .find(table.common.hasher.hash_one(&key[..]), &key)
            .unwrap();
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
