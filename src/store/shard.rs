//! One of the small tables that a table is made of: handles by hash, and an arena with what they lead to.
//!
//! It must not know the others, nor what the entries mean.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::arena::{Arena, Handle};
use super::draft::Draft;
use super::entry::Entry;
use super::table::Common;

/// With so many times as many places as entries, places are given back; not where there are few, as
/// those whose entry moves may be passed twice by the hand of a clock, or not at all.
const SPARSE: usize = 8;
const FEW: usize = 100;

/// Entries by key, at most one a key. What a look at an entry needs is in one line of the processor's
/// caches.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Shard {
    handles: HashTable<Handle>,
    arena: Arena,
}

impl Shard {
    pub(super) fn len(&self) -> usize {
        self.handles.len()
    }

    /// Bytes of memory that it takes, beside its own.
    #[inline]
    pub(super) fn memory(&self) -> usize {
        self.handles.allocation_size() + self.arena.memory()
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<Handle> {
        let same = |handle: &Handle| self.arena.key(*handle) == key;
        self.handles.find(hash, same).copied()
    }

    /// As [`Self::find`] without the key: what is probably the entry, and a byte of it.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> Option<u8> {
        let found = self.handles.find(hash, |_| true)?;
        Some(self.arena.touch(*found))
    }

    /// Bytes of an entry.
    #[inline]
    pub(super) fn touch_at(&self, handle: Handle) -> u8 {
        self.arena.touch(handle)
    }

    pub(super) fn get(&self, handle: Handle) -> Entry<'_> {
        self.arena.get(handle)
    }

    pub(super) fn warm(&mut self, handle: Handle) {
        self.arena.warm(handle);
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = Handle> {
        self.handles.iter().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        self.handles().map(|handle| self.arena.get(handle))
    }

    /// Readies an empty one for about so many entries of so many bytes together. There is room for half of
    /// them at first: so it grows once, and what never comes takes little.
    pub(super) fn prepare(&mut self, entries: usize, bytes: usize) {
        if self.handles.capacity() == 0 {
            self.handles.reserve(entries / 2, |_| 0);
            self.arena.expect(bytes);
        }
    }

    /// `true` if there was an entry of the key.
    pub(super) fn insert(&mut self, hash: u64, draft: &Draft<'_>, common: &Common) -> bool {
        self.replace(hash, draft, common, |_| {})
    }

    /// The same, telling the entry that was there before it goes.
    #[inline]
    pub(super) fn replace(
        &mut self,
        hash: u64,
        draft: &Draft<'_>,
        common: &Common,
        goes: impl FnOnce(Entry<'_>),
    ) -> bool {
        let Self { handles, arena } = self;
        let found = handles.find_mut(hash, |handle| arena.key(*handle) == draft.key());
        if let Some(handle) = found {
            goes(arena.get(*handle));
            if !arena.overwrite(*handle, draft) {
                let new = arena.append(draft, &common.pool);
                let old = std::mem::replace(handle, new);
                arena.kill(old, &common.pool);
                self.tidy(common);
            }
            return true;
        }
        let handle = arena.append(draft, &common.pool);
        let hash_of = |handle: &Handle| common.hasher.hash_one(arena.key(*handle));
        handles.insert_unique(hash, handle, hash_of);
        false
    }

    /// `true` if there was one.
    pub(super) fn remove(&mut self, hash: u64, key: &[u8], common: &Common) -> bool {
        let Self { handles, arena } = self;
        let Ok(found) = handles.find_entry(hash, |handle| arena.key(*handle) == key) else {
            return false;
        };
        let (handle, _) = found.remove();
        self.forget(handle, common);
        true
    }

    /// The hand of a clock passes a place: what was read cools down, what is cold goes, and `true`.
    /// `None` behind the last place.
    pub(super) fn evict(&mut self, place: usize, common: &Common) -> Option<bool> {
        if place >= self.handles.num_buckets() || self.handles.is_empty() {
            return None;
        }
        let Ok(found) = self.handles.get_bucket_entry(place) else {
            return Some(false);
        };
        if self.arena.cool(*found.get()) {
            return Some(false);
        }
        let (handle, _) = found.remove();
        self.forget(handle, common);
        Some(true)
    }

    fn forget(&mut self, handle: Handle, common: &Common) {
        self.arena.kill(handle, &common.pool);
        self.tidy(common);
        let Self { handles, arena } = self;
        if handles.is_empty() {
            *handles = HashTable::new();
        } else if handles.len() * SPARSE < handles.capacity() && handles.capacity() > FEW {
            let hash_of = |handle: &Handle| common.hasher.hash_one(arena.key(*handle));
            handles.shrink_to(handles.len() * 2, hash_of);
        }
    }

    /// Takes some entries over from a shard of another table, told by hash and handle.
    pub(super) fn absorb(&mut self, mut other: Self, wanted: &[(u64, Handle)], common: &Common) {
        let Self { handles, arena } = self;
        let adopted = arena.adopt(&mut other.arena, wanted.iter().map(|(_, handle)| *handle));
        let hash_of = |handle: &Handle| common.hasher.hash_one(arena.key(*handle));
        handles.reserve(wanted.len(), hash_of);
        // Until a handle leads to each of these, none of them may be moved.
        for &(hash, was) in wanted {
            let Some(handle) = adopted.now(was) else {
                continue;
            };
            let same = |old: &Handle| arena.key(*old) == arena.key(handle);
            if let Some(place) = handles.find_mut(hash, same) {
                let old = std::mem::replace(place, handle);
                arena.kill(old, &common.pool);
            } else {
                let hash_of = |handle: &Handle| common.hasher.hash_one(arena.key(*handle));
                handles.insert_unique(hash, handle, hash_of);
            }
        }
        for &(hash, was) in wanted {
            if adopted.now(was).is_none() {
                self.insert(hash, &Draft::copy(other.arena.get(was)), common);
            }
        }
        while self.tidy(common) {}
        other.arena.recycle(&common.pool);
    }

    /// Moves what is left in one chunk, where there is too much garbage; `false` if there is not.
    #[inline]
    fn tidy(&mut self, common: &Common) -> bool {
        let victim = self.arena.victim();
        let moved = victim.is_some();
        if let Some(victim) = victim {
            for (old, entry) in victim.entries() {
                let hash = common.hasher.hash_one(entry.key());
                // Garbage is what no handle leads to.
                if let Some(handle) = self.handles.find_mut(hash, |handle| *handle == old) {
                    *handle = self.arena.append(&Draft::copy(entry), &common.pool);
                }
            }
            self.arena.done(victim, &common.pool);
        }
        moved
    }

    /// Its memory is for others.
    pub(super) fn recycle(self, common: &Common) {
        self.arena.recycle(&common.pool);
    }
}
