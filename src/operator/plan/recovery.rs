//! The register gone, or older than what the disks remember: it is a cache of what they have adopted.
//!
//! The object may be deleted and made again over its volumes, its status removed or edited, etcd
//! restored from a backup. Each disk remembers the last configuration that it adopted before it did
//! anything by it. So nobody is named until every volume of the store's name was heard, whoever made it
//! and however many replicas are wanted now; then the newest configuration among them stands for the
//! register, and a promotion from there follows, with its counts of promises.
//!
//! What this cannot see: a register that goes back while nobody who is heard has adopted a later one, and this
//! operator has not seen it before. So an operator that has just started waits for all that may know better
//! before it names another leader, for a while.

use std::collections::BTreeSet;
use std::time::Duration;

use super::doubt::{self, Doubt};
use super::numbering;
use super::promotion::Campaign;
use super::{Decision, Reason, Waiting, wait};
use crate::operator::view::{self, PodView, View};
use crate::replication::admin::ReplicaStatus;
use crate::replication::types::{Configuration, StoreId};

/// Between two recoveries: one that comes to nothing would be tried again at once, with higher epochs.
const PAUSE: Duration = Duration::from_secs(5);

/// The newest configuration that a disk which is heard has adopted.
pub fn remembered(view: &View) -> Option<&Configuration> {
    let adopted = believed(view).filter_map(|(_, status)| status.adopted.as_ref());
    adopted.max_by_key(|adopted| (adopted.epoch, adopted.version))
}

/// Those whose disks say what there is: all, but where there are disks of two stores, those that the user gives up.
/// The list may be left from a loss of long ago, and what it names have been made anew since.
pub fn believed(view: &View) -> impl Iterator<Item = (&PodView, &ReplicaStatus)> {
    let kept = |pod: &PodView| !view.store.accept_loss.contains(&pod.ordinal);
    let stores = view.live().filter_map(|(_, status)| store_of(status));
    let mixed = stores.collect::<BTreeSet<StoreId>>().len() > 1;
    let others = mixed && view.live().any(|(pod, it)| kept(pod) && !it.empty);
    view.live().filter(move |(pod, _)| !others || kept(pod))
}

/// Whether the register is older than what replicas hold, and how that is known.
///
/// A promise may be one epoch ahead, of a promotion that came to nothing. All else follows the
/// register: nobody begins an epoch, takes a record of it, or adopts a version before that is in it.
/// What a replica says may be newer than the register that was read before: so this counts only if it
/// lasts, as every look reads the register anew.
pub fn behind(view: &View, register: &Configuration) -> Option<String> {
    if let Some(known) = view.knows_later(register) {
        return Some(format!(
            "status.configuration is version {} of epoch {}, and was version {} of epoch {} before: the status \
             was edited, or restored from an old backup",
            register.version, register.epoch, known.version, known.epoch
        ));
    }
    let ahead = |status: &&ReplicaStatus| {
        let adopted = status.adopted.as_ref();
        let later = adopted.is_some_and(|it| it.version > register.version);
        let other = adopted.is_some_and(|it| it.version == register.version && it != register);
        status.promised > register.epoch.next()
            || status.last.epoch.max(status.begun) > register.epoch
            || status.configuration_version > register.version
            || later
            || other
    };
    let ours = |status: &&ReplicaStatus| !is_foreign(register, status);
    let (pod, status) = believed(view).find(|(_, status)| ours(status) && ahead(status))?;
    let adopted = status.adopted.as_ref().map_or(0, |it| it.version);
    let version = status.configuration_version.max(adopted);
    Some(format!(
        "status.configuration is version {} of epoch {}, but {} has seen version {version} and epoch {}: \
         the status was edited, or restored from an old backup",
        register.version,
        register.epoch,
        pod.name,
        status.promised.max(status.last.epoch)
    ))
}

/// The store that the disk of this replica remembers.
fn store_of(status: &ReplicaStatus) -> Option<StoreId> {
    status.adopted.as_ref()?.store
}

/// Whether the disk of this replica belongs to another store. One that remembers none, as releases before this one
/// left it, is one of ours if the register names it.
pub fn is_foreign(register: &Configuration, status: &ReplicaStatus) -> bool {
    let Some(ours) = register.store else {
        return false;
    };
    match store_of(status) {
        Some(theirs) => theirs != ours,
        None => !status.empty && !view::named(register).contains(&status.id),
    }
}

/// Whom a promotion waits for: this operator has just started, so that the register may be an old one for all
/// that it knows, and whoever is not heard yet may know better. `None` if nobody is missing, or it took too long.
pub fn unwitnessed(view: &View) -> Option<Waiting> {
    let age = view.doubted(Doubt::Unwitnessed)?;
    if age >= doubt::WITNESSES {
        return None;
    }
    let missing = missing(view, true);
    let names = missing.iter().map(|ordinal| view.pod_name(*ordinal));
    let names: Vec<String> = names.collect();
    (!names.is_empty()).then(|| Waiting {
        reason: Reason::VotersMissing,
        message: format!(
            "no new leader yet: this operator has just started, and status.configuration may be from an old backup \
             for all that it knows; waiting for {}, up to {} s",
            names.join(", "),
            doubt::WITNESSES.as_secs()
        ),
    })
}

