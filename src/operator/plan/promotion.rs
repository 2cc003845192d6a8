//! Promotions: who may lead next, and who has to agree (see "Promotion" of the protocol).
//!
//! There are no leases yet, and the operator never takes the lead from a leader that may be at
//! work: a promotion happens when the leader's process has ended and its successor answers, or
//! when its data directory is gone.

use std::collections::BTreeSet;

use crate::replication::admin::PromiseAnswer;
use crate::replication::types::{Configuration, Epoch, ReplicaId, VoterSet};

use super::bootstrap;
use super::{Decision, Reason, Swap, Waiting};
use crate::operator::view::{self, View};

/// Why a leader is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// There was no register, and there is data.
    Bootstrap,
    /// The leader's process has ended; what has started in its place answers.
    LeaderEnded,
    /// The leader's data directory is gone.
    LeaderLost,
    /// Somebody had asked for promises and did not finish.
    CarriedThrough,
    /// The leader has to make room.
    HandOver,
}

impl Cause {
    /// As metrics and messages spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bootstrap => "Bootstrap",
            Self::LeaderEnded => "LeaderEnded",
            Self::LeaderLost => "LeaderLost",
            Self::CarriedThrough => "CarriedThrough",
            Self::HandOver => "HandOver",
        }
    }
}

/// A promotion that is to be tried: who is asked for what, and what counts as enough.
#[derive(Clone, Debug, PartialEq)]
pub struct Campaign {
    /// Why.
    pub cause: Cause,
    /// The register that it starts from; the swap is conditional on exactly that.
    pub base: Option<Configuration>,
    /// The epoch to be promised.
    pub epoch: Epoch,
    /// Version of the configuration that comes of it.
    pub version: u64,
    /// Who is asked: ordinals of Pods.
    pub ask: Vec<u32>,
    /// Whose own promise is needed, whatever the others say.
    pub require: BTreeSet<ReplicaId>,
    /// Sets of which enough must promise.
    pub sets: Vec<VoterSet>,
    /// Who must not lead: it never had data.
    pub barred: BTreeSet<ReplicaId>,
    /// Who leads if several are equally good, best first.
    pub preference: Vec<ReplicaId>,
    /// Who is given up as a voter: its data directory is gone.
    pub lost: BTreeSet<ReplicaId>,
    /// Durability rule of the configuration that comes of it.
    pub sync: u32,
}

/// How many of a set must promise before a leader may be chosen: so many that every earlier
/// leader's acknowledgements (and, later, leases) are known to one of them.
pub fn needed(set: &VoterSet) -> usize {
    let n = set.voters.len();
    let leases = n / 2 + 1;
    let sync = set.sync as usize;
    let copies = 1 + sync.min(n.saturating_sub(1));
    let intersecting = if sync == 0 {
        leases
    } else {
        leases.min(copies)
    };
    (n + 1).saturating_sub(intersecting)
}

/// The sets that a promotion from `register` must hear.
fn sets(register: &Configuration) -> Vec<VoterSet> {
    let mut sets = vec![register.current()];
    sets.extend(register.previous.iter().cloned());
    sets
}

/// A promotion from `register`, or what it waits for.
pub fn decide(view: &View, register: &Configuration, cause: Cause) -> Decision {
    let campaign = Campaign::new(view, register, cause);
    let heard: BTreeSet<ReplicaId> = view.live().map(|(_, status)| status.id).collect();
    match campaign.hopeless(view, &heard) {
        Some(waiting) => Decision::Wait(waiting),
        None => Decision::Campaign(campaign),
    }
}

