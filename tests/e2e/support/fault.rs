//! What goes wrong on purpose: `tests/cluster/fault`.

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use super::World;
use super::shell::sh;

const PROGRAM: &str = "tests/cluster/fault";

/// Sends a signal to the process that does the work in a Pod's container: `SIGKILL`, `SIGSTOP`,
/// `SIGCONT`.
pub(crate) async fn signal(world: &World, pod: &str, signal: &str) {
    signal_in(&world.namespace, pod, signal).await;
}

/// As [`signal`], in any namespace.
pub(crate) async fn signal_in(namespace: &str, pod: &str, signal: &str) {
    sh(PROGRAM, &["kill-pod", namespace, pod, signal]).await;
}

/// Kills the main process of a Pod's container, and with it all of the container.
pub(crate) async fn kill_parent(world: &World, pod: &str) {
    sh(PROGRAM, &["kill-parent", &world.namespace, pod, "SIGKILL"]).await;
}

/// Writes what is on a Pod's volume into an archive; nobody should be writing to it.
pub(crate) async fn save_volume(world: &World, pod: &str, file: &str) {
    volume(world, "save-volume", pod, &[file]).await;
}

/// Puts what is in an archive in the place of what is on a Pod's volume.
pub(crate) async fn put_volume(world: &World, pod: &str, file: &str) {
    volume(world, "put-volume", pod, &[file]).await;
}

/// Writes over some bytes of each file of such a name on a Pod's volume.
pub(crate) async fn spoil_volume(world: &World, pod: &str, glob: &str, offset: u64) {
    volume(world, "spoil-volume", pod, &[glob, &offset.to_string()]).await;
}

async fn volume(world: &World, verb: &str, pod: &str, args: &[&str]) {
    let claim = format!("data-{pod}");
    let of = [verb, &world.namespace, &claim];
    sh(PROGRAM, &[&of, args].concat()).await;
}

/// Which packets are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the Pod.
    In,
    /// From the Pod.
    Out,
    /// All.
    Both,
}

/// Cuts a Pod off from the given addresses; from everybody else it is not.
pub(crate) async fn cut(world: &World, pod: &str, from: &[String], way: Way) {
    let mut args = vec!["cut-pod", &world.namespace, pod];
    match way {
        Way::In => args.extend(["--direction", "in"]),
        Way::Out => args.extend(["--direction", "out"]),
        Way::Both => {}
    }
    for peer in from {
        args.extend(["--from", peer]);
    }
    sh(PROGRAM, &args).await;
}

/// Ends the cut.
pub(crate) async fn heal(world: &World, pod: &str) {
    sh(PROGRAM, &["heal-pod", &world.namespace, pod]).await;
}

/// Stops the API server.
pub(crate) async fn stop_api(world: &World) -> StoppedApi {
    let nodes: Api<Node> = Api::all(world.client.clone());
    let list = ListParams::default().labels("node-role.kubernetes.io/control-plane");
    let node = nodes
        .list(&list)
        .await
        .expect("nodes")
        .items
        .remove(0)
        .name_any();
    sh(PROGRAM, &["stop-api", &node]).await;
    StoppedApi(node)
}

/// An API server that is stopped.
pub(crate) struct StoppedApi(String);

impl StoppedApi {
    /// Starts it, and waits until it answers.
    pub(crate) async fn start(self) {
        sh(PROGRAM, &["start-api", &self.0]).await;
    }
}
