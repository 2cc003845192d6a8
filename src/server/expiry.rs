//! The leader's expiry: keys whose time has come are deleted by a record, so that every replica
//! forgets them at the same LSN.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::node::Node;
use crate::store::Record;

/// Keys that are deleted under one lock.
const BATCH: usize = 200;
/// Pause between looks.
const PACE: Duration = Duration::from_millis(100);

/// Deletes expired keys while this replica leads, until `stop`.
pub(super) async fn run(node: Arc<Node>, stop: CancellationToken) {
    loop {
        let more = expire(&node);
        let pause = if more { Duration::from_millis(1) } else { PACE };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One batch; `true` if there may be more.
fn expire(node: &Arc<Node>) -> bool {
    let now_ms = node.clock.wall_ms();
    node.with(|inner| {
        if !inner.accepting {
            return false;
        }
        let Some(store) = &mut inner.store else {
            return false;
        };
        if store.write_stall() {
            return false;
        }
        let keys = match store.expired(now_ms, BATCH) {
            Ok(keys) => keys,
            Err(error) => {
                tracing::warn!(%error, "looking for expired keys");
                return false;
            }
        };
        for key in &keys {
            if let Err(error) = inner.append(&Record::Delete { key }) {
                tracing::warn!(%error, "deleting an expired key");
                return false;
            }
        }
        if !keys.is_empty() {
            node.work.notify_one();
        }
        keys.len() == BATCH
    })
}
