//! Any number of operators, each with views as stale as you like: whatever the text of the protocol
//! allows them to do to the register.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::actions::Action;
use crate::replication::{Configuration, Epoch, Position, ReplicaId, VoterSet};
use crate::state::{Answer, State};
use crate::switch::{number, on};

const NO_PREVIOUS: usize = number("operator: promotions ignore previous sets");
const PRESENT: usize = number("operator: the best of the present voters leads");
const NO_WAIT: usize = number("operator: no wait for leases");
const NO_UNKNOWN: usize = number("operator: leases of unknown holders are left out");
const ENDED: usize = number("operator: no wait once the last leader has ended");
const FEW: usize = number("operator: promises need not meet the leases");
const LONGEST: usize = number("operator: the longest log leads");
const EARLY: usize = number("operator: previous sets are dropped before a barrier is committed");
const ENOUGH: usize = number("operator: a recovery is decided by enough of the voters");
const LAST_ONLY: usize = number("operator: only the set replaced last is kept");

/// `N - min(L, W) + 1`, or `N - L + 1` where nothing is synchronous.
fn needed(set: &VoterSet) -> usize {
    let n = set.voters.len();
    let copies = 1 + (set.sync as usize).min(n.saturating_sub(1));
    let leases = n / 2 + 1;
    let met = match set.sync {
        0 => leases,
        _ if on(FEW) => copies,
        _ => leases.min(copies),
    };
    n + 1 - met
}

impl State {
    /// Whether promises of these replicas allow a promotion.
    fn enough(&self, ids: &BTreeSet<ReplicaId>) -> bool {
        let satisfied = |set: &VoterSet| set.voters.intersection(ids).count() >= needed(set);
        let (base, previous) = (self.base(), &self.base().previous);
        satisfied(&base.current()) && (on(NO_PREVIOUS) || previous.iter().all(satisfied))
    }

    /// Promotions that the answers allow: each set of them that is enough, each best log, and none
    /// or one voter that is given up.
    pub(crate) fn elections(&self, found: &mut Vec<Action>) {
        let unsettled = self.unsettled();
        if unsettled && !self.all_heard() {
            return;
        }
        let answered = self.answers.iter().enumerate();
        let answered: Vec<(usize, &Answer)> = answered
            .filter_map(|(slot, answer)| Some((slot, answer.as_ref()?)))
            .filter(|(slot, answer)| self.is_whole(*slot, answer))
            .collect();
        let all = !unsettled || on(ENOUGH) || self.all_answered();
        if !all {
            return;
        }
        // Nobody knows what disks had, where the register is gone: each that is there counts.
        let fewest = if unsettled && !on(ENOUGH) {
            (1_u32 << answered.len()) - 1
        } else {
            1
        };
        for mask in fewest..1_u32 << answered.len() {
            let used: Vec<_> = answered
                .iter()
                .enumerate()
                .filter(|(bit, _)| (mask >> bit) & 1 == 1)
                .map(|(_, answer)| *answer)
                .collect();
            let ids = used
                .iter()
                .map(|(slot, _)| self.replicas[*slot].id)
                .collect();
            if !self.enough(&ids) {
                continue;
            }
            let wait = self.wait(&used);
            let voter = |slot: usize| self.base().voters.contains(&self.replicas[slot].id);
            let mut fit = used;
            fit.retain(|(slot, _)| !on(PRESENT) || voter(*slot));
            let best = fit.iter().map(|(_, answer)| rank(answer)).max();
            for (leader, _) in fit.iter().filter(|(_, it)| Some(rank(it)) == best) {
                self.election(*leader, wait, found);
            }
        }
    }

    fn election(&self, leader: usize, wait: u64, found: &mut Vec<Action>) {
        let id = self.replicas[leader].id;
        let mut add = |given_up| {
            let action = Action::Elect {
                leader,
                wait,
                given_up,
            };
            if !found.contains(&action) {
                found.push(action);
            }
        };
        add(None);
        if self.left.given_up > 0 {
            let others = self.base().voters.iter().filter(|it| **it != id);
            others.for_each(|it| add(Some(*it)));
        }
    }

    /// The longest of the leases that may still run to a process that may still be there.
    fn wait(&self, used: &[(usize, &Answer)]) -> u64 {
        let last = self.reigns.iter().max_by_key(|(epoch, ..)| *epoch);
        let ended = |reign: &(Epoch, usize, u8)| self.replicas[reign.1].life != reign.2;
        if on(NO_WAIT) || (on(ENDED) && last.is_some_and(ended)) {
            return 0;
        }
        let over = |holder: Option<Epoch>| {
            let Some(holder) = holder else {
                return on(NO_UNKNOWN);
            };
            let reign = self.reigns.iter().find(|(epoch, ..)| *epoch == holder);
            reign.is_some_and(|reign| ended(reign) || self.answers[reign.1].is_some())
        };
        let leases = used.iter().flat_map(|(_, answer)| &answer.leases);
        let running = leases.filter(|(holder, _)| !over(*holder));
        running.map(|(_, left)| *left).max().unwrap_or(0)
    }

    pub(crate) fn elect(&mut self, leader: usize, wait: u64, given_up: Option<ReplicaId>) {
        let id = self.replicas[leader].id;
        let mut next = self.successor();
        next.epoch = self.next_epoch();
        next.leader = Some(id);
        next.voters.retain(|voter| Some(*voter) != given_up);
        next.voters.insert(id);
        next.wait_ms = wait;
        self.swap(next);
    }

    /// The next version, with the set in force among those that it replaces.
    pub(crate) fn successor(&self) -> Configuration {
        let mut next = self.base().clone();
        next.version = self.next_version();
        let current = self.base().current();
        if on(LAST_ONLY) {
            next.previous.clear();
        }
        if !next.previous.contains(&current) {
            next.previous.push(current);
        }
        next
    }

    pub(crate) fn swap(&mut self, next: Configuration) {
        let older = std::mem::replace(&mut self.register, Rc::new(next));
        let matters = self.left.restores > 0 || self.left.stale > 0;
        self.older = if matters {
            older
        } else {
            Rc::clone(&self.register)
        };
        self.answers.fill(None);
        self.asked.fill(false);
        self.recovering = Epoch(0);
        self.established = false;
    }

    /// Whether voters or k may change now.
    pub(crate) fn may_change(&self) -> bool {
        self.left.changes > 0 && self.register.previous.is_empty()
    }

    /// Whether what the register replaced may be forgotten.
    pub(crate) fn may_forget(&self) -> bool {
        !self.register.previous.is_empty() && (self.established || on(EARLY))
    }

    /// Hears from the register's leader whether its version is established.
    pub(crate) fn hear(&mut self) {
        self.watch_recovery();
        if self.established || self.register.previous.is_empty() {
            return;
        }
        let slot = self.register.leader.and_then(|id| self.slot_of(id));
        let view = slot.map(|slot| self.replicas[slot].core.view());
        self.established = view.is_some_and(|it| it.established == self.register.version);
    }
}

/// The order in which logs are compared.
fn rank(answer: &Answer) -> Position {
    let mut last = answer.last;
    if on(LONGEST) {
        last.epoch = Epoch(0);
    }
    last
}
