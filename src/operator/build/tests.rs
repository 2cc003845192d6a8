//! The objects, held to files: what would change a running store is seen in the review.

use std::fs;
use std::path::PathBuf;

use k8s_openapi::api::apps::v1::StatefulSet;
use serde::Serialize;

use crate::api::{Spread, labels};
use crate::operator::testing;
use crate::operator::validate::{ValidatedStore, validate};

fn golden(name: &str, object: &impl Serialize) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/operator/build/golden")
        .join(name);
    let wanted = serde_saphyr::to_string(object).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} differs: a changed Pod template restarts every replica of every store when the operator \
         is upgraded. If that is meant, run UPDATE_GOLDEN=1 cargo test --lib operator::build",
        path.display()
    );
}

fn plain() -> ValidatedStore {
    validate(&testing::store("orders")).unwrap()
}

fn recipe(image: &str) -> super::Recipe<'_> {
    super::Recipe {
        image,
        leader_port: true,
    }
}

#[test]
fn a_plain_store() {
    let store = plain();
    golden(
        "statefulset.yaml",
        &super::stateful_set(&store, recipe("example/store:1"), 3),
    );
    golden("service.yaml", &super::everybody(&store));
    golden("service-leader.yaml", &super::leader(&store, true));
    golden("service-followers.yaml", &super::followers(&store));
    golden("service-replicas.yaml", &super::headless(&store));
    golden("configmap.yaml", &super::config_map(&store));
    golden(
        "poddisruptionbudget.yaml",
        &super::disruption_budget(&store),
    );
    golden("serviceaccount.yaml", &super::service_account(&store));
}

#[test]
fn a_store_with_everything() {
    let text = include_str!("../../../crds/samples/good/full.yaml");
    let mut store: crate::api::ReplicatedStore = serde_saphyr::from_str(text).unwrap();
    store.metadata.namespace = Some("shop".into());
    store.metadata.uid = Some("0f0f".into());
    let store = validate(&store).unwrap();
    golden(
        "statefulset-full.yaml",
        &super::stateful_set(&store, recipe("example/store:1"), 5),
    );
    golden("configmap-full.yaml", &super::config_map(&store));
}

/// What stood in these files before there was the leader's port: a new operator changes nothing of it.
#[test]
fn a_store_of_a_release_without_the_leaders_port() {
    let store = plain();
    let recipe = super::Recipe {
        leader_port: false,
        ..recipe("example/store:1")
    };
    let set = super::stateful_set(&store, recipe, 3);
    golden("statefulset-before.yaml", &set);
    golden("service-leader-before.yaml", &super::leader(&store, false));
}

#[test]
fn where_nothing_is_handed_on_the_leaders_address_follows_the_label() {
    let mut store = plain();
    store.settings.forward_writes = false;
    golden("service-leader-direct.yaml", &super::leader(&store, true));
    let before = super::leader(&store, false);
    assert_eq!(before, super::leader(&plain(), false));
}

#[test]
fn settings_do_not_touch_the_pods() {
    let store = plain();
    let mut other = store.clone();
    other.settings.max_lag = 1;
    other.settings.log_retention = 2;
    let template = |store: &ValidatedStore| super::stateful_set(store, recipe("image"), 3);
    assert_eq!(template(&store), template(&other));
    assert_ne!(super::config_map(&store), super::config_map(&other));
}

#[test]
fn pods_meet_the_restricted_standard() {
    let set: StatefulSet = super::stateful_set(&plain(), recipe("image"), 3);
    let pod = set.spec.template.spec.unwrap();
    let context = pod.security_context.unwrap();
    assert_eq!(context.run_as_non_root, Some(true));
    assert_eq!(context.seccomp_profile.unwrap().type_, "RuntimeDefault");
    assert_eq!(pod.automount_service_account_token, Some(false));
    for container in pod.containers {
        let context = container.security_context.unwrap();
        assert_eq!(context.allow_privilege_escalation, Some(false));
        assert_eq!(context.read_only_root_filesystem, Some(true));
        assert_eq!(
            context.capabilities.unwrap().drop,
            Some(vec!["ALL".to_owned()])
        );
    }
}

#[test]
fn the_role_is_not_part_of_the_template() {
    let set = super::stateful_set(&plain(), recipe("image"), 3);
    let labels = set.spec.template.metadata.unwrap().labels.unwrap();
    assert!(
        !labels.contains_key(labels::ROLE),
        "a new Pod has no part yet"
    );
}

#[test]
fn spreading_can_be_turned_off() {
    let mut store = plain();
    store.pod.topology_spread.node = Spread::Disabled;
    store.pod.topology_spread.zone = Spread::Disabled;
    let set = super::stateful_set(&store, recipe("image"), 3);
    assert_eq!(
        set.spec.template.spec.unwrap().topology_spread_constraints,
        None
    );
}
