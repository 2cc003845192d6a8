//! What operators know of disks, and what they do where the register is gone or older than those.

use std::cmp::Ordering;

use crate::replication::{Configuration, Epoch, Lsn, Position, ReplicaId};
use crate::state::{Answer, Held, Replica, State};
use crate::switch::{number, on};

const BELIEVED: usize = number("operator: what disks have adopted is not looked at");
const ONE_BEHIND: usize = number("operator: a register is taken that is one epoch behind");
const VERSION_BEHIND: usize =
    number("operator: a register is taken that is a change of voters behind");
const SOME: usize = number("operator: a recovery does not wait for all disks");
const PROMISED: usize = number("operator: a recovery takes an epoch that was promised before");
const END: usize = number("operator: of what a disk had only the end is known");
const TWINS: usize = number("operator: a copy counts beside the replica that it was made of");
const PUT_BACK: usize = number("operator: a disk that was put back counts");
const FOLLOWS: usize =
    number("operator: a disk that was put back counts once it follows a later leader");
const DAMAGED: usize = number("operator: a replica whose log was damaged counts");
const COPY: usize = number("operator: a replica counts for what a copy of it has");

impl State {
    /// Whether two that run are the same one.
    pub(crate) fn duplicate(&self) -> bool {
        let twin = |(slot, replica): (usize, &Replica)| {
            let mut others = self.running();
            others.any(|(other, it)| other != slot && it.id == replica.id)
        };
        self.watched && self.running().any(twin) && !on(TWINS)
    }

    /// Whether there is no register that can be believed.
    pub(crate) fn unsettled(&self) -> bool {
        self.register.version == 0 || (self.in_doubt && self.behind())
    }

    /// Whether a disk that is heard knows better than the register.
    fn behind(&self) -> bool {
        let Configuration { epoch, version, .. } = *self.register;
        let allowed = if on(ONE_BEHIND) { epoch.next() } else { epoch };
        let ours = |replica: &Replica| {
            let theirs = replica.core.adopted_configuration().store;
            theirs.is_none() || theirs == self.register.store
        };
        self.running().any(|(_, replica)| {
            let view = replica.core.view();
            let adopted = replica.core.adopted_configuration();
            let seen = view.last.epoch.max(view.hard.begun);
            let later = adopted.version > version
                || (adopted.version == version && *adopted != *self.register);
            let remembers = (later && !on(BELIEVED)) || view.version > version;
            let versions = !on(ONE_BEHIND) && !on(VERSION_BEHIND);
            ours(replica)
                && (view.hard.promised > epoch.next() || seen > allowed || (remembers && versions))
        })
    }

    /// What a promotion starts from: the register, or the newest configuration that disks remember.
    pub(crate) fn base(&self) -> &Configuration {
        if !self.unsettled() {
            return &self.register;
        }
        let adopted = self.running();
        let adopted = adopted.map(|(_, it)| it.core.adopted_configuration());
        let newest = adopted.max_by_key(|it| (it.epoch, it.version));
        newest.unwrap_or(&self.register)
    }

    /// The epoch to be asked for.
    pub(crate) fn next_epoch(&self) -> Epoch {
        if self.unsettled() {
            self.recovering.max(self.unknown_epoch())
        } else {
            self.register.epoch.next()
        }
    }

    /// An epoch that no disk which is heard has heard of, but for what is promised to this campaign.
    fn unknown_epoch(&self) -> Epoch {
        let known = |replica: &Replica| {
            let view = replica.core.view();
            let adopted = replica.core.adopted_configuration().epoch;
            let promised = Some(view.hard.promised).filter(|it| *it != self.recovering);
            let promised = promised.filter(|_| !on(PROMISED)).unwrap_or_default();
            view.hard
                .begun
                .max(view.last.epoch)
                .max(adopted)
                .max(promised)
        };
        let known = self.running().map(|(_, it)| known(it)).max();
        known.unwrap_or_default().next()
    }

    /// A recovery that is under way ends where its epoch is not new any more; its answers are of no use.
    pub(crate) fn watch_recovery(&mut self) {
        if self.recovering == Epoch(0) {
            return;
        }
        let goes_on = self.unsettled() && self.next_epoch() == self.recovering;
        if !goes_on {
            self.recovering = Epoch(0);
            self.answers.fill(None);
            self.asked.fill(false);
        }
    }

