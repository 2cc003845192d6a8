//! What goes wrong on purpose: `tests/cluster/fault`.

use super::World;
use super::shell::sh;

/// Sends a signal to the main process of a Pod's container: `SIGKILL`, `SIGSTOP`, `SIGCONT`.
pub(crate) async fn signal(world: &World, pod: &str, signal: &str) {
    signal_in(&world.namespace, pod, signal).await;
}

/// As [`signal`], in any namespace.
pub(crate) async fn signal_in(namespace: &str, pod: &str, signal: &str) {
    sh("tests/cluster/fault", &["kill-pod", namespace, pod, signal]).await;
}
