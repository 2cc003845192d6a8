//! Expiry: keys whose time has come are deleted by the leader, by a record, so that every replica forgets them at
//! the same LSN. A follower only drops hints at keys that are gone, or expire at another time by now.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::hold::read_keys;
use super::inner::Inner;
use super::node::Node;
use super::room::{self, Room};
use crate::store::Record;

/// Keys that are deleted, or looked at, under one lock.
const BATCH: usize = 200;
/// Pause between looks.
const PACE: Duration = Duration::from_millis(100);

/// Deletes expired keys while this replica leads, and tidies the index of them, until `stop`.
pub(super) async fn run(node: Arc<Node>, stop: CancellationToken) {
    loop {
        read_ahead(&node).await;
        let more = node.with(|inner| expire(&node, inner)) == BATCH;
        let pause = if more { Duration::from_millis(1) } else { PACE };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Reads the keys of the next batch that are on disk only, without the lock.
async fn read_ahead(node: &Arc<Node>) {
    let cold = node.with(|inner| {
        let now_ms = node.judged_ms(inner);
        let store = inner.store.as_ref()?;
        let keys = store.expired_and_cold(now_ms, BATCH);
        (!keys.is_empty()).then(|| (store.warmer(), keys))
    });
    if let Some((warmer, keys)) = cold {
        read_keys(node, warmer, keys).await;
    }
}

/// One batch; how many keys and hints are gone.
fn expire(node: &Node, inner: &mut Inner) -> usize {
    // Who reads sees by the time that a key has expired: where nobody may write, it stays for now.
    let full = inner.gate.short || inner.stalls_writers() || room::room(inner) == Room::None;
    let deletes = inner.accepting && !inner.holding && !full;
    let now_ms = node.judged_ms(inner);
    let Some(store) = &mut inner.store else {
        return 0;
    };
    let hints = store.expiring();
    let keys = match store.expired(now_ms, BATCH) {
        Ok(keys) => keys,
        Err(error) => {
            node.suspect(&error);
            tracing::warn!(%error, "looking for expired keys");
            return 0;
        }
    };
    let tidied = hints.saturating_sub(store.expiring()) as usize;
    if !deletes {
        return tidied;
    }
    for key in &keys {
        if let Err(error) = inner.append(&Record::Delete { key }) {
            tracing::warn!(%error, "deleting an expired key");
            return 0;
        }
    }
    if !keys.is_empty() {
        node.work.notify_one();
    }
    node.expired.fetch_add(keys.len() as u64, Ordering::Relaxed);
    tidied + keys.len()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Clock, deposed, follower, leader, put, seal};
    use super::super::view::StoreView;
    use super::*;
    use crate::command::View;
    use crate::replication::Lsn;
    use crate::store::Store;

    /// What a client is shown, and what that rests on.
    fn shown(node: &Node, key: &[u8]) -> (bool, Lsn) {
        node.with(|inner| {
            let mut view = StoreView::new(node, inner);
            let found = view.get(key).unwrap().is_some();
            view.delete_overdue();
            (found, view.need)
        })
    }

    #[test]
    fn what_has_expired_for_a_client_is_gone_for_good() {
        let clock = Arc::new(Clock::default());
        clock.wall_ms.store(1_000, Ordering::Relaxed);
        let node = leader(Arc::clone(&clock));
        put(&node, b"a", b"1", 1_500);
        put(&node, b"b", b"1", 1_500);
        let before = node.with(|inner| inner.end());
        assert!(shown(&node, b"a").0);
        clock.wall_ms.store(1_500, Ordering::Relaxed);
        let (found, need) = shown(&node, b"a");
        assert!(!found && need > before, "the answer rests on the deletion");
        assert_eq!(
            node.with(|inner| inner.store.as_ref().map(Store::len)),
            Some(1)
        );
        assert_eq!(node.expired.load(Ordering::Relaxed), 1);
        // The clock is set back; and the next leader's is behind.
        clock.wall_ms.store(1_200, Ordering::Relaxed);
        assert!(!shown(&node, b"b").0);
        let frame = seal(&node);
        assert!(frame.time_ms() >= 1_500);
        let other = follower(Arc::new(Clock::default()));
        other.with(|inner| {
            inner.incoming = Some(vec![frame]);
            other.take(inner);
        });
        assert!(other.with(|inner| StoreView::new(&other, inner).now_ms()) >= 1_500);
    }

    #[test]
    fn a_follower_drops_hints_at_what_is_gone() {
        let clock = Arc::new(Clock::default());
        let node = leader(Arc::clone(&clock));
        for key in 0..50_u8 {
            put(&node, &[key], b"1", 1_000 + u64::from(key));
        }
        let frame = seal(&node);
        node.with(|inner| node.drive(inner, crate::replication::Input::Durable(frame.end())));
        deposed(&node);
        clock.wall_ms.store(5_000, Ordering::Relaxed);
        node.with(|inner| {
            let store = inner.store.as_mut().unwrap();
            // They have been deleted while they were on disk only, so the hints have stayed.
            let mut lsn = store.applied();
            for key in 0..40_u8 {
                lsn = lsn.advance(1);
                store.apply(&Record::Delete { key: &[key] }, lsn).unwrap();
                store.add_hint(1_000 + u64::from(key), &[key]);
            }
            assert_eq!(store.expiring(), 50);
        });
        assert_eq!(node.with(|inner| expire(&node, inner)), 40);
        let left = node.with(|inner| inner.store.as_ref().map(|it| (it.expiring(), it.len())));
        assert_eq!(
            left,
            Some((10, 10)),
            "what the leader has not deleted stays"
        );
    }
}
