//! The addresses of a store.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{ADMIN_PORT, CLIENT_PORT, LEADER_PORT_NAME, PEER_PORT, headless_name, metadata};
use crate::api::labels;
use crate::operator::validate::ValidatedStore;

/// `<name>`: every ready replica.
pub fn everybody(store: &ValidatedStore) -> Service {
    service(store, store.name.clone(), None)
}

/// `<name>-leader`: every answer is the leader's. Each ready replica will do, as it hands on what it
/// cannot answer as the leader: so nothing has to change here when the lead does, which takes the
/// cluster longer than an election. Where replicas hand nothing on, it follows the role label, ready or
/// not, as who leads is not a question of probes. `has_port`: all Pods have the port for this; until
/// then it leads to the port of everybody, at the Pod with the label, which is never on two.
pub fn leader(store: &ValidatedStore, has_port: bool) -> Service {
    let anybody = has_port && store.settings.forward_writes;
    let role = (!anybody).then_some(labels::LEADER);
    let mut service = service(store, format!("{}-leader", store.name), role);
    if let Some(spec) = service.spec.as_mut().filter(|_| has_port) {
        spec.ports = Some(vec![ServicePort {
            target_port: Some(IntOrString::String(LEADER_PORT_NAME.to_owned())),
            ..port("redis", CLIENT_PORT)
        }]);
        spec.publish_not_ready_addresses = (!anybody).then_some(true);
    }
    service
}

/// `<name>-followers`: for reads that may be a little old.
pub fn followers(store: &ValidatedStore) -> Service {
    service(
        store,
        format!("{}-followers", store.name),
        Some(labels::FOLLOWER),
    )
}

/// `<name>-replicas`: gives each Pod a name, ready or not, as replicas must find each other
/// before they are ready.
pub fn headless(store: &ValidatedStore) -> Service {
    Service {
        metadata: metadata(store, headless_name(&store.name)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(labels::selector(&store.name)),
            ports: Some(vec![
                port("redis", CLIENT_PORT),
                port("peer", PEER_PORT),
                port("admin", ADMIN_PORT),
            ]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn service(store: &ValidatedStore, name: String, role: Option<&str>) -> Service {
    let mut selector = labels::selector(&store.name);
    if let Some(role) = role {
        selector.insert(labels::ROLE.to_owned(), role.to_owned());
    }
    Service {
        metadata: metadata(store, name),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector),
            ports: Some(vec![port("redis", CLIENT_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(port),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}
