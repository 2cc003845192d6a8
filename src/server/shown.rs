//! The one place where a state takes the place of another, or goes back, and what clients may be shown then:
//! never one that is older than what was shown here before. It must not know why the state changes.

use super::inner::{Inner, Job, Pending, Tip, flushed_tip};
use super::node::Node;
use super::snapshots::refuse_all;
use crate::replication::{Input, Lsn, Position, Standing};
use crate::store::Store;

/// Why a replica that does not lead shows its state to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hidden {
    /// There is none.
    Seeding,
    /// It went back, and clients have seen a newer one here.
    GoneBack,
    /// It has not been near its leader's since the start, or the last seed.
    CatchingUp,
}

impl Hidden {
    /// What is said of the replica.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Seeding => "is being seeded from its leader",
            Self::GoneBack => "goes over its log again, and has not come back to where it was",
            Self::CatchingUp => "has not caught up with a leader since it started",
        }
    }
}

impl Inner {
    /// Whether clients may be shown the state; the same for commands and for readiness. What a leader shows is
    /// the gate's business.
    pub(super) fn shows(&self) -> Result<(), Hidden> {
        if self.store.is_none() {
            return Err(Hidden::Seeding);
        }
        if self.accepting {
            return Ok(());
        }
        if self.shown.lsn > Lsn::ZERO && self.standing(self.shown) == Standing::Behind {
            return Err(Hidden::GoneBack);
        }
        if self.ready {
            Ok(())
        } else {
            Err(Hidden::CatchingUp)
        }
    }

    /// How the state stands to one that somebody has seen.
    pub(super) fn standing(&self, seen: Position) -> Standing {
        self.core.history().standing(self.applied.end, seen)
    }

    /// Rises whenever something that was shown may be there no more.
    pub(super) fn life(&self) -> u64 {
        self.reign + self.rewinds + self.begun
    }

    /// Another state is in use from here on, or none: gives back the one before, to be dropped without the lock.
    #[must_use]
    pub(super) fn place(&mut self, store: Option<Store>, applied: Tip) -> Option<Store> {
        self.going_back();
        self.flush = None;
        self.flush_wanted = false;
        self.applied = applied;
        std::mem::replace(&mut self.store, store)
    }

    /// The state is about to go back, or to be replaced: notes how new a one clients have seen. What a leader
    /// shows rests on nothing that is not committed.
    pub(super) fn going_back(&mut self) {
        self.rewinds += 1;
        // A `Clear` that is given up brings back what need not be looked for any more.
        self.expiries_known = false;
        let lsn = self.applied.end.min(self.core.released());
        let at = self.core.history().position(lsn);
        if self.store.is_some() && self.shows().is_ok() {
            self.shown = self.shown.max(at);
        }
    }

    /// The state has come forward: `true` if it is shown again from here on.
    pub(super) fn comes_forward(&mut self) -> bool {
        if self.shown.lsn == Lsn::ZERO || self.standing(self.shown) == Standing::Behind {
            return false;
        }
        self.shown = Position::default();
        true
    }
}

impl Node {
    /// Drops what is not sealed; replies that rest on anything uncommitted are never given.
    pub(super) fn step_down(&self, inner: &mut Inner) {
        let stalled = inner.core.view().stalled;
        tracing::info!(stalled, "no longer leads");
        inner.accepting = false;
        self.resume(inner);
        inner.reign += 1;
        inner.jobs.retain(|job| !matches!(job, Job::Barrier { .. }));
        inner.pending = Pending::default();
        if inner.sealing || inner.applied.end > inner.core.commit() {
            if !self.take_back(inner) {
                self.rewind(inner);
            }
        } else if inner.applied.end == inner.tip.end {
            // Only then: a leader that had not brought its state to the end of its log yet has not.
            inner.applied = inner.tip;
        }
        refuse_all(&mut inner.snapshot_requests, "this replica no longer leads");
        inner.gate.wake_all(&mut inner.to_wake);
        self.follower_progress.send_modify(|count| *count += 1);
        self.apply.notify_all();
        self.changed();
    }

    /// Takes back what the state holds beyond the commit LSN, if that is still known: so nobody notices. A cut for
    /// a flush beyond it is given up.
    fn take_back(&self, inner: &mut Inner) -> bool {
        let commit = inner.core.commit();
        let Some(to) = inner.uncommitted.back_to(commit) else {
            return false;
        };
        inner.going_back();
        inner.flush.take_if(|job| job.cut() > commit);
        let Some(store) = &mut inner.store else {
            return false;
        };
        if !store.take_back(commit) {
            return false;
        }
        inner.flush_wanted = false;
        self.stands_at(inner, to);
        true
    }