    /// The version of what comes next.
    pub(crate) fn next_version(&self) -> u64 {
        if !self.unsettled() {
            return self.register.version + 1;
        }
        let known = self.running();
        let known = known.map(|(_, it)| it.core.adopted_configuration().version);
        let known = known.max().unwrap_or_default();
        known.max(self.register.version) + 1
    }

    /// Names what promises are asked for: answers of another campaign are of no use.
    pub(crate) fn campaign(&self) -> u64 {
        let recovery = if self.unsettled() { 1 << 32 } else { 0 };
        recovery + (self.next_epoch().0 << 16) + self.register.version
    }

    /// Whether this one is asked for a promise.
    pub(crate) fn is_asked(&self, id: ReplicaId) -> bool {
        if self.duplicate() {
            return false;
        }
        if self.unsettled() {
            return self.all_heard();
        }
        self.register.all_voters().any(|voter| voter == id)
    }

    /// Whether a recovery may begin: whoever may have data is heard.
    pub(crate) fn all_heard(&self) -> bool {
        on(SOME) || self.replicas.iter().all(|it| it.up)
    }

    /// Whether all have answered.
    pub(crate) fn all_answered(&self) -> bool {
        let mut all = self.replicas.iter().zip(&self.answers);
        all.all(|(replica, answer)| answer.is_some() || (on(SOME) && !replica.up))
    }

    /// Whether this disk holds what it is known to have had.
    pub(crate) fn is_whole(&self, slot: usize, answer: &Answer) -> bool {
        if answer.forgotten && !on(DAMAGED) && !self.is_alone(self.replicas[slot].id) {
            return false;
        }
        if !self.watched || on(PUT_BACK) || on(COPY) {
            return true;
        }
        let id = self.replicas[slot].id;
        let base = self.base();
        let forgot = base.leader == Some(id) && answer.before < base.epoch;
        let less = |it: &Held| {
            let older = answer.last.epoch < it.last.epoch && !on(END);
            answer.cut <= it.epoch && (answer.last.lsn < it.last.lsn || older)
        };
        !forgot && !self.held.get(&id).is_some_and(less)
    }

    /// Whether nobody else votes, so that nobody else can have more.
    fn is_alone(&self, id: ReplicaId) -> bool {
        self.base().all_voters().all(|voter| voter == id)
    }

    /// Whether operators tell this one what the register holds.
    pub(crate) fn may_be_told(&self, _slot: usize) -> bool {
        self.register.version > 0
    }

    /// Notes what the disks of those have that lead or follow, as they say, and as leaders say of their followers.
    pub(crate) fn note_held(&mut self) {
        if !self.watched {
            return;
        }
        let matched = |(_, replica): (usize, &Replica)| {
            let view = replica.core.view();
            let held = Held {
                epoch: view.epoch,
                last: replica.core.last(),
            };
            let matched = view.leading || view.streaming;
            matched.then_some((replica.id, held, view.hard.cut))
        };
        let own = self.running().filter_map(matched);
        let led = self.running().flat_map(|(_, leader)| followers(leader));
        let held: Vec<_> = own.chain(led).collect();
        for (id, held, cut) in held {
            let known = self.held.entry(id).or_default();
            *known = known.join(held, cut);
        }
    }
}

/// What a leader says of its followers' disks.
fn followers(leader: &Replica) -> Vec<(ReplicaId, Held, Epoch)> {
    let view = leader.core.view();
    let followers = view.followers.iter().filter(|_| view.leading);
    let held = |lsn| Held {
        epoch: view.epoch,
        last: Position {
            epoch: Epoch(0),
            lsn,
        },
    };
    followers
        .filter(|it| it.durable > Lsn::ZERO)
        .map(|it| (it.id, held(it.durable), Epoch(0)))
        .collect()
}

impl Held {
    /// As the shipped operator joins what it hears: under a later leader a log may be shorter only if that had it
    /// cut.
    fn join(self, other: Self, cut: Epoch) -> Self {
        let longer = other.last.lsn >= self.last.lsn;
        match self.epoch.cmp(&other.epoch) {
            Ordering::Less if longer || cut > self.epoch || on(FOLLOWS) => other,
            Ordering::Less | Ordering::Greater => self,
            Ordering::Equal => Self {
                epoch: self.epoch,
                last: Position {
                    epoch: self.last.epoch.max(other.last.epoch),
                    lsn: self.last.lsn.max(other.last.lsn),
                },
            },
        }
    }
}
