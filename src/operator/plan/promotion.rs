//! Promotions: who is asked for promises, and how many must agree (see "Promotion" of the
//! protocol). What comes of the answers is in [`super::election`].

use std::collections::{BTreeMap, BTreeSet};

use crate::replication::admin::{ReplicaState, ReplicaStatus};
use crate::replication::types::{Configuration, Epoch, Position, ReplicaId, StoreId, VoterSet};

use super::doubt::{self, Doubt};
use super::numbering::{GAP, next_epoch, next_version, recovery_epoch};
use super::{Decision, Leadership, Reason, Waiting, leadership, recovery};
use crate::operator::view::{self, Held, PodView, View};

/// Why a leader is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// There was no register, and disks do not remember one.
    Bootstrap,
    /// There was no register, or one that was older than what the disks remember.
    RegisterRecovered,
    /// The leader's process has ended; what has started in its place answers.
    LeaderEnded,
    /// The leader's process has ended, and nothing has started in its place yet.
    LeaderDied,
    /// Neither enough voters nor the operator hear the leader.
    LeaderSilent,
    /// The leader says that it has no leases, and enough voters do not hear it.
    LeaderCutOff,
    /// The leader does not get to work.
    LeaderStuck,
    /// The leader's data directory is gone.
    LeaderLost,
    /// Somebody had asked for promises and did not finish.
    CarriedThrough,
    /// The leader makes room.
    Switchover,
}

impl Cause {
    /// As metrics, the status and messages spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bootstrap => "Bootstrap",
            Self::RegisterRecovered => "RegisterRecovered",
            Self::LeaderEnded => "LeaderEnded",
            Self::LeaderDied => "LeaderDied",
            Self::LeaderSilent => "LeaderSilent",
            Self::LeaderCutOff => "LeaderCutOff",
            Self::LeaderStuck => "LeaderStuck",
            Self::LeaderLost => "LeaderLost",
            Self::CarriedThrough => "CarriedThrough",
            Self::Switchover => "Switchover",
        }
    }

    /// Whether the lead is taken from a leader that did not mean to give it.
    pub fn is_failover(self) -> bool {
        !matches!(self, Self::Bootstrap | Self::Switchover)
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
    /// Who must not lead: it never had data, or cannot read what it has.
    pub barred: BTreeSet<ReplicaId>,
    /// Who leads only if nobody else can: it is cut off, or does not get to work.
    pub avoid: BTreeSet<ReplicaId>,
    /// Who leads only if nobody else has as good a log: fenced, or on its way out.
    pub unfit: BTreeSet<ReplicaId>,
    /// Who leads if several are equally good, best first.
    pub preference: Vec<ReplicaId>,
    /// Who is given up as a voter: its data directory is gone.
    pub lost: BTreeSet<ReplicaId>,
    /// Durability rule of the configuration that comes of it.
    pub sync: u32,
    /// Whether the process that leads the epoch of `base` is known to have ended: its leases are
    /// void.
    pub ended: bool,
    /// What replicas are known to have had on disk: one that has less now was put back.
    pub held: BTreeMap<ReplicaId, Held>,
    /// Who counts whatever its disk has lost, if too few others do: its Pod is in `bootstrap.acceptLoss`.
    pub forgiven: BTreeSet<ReplicaId>,
    /// The store.
    pub store: Option<StoreId>,
}

/// `L`: leases that a leader needs of a set, its own included.
pub fn leases(set: &VoterSet) -> usize {
    set.voters.len() / 2 + 1
}

/// `W`: copies that a record needs in a set.
pub fn copies(set: &VoterSet) -> usize {
    let others = set.voters.len().saturating_sub(1);
    1 + (set.sync as usize).min(others)
}

/// How many of a set must promise before a leader may be chosen: so many that every earlier
/// leader's leases, and with synchronous replication its acknowledgements, are known to one of
/// them.
pub fn needed(set: &VoterSet) -> usize {
    let met = if set.sync == 0 {
        leases(set)
    } else {
        leases(set).min(copies(set))
    };
    (set.voters.len() + 1).saturating_sub(met)
}

/// Whether these are enough of a set.
pub fn satisfies(set: &VoterSet, promised: &BTreeSet<ReplicaId>) -> bool {
    set.voters.intersection(promised).count() >= needed(set)
}

/// Whether these are enough of every set that a promotion from `register` must hear.
pub fn enough(register: &Configuration, promised: &BTreeSet<ReplicaId>) -> bool {
    sets(register).iter().all(|set| satisfies(set, promised))
}

