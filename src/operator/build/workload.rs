//! The StatefulSet.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource,
    HTTPGetAction, ObjectFieldSelector, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile, SecurityContext,
    TopologySpreadConstraint, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    ADMIN_PORT, CLIENT_PORT, DATA, LEADER_PORT, LEADER_PORT_NAME, PEER_PORT, PROCESS_PORT,
    account_name, config_name, headless_name, metadata,
};
use crate::api::{RetentionPolicy, Spread, labels};
use crate::operator::validate::ValidatedStore;

/// User and group of the replicas: "nonroot" of the distroless images.
const USER: i64 = 65_532;
/// Where the data is.
const DATA_DIR: &str = "/data";
/// Where the settings are.
const CONFIG_DIR: &str = "/etc/replicated-store";

/// What the Pods are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe<'a> {
    /// The container's image.
    pub image: &'a str,
    /// With [`LEADER_PORT`], which Pods of older releases do not have: it comes with a new image, so that
    /// a new operator restarts nobody.
    pub leader_port: bool,
}

/// The StatefulSet with so many replicas made like this.
pub fn stateful_set(store: &ValidatedStore, recipe: Recipe<'_>, replicas: u32) -> StatefulSet {
    let selector = labels::selector(&store.name);
    StatefulSet {
        metadata: metadata(store, store.name.clone()),
        spec: StatefulSetSpec {
            replicas: Some(replicas as i32),
            service_name: Some(headless_name(&store.name)),
            selector: LabelSelector {
                match_labels: Some(selector),
                ..LabelSelector::default()
            },
            // All at once: who leads is not a question of the order of starting.
            pod_management_policy: Some("Parallel".to_owned()),
            // The operator picks the order, the leader last.
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                ..StatefulSetUpdateStrategy::default()
            }),
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some(retention(store.retention.when_deleted)),
                    when_scaled: Some(retention(store.retention.when_scaled)),
                },
            ),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels::common(&store.name)),
                    annotations: Some(BTreeMap::from([(
                        "kubectl.kubernetes.io/default-container".to_owned(),
                        "replica".to_owned(),
                    )])),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(store, recipe)),
            },
            volume_claim_templates: Some(vec![claim(store)]),
            ..StatefulSetSpec::default()
        },
        ..StatefulSet::default()
    }
}

fn retention(policy: RetentionPolicy) -> String {
    match policy {
        RetentionPolicy::Retain => "Retain",
        RetentionPolicy::Delete => "Delete",
    }
    .to_owned()
}

/// Immutable in a StatefulSet, so made only of what is immutable in a store.
fn claim(store: &ValidatedStore) -> PersistentVolumeClaim {
    let size = BTreeMap::from([("storage".to_owned(), store.size.clone())]);
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(DATA.to_owned()),
            labels: Some(labels::selector(&store.name)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: store.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(size),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

fn pod(store: &ValidatedStore, recipe: Recipe<'_>) -> PodSpec {
    let settings = &store.pod;
    let priority = Some(settings.priority_class_name.clone());
    PodSpec {
        service_account_name: Some(account_name(&store.name)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        // A leader hands what it has to its disk and its followers; more than this is a hang.
        termination_grace_period_seconds: Some(30),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        affinity: settings.affinity.clone(),
        topology_spread_constraints: spread(store),
        tolerations: Some(settings.tolerations.clone()).filter(|list| !list.is_empty()),
        node_selector: Some(settings.node_selector.clone()).filter(|map| !map.is_empty()),
        priority_class_name: priority.filter(|name| !name.is_empty()),
        containers: vec![container(store, recipe)],
        volumes: Some(vec![Volume {
            name: "settings".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: config_name(&store.name),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        }]),
        ..PodSpec::default()
    }
}

fn spread(store: &ValidatedStore) -> Option<Vec<TopologySpreadConstraint>> {
    let spread = &store.pod.topology_spread;
    let keys = [
        ("kubernetes.io/hostname", spread.node),
        ("topology.kubernetes.io/zone", spread.zone),
    ];
    let constraints: Vec<_> = keys
        .into_iter()
        .filter_map(|(key, spread)| constraint(store, key, spread))
        .collect();
    Some(constraints).filter(|list| !list.is_empty())
}

fn constraint(
    store: &ValidatedStore,
    key: &str,
    spread: Spread,
) -> Option<TopologySpreadConstraint> {
    let when_unsatisfiable = match spread {
        Spread::Disabled => return None,
        Spread::Preferred => "ScheduleAnyway",
        Spread::Required => "DoNotSchedule",
    };
    Some(TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: when_unsatisfiable.to_owned(),
        // A node that takes no replicas does not count as one that has too few.
        node_taints_policy: Some("Honor".to_owned()),
        label_selector: Some(LabelSelector {
            match_labels: Some(labels::selector(&store.name)),
            ..LabelSelector::default()
        }),
        ..TopologySpreadConstraint::default()
    })
}

fn container(store: &ValidatedStore, recipe: Recipe<'_>) -> Container {
    let mut env = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
    ];
    let mut ports = vec![
        port("redis", CLIENT_PORT),
        port("peer", PEER_PORT),
        port("admin", ADMIN_PORT),
        port("process", PROCESS_PORT),
    ];
    if recipe.leader_port {
        // Not an argument: an older image would not start with one that it does not know.
        env.push(EnvVar {
            name: "REPLICA_LEADER_LISTEN".to_owned(),
            value: Some(format!("0.0.0.0:{LEADER_PORT}")),
            ..EnvVar::default()
        });
        ports.push(port(LEADER_PORT_NAME, LEADER_PORT));
    }
    Container {
        name: "replica".to_owned(),
        image: Some(recipe.image.to_owned()),
        command: Some(texts(&["/usr/local/bin/replica", "supervise"])),
        args: Some(args(store)),
        env: Some(env),
        ports: Some(ports),
        resources: store.pod.resources.clone(),
        // Recovery answers /healthz; these bounds are for a process that answers nothing at all.
        startup_probe: Some(probe("/healthz", 1, 3, 600)),
        liveness_probe: Some(probe("/healthz", 5, 3, 6)),
        // Short, as this is what takes a replica in and out of the Services.
        readiness_probe: Some(probe("/readyz", 1, 2, 3)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(texts(&["ALL"])),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            VolumeMount {
                name: DATA.to_owned(),
                mount_path: DATA_DIR.to_owned(),
                ..VolumeMount::default()
            },
            VolumeMount {
                name: "settings".to_owned(),
                mount_path: CONFIG_DIR.to_owned(),
                read_only: Some(true),
                ..VolumeMount::default()
            },
        ]),
        ..Container::default()
    }
}

fn args(store: &ValidatedStore) -> Vec<String> {
    let service = headless_name(&store.name);
    [
        ("--data-dir", DATA_DIR.to_owned()),
        ("--listen", format!("0.0.0.0:{CLIENT_PORT}")),
        ("--peer-listen", format!("0.0.0.0:{PEER_PORT}")),
        ("--admin-listen", format!("0.0.0.0:{ADMIN_PORT}")),
        ("--process-listen", format!("0.0.0.0:{PROCESS_PORT}")),
        ("--name", "$(POD_NAME)".to_owned()),
        (
            "--advertise",
            format!("$(POD_NAME).{service}.$(POD_NAMESPACE).svc"),
        ),
        (
            "--settings",
            format!("{CONFIG_DIR}/{}", super::config::SETTINGS),
        ),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn port(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// Asks `path` every so many seconds.
fn probe(path: &str, period: i32, timeout: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("admin".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(timeout),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}
