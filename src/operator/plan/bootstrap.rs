//! The first leader: of a new store, or of one whose volumes are older than its object.

use crate::replication::types::{Configuration, Epoch};

use super::promotion::Campaign;
use super::{Decision, Reason, Swap, wait};
use crate::operator::view::View;

/// Decides while there is no register.
///
/// A new store is led by ordinal 0, as soon as that is there: nobody has data, so nobody is
/// better. But a store that is created again under the name of an earlier one has its volumes, and
/// then the best log must lead: every replica that may have data is waited for.
pub fn decide(view: &View) -> Decision {
    let wanted = view.store.replicas;
    let any_data = view.live().any(|(_, status)| !status.empty);
    let missing: Vec<u32> = (0..wanted)
        .filter(|ordinal| any_data || *ordinal == 0 || view.old_volumes.contains(ordinal))
        .filter(|ordinal| {
            view.pods
                .get(ordinal)
                .is_none_or(|pod| pod.live().is_none())
        })
        .collect();
    if !missing.is_empty() {
        return wait(Reason::Starting, message(view, &missing, any_data));
    }
    if any_data {
        return Decision::Campaign(Campaign::bootstrap(view));
    }
    first(view)
}

/// Nobody has data.
fn first(view: &View) -> Decision {
    let Some((pod, status)) = view.live().find(|(pod, _)| pod.ordinal == 0) else {
        return wait(
            Reason::Starting,
            format!("waiting for {}", view.pod_name(0)),
        );
    };
    let highest = view
        .live()
        .map(|(_, status)| status.promised.max(status.begun))
        .max();
    Decision::Swap(Swap {
        to: Configuration {
            version: next_version(view),
            epoch: highest.unwrap_or(Epoch(0)).next(),
            leader: Some(status.id),
            voters: [status.id].into(),
            sync: view.store.settings.sync_replicas,
            ..Configuration::default()
        },
        why: format!("{} leads the new store", pod.name),
    })
}

/// Above every version that a replica has adopted: processes may be left that knew the store's
/// predecessor, and they ignore lower ones.
pub fn next_version(view: &View) -> u64 {
    let adopted = view.live().map(|(_, status)| status.configuration_version);
    adopted.max().unwrap_or(0) + 1
}

fn message(view: &View, missing: &[u32], any_data: bool) -> String {
    let names: Vec<String> = missing
        .iter()
        .map(|ordinal| view.pod_name(*ordinal))
        .collect();
    let names = names.join(", ");
    let old = missing
        .iter()
        .any(|ordinal| view.old_volumes.contains(ordinal));
    match (any_data, old) {
        (true, _) => format!(
            "waiting for {names}: the volumes hold data, and the replica with the newest must lead"
        ),
        (false, true) => format!(
            "waiting for {names}, whose volume is older than this object and may hold data; delete \
             the PersistentVolumeClaim if its data does not matter"
        ),
        (false, false) => format!("waiting for {names} to start"),
    }
}