/// The sets that a promotion from `register` must hear.
fn sets(register: &Configuration) -> Vec<VoterSet> {
    let mut sets = vec![register.current()];
    sets.extend(register.previous.iter().cloned());
    sets
}

/// The same, less the disks that are gone and whose data the user gives up, where too few others are left.
fn sets_of(view: &View, register: &Configuration, lost: &BTreeSet<ReplicaId>) -> Vec<VoterSet> {
    let given_up = |id: &ReplicaId| lost.contains(id) && view.is_given_up(*id);
    let without = |mut set: VoterSet| {
        if set.voters.difference(lost).count() < needed(&set) {
            set.voters.retain(|id| !given_up(id));
        }
        set
    };
    sets(register).into_iter().map(without).collect()
}

fn forgiven(view: &View) -> BTreeSet<ReplicaId> {
    let ids = view.live().map(|(_, status)| status.id);
    ids.filter(|id| view.is_given_up(*id)).collect()
}

/// A promotion from `register`, or what it waits for.
pub fn decide(view: &View, register: &Configuration, cause: Cause) -> Decision {
    if let Some(waiting) = recovery::unwitnessed(view) {
        return Decision::Wait(waiting);
    }
    let mut campaign = Campaign::new(view, register, cause);
    if campaign.sets.iter().all(|set| set.voters.is_empty()) {
        // The disks of all voters are gone and given up: what the others have is all that there is.
        campaign = Campaign::recovery(view, register);
        let asked = campaign.ask.iter().filter_map(|it| view.pods.get(it)?.id());
        campaign.require = asked.collect();
    }
    if cause == Cause::LeaderCutOff {
        campaign.avoid.extend(register.leader);
    }
    match campaign.hopeless_now(view) {
        Some(waiting) => Decision::Wait(waiting),
        None => Decision::Campaign(Box::new(campaign)),
    }
}

impl Campaign {
    /// A promotion from `register`.
    pub(super) fn new(view: &View, register: &Configuration, cause: Cause) -> Self {
        let voters = view::named(register);
        let lost = lost(view, &voters);
        let leader = register.leader.filter(|id| !lost.contains(id));
        Self {
            cause,
            base: Some(register.clone()),
            epoch: register.epoch.next(),
            version: register.version + 1,
            ask: asked(view, |id| voters.contains(&id)),
            require: require(view, register),
            sets: sets_of(view, register, &lost),
            barred: if blank(view, &voters) {
                BTreeSet::new()
            } else {
                barred(view)
            },
            avoid: BTreeSet::new(),
            unfit: unfit(view),
            preference: preference(view, leader),
            lost,
            sync: register.sync,
            ended: ended(view, register),
            held: view.held.clone(),
            forgiven: forgiven(view),
            store: register.store.or(Some(view.drawn)),
        }
    }

    /// A promotion from the newest configuration that disks remember, as the register is gone or older.
    /// Everybody whose disk is believed is asked, and must answer.
    pub(super) fn recovery(view: &View, base: &Configuration) -> Self {
        let ours =
            recovery::believed(view).filter(|(_, status)| !recovery::is_foreign(base, status));
        let heard: BTreeSet<ReplicaId> = ours.map(|(_, status)| status.id).collect();
        let lost: BTreeSet<ReplicaId> = view::named(base).difference(&heard).copied().collect();
        let sets = sets_of(view, base, &lost);
        // Whoever is given up may come back, with epochs and versions that nobody here has heard of.
        let whole = lost.is_empty() && view.store.accept_loss.is_empty();
        let gap = if whole { 0 } else { GAP };
        Self {
            cause: Cause::RegisterRecovered,
            base: Some(base.clone()),
            epoch: recovery_epoch(view, whole),
            version: next_version(view).saturating_add(gap),
            ask: asked(view, |id| heard.contains(&id)),
            // What they are known to have had may be gone with the register, so the best of all counts.
            require: heard.clone(),
            sets,
            barred: if blank(view, &heard) {
                BTreeSet::new()
            } else {
                barred(view)
            },
            preference: preference(view, base.leader),
            lost,
            sync: base.sync,
            store: base.store.or(Some(view.drawn)),
            ..Self::everybody(view)
        }
    }

    /// The first leader of a store that has data and no register, and whose disks are of a release that
    /// remembered none: everybody must answer.
    pub(super) fn bootstrap(view: &View) -> Self {
        Self::everybody(view)
    }

