//! What a client's task waits for: that replies may rest on something, or that followers have it.

use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::gate::Slot;
use super::node::Node;
use crate::replication::{Lsn, Position, Standing};

/// How often a client that waits for the state to come forward looks by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Who is held, and was not told of relief, tries again after this.
const HELD: Duration = Duration::from_millis(100);

/// Why a reply is not given: what becomes of what was executed is not known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// This replica stopped leading, or was cut off, before.
    Deposed,
    /// Too few followers hold what it rests on, and nobody knows when more will.
    Withheld,
}

/// In the place of replies that would rest on what too few followers hold.
pub(super) const IN_DOUBT: &str = "INDOUBT what this reply rests on is on fewer followers than replication.syncReplicas \
     asks for: what was written may or may not be kept. Try again when followers are back";

impl Node {
    /// Tries until clients are not held: `None` from `attempt` says that they are. Only who has to wait is
    /// registered for being woken, which takes a lock.
    pub(super) async fn once_relieved<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(done) = attempt() {
                return done;
            }
            let mut relief = pin!(self.relief.notified());
            relief.as_mut().enable();
            // It may have come before that.
            if let Some(done) = attempt() {
                return done;
            }
            let _ = tokio::time::timeout(HELD, relief).await;
        }
    }

    /// Waits until what a turn of this reign rests on is released while this leader holds its leases;
    /// in vain once the reign is over, or the leases or voters have been gone for long. `waker` is the
    /// one that [`Self::begin_wait`] was given, if that is this task's.
    pub(super) async fn released(
        &self,
        need: Lsn,
        reign: u64,
        slot: &Slot,
        waker: Option<Waker>,
    ) -> Result<(), Unanswered> {
        let mut waker = waker;
        std::future::poll_fn(|context| {
            if slot.granted() {
                return Poll::Ready(Ok(()));
            }
            // Whatever has happened since that one was left has woken this task, or will.
            if waker.take().is_some_and(|it| it.will_wake(context.waker())) {
                return Poll::Pending;
            }
            let mut inner = self.inner.lock();
            if slot.granted() {
                return Poll::Ready(Ok(()));
            }
            if inner.reign != reign || inner.gate.severed {
                return Poll::Ready(Err(Unanswered::Deposed));
            }
            if inner.gate.withholds && inner.core.released() < need {
                return Poll::Ready(Err(Unanswered::Withheld));
            }
            if self.wait_on(&mut inner, need, slot, context.waker()) {
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        })
        .await
    }

    /// Waits until this follower's state has come to what was seen, or it is none any more.
    pub(super) async fn applied(&self, seen: Position, slot: &Slot) {
        let reached = || {
            std::future::poll_fn(|context| {
                let mut inner = self.inner.lock();
                let behind = inner.standing(seen) == Standing::Behind;
                if inner.accepting || inner.store.is_none() || !behind {
                    return Poll::Ready(());
                }
                inner.gate.wait_for_state(seen.lsn, slot, context.waker());
                Poll::Pending
            })
        };
        // Only records that are applied wake: a change of role, or a seed, is found by looking.
        while tokio::time::timeout(LOOK_AGAIN, reached()).await.is_err() {}
    }

    /// Waits until `replicas` followers have everything up to `written` on disk, or `timeout_ms`
    /// milliseconds (0: without bound) are over; how many have it. Nobody has what is not in this
    /// leader's log. `None` if this replica leads no more.
    pub(super) async fn wait_for_followers(
        &self,
        written: Position,
        replicas: u64,
        timeout_ms: u64,
    ) -> Option<u64> {
        let lsn = written.lsn;
        let mut progress = self.follower_progress.subscribe();
        let count = || {
            self.with(|inner| {
                let lost = lsn > Lsn::ZERO && inner.core.history().epoch_at(lsn) != written.epoch;
                let copies = if lost { 0 } else { inner.copies(lsn) };
                inner.accepting.then_some(copies)
            })
        };
        let enough = async {
            loop {
                progress.borrow_and_update();
                if count().is_none_or(|count| count >= replicas)
                    || progress.changed().await.is_err()
                {
                    return;
                }
            }
        };
        if timeout_ms == 0 {
            enough.await;
        } else {
            let _ = tokio::time::timeout(Duration::from_millis(timeout_ms), enough).await;
        }
        count()
    }
}
