//! What must always hold, looked at after every event.

use std::collections::BTreeMap;
use std::time::Duration;

use replicated_store::replication::{Epoch, Lsn};

use super::machine::Machine;

/// That the runs exercise something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) answers: u64,
    /// Reads of followers.
    pub(crate) reads: u64,
    /// States of replicas that operators took in.
    pub(crate) heard: u64,
    pub(crate) unknown: u64,
    pub(crate) promotions: u64,
    pub(crate) switchovers: u64,
    pub(crate) changes: u64,
    pub(crate) stops: u64,
    pub(crate) losses: u64,
    /// Damage that a start would have noticed.
    pub(crate) rots: u64,
    pub(crate) seeds: u64,
    /// Registers that went back or away.
    pub(crate) fates: u64,
    /// Disks that were put back.
    pub(crate) rollbacks: u64,
    pub(crate) copies: u64,
    pub(crate) gave_up: u64,
    /// Released by leaders that had too few voters to write.
    pub(crate) withheld: u64,
    /// Histories of which the search came to no end.
    pub(crate) undecided: u64,
}

/// Everything that was ever seen.
pub(crate) struct Checker {
    pub(crate) counts: Counts,
    /// The chain of every frame, by epoch and end: equal in every log.
    frames: BTreeMap<(Epoch, Lsn), u32>,
    /// The chain at each end of a frame that somebody held for committed.
    committed: BTreeMap<Lsn, u32>,
    /// Replies may rest on records up to here: the leaders of their time have released them.
    released: Lsn,
    /// Up to where logs were durable that are lost with their disks.
    pub(crate) lost: Vec<Lsn>,
    /// An asynchronous promotion gave up records.
    pub(crate) gave_up: bool,
    /// The newest epoch that came of one: what earlier leaders commit may be given up.
    lossy: Epoch,
}

impl Checker {
    pub(crate) fn new() -> Self {
        Self {
            counts: Counts::default(),
            frames: BTreeMap::new(),
            committed: BTreeMap::new(),
            released: Lsn::ZERO,
            lost: Vec::new(),
            gave_up: false,
            lossy: Epoch(0),
        }
    }

    /// Two logs that hold a record of the same epoch and LSN are equal up to it.
    pub(crate) fn frame(&mut self, epoch: Epoch, end: Lsn, chain: u32) {
        let known = *self.frames.entry((epoch, end)).or_insert(chain);
        assert_eq!(known, chain, "two frames of epoch {epoch} end at {end}");
    }

    /// What one replica holds for committed, every replica holds for committed.
    pub(crate) fn committed(&mut self, slot: usize, to: Lsn, leads: bool, machines: &[Machine]) {
        let Some(process) = &machines[slot].process else {
            return;
        };
        let chain = process.shadow.get(&to).map(|(_, chain)| *chain);
        let Some(chain) = chain else {
            panic!("machine {slot} commits {to}, where no frame ends");
        };
        if process
            .core
            .leading()
            .is_some_and(|epoch| epoch < self.lossy)
        {
            self.gives_up(true);
        }
        if self.gave_up {
            return;
        }
        let before = self.committed.range(..=to).next_back();
        let before = before.map(|(end, chain)| (*end, *chain));
        if let Some((end, chain)) = before {
            let own = process.shadow.get(&end).map(|(_, chain)| *chain);
            assert_eq!(
                own,
                Some(chain),
                "machine {slot} commits {to} without what was committed at {end} (leads: {leads})"
            );
        }
        self.committed.insert(to, chain);
    }

    /// A leader releases what it and as many others as it needs have, or had before they were lost.
    pub(crate) fn released(&mut self, slot: usize, to: Lsn, led: bool, machines: &[Machine]) {
        let Some(process) = &machines[slot].process else {
            return;
        };
        if !led || to <= self.released {
            return; // what a follower shows is looked at when it does
        }
        let before = std::mem::replace(&mut self.released, to);
        let (shown, needed) = (process.shown(to), process.reply_sync as usize);
        if shown <= before {
            return; // barriers, and they show nothing
        }
        let chain = process.shadow.get(&shown).map(|(_, chain)| *chain);
        let has = |it: &&Machine| it.told >= shown && it.is_whole() && it.chain_at(shown) == chain;
        let others = machines.iter().enumerate().filter(|(at, _)| *at != slot);
        let others = others.filter(|(_, it)| has(it)).count();
        let lost = self.lost.iter().filter(|end| **end >= shown).count();
        assert!(
            self.gave_up || others + lost >= needed,
            "machine {slot} releases {to}, which {others} of {needed} followers have"
        );
        self.counts.withheld += u64::from(process.core.configuration().voters.len() <= needed);
    }

