//! Which mistake is on, on this thread. The copy of the core asks it by number.

use std::cell::Cell;

use replication_model::MUTANTS;

thread_local! {
    static CHOSEN: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Whether the mistake of that number is on.
#[inline]
pub(crate) fn on(number: usize) -> bool {
    CHOSEN.get() == number
}

/// Switches one mistake on, or all off.
pub(crate) fn choose(number: Option<usize>) {
    CHOSEN.set(number.unwrap_or(usize::MAX));
}

/// The number of a mistake in the operator, from its name.
pub(crate) const fn number(name: &str) -> usize {
    let mut at = 0;
    while at < MUTANTS.len() {
        if equal(MUTANTS[at].name.as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    unreachable!()
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}