/// A promotion that lets the leader make room, if a follower below `limit` has all that the leader
/// had a moment ago. It can still turn out that the leader was quicker: then it leads again.
pub fn hand_over(view: &View, register: &Configuration, limit: u32) -> Option<Campaign> {
    let mut campaign = Campaign::new(view, register, Cause::HandOver);
    let leader = register.leader?;
    let (_, status) = view.find(leader)?;
    campaign
        .preference
        .retain(|id| view.ordinal_of(*id).is_some_and(|it| it < limit));
    let synced = |id: &&ReplicaId| {
        let follower = status.followers.iter().find(|follower| follower.id == **id);
        register.voters.contains(id)
            && follower.is_some_and(|follower| {
                follower.connected
                    && follower.lag_bytes == 0
                    && follower.durable_lsn == status.last.lsn
            })
    };
    campaign.preference.iter().find(synced)?;
    let heard: BTreeSet<ReplicaId> = view.live().map(|(_, status)| status.id).collect();
    campaign
        .hopeless(view, &heard)
        .is_none()
        .then_some(campaign)
}

impl Campaign {
    /// A promotion from `register`.
    fn new(view: &View, register: &Configuration, cause: Cause) -> Self {
        let voters = view::named(register);
        // What the leader acknowledged is on its disk, and nowhere else for certain: unless that
        // is gone, it must be heard.
        let leader = register.leader.filter(|id| !view.lost.contains(id));
        Self {
            cause,
            base: Some(register.clone()),
            epoch: register.epoch.next(),
            version: register.version + 1,
            ask: asked(view, |id| voters.contains(&id)),
            require: leader.into_iter().collect(),
            sets: sets(register),
            barred: barred(view),
            preference: preference(view, leader),
            lost: view.lost.clone(),
            sync: register.sync,
        }
    }

    /// The first leader of a store that has data and no register: everybody is asked, and
    /// everybody must answer.
    pub(super) fn bootstrap(view: &View) -> Self {
        let everybody = view
            .live()
            .filter(|(pod, _)| pod.ordinal < view.store.replicas);
        let highest = view
            .live()
            .map(|(_, status)| status.promised.max(status.begun).max(status.last.epoch))
            .max();
        Self {
            cause: Cause::Bootstrap,
            base: None,
            epoch: highest.unwrap_or(Epoch(0)).next(),
            version: bootstrap::next_version(view),
            ask: asked(view, |_| true),
            require: everybody.map(|(_, status)| status.id).collect(),
            sets: Vec::new(),
            barred: barred(view),
            preference: preference(view, None),
            lost: BTreeSet::new(),
            sync: 0,
        }
    }

    /// Why it cannot succeed if only `heard` answer: then nobody is asked, as a promise is for good.
    fn hopeless(&self, view: &View, heard: &BTreeSet<ReplicaId>) -> Option<Waiting> {
        if let Some(id) = self.require.iter().find(|id| !heard.contains(id)) {
            return Some(missing(&format!(
                "waiting for {} to answer",
                view.name_of(*id)
            )));
        }
        for set in &self.sets {
            let alive = set.voters.difference(&self.lost).count();
            if alive < needed(set) {
                return Some(Waiting {
                    reason: Reason::NoVoterLeft,
                    message: too_many_lost(view, set),
                });
            }
            let present = set.voters.intersection(heard).count();
            if present < needed(set) {
                return Some(missing(&too_few(view, set, heard)));
            }
        }
        let able = heard.difference(&self.barred);
        let voters: BTreeSet<ReplicaId> = self
            .sets
            .iter()
            .flat_map(|set| &set.voters)
            .copied()
            .collect();
        let none = self.base.is_some() && able.filter(|id| voters.contains(id)).count() == 0;
        none.then(|| missing("every replica that answers is empty"))
    }

