//! The scopes: each small enough to be explored to its end.

use crate::scope::{Begins, Scope};
use crate::state::Budget;

/// All of them.
pub(crate) fn all() -> Vec<Scope> {
    let none = Budget::default();
    vec![
        Scope {
            name: "two",
            voters: 2,
            learners: 0,
            sync: 1,
            rates: [-1, 1, 1, 1],
            begins: Begins::Steady,
            budget: Budget {
                promotions: 1,
                writes: 1,
                time: 2,
                crashes: 1,
                slow: 1,
                losses: 1,
                stale: 1,
                ..none
            },
        },
        Scope {
            name: "learner",
            voters: 1,
            learners: 1,
            sync: 1,
            rates: [-1, 1, 1, 1],
            begins: Begins::Steady,
            budget: Budget {
                promotions: 2,
                writes: 1,
                time: 2,
                changes: 1,
                slow: 1,
                stale: 1,
                ..none
            },
        },
        Scope {
            name: "three",
            voters: 3,
            learners: 0,
            sync: 1,
            rates: [-1, 1, 1, 1],
            begins: Begins::Steady,
            budget: Budget {
                promotions: 2,
                writes: 1,
                slow: 1,
                crashes: 1,
                ..none
            },
        },
        Scope {
            name: "all",
            voters: 3,
            learners: 0,
            sync: 2,
            rates: [-1, 1, 1, 1],
            begins: Begins::Steady,
            budget: Budget {
                promotions: 1,
                writes: 1,
                slow: 2,
                breaks: 1,
                time: 1,
                ..none
            },
        },
    ]
}
