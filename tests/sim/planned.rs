//! The operator as it is shipped: what it decides is `replicated_store::operator::plan`, on a view
//! made of what this one has read and heard. What is here is its memory, and what talks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use rand::rngs::SmallRng;
use replicated_store::operator::observe;
use replicated_store::operator::plan::doubt::{self, Doubt};
use replicated_store::operator::plan::{
    self, Decision, Waiting, failover, follow, promotion, switchover::Switchover,
};
use replicated_store::operator::report::{self, Findings};
use replicated_store::operator::standby;
use replicated_store::operator::supervisor::{self, significance::Significance};
use replicated_store::operator::validate::validate;
use replicated_store::operator::view::{Heard, Held, PodView, Told, View, Witnessed};
use replicated_store::replication::admin::{Assignment, PromiseAnswer};
use replicated_store::replication::{Configuration, Epoch, ReplicaId, StoreId};

use super::api::{Notice, Word};
use super::bug::Bug;
use super::cluster::Reading;
use super::operator::{Act, Campaign, Chore, Operator, Seen};

/// As in `src/operator/apply.rs` and `src/operator/replica_client.rs`.
const GRACE: Duration = Duration::from_millis(50);
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_secs(3);

/// See the module.
pub(crate) struct Planned {
    pub(crate) bug: Bug,
    /// It does not hold the operators' lease, as far as it knows.
    standby: bool,
    hearings: BTreeMap<u32, Hearing>,
    told: BTreeMap<u32, Telling>,
    held: BTreeMap<ReplicaId, Held>,
    witnessed: Option<Witnessed>,
    doubts: BTreeMap<Doubt, Duration>,
    campaigned: Option<Duration>,
    switched: Option<Duration>,
    /// What it saw when it last looked.
    view: Option<View>,
    /// What came of that.
    pub(crate) campaign: Option<promotion::Campaign>,
    waiting: Option<Waiting>,
    idle: bool,
    /// What was promised to it, ever: for a planted mistake only.
    pub(crate) promises: Vec<PromiseAnswer>,
}

/// What was heard of a Pod's replica.
struct Hearing {
    uid: String,
    heard: Heard,
    at: Duration,
}

/// What a replica was told.
struct Telling {
    incarnation: u64,
    assignment: Arc<Assignment>,
    refusal: String,
    at: Duration,
}

impl Planned {
    pub(crate) fn new(bug: Bug, standby: bool) -> Self {
        Self {
            bug,
            standby,
            hearings: BTreeMap::new(),
            told: BTreeMap::new(),
            held: BTreeMap::new(),
            witnessed: None,
            doubts: BTreeMap::new(),
            campaigned: None,
            switched: None,
            view: None,
            campaign: None,
            waiting: None,
            idle: false,
            promises: Vec::new(),
        }
    }

    /// As `observe::view` does it.
    fn look(&mut self, reading: &Reading, now: Duration) -> Option<View> {
        let store = validate(&reading.object).ok()?;
        let register = Some(reading.register.clone()).filter(|it| it.version > 0);
        let since = |at: Option<Duration>| at.map(|at| now.saturating_sub(at));
        let mut view = View {
            store,
            register,
            lost: observe::noted(&reading.object),
            formerly: observe::formerly(&reading.object),
            pods: reading.pods.clone(),
            known: observe::known(&reading.object),
            workload: reading.workload.clone(),
            volumes: if self.bug == Bug::RecoversFromSome {
                BTreeSet::new()
            } else {
                reading.volumes.clone()
            },
            claims: if self.bug == Bug::CountsCopies {
                ["none".to_owned()].into()
            } else {
                reading.claims.clone()
            },
            held: BTreeMap::new(),
            witnessed: self.witnessed,
            drawn: StoreId(1),
            since_campaign: since(self.campaigned),
            since_switchover: since(self.switched),
            doubts: BTreeMap::new(),
            told: BTreeMap::new(),
        };
        for (id, held) in observe::held(&reading.object) {
            self.hold(id, held, Epoch(0));
        }
        self.listen(&mut view, now);
        Some(view)
    }

    /// As `observe::listen` does it.
    fn listen(&mut self, view: &mut View, now: Duration) {
        for (ordinal, pod) in &mut view.pods {
            pod.heard = self.heard(*ordinal, pod, now);
        }
        view.mark_copies();
        view.told = self.telling(now);
        let held = view.pods.values().flat_map(PodView::held);
        let held: Vec<_> = held.collect();
        for (id, held, cut) in held {
            self.hold(id, held, cut);
        }
        view.held.clone_from(&self.held);
        view.miss();
        view.witness();
        self.witnessed = view.witnessed;
        let doubts = doubt::doubts(view);
        self.doubts.retain(|doubt, _| doubts.contains(doubt));
        let ages = doubts.into_iter().map(|doubt| {
            let at = *self.doubts.entry(doubt).or_insert(now);
            (doubt, now.saturating_sub(at))
        });
        view.doubts = ages.collect();
    }

