//! The simulated operator: promotions and changes of the voters, by the rules of the protocol, from
//! whatever part of the replicas it happens to reach.

use std::collections::{BTreeMap, BTreeSet};

use replicated_store::replication::{Configuration, Epoch, Position, ReplicaId, VoterSet};

/// A promotion under way.
#[derive(Debug)]
pub(crate) struct Promotion {
    pub(crate) epoch: Epoch,
    pub(crate) based_on: Configuration,
    pub(crate) promises: BTreeMap<ReplicaId, Position>,
}

/// `N - min(L, W) + 1`, or `N - L + 1` where nothing is synchronous.
fn needed(set: &VoterSet) -> usize {
    let n = set.voters.len();
    let copies = 1 + (set.sync as usize).min(n.saturating_sub(1));
    let leases = n / 2 + 1;
    let lost = if set.sync == 0 {
        leases
    } else {
        leases.min(copies)
    };
    n + 1 - lost
}

impl Promotion {
    pub(crate) fn begin(register: &Configuration, at_least: Epoch) -> Self {
        Self {
            epoch: register.epoch.max(at_least).next(),
            based_on: register.clone(),
            promises: BTreeMap::new(),
        }
    }

    /// The register to swap in, if there are promises enough. Without synchronous followers the
    /// promise of the old leader is needed, which alone has everything.
    pub(crate) fn decide(&self) -> Option<Configuration> {
        let old = &self.based_on;
        let sets = std::iter::once(old.current()).chain(old.previous.iter().cloned());
        for set in sets {
            let promised = set
                .voters
                .iter()
                .filter(|id| self.promises.contains_key(id))
                .count();
            if promised < needed(&set) {
                return None;
            }
        }
        if old.sync == 0
            && old
                .leader
                .is_some_and(|id| !self.promises.contains_key(&id))
        {
            return None;
        }
        let (best, _) = self
            .promises
            .iter()
            .max_by_key(|(id, last)| (**last, **id))?;
        let mut next = old.clone();
        next.version += 1;
        next.epoch = self.epoch;
        next.leader = Some(*best);
        next.voters.insert(*best);
        add_previous(&mut next.previous, old.current());
        Some(next)
    }
}

fn add_previous(previous: &mut Vec<VoterSet>, set: VoterSet) {
    if !previous.contains(&set) {
        previous.push(set);
    }
}

/// The register with other voters.
pub(crate) fn with_voters(
    old: &Configuration,
    voters: BTreeSet<ReplicaId>,
) -> Option<Configuration> {
    if !old.previous.is_empty() || voters == old.voters {
        return None;
    }
    let mut next = old.clone();
    next.version += 1;
    next.previous = vec![old.current()];
    next.voters = voters;
    Some(next)
}
