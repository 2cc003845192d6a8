//! What changes that are not committed have overwritten, until they are committed: a leader that steps down takes
//! them back, at the cost of these alone, where it would have to go over the log since the last flush.
//!
//! The list has a bound. What does not fit is forgotten from the oldest on, which [`Store::take_back`] says.

use std::collections::VecDeque;

use super::draft::Draft;
use super::entry::Entry;
use super::state::Store;
use super::table::Table;
use crate::replication::Lsn;

/// Bytes of what one piece of the list holds; while changes are committed soon, it is filled again and again,
/// and stays in the processor's caches.
const PIECE: usize = 64 << 10;
/// The list takes no more than this share of the memory for entries,
const SHARE: usize = 16;
/// and need not take less than this.
const LEAST: usize = 256 << 10;

/// A larger value is not kept.
const LARGEST: usize = 8 << 20;

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// There is one key more.
    Created,
    /// It gave a key that was there another value.
    Replaced,
    /// There is one key less.
    Deleted,
    /// A hint left the index of expiries.
    Hint,
    /// Everything went: see `Rollback::cleared`.
    Cleared,
}

/// How to take one change back. The key, and the entry that it replaced in the active layer, stand among the bytes
/// of the piece.
#[derive(Clone, Copy, Debug)]
struct Note {
    lsn: Lsn,
    kind: Kind,
    at: usize,
    key: usize,
    /// Bytes of what was stored in the active layer, 0 if the key was not there.
    old: usize,
    /// The hint that left the index of expiries, if that is not 0.
    hint: u64,
}

#[derive(Debug, Default)]
struct Piece {
    notes: Vec<Note>,
    bytes: Vec<u8>,
}

impl Piece {
    fn newest(&self) -> Lsn {
        self.notes.last().map_or(Lsn::ZERO, |note| note.lsn)
    }

    fn memory(&self) -> usize {
        self.bytes.capacity() + self.notes.capacity() * size_of::<Note>()
    }

    /// What a large value took is given back.
    fn empty(&mut self) {
        self.notes.clear();
        self.bytes.clear();
        self.bytes.shrink_to(PIECE * 2);
    }
}

/// What was there before a `Clear`.
#[derive(Debug)]
struct Cleared {
    lsn: Lsn,
    table: Table,
    /// The `Clear` that the layer began with by then.
    earlier: Option<Lsn>,
    keys: u64,
    generation: u32,
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Rollback {
    pieces: VecDeque<Piece>,
    cleared: VecDeque<Cleared>,
    /// Bytes of the pieces but for the newest, and of the tables.
    held: usize,
    /// Nothing before this can be brought back.
    floor: Lsn,
    /// A piece to be filled again.
    spare: Option<Piece>,
}

impl Rollback {
    /// That of a state at `at`.
    pub(super) fn at(at: Lsn) -> Self {
        Self {
            floor: at,
            ..Self::default()
        }
    }

    /// A change was made that need not be noted, so nothing before it can be brought back.
    #[inline]
    pub(super) fn stays(&mut self, lsn: Lsn) {
        self.floor = lsn;
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        let newest = self.pieces.back().map_or(0, Piece::memory);
        let spare = self.spare.as_ref().map_or(0, Piece::memory);
        self.held + newest + spare
    }

    /// What was applied up to there stays.
    pub(super) fn forget(&mut self, upto: Lsn, garbage: &mut Vec<Table>) {
        let over = |piece: &Piece| piece.newest() <= upto;
        while self.pieces.len() > 1 && self.pieces.front().is_some_and(over) {
            self.drop_oldest();
        }
        if let Some(newest) = self.pieces.back_mut()
            && newest.newest() <= upto
        {
            newest.empty();
        }
        while let Some(oldest) = self.cleared.pop_front_if(|oldest| oldest.lsn <= upto) {
            self.held -= oldest.table.bytes();
            garbage.push(oldest.table);
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(mut oldest) = self.pieces.pop_front() {
            self.held = self.held.saturating_sub(oldest.memory());
            self.floor = self.floor.max(oldest.newest());
            oldest.empty();
            self.spare = Some(oldest);
        }
    }

    /// Begins the note of a change; [`Self::replaces`] adds what it replaces.
    #[inline]
    pub(super) fn note(&mut self, lsn: Lsn, kind: Kind, key: &[u8], hint: u64) {
        if self
            .pieces
            .back()
            .is_none_or(|piece| piece.bytes.len() >= PIECE)
        {
            self.held += self.pieces.back().map_or(0, Piece::memory);
            let next = self.spare.take().unwrap_or_default();
            self.pieces.push_back(next);
        }
        let Some(piece) = self.pieces.back_mut() else {
            return;
        };
        piece.notes.push(Note {
            lsn,
            kind,
            at: piece.bytes.len(),
            key: key.len(),
            old: 0,
            hint,
        });
        piece.bytes.extend_from_slice(key);
    }

    /// What the change that was noted last replaces in the active layer.
    #[inline]
    pub(super) fn replaces(&mut self, old: Entry<'_>) {
        let Some(piece) = self.pieces.back_mut() else {
            return;
        };
        let Some(note) = piece.notes.last_mut() else {
            return;
        };
        if old.stored().len() > LARGEST {
            self.floor = note.lsn;
            return;
        }
        note.old = old.stored().len();
        piece.bytes.extend_from_slice(old.stored());
    }

    /// Forgets the oldest while there is too much.
    fn bound(&mut self, limit: usize, garbage: &mut Vec<Table>) {
        while self.held > limit {
            if self.pieces.len() > 1 {
                self.drop_oldest();
            } else {
                self.floor = self
                    .floor
                    .max(self.cleared.back().map_or(Lsn::ZERO, |it| it.lsn));
                self.floor = self
                    .floor
                    .max(self.pieces.back().map_or(Lsn::ZERO, Piece::newest));
                self.pieces.clear();
            }
            self.forget(self.floor, garbage);
        }
    }
}

impl Store {
    /// Takes back what was applied after `to`, the end of a record that was not given up, if all of that is still
    /// known. `false` changes nothing: then the state can only be [`reset`](Self::reset). A job of a flush that
    /// was cut after `to` must have been dropped. Scans go on.
    pub fn take_back(&mut self, to: Lsn) -> bool {
        if to >= self.applied {
            return to == self.applied;
        }
        if to < self.rollback.floor || to < self.meta.flushed {
            return false;
        }
        let cut = self
            .sealed
            .as_ref()
            .map(|sealed| sealed.contents.meta.flushed);
        if let Some(cut) = cut.filter(|cut| *cut > to) {
            if !self.can_unseal() {
                return false;
            }
            self.undo_to(cut);
            self.unseal();
        }
        self.undo_to(to);
        self.applied = to;
        true
    }

