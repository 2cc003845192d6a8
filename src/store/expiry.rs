//! Which keys expire when, so that somebody can look for the expired ones.
//!
//! The index holds at least the keys that expire; what it holds beyond that is found out when its
//! time has come. That is what makes it cheap: an overwritten entry that is not in memory need
//! not be looked up to correct the index.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::engine::Engine;
use super::entry::parse_stored;
use super::error::Result;
use super::meta::Meta;

/// An expiry time (milliseconds since 1970) and a key.
pub(super) type Hint = (u64, Box<[u8]>);

/// The index.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    hints: BTreeSet<Hint>,
    /// Whether no key is missing: those that were flushed before the store was opened are looked for.
    whole: bool,
    /// Rises when a `Clear` removes everything, or is taken back: what was looked for before counts no more.
    life: u64,
}

/// What was taken out of the index since a moment to which the store may have to go back.
#[derive(Debug, Default)]
pub(super) struct Undo {
    removed: Vec<Hint>,
    /// The whole index of before a `Clear`, and whether nothing was missing in it.
    cleared: Vec<(BTreeSet<Hint>, bool)>,
}

impl Undo {
    /// Takes over what an earlier one holds.
    pub(super) fn absorb(&mut self, earlier: Self) {
        self.removed.extend(earlier.removed);
        self.cleared.extend(earlier.cleared);
    }
}

impl Expiry {
    /// That of a state which has just been opened.
    pub(super) fn of(meta: &Meta) -> Self {
        Self {
            hints: BTreeSet::new(),
            life: 0,
            whole: meta.keys == 0 || meta.expiring == Some(0),
        }
    }

    /// The most keys that may expire, if that is known.
    pub(super) fn most(&self) -> Option<u64> {
        self.whole.then_some(self.hints.len() as u64)
    }

    /// All keys that were flushed before the opening have been looked at, in the life that is told.
    pub(super) fn filled(&mut self, life: u64) {
        self.whole |= life == self.life;
    }

    pub(super) fn life(&self) -> u64 {
        self.life
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hints.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.hints.len()
    }

    pub(super) fn insert(&mut self, expire_at_ms: u64, key: &[u8]) {
        self.hints.insert((expire_at_ms, key.into()));
    }

    pub(super) fn extend(&mut self, hints: Vec<Hint>) {
        self.hints.extend(hints);
    }

    pub(super) fn remove(&mut self, expire_at_ms: u64, key: &[u8], undo: &mut Undo) {
        let hint = (expire_at_ms, key.into());
        if self.hints.remove(&hint) {
            undo.removed.push(hint);
        }
    }

    pub(super) fn clear(&mut self, undo: &mut Undo) {
        let hints = std::mem::take(&mut self.hints);
        undo.cleared.push((hints, self.whole));
        self.whole = true;
        self.life += 1;
    }

    pub(super) fn restore(&mut self, undo: Undo) {
        for (mut hints, whole) in undo.cleared {
            self.whole &= whole;
            self.life += 1;
            // Into the bigger one, which is the older one most times.
            if hints.len() > self.hints.len() {
                std::mem::swap(&mut hints, &mut self.hints);
            }
            self.hints.extend(hints);
        }
        self.hints.extend(undo.removed);
    }

    /// The first hints whose time has come.
    pub(super) fn due(&self, now_ms: u64, limit: usize) -> Vec<Hint> {
        let due = self.hints.iter().take_while(|hint| hint.0 <= now_ms);
        due.take(limit).cloned().collect()
    }
}

/// Finds the keys that expire among those that were flushed before the store was opened, in
/// slices and without the core lock.
#[must_use]
pub struct ExpiryFill {
    engine: Arc<dyn Engine>,
    generation: u32,
    /// Of the index that it is for.
    pub(super) life: u64,
    /// The first key not looked at, `None` at the end.
    next: Option<Vec<u8>>,
}

/// Keys that expire, for [`Store::add_expiries`](super::Store::add_expiries).
#[derive(Debug, Default)]
pub struct Expiries {
    pub(super) hints: Vec<Hint>,
    pub(super) life: u64,
}

impl ExpiryFill {
    pub(super) fn new(engine: Arc<dyn Engine>, generation: u32, life: u64) -> Self {
        Self {
            engine,
            generation,
            life,
            next: Some(Vec::new()),
        }
    }

    /// Looks at the next `count` entries; `None` when all have been looked at.
    pub fn step(&mut self, count: usize) -> Result<Option<Expiries>> {
        let Some(from) = self.next.take() else {
            return Ok(None);
        };
        let mut found = Vec::new();
        for (seen, item) in self.engine.range(self.generation, &from).enumerate() {
            let (key, stored) = item?;
            if seen == count {
                self.next = Some(key);
                break;
            }
            let expire_at_ms = parse_stored(&stored)?.expire_at_ms;
            if expire_at_ms != 0 {
                found.push((expire_at_ms, key.into_boxed_slice()));
            }
        }
        Ok(Some(Expiries {
            hints: found,
            life: self.life,
        }))
    }
}
