//! Epochs and versions of what comes next: above all that anybody may know.

use crate::operator::view::View;
use crate::replication::admin::ReplicaStatus;
use crate::replication::types::Epoch;

/// What a recovery without some disks leaves between what it knows of and what it makes: those disks may have
/// gone further by less than this.
pub(super) const GAP: u64 = 1 << 16;
/// The same above what was only promised.
const STEP: u64 = 1 << 8;

/// The next epoch that none of the disks which are heard has heard of: what was promised may have been
/// begun since, by a disk that is gone or was put back.
pub(super) fn next_epoch(view: &View) -> Epoch {
    let known = |status: &ReplicaStatus| begun(status).max(status.promised);
    let known = view.live().map(|(_, status)| known(status));
    let witnessed = view.witnessed.iter().map(|it| it.epoch);
    known.chain(witnessed).max().unwrap_or_default().next()
}

/// The same for a recovery. Without all of the disks there may be epochs that nobody who is heard knows: so it
/// leaves a wide gap above what was begun, and a smaller one above what was promised, of which the last tries
/// that came to nothing may be a part: epochs must not run away by trying.
pub(super) fn recovery_epoch(view: &View, whole: bool) -> Epoch {
    let next = next_epoch(view);
    if whole {
        return next;
    }
    let begun = view.live().map(|(_, status)| begun(status));
    let begun = begun.max().unwrap_or_default();
    Epoch(begun.0.saturating_add(GAP).max(next.0.saturating_add(STEP)))
}

/// The highest epoch of which this disk knows that somebody began it, or was named for it.
fn begun(status: &ReplicaStatus) -> Epoch {
    let adopted = status.adopted.as_ref().map(|it| it.epoch);
    let led = status.begun.max(status.last.epoch);
    led.max(adopted.unwrap_or_default())
}

/// Whether the last promises that are known led to nothing yet.
pub(super) fn came_to_nothing(view: &View) -> bool {
    let highest = |of: fn(&ReplicaStatus) -> Epoch| view.live().map(|(_, status)| of(status)).max();
    highest(|status| status.promised) > highest(begun)
}

/// Above every version that a replica has adopted: they ignore lower ones.
pub(super) fn next_version(view: &View) -> u64 {
    let known = view.live().map(|(_, status)| {
        let adopted = status.adopted.as_ref().map_or(0, |it| it.version);
        adopted.max(status.configuration_version)
    });
    let register = view.register.as_ref().map_or(0, |it| it.version);
    let witnessed = view.witnessed.map_or(0, |it| it.version);
    let known = known.chain([register, witnessed]);
    known.max().unwrap_or(0).saturating_add(1)
}
