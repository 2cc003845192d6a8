//! How a replica stops: a leader makes room first, that is, says that it is leaving, and waits until
//! another replica leads. It goes on serving meanwhile, and clients are answered to the end.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::clients::Clients;
use super::inner::Inner;
use super::node::Node;

/// Between two looks whether there is still somebody who could take over.
const LOOK: Duration = Duration::from_millis(100);

/// New connections still come for this long: a Service's routes change a little after its Pods.
const ROUTES: Duration = Duration::from_secs(1);

/// Completes when this replica may stop: once `asked`, and then after another one leads, or nobody
/// could, or `patience` is over.
pub(super) async fn after(asked: &CancellationToken, node: &Arc<Node>, patience: Duration) {
    asked.cancelled().await;
    let alone = node.with(|inner| inner.members.len() < 2);
    if patience.is_zero() || alone {
        return;
    }
    let route = tokio::time::sleep(ROUTES.min(patience));
    make_room(node, patience).await;
    route.await;
}

/// Waits until another replica leads, or nobody could, or `patience` is over.
async fn make_room(node: &Node, patience: Duration) {
    if !node.with(|inner| has_successor(inner)) {
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

/// Waits until all clients are gone, or the deadline is over.
pub(super) async fn clients(clients: &Clients, deadline: Duration) {
    let gone = async {
        while clients.count() > 0 {
            tokio::time::sleep(LOOK / 10).await;
        }
    };
    if tokio::time::timeout(deadline, gone).await.is_err() {
        tracing::warn!(left = clients.count(), "some clients had to be cut off");
    }
}

/// Whether this replica leads, and a voter that follows it could do so.
fn has_successor(inner: &Inner) -> bool {
    let view = inner.core.view();
    let voters = &inner.core.configuration().voters;
    let mut followers = view.followers.iter();
    view.leading && followers.any(|follower| follower.heard && voters.contains(&follower.id))
}