/// Decides while there is no register that can be believed.
pub fn decide(view: &View, why: Option<&str>) -> Decision {
    if let Some(waiting) = two_stores(view) {
        return Decision::Wait(waiting);
    }
    let any_data = view.live().any(|(_, status)| !status.empty);
    let missing = missing(view, any_data);
    if !missing.is_empty() {
        let unsettled_for = view.doubted(Doubt::Unsettled).unwrap_or_default();
        let reason = if why.is_some() {
            Reason::RegisterBehind
        } else if any_data && unsettled_for >= doubt::WITNESSES {
            Reason::VotersMissing
        } else {
            Reason::Starting
        };
        return wait(reason, message(view, &missing, why));
    }
    let recent = view.since_campaign.is_some_and(|since| since < PAUSE);
    if recent && numbering::came_to_nothing(view) {
        return wait(
            Reason::Starting,
            "promises were asked for a moment ago; they are asked for again soon".to_owned(),
        );
    }
    if let Some(base) = remembered(view) {
        let campaign = Campaign::recovery(view, base);
        return match campaign.hopeless_now(view) {
            Some(waiting) => Decision::Wait(waiting),
            None => Decision::Campaign(Box::new(campaign)),
        };
    }
    if any_data {
        return Decision::Campaign(Box::new(Campaign::bootstrap(view)));
    }
    Decision::Campaign(Box::new(Campaign::birth(view)))
}

/// Whether volumes of two stores came together under one name: which is the right one, nobody can
/// know.
fn two_stores(view: &View) -> Option<Waiting> {
    let with_store = |(pod, status): (&PodView, &ReplicaStatus)| {
        let given_up = view.store.accept_loss.contains(&pod.ordinal);
        let store = store_of(status)?;
        (!given_up).then(|| (store, pod.name.clone()))
    };
    let all: Vec<(StoreId, String)> = view.live().filter_map(with_store).collect();
    let stores: BTreeSet<StoreId> = all.iter().map(|(store, _)| *store).collect();
    if stores.len() < 2 {
        return None;
    }
    let of = |store: &StoreId| {
        let names = all.iter().filter(|(of, _)| of == store);
        let names: Vec<&str> = names.map(|(_, name)| name.as_str()).collect();
        format!("{} of store {store}", names.join(", "))
    };
    let groups: Vec<String> = stores.iter().map(of).collect();
    Some(Waiting {
        reason: Reason::ForeignVolume,
        message: format!(
            "the volumes belong to different stores ({}): nobody leads until that is settled; list in \
             bootstrap.acceptLoss the Pods whose data are to be given up",
            groups.join("; ")
        ),
    })
}

/// Ordinals that must be heard before anybody is named: whoever may have data.
fn missing(view: &View, any_data: bool) -> Vec<u32> {
    let wanted = if any_data {
        0..view.store.replicas
    } else {
        0..1
    };
    let all: BTreeSet<u32> = wanted.chain(view.volumes.iter().copied()).collect();
    let silent = |ordinal: &u32| !view.is_heard(*ordinal);
    all.into_iter()
        .filter(|ordinal| silent(ordinal) && !is_silent_for_good(view, *ordinal))
        .collect()
}

/// Whether the user gives up what this one has, and it has been silent for so long that it is.
pub(super) fn is_silent_for_good(view: &View, ordinal: u32) -> bool {
    let silent_for = view.doubted(Doubt::GivenUp(ordinal));
    // Kubernetes may hear what this operator does not.
    let ready = view.pods.get(&ordinal).is_some_and(|pod| pod.ready);
    !ready && silent_for.is_some_and(|age| age >= doubt::WITNESSES)
}

fn message(view: &View, missing: &[u32], why: Option<&str>) -> String {
    let (held, fresh): (Vec<u32>, Vec<u32>) =
        missing.iter().partition(|it| view.volumes.contains(it));
    let names = |ordinals: &[u32]| {
        let names = ordinals.iter().map(|ordinal| view.pod_name(*ordinal));
        names.collect::<Vec<_>>().join(", ")
    };
    let why = why.map(|why| format!("{why}; ")).unwrap_or_default();
    if held.is_empty() {
        return format!("{why}waiting for {} to start", names(&fresh));
    }
    let silent = names(&held);
    let newest = view.live().map(|(_, status)| status.last.lsn).max();
    let known = held.iter().filter_map(|ordinal| {
        let held = view.held.get(view.known.get(ordinal)?)?;
        let more = held.lsn.since(newest.unwrap_or_default());
        (more > 0).then(|| {
            format!(
                "{} has {more} bytes more than the others, ",
                view.pod_name(*ordinal)
            )
        })
    });
    let known: String = known.collect();
    if held.iter().all(|it| view.store.accept_loss.contains(it)) {
        return format!(
            "{why}waiting for {silent}, which bootstrap.acceptLoss lists: {known}what they have is given up if they \
             do not come within {} s",
            doubt::WITNESSES.as_secs()
        );
    }
    format!(
        "{why}waiting for {silent}, whose volumes may hold writes that no other has: {known}bring their Pods \
         and nodes back; or, if that cannot be, list the Pods in bootstrap.acceptLoss: what only they have is lost \
         then"
    )
}

/// The replicas that must exist so that all volumes can be heard.
pub fn replicas(view: &View) -> u32 {
    let volumes = view
        .volumes
        .iter()
        .filter(|it| !view.store.accept_loss.contains(it));
    let highest = volumes.max().map_or(0, |ordinal| ordinal + 1);
    let existing = view.workload.as_ref().map_or(0, |it| it.replicas);
    highest.max(existing).max(view.store.replicas)
}
