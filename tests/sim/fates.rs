//! What registers, objects and volumes go through besides faults: deleted and made again, restored from
//! a backup, put back to a snapshot. The real operator alone knows what to do then.
//!
//! What it may be asked for is exact. A register goes back only as far as every disk remembers later ones:
//! no other can be told from one that is up to date. A disk is put back where the protocol survives its
//! loss, as it forgets what it acknowledged; and by then operators have noted what it had, as it takes
//! people minutes to put one back.

use std::fmt::Write as _;
use std::sync::Arc;

use rand::Rng;
use replicated_store::api::{HeldLog, ReplicatedStoreStatus};
use replicated_store::env::SimDisk;
use replicated_store::operator::view::Held;
use replicated_store::replication::{Configuration, Lsn, ReplicaId};

use super::cluster::Pod;
use super::machine::Machine;
use super::node::{Engine, Shadow};
use super::seed;
use super::world::World;

/// A snapshot of a machine's volume.
pub(crate) struct Image {
    id: ReplicaId,
    log: SimDisk,
    dir: SimDisk,
    engine: Engine,
    shadow: Shadow,
    told: Lsn,
}

impl Machine {
    /// As a snapshot finds it: without what is not synced. None while files are being replaced.
    fn image(&self) -> Option<Image> {
        let process = self.process.as_ref()?;
        let quiet = process.jobs.is_empty() && process.busy.is_none() && process.running.is_none();
        let whole = process.is_whole() && process.flush.is_none();
        (quiet && whole).then(|| Image {
            id: self.id,
            log: self.log.copy().crash(),
            dir: self.dir.copy().crash(),
            engine: seed::copy(&self.engine),
            shadow: process.shadow.clone(),
            told: self.told,
        })
    }

    /// `had` is what it is known to have had.
    fn put_back(&mut self, image: Image, had: Lsn) {
        self.had = self.had.max(self.told).max(had);
        (self.log, self.dir, self.engine) = (image.log, image.dir, image.engine);
        (self.shadow, self.told, self.shown) = (image.shadow, image.told, None);
    }

    /// Whether its disk was put back, and it has not got again what it had.
    pub(crate) fn is_short(&self) -> bool {
        self.told < self.had
    }
}

impl World {
    pub(crate) fn fate(&mut self, slot: usize) {
        self.take_images();
        match self.rng.random_range(0..12) {
            0 | 1 => {
                self.age_register();
                if self.rng.random_bool(0.5) {
                    self.stop_all();
                }
            }
            2 if self.is_remembered() => self.lose_register(false),
            3 if self.is_remembered() => self.lose_register(true),
            4 if self.is_remembered() => self.make_again(slot),
            5 => self.stop_all(),
            6 | 7 => self.copy_onto(slot),
            2..5 => {}
            _ => self.put_back(slot),
        }
    }

    /// Snapshots of volumes are taken now and then.
    fn take_images(&mut self) {
        for slot in 0..self.machines.len() {
            if self.rng.random_bool(0.3)
                && let Some(image) = self.machines[slot].image()
            {
                self.machines[slot].saved = Some(image);
            }
        }
    }

    /// Whether the register is not the newest that there was.
    pub(crate) fn in_doubt(&self) -> bool {
        let newest = self.registers.last();
        newest.is_some_and(|newest| newest.version > self.register.version)
    }

    /// Whether the disks of all voters have adopted the register: else it may be lost with one of them.
    fn is_remembered(&self) -> bool {
        let version = self.register.version;
        let adopted = |id: ReplicaId| {
            self.holder(id)
                .map(|slot| self.machines[slot].adopted_version())
        };
        let mut voters = self.register.voters.iter();
        voters.all(|id| self.lost.contains(id) || adopted(*id) >= Some(version))
    }

