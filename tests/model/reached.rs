//! What an exploration has come across: one that never comes to what it is about proves nothing.

use std::cell::Cell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// A leader answers after two changes of leader.
    ThirdReign,
    /// A leader answers as the only voter that is left of several.
    Alone,
    /// A promotion names a replica that is no voter any more.
    Recalled,
    Truncated,
    Seeded,
    /// The leader made room in a switchover.
    MadeRoom,
    LearnerVotes,
    /// What was replaced is forgotten.
    Established,
    /// An old register is refused.
    Refused,
    /// A leader lets no reply rest on something that is committed.
    Withheld,
    /// And does so once a replica has it that does not vote.
    ReleasedByLearner,
    /// A promotion starts from what disks remember.
    Recovered,
    PutBack,
    Copied,
    /// A log was damaged, ...
    Damaged,
    /// ... and whose it was has all that its leader has, and counts again.
    Recollected,
    /// A seed goes on under another leader.
    SeedGoesOn,
}

use Reached::*;

const ALL: [Reached; 17] = [
    ThirdReign,
    Alone,
    Recalled,
    Truncated,
    Seeded,
    MadeRoom,
    LearnerVotes,
    Established,
    Refused,
    Withheld,
    ReleasedByLearner,
    Recovered,
    PutBack,
    Copied,
    Damaged,
    Recollected,
    SeedGoesOn,
];

thread_local! {
    static SEEN: Cell<u32> = const { Cell::new(0) };
}

pub(crate) fn mark(what: Reached) {
    SEEN.set(SEEN.get() | 1 << what as u32);
}

/// Does something that does not count.
pub(crate) fn apart<T>(what: impl FnOnce() -> T) -> T {
    let before = SEEN.get();
    let done = what();
    SEEN.set(before);
    done
}

/// What nothing on this thread has come across.
pub(crate) fn missing() -> Vec<Reached> {
    let seen = SEEN.get();
    let unseen = |it: &&Reached| (seen >> **it as u32) & 1 == 0;
    ALL.iter().filter(unseen).copied().collect()
}