    /// The configuration that the answers allow, or what is missing.
    pub fn elect(&self, view: &View, answers: &[PromiseAnswer]) -> Result<Swap, Waiting> {
        if let Some(refused) = answers.iter().find(|answer| !answer.granted) {
            let name = view.name_of(refused.id);
            return Err(missing(&format!(
                "{name} has promised epoch {} before",
                refused.promised
            )));
        }
        let granted: BTreeSet<ReplicaId> = answers.iter().map(|answer| answer.id).collect();
        if let Some(waiting) = self.hopeless(view, &granted) {
            return Err(waiting);
        }
        let best = answers
            .iter()
            .filter(|answer| !self.barred.contains(&answer.id))
            .max_by_key(|answer| (answer.last, self.rank(answer.id)))
            .ok_or_else(|| missing("every replica that answered is empty"))?;
        let to = self.configuration(best.id);
        assert!(
            to.epoch > self.base.as_ref().map_or(Epoch(0), |base| base.epoch),
            "epochs rise"
        );
        let why = format!(
            "{} leads epoch {} ({}): its log ends at {} of epoch {}, the best of {} that promised",
            view.name_of(best.id),
            to.epoch,
            self.cause.name(),
            best.last.lsn,
            best.last.epoch,
            granted.len()
        );
        Ok(Swap { to, why })
    }

    /// Higher is better among equally good logs.
    fn rank(&self, id: ReplicaId) -> usize {
        let place = self.preference.iter().position(|it| *it == id);
        place.map_or(0, |place| self.preference.len() - place)
    }

    fn configuration(&self, leader: ReplicaId) -> Configuration {
        let Some(base) = &self.base else {
            return Configuration {
                version: self.version,
                epoch: self.epoch,
                leader: Some(leader),
                voters: [leader].into(),
                sync: self.sync,
                ..Configuration::default()
            };
        };
        let mut voters: BTreeSet<ReplicaId> = base.voters.difference(&self.lost).copied().collect();
        voters.insert(leader);
        Configuration {
            version: self.version,
            epoch: self.epoch,
            leader: Some(leader),
            voters,
            sync: self.sync,
            previous: previous(base),
            wait_ms: 0,
        }
    }
}

/// The list of replaced sets after one more change: a set that is in it already is not repeated.
pub fn previous(base: &Configuration) -> Vec<VoterSet> {
    let mut previous = base.previous.clone();
    let current = base.current();
    if !previous.contains(&current) {
        previous.push(current);
    }
    previous
}

fn asked(view: &View, wanted: impl Fn(ReplicaId) -> bool) -> Vec<u32> {
    let asked = view.live().filter(|(_, status)| wanted(status.id));
    asked.map(|(pod, _)| pod.ordinal).collect()
}

fn barred(view: &View) -> BTreeSet<ReplicaId> {
    let empty = view.live().filter(|(_, status)| status.empty);
    empty.map(|(_, status)| status.id).collect()
}

/// The old leader first, as its clients are there; then by ordinal.
fn preference(view: &View, leader: Option<ReplicaId>) -> Vec<ReplicaId> {
    let others = view
        .live()
        .map(|(_, status)| status.id)
        .filter(|id| Some(*id) != leader);
    leader.into_iter().chain(others).collect()
}

fn missing(message: &str) -> Waiting {
    Waiting {
        reason: Reason::VotersMissing,
        message: format!("no new leader yet: {message}"),
    }
}

fn too_few(view: &View, set: &VoterSet, heard: &BTreeSet<ReplicaId>) -> String {
    let silent = set.voters.difference(heard).map(|id| view.name_of(*id));
    let silent: Vec<String> = silent.collect();
    format!(
        "{} of {} voters must agree; waiting for {}",
        needed(set),
        set.voters.len(),
        silent.join(" or ")
    )
}

fn too_many_lost(view: &View, set: &VoterSet) -> String {
    let lost: Vec<String> = set
        .voters
        .intersection(&view.lost)
        .map(|id| view.name_of(*id))
        .collect();
    format!(
        "the volumes of {} are gone, and what is left of the {} voters cannot prove that it has all \
         acknowledged writes; bring a volume back, or delete and create this object again to go on \
         with what is there",
        lost.join(", "),
        set.voters.len()
    )
}
