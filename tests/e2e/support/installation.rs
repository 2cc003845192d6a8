//! The installed product: the chart's release and the operator's Pods.

use std::env;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt};

use super::shell::sh;
use super::wait::{eventually, expect, secs};

/// Namespace of the operator.
pub(crate) const NAMESPACE: &str = "replicated-store-system";
/// Name of the release.
const RELEASE: &str = "replicated-store";

/// Installs the chart, or upgrades it, with the image under test, and waits until it is ready.
pub(crate) async fn install(options: &[&str]) {
    let image = env::var("E2E_IMAGE").expect("E2E_IMAGE names the image under test");
    // As in a shell: `IMAGE=... tests/cluster/install OPTION...`.
    let image = format!("IMAGE={image}");
    let script = super::shell::repository().join("tests/cluster/install");
    let command = [image.as_str(), &script.to_string_lossy()];
    sh("env", &[command.as_slice(), options].concat()).await;
}

/// Takes the chart away.
pub(crate) async fn uninstall() {
    sh(
        "helm",
        &[
            "uninstall",
            RELEASE,
            "--namespace",
            NAMESPACE,
            "--wait",
            "--timeout",
            "3m",
        ],
    )
    .await;
}

/// The operator's Deployment.
pub(crate) async fn deployment(client: &Client) -> Deployment {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let list = deployments
        .list(&ListParams::default())
        .await
        .expect("deployments");
    assert_eq!(list.items.len(), 1, "the chart has one Deployment");
    list.items.into_iter().next().expect("there is one")
}

/// The operator's Pod that holds the lease.
pub(crate) async fn holder(client: &Client) -> String {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let leases = leases.list(&ListParams::default()).await.expect("leases");
    let mut specs = leases.items.into_iter().filter_map(|lease| lease.spec);
    let holder = specs.find_map(|spec| spec.holder_identity);
    let holder = holder.expect("somebody holds it");
    let pods = pods(client).await.into_iter().map(|pod| pod.name_any());
    let mut named = pods.filter(|name| holder.starts_with(name));
    named.next().expect("one of the operator's Pods")
}

/// The operator's Pods that are not on their way out.
pub(crate) async fn pods(client: &Client) -> Vec<Pod> {
    let deployment = deployment(client).await;
    let labels = deployment.spec.selector.match_labels.unwrap_or_default();
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let list = pods
        .list(&ListParams::default().labels(&labels.join(",")))
        .await
        .expect("Pods");
    list.items
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect()
}

/// Addresses of the operator's Pods.
pub(crate) async fn hosts(client: &Client) -> Vec<String> {
    let pods = pods(client).await;
    let hosts = pods.into_iter().filter_map(|pod| pod.status?.pod_ip);
    hosts.collect()
}

/// Sets the number of the operator's Pods, and waits until it is so.
pub(crate) async fn scale(client: &Client, replicas: u32) {
    let deployment = deployment(client).await.name_any();
    let (target, count) = (
        format!("deployment/{deployment}"),
        format!("--replicas={replicas}"),
    );
    sh("kubectl", &["-n", NAMESPACE, "scale", &target, &count]).await;
    if replicas > 0 {
        available(client, secs(120)).await;
    }
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    eventually(secs(60), "Pods that are too many have ended", async || {
        let there = api
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?
            .items
            .len();
        expect(there == replicas as usize, || format!("{there} Pods"))
    })
    .await;
}

/// Kills all of the operator's Pods at once, without a chance to say good-bye.
pub(crate) async fn kill(client: &Client) {
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let now = DeleteParams::default().grace_period(0);
    for pod in pods(client).await {
        // It may be gone already, from the kill before.
        let _ = api.delete(&pod.name_any(), &now).await;
    }
}

/// Waits until all of the operator's Pods are ready.
pub(crate) async fn available(client: &Client, within: Duration) {
    eventually(within, "the operator's Pods are ready", async || {
        let deployment = deployment(client).await;
        let wanted = deployment.spec.replicas;
        let status = deployment.status.unwrap_or_default();
        let current = status.observed_generation == deployment.metadata.generation
            && status.updated_replicas == wanted
            && status.available_replicas == wanted
            && status.replicas == wanted;
        expect(current, || format!("{status:?}"))
    })
    .await;
}

/// Restarts the operator as an upgrade does, one Pod after the other.
pub(crate) async fn restart(client: &Client) {
    let name = deployment(client).await.name_any();
    sh(
        "kubectl",
        &[
            "-n",
            NAMESPACE,
            "rollout",
            "restart",
            &format!("deployment/{name}"),
        ],
    )
    .await;
    available(client, secs(120)).await;
}
