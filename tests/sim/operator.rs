//! What an operator is to the simulation, and the simulation's own one: it follows the text of the
//! protocol, and does whatever that allows at random.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, seq::IndexedRandom};
use replicated_store::api::ReplicatedStoreStatus;
use replicated_store::operator::view::Held;
use replicated_store::replication::admin::{PromiseAnswer, ReplicaStatus, Role};
use replicated_store::replication::{Configuration, Epoch, ReplicaId, VoterSet};

use super::api::{Notice, Word};
use super::bug::Bug;
use super::cluster::Reading;
use super::world::{Operators, Setup};

/// What an operator has seen, all of it perhaps long ago but the register.
#[derive(Default)]
pub(crate) struct Seen {
    /// All that was read with it.
    pub(crate) reading: Option<Reading>,
    /// Read from the API server itself just now.
    pub(crate) register: Configuration,
    /// The last words of the replica on each machine, and when they came.
    pub(crate) words: BTreeMap<usize, (ReplicaStatus, Duration)>,
    /// Replicas whose disks are known to be gone.
    pub(crate) lost: BTreeSet<ReplicaId>,
    /// Replicas that had no whole state when they promised.
    pub(crate) seeding: BTreeSet<ReplicaId>,
    /// Processes that are known to have ended: machine and incarnation.
    pub(crate) ended: BTreeSet<(usize, u64)>,
    /// Who leads each epoch, by the register.
    pub(crate) leaders: BTreeMap<Epoch, ReplicaId>,
    /// Which process was seen to lead it.
    pub(crate) processes: BTreeMap<Epoch, (usize, u64)>,
    /// The operator's own time.
    pub(crate) now: Duration,
    /// How long a replica may be silent before it is held to be away.
    pub(crate) patience: Duration,
}

/// A promotion that is to be tried.
#[derive(Clone, Debug)]
pub(crate) struct Campaign {
    pub(crate) base: Configuration,
    pub(crate) epoch: Epoch,
    /// Machines that are asked for promises.
    pub(crate) ask: Vec<usize>,
    /// First the leader is asked to make room: where it is, and for whom.
    pub(crate) hand_over: Option<(usize, ReplicaId)>,
    /// For so long it waits for promises.
    pub(crate) within: Duration,
    /// Who is not to vote any more.
    pub(crate) give_up: BTreeSet<ReplicaId>,
    /// `k` of the configuration that comes of it.
    pub(crate) sync: u32,
}

/// What an operator does besides the register.
pub(crate) enum Chore {
    Tell(usize, Notice),
    Report(Box<ReplicatedStoreStatus>),
    Scale(u32),
    Delete(usize, u64),
    /// Tell the replica of this id to which claim it belongs, and whether its disk is a copy.
    Bind(usize, ReplicaId, bool),
}

/// What an operator wants to be done.
pub(crate) enum Act {
    Keep,
    Swap(Configuration),
    Campaign(Campaign),
}

/// The seam at which another operator can be plugged in.
pub(crate) trait Operator {
    /// Must the register change?
    fn decide(&mut self, seen: &Seen, rng: &mut SmallRng) -> Act;
    /// The configuration that the answers allow.
    fn elect(
        &mut self,
        seen: &Seen,
        campaign: &Campaign,
        answers: &[PromiseAnswer],
        rng: &mut SmallRng,
    ) -> Option<Configuration>;
    /// How much longer it waits for more answers than these; `None` for as long as it may.
    fn wait(
        &mut self,
        campaign: &Campaign,
        answers: &[PromiseAnswer],
        silent: usize,
        rng: &mut SmallRng,
    ) -> Option<Duration>;
    /// What follows from the register, after a look that changed nothing and after a swap.
    fn follow(&mut self, seen: &Seen, rng: &mut SmallRng) -> Vec<Chore>;

    /// For how long a leader may take to make room.
    fn hand_over_within(&self, lease: Duration) -> Duration {
        lease
    }
    /// Whether it is the real one, which hears replicas in order and knows when a stream ends.
    fn hears_streams(&self) -> bool {
        false
    }
    /// Takes in what it hears of the replica on a machine.
    fn learn(&mut self, _slot: usize, _word: Word, _now: Duration) {}
    /// A replica has taken what it was told, or has not.
    fn told(&mut self, _slot: usize, _refusal: &str, _now: Duration) {}
    /// A leader has made room, or has not.
    fn handed_over(&mut self, _done: bool, _now: Duration) {}
    /// The register holds this now.
    fn swapped(&mut self, _to: Configuration) {}
    /// Its process ends, and another one starts.
    fn forget(&mut self) {}
    /// Whether it has known a later register than of that version to be in force.
    fn knows_later(&self, _version: u64) -> bool {
        false
    }
    /// A disk is known to have had this.
    fn note(&mut self, _id: ReplicaId, _held: Held) {}
}

/// `N - min(L, W) + 1`, or `N - L + 1` where nothing is synchronous.
pub(crate) fn needed(set: &VoterSet, bug: Bug) -> usize {
    let n = set.voters.len();
    let copies = 1 + (set.sync as usize).min(n.saturating_sub(1));
    let leases = n / 2 + 1;
    let lost = match set.sync {
        0 => leases,
        _ if bug == Bug::QuorumWithoutLeases => copies,
        _ => leases.min(copies),
    };
    n + 1 - lost
}

