//! How a leader that is asked to stop makes room first: it says that it is leaving, and waits until
//! another replica leads. It goes on serving meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::inner::Inner;
use super::node::Node;

/// Between two looks whether there is still somebody who could take over.
const LOOK: Duration = Duration::from_millis(100);

/// Completes when this replica may stop: once `asked`, and then after another one leads, or nobody
/// could, or `patience` is over.
pub(super) async fn after(asked: &CancellationToken, node: &Arc<Node>, patience: Duration) {
    asked.cancelled().await;
    if patience.is_zero() || !node.with(|inner| has_successor(inner)) {
        return;
    }
    tracing::info!("asked to stop: waits until another replica leads");
    node.with(|inner| inner.leaving = true);
    node.urgent();
    let mut changes = node.urgent.subscribe();
    let left = async {
        while node.with(|inner| has_successor(inner)) {
            let _ = tokio::time::timeout(LOOK, changes.changed()).await;
        }
    };
    if tokio::time::timeout(patience, left).await.is_err() {
        tracing::warn!(?patience, "nobody took the lead in time: stops as leader");
    }
}

/// Whether this replica leads, and a voter that follows it could do so.
fn has_successor(inner: &Inner) -> bool {
    let view = inner.core.view();
    let voters = &inner.core.configuration().voters;
    let mut followers = view.followers.iter();
    view.leading && followers.any(|follower| follower.heard && voters.contains(&follower.id))
}
