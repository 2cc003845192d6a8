//! Entries one behind the other in chunks of memory, each told by a number of four bytes: an allocation,
//! and a pointer, for each of them would take as much again as a small entry.
//!
//! It must not know what leads to an entry: whoever moves one is told where it went.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::draft::Draft;
use super::entry::{self, Entry};

/// Bytes of a chunk: as many as are moved in one step.
const CHUNK: usize = 8 << 10;
/// A longer entry has a chunk of its own, of just its size, lest the ends of chunks stay empty.
const LARGE: usize = CHUNK / 4;
const OFFSET_BITS: u32 = CHUNK.trailing_zeros();
/// Chunks of an arena. Those that are not open hold about 2 KiB at least, so a thousand arenas hold a
/// terabyte.
const MAX_CHUNKS: usize = 1 << (u32::BITS - OFFSET_BITS);
/// While there is little, room is made for this part more of what there is, or will be.
const GROWTH: usize = 8;
/// The part of the bytes that may be garbage before entries are moved.
const GARBAGE: usize = 4;
/// Chunks that are kept for whoever needs the next one: what a part of a table has, so that moving it
/// to another one takes no new memory.
const POOLED: usize = 64;

const CACHE_LINE: usize = 64;

/// Where an entry is in an arena: the number of the chunk, and the offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle(u32);

impl Handle {
    fn new(chunk: u32, offset: usize) -> Self {
        Self(chunk << OFFSET_BITS | offset as u32)
    }

    fn chunk(self) -> usize {
        (self.0 >> OFFSET_BITS) as usize
    }

    fn offset(self) -> usize {
        self.0 as usize % CHUNK
    }
}

/// Empty chunks, shared by the tables among which entries move: what one thread allocated and another
/// one freed would be of use to the first one only.
#[derive(Debug, Default)]
pub(super) struct Pool {
    chunks: Mutex<Vec<Vec<u8>>>,
    /// Their number, to be read without waiting.
    count: AtomicUsize,
}

impl Pool {
    fn take(&self) -> Vec<u8> {
        let mut chunks = self.chunks.lock();
        let pooled = chunks.pop();
        self.count.store(chunks.len(), Ordering::Relaxed);
        drop(chunks);
        pooled.unwrap_or_else(|| Vec::with_capacity(CHUNK))
    }

    fn give(&self, mut chunk: Vec<u8>) {
        chunk.clear();
        let mut chunks = self.chunks.lock();
        if chunk.capacity() == CHUNK && chunks.len() < POOLED {
            chunks.push(chunk);
            self.count.store(chunks.len(), Ordering::Relaxed);
        }
    }

    /// Bytes of memory that wait in it.
    pub(super) fn bytes(&self) -> usize {
        self.count.load(Ordering::Relaxed) * CHUNK
    }
}

/// Entries of which each was appended, and none of the rest knows.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Bytes of entries that are gone.
    dead: usize,
}

/// The entries of one part of a table. What a look at an entry needs is first.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Arena {
    chunks: Vec<Chunk>,
    /// Numbers of chunks without memory.
    free: Vec<u32>,
    /// The chunk that is appended to.
    open: Option<u32>,
    /// Bytes that are to be expected.
    expected: usize,
    /// Bytes that the chunks have room for, that were written to them, and that are garbage.
    capacity: usize,
    used: usize,
    dead: usize,
}

/// A chunk that was taken out for its entries to be moved.
#[derive(Debug)]
pub(super) struct Victim {
    id: u32,
    bytes: Vec<u8>,
}

impl Victim {
    /// What was in it, garbage included, and where that was.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Handle, Entry<'_>)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = self.bytes.get(at..).filter(|rest| !rest.is_empty())?;
            let (entry, len) = Entry::read(rest);
            let handle = Handle::new(self.id, at);
            at += len;
            Some((handle, entry))
        })
    }
}

/// Where chunks of one arena are in another one.
#[derive(Debug)]
pub(super) struct Adopted(Vec<Option<u32>>);

impl Adopted {
    /// Where an entry is now, if its chunk was taken over.
    pub(super) fn now(&self, handle: Handle) -> Option<Handle> {
        let chunk = self.0[handle.chunk()]?;
        Some(Handle::new(chunk, handle.offset()))
    }
}

impl Arena {
    /// Bytes of memory that it takes.
    #[inline]
    pub(super) fn memory(&self) -> usize {
        self.capacity
            + self.chunks.capacity() * size_of::<Chunk>()
            + self.free.capacity() * size_of::<u32>()
    }

    #[inline]
    fn bytes(&self, handle: Handle) -> &[u8] {
        &self.chunks[handle.chunk()].bytes[handle.offset()..]
    }

    #[inline]
    fn bytes_mut(&mut self, handle: Handle) -> &mut [u8] {
        &mut self.chunks[handle.chunk()].bytes[handle.offset()..]
    }

