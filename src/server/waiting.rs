//! What a client's task waits for: that something is committed, or that followers have it.

use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use super::node::Node;
use crate::replication::Lsn;

/// This replica stopped leading before what the reply rests on was committed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Deposed;

impl Node {
    /// Waits until `need` is committed; in vain once this replica's reign `reign` is over.
    pub(super) async fn committed(&self, need: Lsn, reign: u64, who: u64) -> Result<(), Deposed> {
        std::future::poll_fn(|context| {
            if self.commit.load(Ordering::Acquire) >= need.0 {
                return Poll::Ready(Ok(()));
            }
            let mut inner = self.inner.lock();
            if inner.core.commit() >= need {
                return Poll::Ready(Ok(()));
            }
            if inner.reign != reign {
                return Poll::Ready(Err(Deposed));
            }
            inner.waiters.insert((need, who), context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until `replicas` followers have everything up to `lsn` on disk, or `timeout_ms`
    /// milliseconds (0: without bound) are over; how many have it.
    pub(super) async fn wait_for_followers(&self, lsn: Lsn, replicas: u64, timeout_ms: u64) -> u64 {
        let mut progress = self.follower_progress.subscribe();
        let count = || {
            self.with(|inner| {
                let followers = inner.core.view().followers;
                followers
                    .iter()
                    .filter(|follower| follower.durable >= lsn)
                    .count() as u64
            })
        };
        let enough = async {
            loop {
                progress.borrow_and_update();
                if count() >= replicas || progress.changed().await.is_err() {
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
