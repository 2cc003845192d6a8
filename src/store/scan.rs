//! Walking over all keys while they change: SCAN, and keys chosen at random.
//!
//! A scan first walks the layers that were not flushed when it began, shard by shard, and then
//! the engine in the order of the keys. A key that exists all the time is returned: either the
//! engine has it when that walk begins, and keeps it, or its layer was not flushed before that,
//! so was walked to its end.

use std::collections::VecDeque;
use std::sync::Arc;

use super::entry::{Entry, parse_stored};
use super::error::{Result, StoreError};
use super::page::Page;
use super::state::Store;
use super::table::{SHARDS, Table};

/// Scans that are remembered; the one unused for longest is forgotten first.
const SESSIONS: usize = 128;

/// Bits of a cursor that count the steps of a scan. The rest, up to 2^53, tells scans apart.
const STEP_BITS: u32 = 20;

/// Keys that a step looks at beyond those that it returns: deleted ones, for the most part.
pub(super) const EXTRA_KEYS: usize = 128;

/// Tries to find a visible key at random in memory.
const SAMPLE_TRIES: u64 = 32;
/// Steps of a scan, of some hundred keys at most, in which the first visible key is looked for.
const FIRST_KEY_STEPS: u32 = 4096;

/// The scans under way.
#[derive(Debug)]
pub(super) struct Scans {
    random: u64,
    /// The one used last is last.
    sessions: VecDeque<Session>,
}

#[derive(Debug)]
struct Session {
    id: u64,
    step: u64,
    /// Where the cursor of `step` goes on, and where the one before it does: a client that lost
    /// an answer asks again.
    position: Position,
    previous: Option<Position>,
}

#[derive(Clone, Debug)]
struct Position {
    phase: Phase,
    /// Keys that were found and not returned yet, from `next` on.
    found: Arc<[Box<[u8]>]>,
    next: usize,
}

#[derive(Clone, Debug)]
enum Phase {
    /// The next shard of the last layer of the list.
    Unflushed {
        layers: Vec<u64>,
        shard: usize,
    },
    /// The engine's keys from this one on.
    Flushed {
        from: Vec<u8>,
    },
    End,
}

impl Scans {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: seed,
            sessions: VecDeque::new(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.sessions.clear();
    }

    /// The engine's key from which the scan of a cursor goes on, if it has come to the engine.
    pub(super) fn engine_position(&self, cursor: u64) -> Option<&[u8]> {
        let (id, step) = (cursor >> STEP_BITS, cursor % (1 << STEP_BITS));
        let session = self.sessions.iter().find(|session| session.id == id)?;
        match &session.position.phase {
            Phase::Flushed { from } if session.step == step => Some(from),
            _ => None,
        }
    }

    /// Splitmix64: ids that nobody guesses by accident.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.random)
    }

    /// Takes the session of a cursor out, at the position that the cursor stands for.
    fn take(&mut self, cursor: u64) -> Option<Session> {
        let (id, step) = (cursor >> STEP_BITS, cursor % (1 << STEP_BITS));
        let at = self.sessions.iter().position(|session| session.id == id)?;
        let mut session = self.sessions.remove(at)?;
        if step != session.step {
            let previous = session.previous.take();
            let asked_again = (step + 1) % (1 << STEP_BITS) == session.step;
            session.position = previous.filter(|_| asked_again)?;
            session.step = step;
        }
        Some(session)
    }

    /// Remembers a session at its next position, and gives the cursor.
    fn put(&mut self, mut session: Session, next: Position) -> u64 {
        if self.sessions.len() >= SESSIONS {
            self.sessions.pop_front();
        }
        session.step = (session.step + 1) % (1 << STEP_BITS);
        session.previous = Some(std::mem::replace(&mut session.position, next));
        let cursor = session.id << STEP_BITS | session.step;
        self.sessions.push_back(session);
        cursor
    }
}

impl Store {
    /// About `count` keys from `cursor` on (0 begins) that have not expired at `now_ms`, and the cursor to go on
    /// with (0 at the end). A key that exists from the first call to the last is returned at least once.
    pub fn scan(&mut self, cursor: u64, count: usize, now_ms: u64) -> Result<(u64, Vec<Vec<u8>>)> {
        let (next, found) = self.scan_with_deadlines(cursor, count, now_ms)?;
        Ok((next, found.into_iter().map(|(key, _)| key).collect()))
    }