    pub(super) fn get(&self, handle: Handle) -> Entry<'_> {
        Entry::read(self.bytes(handle)).0
    }

    #[inline]
    pub(super) fn key(&self, handle: Handle) -> &[u8] {
        entry::key_of(self.bytes(handle))
    }

    /// Bytes of the entry, or of what lies next to it, from the first two lines of the processor's caches
    /// that it lies in.
    #[inline]
    pub(super) fn touch(&self, handle: Handle) -> u8 {
        let bytes = self.bytes(handle);
        bytes[0] ^ bytes.get(CACHE_LINE).copied().unwrap_or_default()
    }

    /// Notes a read.
    pub(super) fn warm(&mut self, handle: Handle) {
        entry::warm(self.bytes_mut(handle));
    }

    /// `false` if nobody has read the entry for long.
    pub(super) fn cool(&mut self, handle: Handle) -> bool {
        entry::cool(self.bytes_mut(handle))
    }

    /// Writes over the entry of the same key; `false`, and nothing is changed, if it is not as long.
    #[inline]
    pub(super) fn overwrite(&mut self, handle: Handle, draft: &Draft<'_>) -> bool {
        draft.overwrite(self.bytes_mut(handle))
    }

    #[inline]
    pub(super) fn append(&mut self, draft: &Draft<'_>, pool: &Pool) -> Handle {
        let len = draft.len();
        let id = self.place(len, pool);
        let bytes = &mut self.chunks[id as usize].bytes;
        let offset = bytes.len();
        draft.write(bytes);
        self.used += len;
        Handle::new(id, offset)
    }

    /// A chunk with room for so many bytes.
    #[inline]
    fn place(&mut self, len: usize, pool: &Pool) -> u32 {
        if len > LARGE {
            return self.add(Vec::with_capacity(len));
        }
        if let Some(id) = self.open
            && self.make_room(id, len)
        {
            return id;
        }
        self.open_chunk(len, pool)
    }

    /// About so many bytes are to come.
    pub(super) fn expect(&mut self, bytes: usize) {
        self.expected = bytes;
    }

    /// Room for an entry of some length, and for some more of its kind.
    fn room(&self, len: usize) -> usize {
        len.max(self.used.max(self.expected) / GROWTH)
    }

    fn make_room(&mut self, id: u32, len: usize) -> bool {
        let chunk = &self.chunks[id as usize].bytes;
        let (end, had) = (chunk.len() + len, chunk.capacity());
        if end <= had {
            return true;
        }
        if end > CHUNK {
            return false;
        }
        let wanted = (had + self.room(len)).clamp(end, CHUNK);
        let chunk = &mut self.chunks[id as usize].bytes;
        chunk.reserve_exact(wanted - chunk.len());
        self.capacity += chunk.capacity() - had;
        true
    }

    fn open_chunk(&mut self, len: usize, pool: &Pool) -> u32 {
        let room = self.room(len);
        let id = self.add(if room < CHUNK {
            Vec::with_capacity(room)
        } else {
            pool.take()
        });
        self.open = Some(id);
        id
    }

    fn add(&mut self, bytes: Vec<u8>) -> u32 {
        self.capacity += bytes.capacity();
        let chunk = Chunk { bytes, dead: 0 };
        if let Some(id) = self.free.pop() {
            self.chunks[id as usize] = chunk;
            return id;
        }
        assert!(self.chunks.len() < MAX_CHUNKS, "no memory is as large");
        self.chunks.push(chunk);
        (self.chunks.len() - 1) as u32
    }

    /// Takes a chunk's memory away.
    fn take(&mut self, id: u32) -> Vec<u8> {
        let Chunk { bytes, dead } = std::mem::take(&mut self.chunks[id as usize]);
        self.capacity -= bytes.capacity();
        self.used -= bytes.len();
        self.dead -= dead;
        self.open = self.open.filter(|open| *open != id);
        bytes
    }

    /// The entry is garbage from now on.
    pub(super) fn kill(&mut self, handle: Handle, pool: &Pool) {
        let len = Entry::read(self.bytes(handle)).1;
        let id = handle.chunk();
        let chunk = &mut self.chunks[id];
        chunk.dead += len;
        self.dead += len;
        if self.dead == self.used {
            std::mem::take(self).recycle(pool);
        } else if chunk.dead == chunk.bytes.len() {
            pool.give(self.take(id as u32));
            self.free.push(id as u32);
        }
    }

    /// The chunk with the most garbage, where there is too much of it. To be given to
    /// [`Self::done`] once its entries are elsewhere.
    #[inline]
    pub(super) fn victim(&mut self) -> Option<Victim> {
        if self.dead * GARBAGE <= self.used {
            return None;
        }
        let worst = self.chunks.iter().enumerate();
        let (id, _) = worst.max_by_key(|(_, chunk)| chunk.dead)?;
        let id = id as u32;
        let bytes = self.take(id);
        Some(Victim { id, bytes })
    }

    pub(super) fn done(&mut self, victim: Victim, pool: &Pool) {
        self.free.push(victim.id);
        pool.give(victim.bytes);
    }

    /// Takes chunks of another one over that are about full with wanted entries: no byte of these is
    /// copied. The rest of those chunks is garbage.
    pub(super) fn adopt(
        &mut self,
        other: &mut Self,
        wanted: impl Iterator<Item = Handle>,
    ) -> Adopted {
        let mut live = vec![0; other.chunks.len()];
        for handle in wanted {
            live[handle.chunk()] += Entry::read(other.bytes(handle)).1;
        }
        let adopted = (0..).zip(live).map(|(id, live)| {
            let room = other.chunks[id as usize].bytes.capacity();
            let full = live > CHUNK / GARBAGE * (GARBAGE - 1) || live > LARGE && live == room;
            full.then(|| {
                let bytes = other.take(id);
                let dead = bytes.len() - live;
                self.used += bytes.len();
                self.dead += dead;
                let id = self.add(bytes);
                self.chunks[id as usize].dead = dead;
                id
            })
        });
        Adopted(adopted.collect())
    }

    /// Its memory is for others.
    pub(super) fn recycle(self, pool: &Pool) {
        for chunk in self.chunks {
            pool.give(chunk.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::Lsn;

    fn append(arena: &mut Arena, pool: &Pool, number: u64, len: usize) -> Handle {
        let (key, value) = (number.to_le_bytes(), vec![number as u8; len]);
        arena.append(&Draft::put(&key, &value, 0, Lsn(number)), pool)
    }

    fn filled(pool: &Pool, count: u64, len: usize) -> (Arena, Vec<Handle>) {
        let mut arena = Arena::default();
        let handles = (0..count).map(|number| append(&mut arena, pool, number, len));
        let handles = handles.collect();
        (arena, handles)
    }

    #[test]
    fn handles_lead_to_their_entries_whatever_comes_after() {
        let (pool, mut arena) = (Pool::default(), Arena::default());
        let len =
            |number: u64| number as usize % 50 * if number.is_multiple_of(97) { 1000 } else { 3 };
        let handles: Vec<_> = (0..3000)
            .map(|number| append(&mut arena, &pool, number, len(number)))
            .collect();
        for (number, handle) in (0..).zip(handles) {
            let entry = arena.get(handle);
            assert_eq!(
                (entry.key(), entry.lsn()),
                (&u64::to_le_bytes(number)[..], Lsn(number))
            );
            assert_eq!(
                entry.value().unwrap().value,
                vec![number as u8; len(number)]
            );
        }
    }

    #[test]
    fn little_more_memory_is_taken_than_is_filled() {
        let (pool, mut arena) = (Pool::default(), Arena::default());
        for number in 0..2000 {
            append(&mut arena, &pool, number, 100);
            let filled = arena.used + arena.used / GROWTH + 120;
            assert!(arena.capacity <= filled + arena.used / 50, "{number}");
        }
        let large = append(&mut arena, &pool, 0, 1 << 20);
        let before = arena.capacity;
        arena.kill(large, &pool);
        assert!(before - arena.capacity < (1 << 20) + 100);
    }

    #[test]
    fn memory_goes_with_the_last_entry() {
        let pool = Pool::default();
        let (mut arena, handles) = filled(&pool, 1000, 300);
        let before = arena.memory();
        for handle in handles {
            arena.kill(handle, &pool);
        }
        assert_eq!(arena.memory(), 0);
        assert!(pool.bytes() > before / 2);
        filled(&pool, 1000, 300);
        assert!(pool.bytes() < before / 2, "chunks are used again");
    }

    #[test]
    fn the_chunk_with_the_most_garbage_is_moved_once_there_is_too_much() {
        let pool = Pool::default();
        let (mut arena, handles) = filled(&pool, 1000, 100);
        let second = handles.iter().filter(|handle| handle.chunk() == 1);
        second.for_each(|handle| {
            if handle.offset() > 1000 {
                arena.kill(*handle, &pool);
            }
        });
        assert!(arena.victim().is_none());
        for handle in handles.iter().filter(|handle| handle.chunk() > 1) {
            if handle.offset() % 3 == 0 {
                arena.kill(*handle, &pool);
            }
        }
        let (capacity, dead) = (arena.capacity, arena.dead);
        let victim = arena.victim().unwrap();
        let found: Vec<_> = victim.entries().map(|(handle, _)| handle).collect();
        let expected: Vec<_> = handles
            .into_iter()
            .filter(|handle| handle.chunk() == 1)
            .collect();
        assert_eq!(found, expected);
        arena.done(victim, &pool);
        assert!(arena.capacity < capacity && arena.dead < dead - CHUNK / 2);
    }
}
