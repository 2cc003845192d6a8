//! Promises, and the adoption of configurations: who leads from here on.

use std::collections::BTreeMap;
use std::time::Duration;

use super::core::{Core, Following, Phase, Ticket};
use super::lease;
use super::progress::{DiskWatch, Leader};
use super::types::{Addressee, Configuration, Epoch, Lsn};
use super::words::{Effect, HardState};

impl Core {
    /// The operator asks for a promise. A leader of a lower epoch stops leading at once; the
    /// answer is given when the log is quiet and the promise is on disk.
    pub(super) fn promise(
        &mut self,
        epoch: Epoch,
        ticket: u64,
        to: Addressee,
        out: &mut Vec<Effect>,
    ) {
        if let Some(reason) = self.refuses_promise(epoch, to) {
            out.push(Effect::Refuse { ticket, reason });
            return;
        }
        let before = self.hard.promised;
        let bound = before.max(self.saving.map_or(Epoch(0), |hard| hard.promised));
        if epoch < bound
            || self
                .leader
                .as_ref()
                .is_some_and(|leader| leader.epoch >= epoch)
        {
            out.push(Effect::AnswerPromise {
                ticket,
                granted: false,
                before,
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
        self.tickets.push(Ticket {
            epoch,
            number: ticket,
            before,
        });
        self.settle_promises(out);
    }

    /// Why a request for a promise is not for this replica, or is none that an operator makes.
    pub(super) fn refuses_promise(&self, epoch: Epoch, to: Addressee) -> Option<String> {
        if let Some(id) = to.id.filter(|id| *id != self.id) {
            return Some(format!("this is replica {}, not {id}", self.id));
        }
        if let Some(reason) = self.foreign(to.store) {
            return Some(format!("asked in the name of another store: {reason}"));
        }
        self.absurd(epoch)
    }

    /// Why this epoch cannot be one that the store has come to.
    fn absurd(&self, epoch: Epoch) -> Option<String> {
        let known = self.hard.promised.max(self.hard.begun);
        let known = known.max(self.history.last()).max(self.adopted.epoch);
        epoch.is_absurd(known).then(|| {
            format!(
                "epoch {epoch} is absurdly far above {known}, the highest that this replica knows"
            )
        })
    }

    /// Why this configuration is not to be adopted; `None` if it is, or is an older one that comes late.
    pub fn refuses(&self, configuration: &Configuration) -> Option<String> {
        if let Some(reason) = self.foreign(configuration.store) {
            return Some(format!("this configuration is another store's: {reason}"));
        }
        if let Some(reason) = self.absurd(configuration.epoch) {
            return Some(reason);
        }
        let version = configuration.version;
        let differs = version == self.adopted.version && *configuration != self.adopted;
        differs.then(|| format!("version {version} is another one than the version {version} that this replica has adopted"))
    }

    /// Goes on with the promises that were asked for, once nothing is on its way to the log.
    pub(super) fn settle_promises(&mut self, out: &mut Vec<Effect>) {
        if self.tickets.is_empty() || self.durable < self.end || self.truncating {
            return;
        }
        let highest = self
            .tickets
            .iter()
            .map(|ticket| ticket.epoch)
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
        for ticket in std::mem::take(&mut self.tickets) {
            let granted = ticket.epoch == self.hard.promised;
            if granted {
                self.pledged = Some(ticket.epoch);
            }
            let leases = self.grants.below(ticket.epoch, self.now);
            out.push(Effect::AnswerPromise {
                ticket: ticket.number,
                granted,
                before: ticket.before,
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
        self.go_on(out);
    }

    /// The operator handed over the register. Lower versions than the adopted one are ignored; what is
    /// adopted is on disk before anything is done by it, so that a register that goes back is noticed.
    pub(super) fn configure(&mut self, configuration: Configuration, out: &mut Vec<Effect>) {
        if self.refuses(&configuration).is_some() {
            return;
        }
        let version = configuration.version;
        let on_its_way = self.to_adopt.as_ref().or(self.adopting.as_ref());
        if on_its_way.is_some_and(|newer| newer.version >= version) {
            return;
        }
        if version == self.adopted.version {
            self.act(configuration, out);
        } else if version > self.adopted.version {
            if self.adopting.is_some() {
                self.to_adopt = Some(configuration);
            } else {
                self.adopting = Some(configuration.clone());
                out.push(Effect::Adopt(configuration));
            }
        }
    }

    /// A configuration is on disk.
    pub(super) fn adopted(&mut self, configuration: Configuration, out: &mut Vec<Effect>) {
        assert_eq!(
            self.adopting.as_ref(),
            Some(&configuration),
            "only one is on its way to disk"
        );
        self.adopting = self.to_adopt.take();
        self.adopted = configuration.clone();
        self.disk_answered();
        if let Some(next) = &self.adopting {
            out.push(Effect::Adopt(next.clone()));
        }
        self.act(configuration, out);
    }

    /// Acts by a configuration that is on disk.
    fn act(&mut self, configuration: Configuration, out: &mut Vec<Effect>) {
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
                self.advance(out);
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

    /// Begins `epoch` as leader: first the durable mark, then the wait, then the barrier. Only the process
    /// that promised just this epoch begins it. Another one may run on a copy of the disk, or on one that was
    /// put back to what it was between promise and mark: it marks the epoch, which ends it, and does not lead.
    /// A disk that has not promised it has been put back to before that, and does not hold what it was chosen
    /// for.
    fn begin(&mut self, epoch: Epoch, out: &mut Vec<Effect>) {
        let quiet = self.durable == self.end && !self.truncating;
        if !self.complete || !quiet || !self.tickets.is_empty() {
            return;
        }
        if self.hard.promised != epoch {
            return;
        }
        if self.hard.begun >= epoch {
            if !self.beginning(epoch) {
                return; // another process of this data directory led it
            }
        } else {
            self.stop_following(out);
            self.begin_mark = self.pledged.filter(|it| *it == epoch);
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
            blank: Vec::new(),
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
            // What it knew to be committed and has not released, its successor may learn later.
            self.commit = self.released;
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