fn add(previous: &mut Vec<VoterSet>, set: VoterSet) {
    if !previous.contains(&set) {
        previous.push(set);
    }
}

/// The simulation's own operator.
pub(crate) struct Erratic {
    pub(crate) bug: Bug,
    /// Whether it does what nobody needs: promotions and changes at random.
    pub(crate) restless: bool,
    /// In how many of a thousand looks it promotes for no reason.
    pub(crate) whims: u32,
    /// In how many of a hundred promotions it gives up voters for no reason.
    pub(crate) removals: u32,
    pub(crate) most_voters: usize,
    /// Whether it changes `k`.
    pub(crate) changes_sync: bool,
    /// The lease that leaders ask for.
    pub(crate) lease: Duration,
}

impl Erratic {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self {
            bug: match setup.operators {
                Operators::Erratic => setup.bug,
                Operators::Plan | Operators::Mixed => Bug::None,
            },
            restless: true,
            removals: setup.menu.removals,
            most_voters: setup.voters,
            whims: setup.menu.whims,
            changes_sync: setup.changes_sync,
            lease: setup.lease,
        }
    }

    fn campaign(&self, seen: &Seen, rng: &mut SmallRng) -> Campaign {
        let base = seen.register.clone();
        let sets = base.previous.iter().map(|set| &set.voters);
        let asked: BTreeSet<ReplicaId> = sets.chain([&base.voters]).flatten().copied().collect();
        let words = seen.words.iter();
        let ask = words.filter(|(_, (status, _))| asked.contains(&status.id));
        let mut give_up = seen.lost.clone();
        if self.restless && rng.random_ratio(self.removals, 100) {
            give_up.extend(base.voters.iter().filter(|_| rng.random_bool(0.5)));
        }
        Campaign {
            epoch: base.epoch.next(),
            ask: ask.map(|(slot, _)| *slot).collect(),
            hand_over: None,
            within: self.lease * 2,
            sync: base.sync,
            base,
            give_up,
        }
    }

    fn change(&self, seen: &Seen, leader: &ReplicaStatus, rng: &mut SmallRng) -> Act {
        let register = &seen.register;
        let mut next = register.clone();
        let ready = |id: &ReplicaId| {
            let status = seen.words.values().find(|(status, _)| status.id == *id);
            status.is_some_and(|(it, _)| it.ready && it.epoch == register.epoch)
        };
        let followers = leader.followers.iter().map(|follower| follower.id);
        let joining = followers.filter(|id| !register.voters.contains(id) && ready(id));
        let room = self.most_voters.saturating_sub(register.voters.len());
        next.voters.extend(joining.take(room));
        let away = |id: &ReplicaId| {
            let lost = seen.lost.contains(id);
            let at = leader.followers.iter().find(|it| it.id == *id);
            lost || (self.restless && at.is_none_or(|it| !it.heard) && *id != leader.id)
        };
        let eager = rng.random_ratio(self.removals, 100);
        next.voters.retain(|id| !(away(id) && eager));
        if self.changes_sync && rng.random_bool(0.02) {
            next.sync = rng.random_range(0..3);
        }
        if next == *register {
            return Act::Keep;
        }
        add(&mut next.previous, register.current());
        next.version += 1;
        Act::Swap(next)
    }

    /// The leader has not committed its barrier. If a voter is away it never may, and only another
    /// promotion can give that up.
    fn stuck(&self, seen: &Seen, leader: &ReplicaStatus, rng: &mut SmallRng) -> Act {
        let heard = |id: &ReplicaId| {
            let mut followers = leader.followers.iter();
            followers.any(|it| it.id == *id && it.heard) || *id == leader.id
        };
        let voters = &seen.register.voters;
        let away: BTreeSet<ReplicaId> = voters.iter().filter(|id| !heard(id)).copied().collect();
        if away.is_empty() || !rng.random_bool(0.1) {
            return Act::Keep;
        }
        let mut campaign = self.campaign(seen, rng);
        campaign.give_up.extend(away);
        Act::Campaign(campaign)
    }

    fn hand_over(&self, seen: &Seen, leader: &ReplicaStatus, rng: &mut SmallRng) -> Option<Act> {
        let mut campaign = self.campaign(seen, rng);
        let slot = seen
            .words
            .iter()
            .find(|(_, (status, _))| status.id == leader.id)?;
        let voters: Vec<_> = leader
            .followers
            .iter()
            .filter(|it| campaign.base.voters.contains(&it.id))
            .collect();
        let target = voters.choose(rng)?.id;
        campaign.hand_over = Some((*slot.0, target));
        Some(Act::Campaign(campaign))
    }

    /// The longest of the leases that may still run to a process that may still be there.
    fn wait_ms(&self, seen: &Seen, answers: &[PromiseAnswer]) -> u64 {
        if self.bug == Bug::WaitsForNoLease {
            return 0;
        }
        let over = |holder: Epoch| {
            let process = seen.processes.get(&holder);
            let ended = process.is_some_and(|process| seen.ended.contains(process));
            let promised = seen
                .leaders
                .get(&holder)
                .is_some_and(|id| answers.iter().any(|answer| answer.id == *id));
            ended || promised
        };
        let leases = answers.iter().flat_map(|answer| &answer.leases);
        let running = leases.filter(|lease| !lease.holder.is_some_and(over));
        running.map(|lease| lease.left_ms).max().unwrap_or(0)
    }
}

