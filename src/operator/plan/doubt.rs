//! What looks wrong and may pass by itself, and for how long it must look so before it counts. How
//! long it has is all that is remembered of it, and an operator that starts begins to count anew.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Leadership, leadership, recovery, switchover};
use crate::operator::validate::ValidatedStore;
use crate::operator::view::{PodView, View};
use crate::replication::admin::ReplicaStatus;
use crate::replication::types::{Configuration, Epoch, ReplicaId};

/// A voter that is further behind than `maxLag` for so long is a learner again.
pub const BEHIND: Duration = Duration::from_secs(30);
/// The shortest time after which a voter that its leader does not hear is removed.
const REMOVAL: Duration = Duration::from_secs(2);
/// The shortest time for which a leader that does not get to work is left alone.
const PATIENCE: Duration = Duration::from_secs(3);

/// A register that looks older than what replicas hold for so long is: every look reads it anew.
pub const BELIEVED: Duration = Duration::from_secs(2);

/// So long an operator that has just started waits for whoever may know better than the register; and so long what
/// the user gives up must be silent before it is.
pub const WITNESSES: Duration = Duration::from_secs(30);

/// Something that looks wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Doubt {
    /// Nobody is known to answer clients as leader.
    Leaderless,
    /// The leader of this epoch is there and has not begun.
    Adopting(Epoch),
    /// The leader of this epoch leads, and does not answer clients.
    Mute(Epoch),
    /// The leader does not hear this voter.
    Unheard(ReplicaId),
    /// This voter is further behind than `maxLag`.
    Behind(ReplicaId),
    /// This voter does not hear the leader.
    Unled(ReplicaId),
    /// Replicas have seen more than is in the register.
    RegisterBehind,
    /// There is no register.
    Unsettled,
    /// The replica of this ordinal is not heard, and the user gives up what it has.
    GivenUp(u32),
    /// Nobody leads, and this operator has never known the register to be in force.
    Unwitnessed,
}

/// All that looks wrong now.
pub fn doubts(view: &View) -> BTreeSet<Doubt> {
    let given_up = view.store.accept_loss.iter().copied();
    let silent = given_up.filter(|it| !view.is_heard(*it));
    let mut doubts: BTreeSet<Doubt> = silent.map(Doubt::GivenUp).collect();
    let Some(register) = &view.register else {
        doubts.insert(Doubt::Unsettled);
        return doubts;
    };
    if recovery::behind(view, register).is_some() {
        doubts.insert(Doubt::RegisterBehind);
    }
    let leadership = leadership(view);
    if !matches!(leadership, Leadership::Leads(..)) && !view.is_witnessed(register) {
        doubts.insert(Doubt::Unwitnessed);
    }
    match leadership {
        Leadership::Leads(pod, leader) => {
            if !leader.answers || pod.stale() {
                doubts.insert(Doubt::Leaderless);
            }
            if !leader.answers {
                doubts.insert(Doubt::Mute(register.epoch));
            }
            followers(view, register, leader, &mut doubts);
        }
        Leadership::Adopting(_) => {
            doubts.extend([Doubt::Leaderless, Doubt::Adopting(register.epoch)]);
        }
        _ => {
            doubts.insert(Doubt::Leaderless);
        }
    }
    let unled = view.live().filter(|(_, status)| {
        Some(status.id) != register.leader
            && register.voters.contains(&status.id)
            && unled(register, status)
    });
    doubts.extend(unled.map(|(_, status)| Doubt::Unled(status.id)));
    doubts
}

/// What the leader says of the other voters.
fn followers(
    view: &View,
    register: &Configuration,
    leader: &ReplicaStatus,
    doubts: &mut BTreeSet<Doubt>,
) {
    for id in register.voters.iter().filter(|id| **id != leader.id) {
        let follower = leader.followers.iter().find(|it| it.id == *id);
        if !follower.is_some_and(|it| it.connected && it.heard) {
            doubts.insert(Doubt::Unheard(*id));
        }
        if follower.is_some_and(|it| it.lag_bytes > view.store.settings.max_lag) {
            doubts.insert(Doubt::Behind(*id));
        }
    }
}

/// Whether a voter that follows the register's leader does not hear it.
fn unled(register: &Configuration, status: &ReplicaStatus) -> bool {
    status.epoch == register.epoch && status.leader == register.leader && !status.leader_heard
}

/// Whether a voter's word that it does not hear the leader counts: it takes a lease's time to say
/// so, unless it has only just begun to listen.
pub fn bears_witness(
    view: &View,
    register: &Configuration,
    pod: &PodView,
    status: &ReplicaStatus,
) -> bool {
    if status.promised > register.epoch {
        return true;
    }
    let has_heard = pod
        .heard
        .as_ref()
        .is_some_and(|it| it.heard_leader == Some((status.incarnation, status.epoch)));
    let lease = view.store.lease();
    let long = view
        .doubted(Doubt::Unled(status.id))
        .is_some_and(|age| age >= lease);
    unled(register, status) && (has_heard || long)
}

/// After this a voter that its leader does not hear is removed, so that the loss of another one
/// can be survived.
pub fn removal(store: &ValidatedStore) -> Duration {
    REMOVAL.max(store.lease() * 2)
}

/// After this a leader that does not get to work is replaced, if that can be.
pub fn patience(view: &View, register: &Configuration) -> Duration {
    let wait = Duration::from_millis(register.wait_ms);
    PATIENCE.max(view.store.lease() * 2 + wait)
}

/// When what looks wrong now will count, if nobody says anything before that.
pub fn look_again(view: &View) -> Option<Duration> {
    let register = view.register.as_ref()?;
    let lease = view.store.lease();
    let bounds = |doubt: &Doubt| match doubt {
        Doubt::Leaderless => vec![view.store.failover_delay],
        Doubt::Adopting(_) => vec![patience(view, register)],
        Doubt::Mute(_) => vec![lease, patience(view, register)],
        Doubt::Unheard(_) => vec![removal(&view.store)],
        Doubt::Behind(_) => vec![BEHIND],
        Doubt::Unled(_) => vec![lease],
        Doubt::RegisterBehind => vec![BELIEVED],
        Doubt::Unwitnessed | Doubt::GivenUp(_) => vec![WITNESSES],
        Doubt::Unsettled => vec![],
    };
    let ripening = view.doubts.iter().flat_map(|(doubt, age)| {
        let bounds = bounds(doubt).into_iter();
        bounds.filter_map(|bound| bound.checked_sub(*age))
    });
    // Silence is counted by us alone.
    let silence = view.doubts.keys().any(|it| matches!(it, Doubt::Unled(_)));
    let leader = register.leader.and_then(|id| view.find(id));
    let stale = leader.and_then(|(pod, _)| {
        let heard = pod.heard.as_ref()?;
        let stale_after = heard.stale_after();
        let left = stale_after.checked_sub(heard.silence).filter(|_| silence);
        // That it speaks again wakes nobody, and what was doubted must not be kept for that.
        left.or(pod.stale().then_some(stale_after))
    });
    let next = ripening
        .chain(stale)
        .chain(switchover::pauses(view))
        .filter(|left| !left.is_zero())
        .min();
    // A little later, as what is due exactly then would not be seen to be.
    next.map(|left| left + Duration::from_millis(2))
}
