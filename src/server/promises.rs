//! What this replica answers to a request for a promise. The core decides.

use super::inner::Inner;
use super::node::Node;
use crate::replication::admin::{Acknowledged, LeaseLeft, PromiseAnswer};
use crate::replication::{CoreView, Epoch, EpochHistory, Lease, Lsn, Position};

impl Node {
    pub(super) fn answer_promise(
        &self,
        inner: &mut Inner,
        ticket: u64,
        granted: bool,
        before: Epoch,
        leases: &[Lease],
    ) {
        let Some(answer) = inner.promises.remove(&ticket) else {
            return;
        };
        let view = inner.core.view();
        tracing::info!(promised = %view.hard.promised, granted, "answers a request for a promise");
        let leases = leases.iter().map(|lease| LeaseLeft {
            holder: lease.holder,
            left_ms: lease.left.as_micros().div_ceil(1000) as u64,
        });
        let _ = answer.send(Ok(PromiseAnswer {
            id: self.id,
            granted,
            promised: view.hard.promised,
            before: Some(before),
            last: view.last,
            cut: view.hard.cut,
            acknowledged: acknowledged(inner, &view),
            forgotten: inner.core.forgotten(),
            leases: leases.collect(),
        }));
        self.changed();
    }
}

/// What this replica, if it has led since its start, knows its followers to have had on disk.
fn acknowledged(inner: &Inner, view: &CoreView) -> Vec<Acknowledged> {
    let epoch = view.hard.begun;
    let history = inner.core.history();
    let known = inner.durable_of.iter().filter(|(_, lsn)| **lsn > Lsn::ZERO);
    let all = known.map(|(id, lsn)| Acknowledged {
        id: *id,
        epoch,
        last: as_of(history, epoch, *lsn),
    });
    all.collect()
}

/// What a follower had on disk at `lsn` under the leader of `epoch`: what has come to that place since, under a later
/// one, is not what it had.
fn as_of(history: &EpochHistory, epoch: Epoch, lsn: Lsn) -> Position {
    Position {
        epoch: history.epoch_at(lsn).min(epoch),
        lsn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_follower_had_is_of_the_reign_in_which_it_had_it() {
        let mut history = EpochHistory::default();
        history.append(Epoch(2), Lsn(0));
        history.append(Epoch(4), Lsn(950));
        let of = |lsn| as_of(&history, Epoch(3), Lsn(lsn)).epoch;
        assert_eq!((of(900), of(1000)), (Epoch(2), Epoch(3)));
    }
}