impl Operator for Erratic {
    fn decide(&mut self, seen: &Seen, rng: &mut SmallRng) -> Act {
        let register = &seen.register;
        let next = register.epoch.next();
        let mut words = seen.words.values();
        if words.any(|(status, _)| status.promised > next || status.last.epoch > next) {
            return Act::Keep; // the register was restored from a backup
        }
        let mut words = seen.words.values();
        let begun = words.any(|(status, _)| status.promised > register.epoch);
        let leader = seen.words.values().find(|(status, at)| {
            Some(status.id) == register.leader && seen.now.saturating_sub(*at) < seen.patience
        });
        let Some((leader, _)) = leader else {
            return Act::Campaign(self.campaign(seen, rng));
        };
        let leads = leader.role == Role::Leader && leader.epoch == register.epoch;
        let over = leader.begun >= register.epoch && !leads;
        let whim = self.restless && rng.random_ratio(self.whims, 1000);
        if begun || over || whim {
            return Act::Campaign(self.campaign(seen, rng));
        }
        if !leads {
            let stuck = rng.random_bool(0.02);
            return if stuck {
                Act::Campaign(self.campaign(seen, rng))
            } else {
                Act::Keep
            };
        }
        if !register.previous.is_empty() {
            let known = match self.bug {
                Bug::EstablishesEarly => leader.configuration_version,
                _ => leader.established_version,
            };
            if known != register.version {
                return self.stuck(seen, leader, rng);
            }
            let mut next = register.clone();
            next.version += 1;
            next.previous.clear();
            return Act::Swap(next);
        }
        if self.restless
            && rng.random_bool(0.02)
            && let Some(act) = self.hand_over(seen, leader, rng)
        {
            return act;
        }
        self.change(seen, leader, rng)
    }

    fn elect(
        &mut self,
        seen: &Seen,
        campaign: &Campaign,
        answers: &[PromiseAnswer],
        rng: &mut SmallRng,
    ) -> Option<Configuration> {
        let base = &campaign.base;
        let mut sets = vec![base.current()];
        if self.bug != Bug::IgnoresPrevious {
            sets.extend(base.previous.iter().cloned());
        }
        for set in sets {
            // What had no whole state says nothing of what was acknowledged.
            let counts = |it: &&PromiseAnswer| {
                let seeding = self.bug != Bug::CountsSeeding && seen.seeding.contains(&it.id);
                set.voters.contains(&it.id) && (set.sync == 0 || !seeding)
            };
            let promised = answers.iter().filter(counts);
            if promised.count() < needed(&set, self.bug) {
                return None;
            }
        }
        let key = |answer: &&PromiseAnswer| match self.bug {
            Bug::ElectsLongest => (Epoch(0), answer.last.lsn),
            _ => (answer.last.epoch, answer.last.lsn),
        };
        // As with `status.empty`, which tells of those as well that are being seeded.
        let able = |it: &&PromiseAnswer| {
            let mut words = seen.words.values();
            let empty = words.any(|(status, _)| status.id == it.id && status.empty);
            match self.bug {
                Bug::CountsSeeding => !empty,
                _ => !seen.seeding.contains(&it.id),
            }
        };
        let able: Vec<_> = answers.iter().filter(able).collect();
        let most = able.iter().map(key).max()?;
        let best: Vec<_> = able.iter().filter(|it| key(it) == most).collect();
        let leader = best.choose(rng)?.id;
        let mut next = base.clone();
        next.version += 1;
        next.epoch = campaign.epoch;
        next.leader = Some(leader);
        next.voters.retain(|id| !campaign.give_up.contains(id));
        next.voters.insert(leader);
        next.sync = campaign.sync;
        next.wait_ms = self.wait_ms(seen, answers);
        add(&mut next.previous, base.current());
        Some(next)
    }

    fn wait(
        &mut self,
        campaign: &Campaign,
        answers: &[PromiseAnswer],
        _silent: usize,
        rng: &mut SmallRng,
    ) -> Option<Duration> {
        let hesitates = answers.len() < campaign.ask.len() && rng.random_bool(0.5);
        (!hesitates).then_some(Duration::ZERO)
    }

    /// Hands the register to replicas that do not have it, and now and then to others.
    fn follow(&mut self, seen: &Seen, rng: &mut SmallRng) -> Vec<Chore> {
        let register = &seen.register;
        let words = seen.words.iter();
        let told = words.filter(|(_, (status, _))| {
            status.configuration_version < register.version || rng.random_bool(0.1)
        });
        told.map(|(slot, _)| Chore::Tell(*slot, Notice::Register(register.clone())))
            .collect()
    }
}