    /// The same, with the time at which each key expires.
    pub fn scan_with_deadlines(
        &mut self,
        cursor: u64,
        count: usize,
        now_ms: u64,
    ) -> Result<(u64, Vec<Deadline>)> {
        let session = if cursor == 0 {
            self.begin_scan()
        } else {
            let session = self.scans.take(cursor);
            session.ok_or(StoreError::UnknownCursor(cursor))?
        };
        let mut position = session.position.clone();
        let mut keys = Vec::new();
        let mut looked_at = 0;
        while keys.len() < count.max(1) && looked_at < count.saturating_add(EXTRA_KEYS) {
            if let Some(key) = position.found.get(position.next) {
                position.next += 1;
                looked_at += 1;
                // What was flushed meanwhile comes up in the engine.
                if let Unflushed::There(at) = self.unflushed(key)
                    && is_live(at, now_ms)
                {
                    keys.push((key.to_vec(), at));
                }
                continue;
            }
            match &mut position.phase {
                Phase::Unflushed { layers, shard } => {
                    let found = self.walk_layer(layers, shard);
                    position.found = found;
                    position.next = 0;
                    looked_at += 1;
                    if layers.is_empty() {
                        // The next call can read from the engine without the lock.
                        position.phase = Phase::Flushed { from: Vec::new() };
                        break;
                    }
                }
                Phase::Flushed { from } => {
                    let wanted = count.max(1) - keys.len();
                    let examine = count.saturating_add(EXTRA_KEYS) - looked_at;
                    let page = self.page_for(cursor);
                    let walk = Walk {
                        wanted,
                        examine,
                        now_ms,
                    };
                    match self.walk_engine(from, page, &walk, &mut keys)? {
                        Some(next) => {
                            position.phase = Phase::Flushed { from: next };
                            break;
                        }
                        None => position.phase = Phase::End,
                    }
                }
                Phase::End => return Ok((0, keys)),
            }
        }
        Ok((self.scans.put(session, position), keys))
    }

    /// What the changes that are not flushed say about a key.
    fn unflushed(&self, key: &[u8]) -> Unflushed {
        match self.locate_unflushed(self.hash(key), key) {
            None => Unflushed::Nothing,
            Some(place) => match self.entry(place).ok().and_then(Entry::value) {
                None => Unflushed::Gone,
                Some(entry) => Unflushed::There(entry.expire_at_ms),
            },
        }
    }

    fn begin_scan(&mut self) -> Session {
        let mut layers = vec![self.active.id];
        layers.extend(self.sealed.as_ref().map(|sealed| sealed.id));
        let id = loop {
            let id = self.scans.random() >> (64 - 53 + STEP_BITS);
            let taken = self.scans.sessions.iter().any(|session| session.id == id);
            if id != 0 && !taken {
                break id;
            }
        };
        Session {
            id,
            step: 0,
            position: Position {
                phase: Phase::Unflushed { layers, shard: 0 },
                found: Arc::default(),
                next: 0,
            },
            previous: None,
        }
    }

    /// The keys of the next shard of the last layer, which goes from the list when it is done.
    fn walk_layer(&self, layers: &mut Vec<u64>, shard: &mut usize) -> Arc<[Box<[u8]>]> {
        let Some(&id) = layers.last() else {
            return Arc::default();
        };
        let sealed = self.sealed.as_ref();
        let table = if id == self.active.id {
            Some(&self.active.table)
        } else {
            let sealed = sealed.filter(|sealed| sealed.id == id);
            sealed.map(|sealed| &sealed.contents.table)
        };
        let Some(table) = table.filter(|_| *shard < SHARDS) else {
            layers.pop();
            // A flush that was aborted went up in another layer; one that was finished is in
            // the engine.
            let mut successors = sealed
                .map(|sealed| (sealed.id, &sealed.absorbed))
                .into_iter()
                .chain([(self.active.id, &self.active.absorbed)]);
            let successor = successors.find(|(_, absorbed)| absorbed.contains(&id));
            if let Some((successor, _)) = successor
                && table.is_none()
                && !layers.contains(&successor)
            {
                layers.push(successor);
            }
            *shard = 0;
            return Arc::default();
        };
        let live = table.shard(*shard).filter(|entry| !entry.is_tombstone());
        *shard += 1;
        live.map(|entry| entry.key().into()).collect()
    }