    /// As `Memory::held` does it.
    fn hold(&mut self, id: ReplicaId, held: Held, cut: Epoch) {
        let known = self.held.entry(id).or_default();
        *known = known.join(held, cut);
    }

    fn heard(&self, ordinal: u32, pod: &PodView, now: Duration) -> Option<Heard> {
        let hearing = self.hearings.get(&ordinal)?;
        if hearing.uid != pod.uid {
            return None; // the Pod that was heard is gone
        }
        let silence = now.saturating_sub(hearing.at);
        let mut heard = Heard {
            silence,
            connected: hearing.heard.connected && silence < SILENCE,
            ..hearing.heard.clone()
        };
        if self.bug == Bug::EstablishesEarly {
            heard.status.established_version = heard.status.configuration_version;
        }
        Some(heard)
    }

    fn telling(&self, now: Duration) -> BTreeMap<u32, Told> {
        let told = self.told.iter().map(|(ordinal, telling)| {
            let told = Told {
                incarnation: telling.incarnation,
                assignment: Arc::clone(&telling.assignment),
                refusal: telling.refusal.clone(),
                age: now.saturating_sub(telling.at),
            };
            (*ordinal, told)
        });
        told.collect()
    }

    /// As `lead::decide` and `standby::reconcile` do it.
    fn plan(&mut self, view: &View, now: Duration) -> Act {
        let decision = plan::decide(view);
        self.waiting = None;
        if self.standby && !matches!(decision, Decision::Campaign(_)) {
            return Act::Keep;
        }
        match decision {
            Decision::Keep => Act::Keep,
            Decision::Wait(waiting) => {
                self.waiting = Some(waiting);
                Act::Keep
            }
            Decision::Swap(swap) => Act::Swap(self.spoil_swap(view, swap.to)),
            Decision::Campaign(campaign) => {
                self.campaigned = Some(now);
                let act = asks(&campaign, None);
                self.campaign = Some(*campaign);
                act
            }
            Decision::Switchover(switchover) => {
                let Switchover {
                    leader,
                    target,
                    campaign,
                    ..
                } = *switchover;
                let act = asks(&campaign, Some((leader as usize, target)));
                self.campaign = Some(campaign);
                act
            }
        }
    }

    fn report(&mut self, view: &View, follow: &follow::Follow, reading: &Reading) -> Option<Chore> {
        let old = reading.object.status.clone().unwrap_or_default();
        let new = report::status(&Findings {
            outage: None,
            view,
            follow,
            change: None,
            waiting: self.waiting.as_ref(),
            problem: "",
            image: "image",
            old: &old,
            now: Timestamp::UNIX_EPOCH,
        });
        // What is noted each minute is not written here: most runs are over before.
        let same = report::difference(&old, &new) <= Significance::Slow;
        (!same).then(|| Chore::Report(Box::new(new)))
    }
}

/// What the desk is to do for a campaign.
fn asks(campaign: &promotion::Campaign, hand_over: Option<(usize, ReplicaId)>) -> Act {
    Act::Campaign(Campaign {
        base: campaign.base.clone().unwrap_or_default(),
        epoch: campaign.epoch,
        ask: campaign.ask.iter().map(|slot| *slot as usize).collect(),
        hand_over,
        within: CALL_TIMEOUT,
        give_up: BTreeSet::new(),
        sync: campaign.sync,
    })
}

impl Operator for Planned {
    fn decide(&mut self, seen: &Seen, _rng: &mut SmallRng) -> Act {
        self.campaign = None;
        self.idle = true;
        let reading = seen.reading.as_ref();
        self.view = reading.and_then(|reading| self.look(reading, seen.now));
        let Some(view) = self.view.take() else {
            return Act::Keep;
        };
        let rests = if self.standby {
            let outage = failover::outage(&view);
            view.register.is_none() || outage.is_none_or(|age| age < standby::DELAY)
        } else {
            false
        };
        self.idle = view.store.paused || (self.standby && rests);
        let act = if self.idle {
            Act::Keep
        } else {
            self.plan(&view, seen.now)
        };
        self.view = Some(view);
        act
    }

    fn elect(
        &mut self,
        _seen: &Seen,
        _campaign: &Campaign,
        answers: &[PromiseAnswer],
        _rng: &mut SmallRng,
    ) -> Option<Configuration> {
        let campaign = self.campaign.take()?;
        let view = self.view.take()?;
        let elected = self.spoiled_election(&view, campaign, answers);
        self.view = Some(view);
        elected
    }

