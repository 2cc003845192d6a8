//! Promises, and the adoption of configurations: who leads from here on.

use std::collections::BTreeMap;
use std::time::Duration;

use super::core::{Core, Following, Phase};
use super::lease;
use super::progress::{DiskWatch, Leader};
use super::types::{Configuration, Epoch, Lsn};
use super::words::{Effect, HardState};

impl Core {
    /// The operator asks for a promise. A leader of a lower epoch stops leading at once; the
    /// answer is given when the log is quiet and the promise is on disk.
    pub(super) fn promise(&mut self, epoch: Epoch, ticket: u64, out: &mut Vec<Effect>) {
        let bound = self
            .hard
            .promised
            .max(self.saving.map_or(Epoch(0), |hard| hard.promised));
        if epoch < bound
            || self
                .leader
                .as_ref()
                .is_some_and(|leader| leader.epoch >= epoch)
        {
            out.push(Effect::AnswerPromise {
                ticket,
                granted: false,
                leases: Vec::new(),
            });
            return;
        }
        self.stop_leading(out);
        if self
            .following
            .as_ref()
            .is_some_and(|following| following.epoch < epoch)
        {
            self.stop_following(out);
        }
        self.tickets.push((epoch, ticket));
        self.settle_promises(out);
    }

    /// Goes on with the promises that were asked for, once nothing is on its way to the log.
    pub(super) fn settle_promises(&mut self, out: &mut Vec<Effect>) {
        if self.tickets.is_empty() || self.durable < self.end || self.truncating {
            return;
        }
        let highest = self
            .tickets
            .iter()
            .map(|(epoch, _)| *epoch)
            .max()
            .unwrap_or_default();
        if self.hard.promised < highest {
            self.save(
                HardState {
                    promised: highest,
                    ..self.hard
                },
                out,
            );
            return;
        }
        for (epoch, ticket) in std::mem::take(&mut self.tickets) {
            let granted = epoch == self.hard.promised;
            let leases = self.grants.below(epoch, self.now);
            out.push(Effect::AnswerPromise {
                ticket,
                granted,
                leases,
            });
        }
    }

    fn save(&mut self, hard: HardState, out: &mut Vec<Effect>) {
        if self.saving.is_none() {
            assert!(
                hard.promised >= self.hard.promised,
                "a promise is never taken back"
            );
            assert!(hard.begun >= self.hard.begun, "a mark is never taken back");
            self.saving = Some(hard);
            out.push(Effect::Save(hard));
        }
    }

    /// A hard state is on disk: whatever waited for it goes on, or saves again.
    pub(super) fn saved(&mut self, hard: HardState, out: &mut Vec<Effect>) {
        assert_eq!(self.saving, Some(hard), "only one save is under way");
        self.saving = None;
        self.hard = hard;
        self.disk_answered();
        self.settle_promises(out);
        if self.saving.is_some() {
            return;
        }
        self.settle_role(out);
        self.promise_durable(out);
    }

    /// The operator handed over the register. Lower versions than the adopted one are ignored.
    pub(super) fn configure(&mut self, configuration: Configuration, out: &mut Vec<Effect>) {
        if configuration.version <= self.configuration.version {
            return;
        }
        self.configuration = configuration;
        let epoch = self.configuration.epoch;
        if let Some(leader) = &mut self.leader {
            if leader.epoch == epoch && self.configuration.leader == Some(self.id) {
                let version = self.configuration.version;
                if leader.barriers.is_empty() && leader.first_barrier.is_none() {
                    return; // still waiting for leases: the first barrier will carry it
                }
                leader.barriers.push((version, None));
                out.push(Effect::AppendBarrier { epoch, version });
                self.advance_commit(out);
                return;
            }
            if epoch <= leader.epoch {
                return;
            }
            self.stop_leading(out);
        }
        self.settle_role(out);
    }

    /// Brings the role in line with the adopted configuration.
    pub(super) fn settle_role(&mut self, out: &mut Vec<Effect>) {
        let epoch = self.configuration.epoch;
        let Some(leader) = self.configuration.leader else {
            return;
        };
        if self.leader.is_some() || epoch < self.hard.promised {
            return;
        }
        if leader == self.id {
            self.begin(epoch, out);
            return;
        }
        let same = self.following.as_ref();
        if same.is_some_and(|following| following.leader == leader && following.epoch == epoch) {
            return;
        }
        self.stop_following(out);
        self.following = Some(Following {
            leader,
            epoch,
            peer: None,
            phase: Phase::Down,
            echo: 0,
            granted_ms: 0,
            heard_at: None,
            patience: self.lease,
            leader_end: Lsn::ZERO,
            leader_commit: Lsn::ZERO,
            backlog: None,
            ready: false,
        });
        out.push(Effect::Follow(leader));
    }

    /// Begins `epoch` as leader: first the durable mark, then the wait, then the barrier.
    fn begin(&mut self, epoch: Epoch, out: &mut Vec<Effect>) {
        let quiet = self.durable == self.end && !self.truncating;
        if !self.complete || !quiet || !self.tickets.is_empty() {
            return;
        }
        if self.hard.begun >= epoch {
            if !self.beginning(epoch) {
                return; // another process of this data directory led it
            }
        } else {
            self.stop_following(out);
            self.begin_mark = Some(epoch);
            self.save(
                HardState {
                    promised: epoch,
                    begun: epoch,
                    ..self.hard
                },
                out,
            );
            return;
        }
        self.begin_mark = None;
        let wait = Duration::from_millis(self.configuration.wait_ms);
        self.leader = Some(Leader {
            epoch,
            wait_until: self.now + lease::waited(wait),
            disk: DiskWatch::default(),
            ticked_at: self.now,
            barriers: Vec::new(),
            first_barrier: None,
            followers: BTreeMap::new(),
        });
        self.stalled = false;
        out.push(Effect::Lead(epoch));
        self.tick(out);
    }

    /// Whether this very process made the mark of `epoch` and has not led in it yet.
    fn beginning(&self, epoch: Epoch) -> bool {
        self.begin_mark == Some(epoch)
    }

    pub(super) fn stop_leading(&mut self, out: &mut Vec<Effect>) {
        if let Some(leader) = self.leader.take() {
            for peer in leader.followers.keys() {
                out.push(Effect::Close(
                    *peer,
                    "this replica no longer leads".to_owned(),
                ));
            }
            out.push(Effect::StepDown);
            self.drop_handover("this replica no longer leads", out);
        }
        self.begin_mark = None;
    }

    pub(super) fn stop_following(&mut self, out: &mut Vec<Effect>) {
        if self.following.take().is_some() {
            out.push(Effect::Unfollow);
        }
    }
}