    fn age_register(&mut self) {
        if self.in_doubt() || self.registers.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.registers.len());
        let remembered = self.machines.iter().map(Machine::adopted_version).min();
        let old = self.registers[at].clone();
        let mut desks = self.desks.iter();
        let known = desks.all(|desk| desk.operator.knows_later(old.version));
        if known || Some(old.version) < remembered {
            self.checker.counts.fates += 1;
            let _ = write!(self.trace, "old register {} ", old.version);
            self.restore(old);
        }
    }

    /// The register is edited away, or all of the status.
    fn lose_register(&mut self, status: bool) {
        if self.register.version == 0 {
            return;
        }
        self.checker.counts.fates += 1;
        self.restore(Configuration::default());
        if status {
            self.report(ReplicatedStoreStatus::default());
        }
    }

    /// The object is deleted, and what belongs to it, but for the claims; another one takes its name.
    fn make_again(&mut self, slot: usize) {
        let loss = self.rng.random_bool(0.3) && self.survives_loss_of(slot);
        self.lose_register(true);
        for slot in 0..self.machines.len() {
            self.machines[slot].pod = Pod::default();
            self.stop(slot, false);
        }
        self.cluster.workload = None;
        if loss {
            self.replace_disk(slot);
        }
        let most = self.machines.len();
        let fewest = (self.setup.sync as usize + 1).min(most);
        let replicas = self.rng.random_range(fewest..=most) as i32;
        self.cluster.specify(|spec| spec.replicas = replicas);
    }

    /// The volume of this machine is made anew from another one's: the process there says that it is the other
    /// replica, and belongs to the other's claim.
    fn copy_onto(&mut self, slot: usize) {
        let from = self.rng.random_range(0..self.machines.len());
        if from == slot || self.machines[slot].is_copy() || !self.survives_loss_of(slot) {
            return;
        }
        let source = &self.machines[from];
        let own = source.bound == Some(source.claim);
        let Some(image) = source.image().filter(|_| own) else {
            return;
        };
        self.replace_disk(slot);
        self.checker.counts.copies += 1;
        let _ = write!(self.trace, "copy of {from} ");
        self.machines[slot].id = image.id;
        self.machines[slot].put_back(image, Lsn::ZERO);
        if self.rng.random_bool(0.5) {
            self.stop(from, false);
        }
    }

    /// The replica hears to which claim its disk belongs.
    pub(crate) fn bind(&mut self, slot: usize, id: ReplicaId, copy: bool) {
        let machine = &mut self.machines[slot];
        if machine.process.is_none() || machine.id != id {
            return;
        }
        if !copy {
            machine.bind();
            return;
        }
        self.next_id += 1;
        let id = ReplicaId(self.next_id);
        self.stop(slot, false);
        self.machines[slot].renew(id);
    }

    /// The machine whose replica this is.
    pub(crate) fn holder(&self, id: ReplicaId) -> Option<usize> {
        let mut all = self.machines.iter();
        all.position(|machine| machine.id == id && !machine.is_copy())
    }

    fn stop_all(&mut self) {
        for slot in 0..self.machines.len() {
            self.stop(slot, true);
        }
    }

    fn put_back(&mut self, slot: usize) {
        let same = |image: &Image| image.id == self.machines[slot].id;
        if !self.machines[slot].saved.as_ref().is_some_and(same) || !self.survives_loss_of(slot) {
            return;
        }
        let Some(held) = self.has(slot) else {
            return;
        };
        self.note_held(self.machines[slot].id, held);
        self.stop(slot, true);
        self.checker.counts.rollbacks += 1;
        let _ = write!(self.trace, "put back ");
        self.checker.lost.push(self.machines[slot].told);
        if let Some(image) = self.machines[slot].saved.take() {
            self.machines[slot].put_back(image, held.lsn);
        }
    }

    /// What a replica that leads or follows has on disk.
    fn has(&self, slot: usize) -> Option<Held> {
        let view = self.machines[slot].process.as_ref()?.core.view();
        (view.leading || view.streaming).then_some(Held {
            epoch: view.epoch,
            lsn: view.last.lsn,
            newest: view.last.epoch,
        })
    }

    fn note_held(&mut self, id: ReplicaId, held: Held) {
        for desk in &mut self.desks {
            desk.operator.note(id, held);
        }
        let object = Arc::make_mut(&mut self.cluster.object);
        let members = object.status.iter_mut().flat_map(|it| &mut it.members);
        for member in members.filter(|it| it.id == id.to_string()) {
            member.held = Some(HeldLog {
                epoch: held.epoch.0 as i64,
                lsn: held.lsn.0 as i64,
                newest: held.newest.0 as i64,
            });
        }
    }
}