    /// The state has gone back to an end of a frame; the applier goes on from there.
    fn stands_at(&self, inner: &mut Inner, at: Tip) {
        inner.applied = at;
        let told = inner.core.step(Input::Applied(at.end), self.now());
        debug_assert!(told.is_empty(), "nothing rests on it");
        self.note_state(inner);
        self.apply.notify_all();
        self.changed();
    }

    /// Brings the state back to what was flushed; the applier goes on from there.
    pub(super) fn rewind(&self, inner: &mut Inner) {
        inner.going_back();
        inner.flush = None;
        if let Some(store) = &mut inner.store {
            // A flush that is running was committed: the state goes back to its cut.
            let to = store.reset();
            let flushed = flushed_tip(store);
            let at = if to == flushed.end {
                flushed
            } else {
                inner.cut
            };
            assert_eq!(at.end, to, "the state goes back to a cut");
            tracing::info!(%to, "goes over its log again");
            self.stands_at(inner, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::applier::apply;
    use super::super::status::readiness;
    use super::super::testing::{Clock, deposed, follower, leader, put, seal};
    use super::super::view::StoreView;
    use super::*;
    use crate::command::{View, ViewError};

    fn refusal(node: &Node) -> Option<String> {
        node.with(|inner| {
            let ready = readiness(inner, &inner.core.view()).is_ok();
            let refusal = match StoreView::new(node, inner).readable() {
                Ok(()) => None,
                Err(ViewError::Refused(text)) => Some(text),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(refusal.is_none(), ready, "readiness says what clients see");
            refusal
        })
    }

    fn value(node: &Node, key: &[u8]) -> Option<Vec<u8>> {
        node.with(|inner| {
            let mut view = StoreView::new(node, inner);
            let found = view.get(key).unwrap();
            found.map(|entry| entry.value.to_vec())
        })
    }

    #[test]
    fn a_leader_that_steps_down_is_where_it_was_at_once() {
        let node = leader(Arc::new(Clock::default()));
        put(&node, b"a", b"1", 0);
        let frame = seal(&node);
        node.with(|inner| node.drive(inner, Input::Durable(frame.end())));
        put(&node, b"a", b"2", 0);
        seal(&node); // on its way to the disk
        put(&node, b"b", b"2", 0); // not even sealed
        deposed(&node);
        assert_eq!(refusal(&node), None);
        assert_eq!(
            (value(&node, b"a"), value(&node, b"b")),
            (Some(b"1".to_vec()), None)
        );
        let at = node.with(|inner| (inner.applied, inner.store.as_ref().map(Store::applied)));
        assert_eq!((at.0.end, at.0.chain), (frame.end(), frame.chain()));
        assert_eq!(at.1, Some(frame.end()));
    }

    #[test]
    fn a_state_that_went_back_is_shown_to_nobody_before_it_is_where_it_was() {
        let node = leader(Arc::new(Clock::default()));
        let frames = [b"1", b"2"].map(|value| {
            put(&node, b"a", value, 0);
            let frame = seal(&node);
            node.with(|inner| node.drive(inner, Input::Durable(frame.end())));
            frame
        });
        deposed(&node);
        assert_eq!(refusal(&node), None);
        node.with(|inner| node.rewind(inner));
        let all = node.with(|inner| {
            let frames = inner.tail.after(inner.applied.end, usize::MAX);
            frames.unwrap()
        });
        for frame in &all {
            let text = refusal(&node).unwrap();
            assert!(text.starts_with("LOADING "), "{text}");
            let generation = node.with(|inner| inner.rewinds);
            apply(&node, frame, generation).unwrap();
        }
        assert_eq!(all.last(), frames.last());
        assert_eq!(refusal(&node), None);
        assert_eq!(value(&node, b"a"), Some(b"2".to_vec()));
    }

    #[test]
    fn a_state_that_takes_the_place_of_another_is_shown_once_it_is_as_new() {
        let node = follower(Arc::new(Clock::default()));
        node.with(|inner| inner.ready = true);
        assert_eq!(refusal(&node), None);
        let (store, applied) = node.with(|inner| {
            let applied = inner.applied;
            (inner.place(None, applied), applied)
        });
        assert!(refusal(&node).is_some());
        node.with(|inner| {
            assert!(inner.place(store, applied).is_none());
            node.judge(inner);
        });
        // What is ready is decided by the core, which follows nobody here.
        node.with(|inner| inner.ready = true);
        assert_eq!(refusal(&node), None);
    }
}
