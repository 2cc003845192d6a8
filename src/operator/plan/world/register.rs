//! The register of the small world, and what must hold of every change of it.

use super::World;
use crate::operator::plan::{Swap, recovery};
use crate::replication::types::Configuration;

impl World {
    /// The compare-and-swap, with what must hold of it.
    pub(super) fn swap(&mut self, swap: Swap) {
        let leader = swap.to.leader.unwrap();
        assert!(swap.to.voters.contains(&leader), "the leader votes");
        if let Some(old) = self.base() {
            let rise = swap.to.version - old.version;
            let without = !self.view.store.accept_loss.is_empty() || !self.view.lost.is_empty();
            let leaves_room = rise > 1 << 16 && (without || self.view.register.is_none());
            assert!(rise == 1 || leaves_room, "versions rise by one");
            assert!(swap.to.epoch >= old.epoch, "epochs never fall");
            if swap.to.epoch == old.epoch {
                assert_eq!(swap.to.leader, old.leader, "a leader per epoch");
                assert_eq!(swap.to.wait_ms, old.wait_ms, "only a promotion waits");
            } else {
                assert_eq!(swap.to.sync, old.sync, "a promotion keeps k");
            }
            self.check_previous(old, &swap.to);
        }
        self.view.register = Some(swap.to);
    }

    /// What is in force: the register, or what disks remember if it is gone or behind.
    fn base(&self) -> Option<&Configuration> {
        let register = self.view.register.as_ref();
        let good = register.filter(|it| recovery::behind(&self.view, it).is_none());
        good.or_else(|| recovery::remembered(&self.view))
    }

    /// Sets that were replaced count until the leader has established exactly what replaced them.
    fn check_previous(&self, old: &Configuration, new: &Configuration) {
        if new.epoch == old.epoch && new.current() == old.current() {
            let leader = self
                .leading()
                .map(|ordinal| &self.replicas[&ordinal].status);
            let established = leader.map(|status| status.established_version);
            assert_eq!(established, Some(old.version), "emptied too early");
            return;
        }
        assert!(
            new.epoch > old.epoch || old.previous.is_empty(),
            "one change at a time"
        );
        for set in old.previous.iter().chain([&old.current()]) {
            assert!(new.previous.contains(set), "a replaced set is forgotten");
        }
    }
}
