//! A leader that makes room: it holds client writes, waits until its successor has everything,
//! and promises the next epoch. It also stops leading by itself when its disk does not answer.

use std::time::Duration;

use super::core::Core;
use super::progress::DiskWatch;
use super::types::{Addressee, Epoch, ReplicaId};
use super::words::Effect;

/// A tick counts for at most this much: a process that was frozen learns nothing about its disk.
const LONGEST_TICK: Duration = Duration::from_millis(100);

/// A switchover that the leader is preparing.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Handover {
    epoch: Epoch,
    target: ReplicaId,
    until: Duration,
    ticket: u64,
    /// Everything that was executed is sealed.
    quiet: bool,
}

impl Core {
    /// The operator asks the leader to make room for `target`.
    pub(super) fn switchover(
        &mut self,
        epoch: Epoch,
        target: ReplicaId,
        within: Duration,
        ticket: u64,
        out: &mut Vec<Effect>,
    ) {
        let reason = match &self.leader {
            None => Some("this replica does not lead".to_owned()),
            Some(leader) if epoch <= leader.epoch => {
                Some(format!("it leads epoch {} already", leader.epoch))
            }
            Some(_) if self.handover.is_some() => Some("another one is under way".to_owned()),
            Some(_) if target == self.id => Some("it leads already".to_owned()),
            Some(leader) => {
                let mut followers = leader.followers.values();
                let known = followers.any(|it| it.id == target && it.matched);
                (!known).then(|| "the target does not follow this leader".to_owned())
            }
        };
        if let Some(reason) = reason {
            out.push(Effect::Refuse { ticket, reason });
            return;
        }
        self.handover = Some(Handover {
            epoch,
            target,
            until: self.now + within,
            ticket,
            quiet: false,
        });
        out.push(Effect::Hold);
    }

    /// The shell has sealed everything that it had executed.
    pub(super) fn quiet(&mut self, out: &mut Vec<Effect>) {
        if let Some(handover) = &mut self.handover {
            handover.quiet = true;
        }
        self.settle_handover(out);
    }

    /// Promises once the target has the whole log and all of it is committed; gives up in time.
    pub(super) fn settle_handover(&mut self, out: &mut Vec<Effect>) {
        let (Some(handover), Some(leader)) = (self.handover, &self.leader) else {
            return;
        };
        let end = self.end;
        let mut followers = leader.followers.values();
        let held = followers.any(|it| it.id == handover.target && it.matched && it.durable == end);
        let settled = self.durable == end && self.commit == end;
        if handover.quiet && held && settled {
            self.handover = None;
            self.promise(handover.epoch, handover.ticket, Addressee::default(), out);
        } else if self.now >= handover.until {
            self.drop_handover("the target did not get everything in time", out);
            out.push(Effect::Resume);
        }
    }

    /// The switchover comes to nothing.
    pub(super) fn drop_handover(&mut self, reason: &str, out: &mut Vec<Effect>) {
        if let Some(handover) = self.handover.take() {
            out.push(Effect::Refuse {
                ticket: handover.ticket,
                reason: reason.to_owned(),
            });
        }
    }

    /// The leader's disk has done something.
    pub(super) fn disk_answered(&mut self) {
        if let Some(leader) = &mut self.leader {
            leader.disk = DiskWatch::default();
        }
    }

    /// A leader whose disk has not answered for as long as a lease stops leading: another one can
    /// do what it cannot. An idle disk is asked now and then.
    pub(super) fn watch_disk(&mut self, out: &mut Vec<Effect>) {
        let (now, lease) = (self.now, self.lease);
        let busy = self.durable < self.end || self.saving.is_some();
        let Some(leader) = &mut self.leader else {
            return;
        };
        let passed = now.saturating_sub(leader.ticked_at).min(LONGEST_TICK);
        leader.ticked_at = now;
        let disk = &mut leader.disk;
        if busy || disk.asked {
            disk.silent_for += passed;
        } else {
            disk.idle_for += passed;
            if disk.idle_for >= lease / 2 {
                disk.asked = true;
                out.push(Effect::Beat);
            }
        }
        if disk.silent_for >= lease {
            self.stalled = true;
            self.stop_leading(out);
        }
    }
}