    /// An answer, or the state of a follower, shows what is released.
    pub(crate) fn shown(&self, slot: usize, to: Lsn) {
        assert!(
            self.gave_up || to <= self.released,
            "machine {slot} shows {to}, and {} is released",
            self.released
        );
    }

    /// Two replicas never answer at one time; one that answers has everything.
    pub(crate) fn leaders(&mut self, slot: usize, now: Duration, machines: &[Machine]) {
        let answers = |machine: &Machine| {
            let core = machine.process.as_ref().map(|process| &process.core);
            core.is_some_and(|core| core.answers_until() > machine.clock.local(now))
        };
        if !answers(&machines[slot]) {
            return;
        }
        let others = machines.iter().enumerate();
        for (other, machine) in others.filter(|(other, _)| *other != slot) {
            assert!(
                !answers(machine),
                "machines {slot} and {other} answer at the same time"
            );
        }
        self.answered(slot, machines);
    }

    /// A leader that answers has everything that was ever committed.
    pub(crate) fn answered(&self, slot: usize, machines: &[Machine]) {
        if self.gave_up {
            return;
        }
        let Some(process) = &machines[slot].process else {
            return;
        };
        if let Some((end, chain)) = self.committed.last_key_value() {
            let own = process.shadow.get(end).map(|(_, chain)| *chain);
            assert_eq!(
                own,
                Some(*chain),
                "machine {slot} answers without what was committed at {end}"
            );
        }
    }

    /// A follower's state is the committed one at some LSN.
    pub(crate) fn applied(&self, slot: usize, machines: &[Machine]) {
        let Some(process) = &machines[slot].process else {
            return;
        };
        let Some(store) = &process.store else { return };
        if process.accepting {
            return;
        }
        let applied = process.applied;
        assert_eq!(
            store.applied(),
            applied.end,
            "the state of machine {slot} is not where it is said to be"
        );
        if process.core.leading().is_some() || self.gave_up {
            return;
        }
        self.shown(slot, applied.end);
        if let Some((end, chain)) = self.committed.range(applied.end..).next() {
            let own = process.shadow.get(&applied.end);
            let same = applied.end != *end || own.is_none_or(|(_, own)| own == chain);
            assert!(same, "machine {slot} applied what was not committed");
        } else {
            let none = self.committed.last_key_value();
            let most = none.map_or(Lsn::ZERO, |(end, _)| *end);
            assert!(applied.end <= most, "machine {slot} is ahead of the commit");
        }
    }

    /// An asynchronous promotion: what the new leader does not hold is given up.
    pub(crate) fn promotion(&mut self, holds: bool, may_lose: bool, epoch: Epoch) {
        self.counts.promotions += 1;
        if may_lose {
            self.lossy = epoch;
            self.gives_up(!holds);
        }
    }

    fn gives_up(&mut self, gave_up: bool) {
        self.counts.gave_up += u64::from(gave_up && !self.gave_up);
        self.gave_up |= gave_up;
    }

    /// Whether a log holds everything that was ever committed.
    pub(crate) fn holds_all(&self, machine: &Machine) -> bool {
        let shadow = machine.process.as_ref().map(|process| &process.shadow);
        let shadow = shadow.unwrap_or(&machine.shadow);
        self.committed
            .last_key_value()
            .is_none_or(|(end, chain)| shadow.get(end).is_some_and(|(_, own)| own == chain))
    }
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.answers += other.answers;
        self.reads += other.reads;
        self.heard += other.heard;
        self.unknown += other.unknown;
        self.promotions += other.promotions;
        self.switchovers += other.switchovers;
        self.changes += other.changes;
        self.stops += other.stops;
        self.losses += other.losses;
        self.rots += other.rots;
        self.seeds += other.seeds;
        self.fates += other.fates;
        self.rollbacks += other.rollbacks;
        self.copies += other.copies;
        self.gave_up += other.gave_up;
        self.withheld += other.withheld;
        self.undecided += other.undecided;
    }

    /// The runs have exercised something.
    pub(crate) fn assert_busy(&self) {
        let busy = self.answers > 2_000
            && self.reads > 10_000
            && self.promotions > 100
            && self.stops > 100;
        assert!(
            busy && self.seeds > 10,
            "the runs exercise nothing: {self:?}"
        );
        assert!(
            self.undecided * 20 < self.promotions,
            "no verdict: {self:?}"
        );
    }
}