    /// The first leader of a new store: ordinal 0, as nobody has data, so nobody is better.
    pub(super) fn birth(view: &View) -> Self {
        let first = view.pods.get(&0).and_then(PodView::id);
        Self {
            ask: asked(view, |id| Some(id) == first),
            require: first.into_iter().collect(),
            barred: BTreeSet::new(),
            ..Self::everybody(view)
        }
    }

    fn everybody(view: &View) -> Self {
        Self {
            cause: Cause::Bootstrap,
            base: None,
            epoch: next_epoch(view),
            version: next_version(view),
            ask: asked(view, |_| true),
            require: view.live().map(|(_, status)| status.id).collect(),
            sets: Vec::new(),
            barred: barred(view),
            avoid: BTreeSet::new(),
            unfit: unfit(view),
            preference: preference(view, None),
            lost: BTreeSet::new(),
            sync: view.store.settings.sync_replicas,
            ended: false,
            held: view.held.clone(),
            forgiven: forgiven(view),
            store: Some(view.drawn),
        }
    }

    /// Why it cannot succeed even if all that are heard answer.
    pub(super) fn hopeless_now(&self, view: &View) -> Option<Waiting> {
        let heard = view.live().map(|(_, status)| status.id).collect();
        self.hopeless(view, &heard)
    }

    /// Whether these promises are all that it needs.
    pub fn enough(&self, promised: &BTreeSet<ReplicaId>) -> bool {
        self.require.is_subset(promised) && self.meets(promised)
    }

    /// Whether these are enough of every set.
    pub(super) fn meets(&self, promised: &BTreeSet<ReplicaId>) -> bool {
        self.sets.iter().all(|set| satisfies(set, promised))
    }

    /// Why it cannot succeed if only `heard` answer: then nobody is asked, as a promise is for good.
    pub(super) fn hopeless(&self, view: &View, heard: &BTreeSet<ReplicaId>) -> Option<Waiting> {
        let waiting = self.unanswered(view, heard);
        waiting.or_else(|| self.too_few(view, heard))
    }

    /// Whose answer is needed and not there.
    pub(super) fn unanswered(&self, view: &View, heard: &BTreeSet<ReplicaId>) -> Option<Waiting> {
        let id = self.require.iter().find(|id| !heard.contains(id))?;
        let name = view.name_of(*id);
        Some(missing(&format!("waiting for {name} to answer")))
    }

