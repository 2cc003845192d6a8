//! The leader's expiry: keys whose time has come are deleted by a record, so that every replica
//! forgets them at the same LSN.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::hold::read_keys;
use super::node::Node;
use super::room::{self, Room};
use crate::store::Record;

/// Keys that are deleted under one lock.
const BATCH: usize = 200;
/// Pause between looks.
const PACE: Duration = Duration::from_millis(100);

/// Deletes expired keys while this replica leads, until `stop`.
pub(super) async fn run(node: Arc<Node>, expired: Arc<AtomicU64>, stop: CancellationToken) {
    loop {
        read_ahead(&node).await;
        let deleted = expire(&node);
        expired.fetch_add(deleted as u64, Ordering::Relaxed);
        let more = deleted == BATCH;
        let pause = if more { Duration::from_millis(1) } else { PACE };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Reads the keys of the next batch that are on disk only, without the lock.
async fn read_ahead(node: &Arc<Node>) {
    let now_ms = node.clock.wall_ms();
    let cold = node.with(|inner| {
        let store = inner.store.as_ref().filter(|_| inner.accepting)?;
        let keys = store.expired_and_cold(now_ms, BATCH);
        (!keys.is_empty()).then(|| (store.warmer(), keys))
    });
    if let Some((warmer, keys)) = cold {
        read_keys(node, warmer, keys).await;
    }
}

/// One batch; how many were deleted.
fn expire(node: &Arc<Node>) -> usize {
    let now_ms = node.clock.wall_ms();
    node.with(|inner| {
        if !inner.accepting || inner.holding {
            return 0;
        }
        // Who reads sees by the time that a key has expired: where nobody may write, it stays for now.
        if inner.gate.short || inner.stalls_writers() || room::room(inner) == Room::None {
            return 0;
        }
        let Some(store) = &mut inner.store else {
            return 0;
        };
        let keys = match store.expired(now_ms, BATCH) {
            Ok(keys) => keys,
            Err(error) => {
                tracing::warn!(%error, "looking for expired keys");
                return 0;
            }
        };
        for key in &keys {
            if let Err(error) = inner.append(&Record::Delete { key }) {
                tracing::warn!(%error, "deleting an expired key");
                return 0;
            }
        }
        if !keys.is_empty() {
            node.work.notify_one();
        }
        keys.len()
    })
}