    fn wait(
        &mut self,
        campaign: &Campaign,
        answers: &[PromiseAnswer],
        silent: usize,
        _rng: &mut SmallRng,
    ) -> Option<Duration> {
        let own = self.campaign.as_ref()?;
        let expected = campaign.ask.len() + usize::from(campaign.hand_over.is_some());
        if answers.len() + silent >= expected {
            return Some(Duration::ZERO);
        }
        let promised = answers.iter().map(|answer| answer.id).collect();
        let asynchronous = own.sets.iter().any(|set| set.sync == 0);
        let lease = self.view.as_ref()?.store.lease();
        let grace = if asynchronous { lease } else { GRACE };
        own.enough(&promised).then_some(grace)
    }

    fn follow(&mut self, seen: &Seen, _rng: &mut SmallRng) -> Vec<Chore> {
        let (Some(mut view), Some(reading)) = (self.view.take(), &seen.reading) else {
            return Vec::new();
        };
        let mut chores = Vec::new();
        if !self.idle {
            self.listen(&mut view, seen.now);
            let follow = follow::follow(&view);
            if let Some(assignment) = &follow.assignment {
                for ordinal in &follow.tell {
                    chores.extend(self.tell(&view, *ordinal, assignment, seen.now));
                }
            }
            for ordinal in &follow.bind {
                let pod = view.pods.get(ordinal);
                let bound = pod.and_then(|pod| Some((pod.speaks()?.id, pod.copy)));
                chores.extend(bound.map(|(id, copy)| Chore::Bind(*ordinal as usize, id, copy)));
            }
            if !self.standby {
                if view.workload.as_ref().map(|it| it.replicas) != Some(follow.replicas) {
                    chores.push(Chore::Scale(follow.replicas));
                }
                let replaced = follow.replace.and_then(|it| view.pods.get(&it));
                let uid = replaced.and_then(|pod| pod.uid.parse().ok());
                chores.extend(
                    follow
                        .replace
                        .zip(uid)
                        .map(|(slot, uid)| Chore::Delete(slot as usize, uid)),
                );
                chores.extend(self.report(&view, &follow, reading));
            }
        }
        self.view = Some(view);
        chores
    }

    fn hand_over_within(&self, _lease: Duration) -> Duration {
        Duration::from_millis(plan::switchover::DEADLINE_MS)
    }

    fn hears_streams(&self) -> bool {
        true
    }

    fn learn(&mut self, slot: usize, word: Word, now: Duration) {
        let ordinal = slot as u32;
        match word {
            Word::Said(uid, status) => {
                let before = self.hearings.get(&ordinal);
                let before = before.filter(|hearing| hearing.uid == uid);
                let heard = supervisor::heard(before.map(|it| &it.heard), *status);
                let at = now;
                self.hearings.insert(ordinal, Hearing { uid, heard, at });
            }
            Word::Lost => {
                if let Some(hearing) = self.hearings.get_mut(&ordinal) {
                    hearing.heard.connected = false;
                }
            }
            Word::Ended(ended) => {
                if let Some(hearing) = self.hearings.get_mut(&ordinal) {
                    hearing.heard.ended = ended;
                }
            }
        }
    }

    fn told(&mut self, slot: usize, refusal: &str, _now: Duration) {
        if let Some(telling) = self.told.get_mut(&(slot as u32)) {
            refusal.clone_into(&mut telling.refusal);
        }
    }

    fn handed_over(&mut self, done: bool, now: Duration) {
        self.switched = (!done).then_some(now);
        if done {
            self.campaigned = Some(now);
        }
    }

    fn swapped(&mut self, to: Configuration) {
        if let Some(view) = &mut self.view {
            view.register = Some(to);
        }
    }

    fn note(&mut self, id: ReplicaId, held: Held) {
        self.hold(id, held, Epoch(0));
    }

    fn knows_later(&self, version: u64) -> bool {
        self.witnessed.is_some_and(|it| it.version > version)
    }

    fn forget(&mut self) {
        let promises = std::mem::take(&mut self.promises);
        *self = Self {
            promises,
            ..Self::new(self.bug, self.standby)
        };
    }
}

impl Planned {
    /// Until it answers, it has not taken it.
    fn tell(
        &mut self,
        view: &View,
        ordinal: u32,
        assignment: &Arc<Assignment>,
        now: Duration,
    ) -> Option<Chore> {
        let status = view.pods.get(&ordinal)?.live()?;
        let telling = Telling {
            incarnation: status.incarnation,
            assignment: Arc::clone(assignment),
            refusal: "no answer in time".to_owned(),
            at: now,
        };
        self.told.insert(ordinal, telling);
        let notice = Notice::Assignment(Arc::clone(assignment));
        Some(Chore::Tell(ordinal as usize, notice))
    }
}