    /// Why these are not enough of every set.
    pub(super) fn too_few(&self, view: &View, heard: &BTreeSet<ReplicaId>) -> Option<Waiting> {
        for set in &self.sets {
            let alive = set.voters.difference(&self.lost).count();
            if alive < needed(set) {
                return Some(Waiting {
                    reason: Reason::NoVoterLeft,
                    message: too_many_lost(view, set, &self.lost),
                });
            }
            if !satisfies(set, heard) {
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
        // In a recovery everybody is asked.
        let recovers = self.cause == Cause::RegisterRecovered;
        let mut able = able.filter(|id| recovers || voters.contains(id));
        let none = !voters.is_empty() && able.next().is_none();
        none.then(|| missing("every replica that answers is empty, or cannot read its state"))
    }
}

/// What an asynchronous leader acknowledged is on its disk, and nowhere else for certain: while it
/// answers the operator, its word is waited for, for a moment.
fn require(view: &View, register: &Configuration) -> BTreeSet<ReplicaId> {
    let answers = register
        .leader
        .and_then(|id| view.find(id))
        .filter(|(pod, _)| !pod.stale());
    let waited = view
        .doubted(Doubt::Leaderless)
        .is_some_and(|age| age >= view.store.lease());
    let wanted = register.sync == 0 && !waited;
    answers
        .filter(|_| wanted)
        .map(|(_, status)| status.id)
        .into_iter()
        .collect()
}

/// Whether the process that leads the register's epoch has ended: its parent says so; or it has
/// given up that epoch for good; or, where it is known to have led, it or its successor in the
/// same Pod leads no more. One that was not heard to lead may be about to.
fn ended(view: &View, register: &Configuration) -> bool {
    let given_up = |pod: &PodView| {
        let promised = pod
            .live()
            .is_some_and(|status| status.promised > register.epoch);
        let led = pod.heard.as_ref().and_then(|heard| heard.led);
        promised || led.is_some_and(|led| led.epoch == register.epoch)
    };
    view.leader_ended(register)
        || matches!(leadership(view), Leadership::Ended(pod) if given_up(pod))
}

/// Whose disks are gone, or silent for good and given up.
fn lost(view: &View, voters: &BTreeSet<ReplicaId>) -> BTreeSet<ReplicaId> {
    let leaderless = view.doubted(Doubt::Leaderless).unwrap_or_default();
    let for_good = |ordinal| {
        // Where the Pod runs with another disk, this one is not heard again.
        let replaced = view.is_heard(ordinal) && leaderless >= doubt::WITNESSES;
        replaced || recovery::is_silent_for_good(view, ordinal)
    };
    let given_up = voters.iter().filter(|id| {
        view.is_given_up(**id)
            && view.find(**id).is_none()
            && view.ordinal_of(**id).is_some_and(for_good)
    });
    view.lost.iter().chain(given_up).copied().collect()
}

pub(super) fn asked(view: &View, wanted: impl Fn(ReplicaId) -> bool) -> Vec<u32> {
    let asked = view.live().filter(|(_, status)| wanted(status.id));
    asked.map(|(pod, _)| pod.ordinal).collect()
}

/// Who has no state to lead with.
fn barred(view: &View) -> BTreeSet<ReplicaId> {
    let stateless =
        |status: &ReplicaStatus| status.damaged && status.state == ReplicaState::Seeding;
    let empty = view
        .live()
        .filter(|(_, status)| status.empty || stateless(status));
    empty.map(|(_, status)| status.id).collect()
}

/// Whether nobody whom the register names has ever had anything: the first leader of a new store
/// has ended before it wrote. Then nothing can be lost, and one of them must lead.
fn blank(view: &View, named: &BTreeSet<ReplicaId>) -> bool {
    named.iter().all(|id| {
        let status = view.find(*id).map(|(_, status)| status);
        status.is_some_and(|it| {
            it.empty && it.last == Position::default() && it.state != ReplicaState::Seeding
        })
    })
}

fn unfit(view: &View) -> BTreeSet<ReplicaId> {
    let unfit = view.live().filter(|(pod, status)| {
        view.is_fenced(pod.ordinal)
            || status.leaving
            || status.damaged
            || pod.terminating
            || pod.ordinal >= view.store.replicas
    });
    unfit.map(|(_, status)| status.id).collect()
}

/// Whom the user named first, then the old leader, as its clients are there; then by ordinal.
fn preference(view: &View, leader: Option<ReplicaId>) -> Vec<ReplicaId> {
    let target = view
        .store
        .target
        .and_then(|ordinal| view.pods.get(&ordinal)?.id());
    let first: Vec<ReplicaId> = target.into_iter().chain(leader).collect();
    let others = view
        .live()
        .map(|(_, status)| status.id)
        .filter(|id| !first.contains(id));
    first.iter().copied().chain(others).collect()
}

pub(super) fn missing(message: &str) -> Waiting {
    Waiting {
        reason: Reason::VotersMissing,
        message: format!("no new leader yet: {message}"),
    }
}

fn too_few(view: &View, set: &VoterSet, heard: &BTreeSet<ReplicaId>) -> String {
    let missed = set.voters.difference(heard).copied();
    let (away, there): (Vec<ReplicaId>, Vec<ReplicaId>) =
        missed.partition(|id| view.find(*id).is_none());
    // Of those that are there it is said elsewhere why they do not count.
    let named = if away.is_empty() { &there } else { &away };
    let names: Vec<String> = named.iter().map(|id| view.name_of(*id)).collect();
    let then = if away.is_empty() {
        String::new()
    } else if away.iter().any(|id| view.is_given_up(*id)) {
        format!(
            ": what bootstrap.acceptLoss lists is given up once it has been silent for {} s and Kubernetes does not \
             hold it to be Ready",
            doubt::WITNESSES.as_secs()
        )
    } else {
        ": bring its Pod and node back; if they are gone for good, list it in bootstrap.acceptLoss: writes that only \
         it has are lost then"
            .to_owned()
    };
    format!(
        "{} of {} voters must agree; waiting for {}{then}",
        needed(set),
        set.voters.len(),
        names.join(" or ")
    )
}

fn too_many_lost(view: &View, set: &VoterSet, lost: &BTreeSet<ReplicaId>) -> String {
    let lost: Vec<String> = set
        .voters
        .intersection(lost)
        .map(|id| view.name_of(*id))
        .collect();
    format!(
        "the volumes of {} are gone, and what is left of the {} voters cannot prove that it has all \
         acknowledged writes; bring a volume back, or list those Pods in bootstrap.acceptLoss to go on \
         with what is there",
        lost.join(", "),
        set.voters.len()
    )
}
