//! What cannot work is refused at once, with a message that says what to do.

use std::fs;

use serde_json::{Value, json};

use crate::support::shell::try_sh;
use crate::support::store::manifest;
use crate::support::{Gate, Store, World, run};

/// Goal: a wrong object never gets as far as the operator, and its author knows what to write instead.
/// Method: each is applied by `kubectl`, which must fail with the words of the message.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn wrong_objects_are_refused_with_what_to_do() {
    let wrong: [(&str, Value, &[&str]); 14] = [
        (
            "no replicas",
            json!({"replicas": 0}),
            &["between 1 and 9", "use 3"],
        ),
        (
            "too many replicas",
            json!({"replicas": 10}),
            &["between 1 and 9", "use 3"],
        ),
        (
            "no storage",
            json!({"storage": null}),
            &["spec.storage", "Required value"],
        ),
        (
            "a size in another language",
            json!({"storage": {"size": "20 GB"}}),
            &["storage.size", "for example 20Gi"],
        ),
        (
            "too small a size",
            json!({"storage": {"size": "10Mi"}}),
            &["at least 256Mi"],
        ),
        (
            "no name of a class",
            json!({"storage": {"storageClassName": "Fast SSD"}}),
            &["name of a StorageClass", "kubectl get storageclass"],
        ),
        (
            "an address for an image",
            json!({"image": "https://registry.example/store"}),
            &["image must be", "without a scheme"],
        ),
        (
            "a lag below all sense",
            json!({"replication": {"maxLag": "1Ki"}}),
            &["replication.maxLag", "at least 64Ki"],
        ),
        (
            "a log that fills the disk",
            json!({"replication": {"logRetention": "900Mi"}}),
            &["at most half of storage.size", "lower it"],
        ),
        (
            "a lag beyond the log",
            json!({"replication": {"maxLag": "200Mi", "logRetention": "100Mi"}}),
            &[
                "maxLag must be at most",
                "lower maxLag or raise logRetention",
            ],
        ),
        (
            "a bandwidth with a unit of time",
            json!({"seeding": {"maxBandwidth": "100MB/s"}}),
            &["seeding.maxBandwidth", "for example 100Mi"],
        ),
        (
            "more memory than there is",
            json!({"config": {"maxMemory": "120%"}}),
            &["config.maxMemory", "1% to 95%"],
        ),
        (
            "a request above the limit",
            json!({"pod": {"resources": {"requests": {"memory": "1Gi"}}}}),
            &["requests.memory", "lower the request or raise the limit"],
        ),
        (
            "a typing error",
            json!({"replicsa": 3}),
            &["unknown field", "replicsa"],
        ),
    ];
    run("validation", Gate::Shared, async |world: &World| {
        for (what, changes, words) in &wrong {
            refused(world, what, &manifest("store", 3, changes), words).await;
        }
        let long = "a-name-that-leaves-no-room-for-what-services-append";
        refused(
            world,
            "a long name",
            &manifest(long, 3, &json!({})),
            &["at most 48"],
        )
        .await;
    });
}

/// Goal: what cannot be changed later is refused when it is tried, not ignored.
/// Method: as above, with an object that is there already.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn what_cannot_be_changed_is_refused_with_what_to_do() {
    let wrong: [(&str, Value, &[&str]); 2] = [
        (
            "another size",
            json!({"storage": {"size": "2Gi"}}),
            &["storage.size cannot be changed", "create another store"],
        ),
        (
            "another class",
            json!({"storage": {"storageClassName": "other"}}),
            &[
                "storage.storageClassName cannot be changed",
                "create another store",
            ],
        ),
    ];
    run("validation-update", Gate::Shared, async |world: &World| {
        let _store = Store::create(world, "store", 1, &json!({})).await;
        for (what, changes, words) in &wrong {
            refused(world, what, &manifest("store", 1, changes), words).await;
        }
    });
}

async fn refused(world: &World, what: &str, object: &Value, words: &[&str]) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), object.to_string()).expect("writing it");
    let path = file.path().to_string_lossy();
    let args = [
        "-n",
        &world.namespace,
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        &path,
    ];
    let Err(message) = try_sh("kubectl", &args).await else {
        panic!("{what}: it was taken: {object}");
    };
    for word in words {
        assert!(
            message.contains(word),
            "{what}: the message lacks {word:?}: {message}"
        );
    }
}