    /// Appends the visible ones of the engine's keys; returns the key to go on with.
    fn walk_engine(
        &mut self,
        from: &[u8],
        page: Option<Page>,
        walk: &Walk,
        keys: &mut Vec<Deadline>,
    ) -> Result<Option<Vec<u8>>> {
        if self.is_cleared() {
            return Ok(None);
        }
        let enough = keys.len() + walk.wanted;
        let (mut items, next): (Deadlines, _) = match page {
            Some(page) => (Box::new(page.keys.into_iter().map(Ok)), page.next),
            None => {
                self.stats.walked += 1;
                let range = self.engine.range(self.meta.generation, from);
                (Box::new(range.map(deadline)), None)
            }
        };
        for (examined, item) in (&mut items).enumerate() {
            let (key, flushed) = item?;
            if keys.len() >= enough || examined > walk.examine {
                return Ok(Some(key));
            }
            let at = match self.unflushed(&key) {
                Unflushed::Nothing => flushed,
                Unflushed::There(at) => at,
                Unflushed::Gone => continue,
            };
            if is_live(at, walk.now_ms) {
                keys.push((key, at));
            }
        }
        Ok(next)
    }

    /// Whether a `Clear` that is not flushed hides what the engine has.
    pub(super) fn is_cleared(&self) -> bool {
        let sealed = self.sealed.as_ref();
        let sealed = sealed.and_then(|sealed| sealed.contents.cleared);
        self.active.cleared.or(sealed).is_some()
    }

    /// A key chosen by a random number that has not expired at `now_ms`, `None` if there is none. Where most keys are in memory,
    /// one is about as likely as another; else the distances between the keys play a part.
    pub fn random_key(&mut self, random: u64, now_ms: u64) -> Result<Option<Vec<u8>>> {
        if self.keys == 0 {
            return Ok(None);
        }
        for salt in 0..SAMPLE_TRIES {
            let random = mix(random.wrapping_add(salt));
            let found = match self.sample_memory(random) {
                Some(key) => Some(key),
                None => self.engine.sample(self.meta.generation, mix(random))?,
            };
            if let Some(key) = found
                && let Some(entry) = self.get(&key)?.value
                && is_live(entry.expire_at_ms, now_ms)
            {
                return Ok(Some(key));
            }
        }
        self.first_key(now_ms)
    }

    /// A key in memory, deleted ones included; `None` as often as most keys are elsewhere.
    fn sample_memory(&self, random: u64) -> Option<Vec<u8>> {
        let sealed = self.sealed.as_ref().map(|sealed| &sealed.contents.table);
        let tables: Vec<&Table> = [&self.active.table, &self.clean]
            .into_iter()
            .chain(sealed)
            .chain(&self.settling)
            .collect();
        let total: usize = tables.iter().map(|table| table.len()).sum();
        let mut nth = random % self.keys.max(total as u64).max(1);
        for table in tables {
            match nth.checked_sub(table.len() as u64) {
                Some(rest) => nth = rest,
                None => return table.nth(nth as usize).map(|entry| entry.key().to_vec()),
            }
        }
        None
    }

    /// The first key that a scan finds, if it finds one soon: for stores of next to nothing but deleted, or
    /// expired, keys.
    fn first_key(&mut self, now_ms: u64) -> Result<Option<Vec<u8>>> {
        let mut cursor = 0;
        for _ in 0..FIRST_KEY_STEPS {
            let (next, mut keys) = self.scan(cursor, 1, now_ms)?;
            if let Some(key) = keys.pop() {
                self.scans.take(next);
                return Ok(Some(key));
            }
            if next == 0 {
                return Ok(None);
            }
            cursor = next;
        }
        self.scans.take(cursor);
        Ok(None)
    }
}

/// What changes that are not flushed say about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unflushed {
    /// Nothing: the engine knows.
    Nothing,
    Gone,
    /// It exists, and expires then (0 for never).
    There(u64),
}

/// What a walk over the engine's keys is for.
struct Walk {
    wanted: usize,
    examine: usize,
    now_ms: u64,
}

/// A key, and when it expires (milliseconds since 1970, 0 for never).
pub type Deadline = (Vec<u8>, u64);
type Deadlines = Box<dyn Iterator<Item = Result<Deadline>>>;

/// Of an entry of the engine.
pub(super) fn deadline(item: Result<(Vec<u8>, Vec<u8>)>) -> Result<Deadline> {
    let (key, stored) = item?;
    Ok((key, parse_stored(&stored)?.expire_at_ms))
}

/// Whether what expires at a time is there at another.
fn is_live(expire_at_ms: u64, now_ms: u64) -> bool {
    expire_at_ms == 0 || expire_at_ms > now_ms
}

fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
