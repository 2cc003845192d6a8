//! Pages of scans: the engine's next keys, read without the lock, for the call that asks for them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::engine::Engine;
use super::error::Result;
use super::scan::{Deadline, EXTRA_KEYS, deadline};
use super::state::Store;

/// Keys of all pages that are kept for calls that are about to come; but one page is always kept.
const MOST_KEYS: usize = 200_000;

/// Reads a page from the engine as it is at the moment: see [`Store::page_reader`].
pub struct PageReader {
    engine: Arc<dyn Engine>,
    generation: u32,
    flushes: u64,
    cursor: u64,
    from: Vec<u8>,
    count: usize,
}

/// Keys of the engine, for [`Store::take_page`].
pub struct Page {
    engine: Arc<dyn Engine>,
    flushes: u64,
    cursor: u64,
    pub(super) keys: Vec<Deadline>,
    /// The key that follows, if there is one.
    pub(super) next: Option<Vec<u8>>,
}

impl PageReader {
    /// Reads, from the disk where the engine's cache does not have it. Blocks.
    pub fn read(self) -> Result<Page> {
        let mut range = self.engine.range(self.generation, &self.from);
        let mut keys = Vec::new();
        let next = loop {
            match range.next().map(deadline).transpose()? {
                Some((key, _)) if keys.len() > self.count => break Some(key),
                Some(found) => keys.push(found),
                None => break None,
            }
        };
        Ok(Page {
            engine: Arc::clone(&self.engine),
            flushes: self.flushes,
            cursor: self.cursor,
            keys,
            next,
        })
    }
}

/// Pages that were read and not asked for yet.
#[derive(Default)]
pub(super) struct Pages(VecDeque<Page>);

impl Pages {
    fn of(&self, cursor: u64) -> Option<usize> {
        self.0.iter().position(|page| page.cursor == cursor)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pages").field(&self.0.len()).finish()
    }
}

impl Store {
    /// What [`scan`](Self::scan) with this cursor and count would read from the engine, to be read without
    /// the lock. `None` if it would not, or has what it needs.
    pub fn page_reader(&self, cursor: u64, count: usize) -> Option<PageReader> {
        let from = self.scans.engine_position(cursor)?;
        if self.pages.of(cursor).is_some() || self.is_cleared() {
            return None;
        }
        Some(PageReader {
            engine: Arc::clone(&self.engine),
            generation: self.meta.generation,
            flushes: self.flushes,
            cursor,
            from: from.to_vec(),
            count: count.saturating_add(EXTRA_KEYS),
        })
    }

    /// Keeps a page for the call that it was read for.
    pub fn take_page(&mut self, page: Page) {
        if !Arc::ptr_eq(&page.engine, &self.engine) {
            return;
        }
        let pages = &mut self.pages.0;
        pages.push_back(page);
        let mut keys: usize = pages.iter().map(|page| page.keys.len()).sum();
        while keys > MOST_KEYS && pages.len() > 1 {
            keys -= pages.pop_front().map_or(0, |page| page.keys.len());
        }
    }

    /// The page of a cursor. One that was read before a flush ended lacks what went from memory to the
    /// engine with it.
    pub(super) fn page_for(&mut self, cursor: u64) -> Option<Page> {
        let at = self.pages.of(cursor)?;
        let page = self.pages.0.remove(at)?;
        (page.flushes == self.flushes).then_some(page)
    }
}