    fn undo_to(&mut self, to: Lsn) {
        let mut rollback = std::mem::take(&mut self.rollback);
        while let Some(piece) = rollback.pieces.back_mut() {
            if let Some(note) = piece.notes.pop_if(|note| note.lsn > to) {
                let (key, old) = piece.bytes[note.at..].split_at(note.key);
                if note.kind == Kind::Cleared {
                    if let Some(before) = rollback.cleared.pop_back() {
                        rollback.held -= before.table.bytes();
                        self.undo_clear(before);
                    }
                } else {
                    self.undo_change(note, key, &old[..note.old]);
                }
                piece.bytes.truncate(note.at);
                continue;
            }
            if !piece.notes.is_empty() || rollback.pieces.len() == 1 {
                break;
            }
            rollback.pieces.pop_back();
            let newest = rollback.pieces.back().map_or(0, Piece::memory);
            rollback.held -= newest;
        }
        self.rollback = rollback;
    }

    fn undo_change(&mut self, note: Note, key: &[u8], old: &[u8]) {
        if note.hint != 0 {
            self.expiry.insert(note.hint, key);
        }
        match note.kind {
            Kind::Created => self.keys = self.keys.saturating_sub(1),
            Kind::Deleted => self.keys += 1,
            Kind::Replaced => {}
            Kind::Hint | Kind::Cleared => return,
        }
        let hash = self.hash(key);
        if old.is_empty() {
            self.active.table.remove(hash, key);
        } else {
            self.active.table.insert(hash, &Draft::stored(key, old));
        }
    }

    fn undo_clear(&mut self, before: Cleared) {
        let after = std::mem::replace(&mut self.active.table, before.table);
        self.garbage.tables.push(after);
        self.active.cleared = before.earlier;
        self.keys = before.keys;
        self.generation = before.generation;
        // More than the `Clear` took, perhaps: that does no harm.
        self.expiry.restore(std::mem::take(&mut self.active.undo));
    }

    /// A `Clear` that is not committed: keeps what it removes.
    pub(super) fn note_clear(&mut self, lsn: Lsn, table: Table) {
        self.rollback.note(lsn, Kind::Cleared, b"", 0);
        self.rollback.held += table.bytes();
        self.rollback.cleared.push_back(Cleared {
            lsn,
            table,
            earlier: self.active.cleared,
            keys: self.keys,
            generation: self.generation,
        });
    }

    /// A hint has left the index because of changes that may be taken back.
    pub(super) fn note_hint(&mut self, expire_at_ms: u64, key: &[u8]) {
        if !self.rollback.pieces.is_empty() {
            self.rollback
                .note(self.applied, Kind::Hint, key, expire_at_ms);
        }
    }

    /// What was applied up to there is committed.
    pub fn committed(&mut self, upto: Lsn) {
        self.rollback.forget(upto, &mut self.garbage.tables);
    }

    /// Nothing that was applied so far can be taken back.
    pub(super) fn keep_all(&mut self) {
        let old = std::mem::replace(&mut self.rollback, Rollback::at(self.applied));
        let tables = old.cleared.into_iter().map(|cleared| cleared.table);
        self.garbage.tables.extend(tables);
    }

    /// Forgets the oldest notes if there are too many.
    pub(super) fn bound_rollback(&mut self) {
        let limit = (self.options.memory_bytes / SHARE).max(LEAST);
        if self.rollback.held > limit {
            self.rollback.bound(limit, &mut self.garbage.tables);
        }
    }
}
