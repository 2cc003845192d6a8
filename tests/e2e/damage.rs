//! A disk is damaged, and no other replica has the data.

use replicated_store::api::{ConditionType, MemberState};
use serde_json::json;

use crate::support::store::member;
use crate::support::wait::{eventually, expect};
use crate::support::{Gate, Load, Store, World, Writer, fault, run, secs, writer};

const KEYS: u64 = 10_000;

/// Goal: a replica that does not start says why where people look, and is repaired where it is, as the README says.
/// Method: the log of the only replica is damaged in its middle, and its container killed; the repair runs in the
/// Pod. The store goes on with what was before the damage.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_replica_that_does_not_start_says_why_and_is_repaired() {
    run("damaged-log", Gate::Shared, async |world: &World| {
        let store = Store::ready(world, 1, &json!({})).await;
        let service = store.leader_service().await;
        writer::fill(&service, "kept", KEYS, 100).await;
        let pod = store.leader().await;
        fault::spoil_volume(world, &pod, "log/log-*", 1 << 19).await;
        fault::kill_parent(world, &pod).await;
        store
            .shows(secs(180), "why it does not start", |status| {
                let member = member(status, &pod)?;
                let told = member.state == MemberState::Failed
                    && member.message.contains("would lose data")
                    && member.message.contains("replica repair");
                expect(told, || format!("{member:?}"))
            })
            .await;
        let status = store.status().await;
        let mut conditions = status.conditions.iter();
        let degraded = conditions.find(|it| it.type_ == ConditionType::Degraded);
        let degraded = degraded.expect("a condition");
        assert!(!degraded.message.is_empty(), "{degraded:?}");

        repair(&store, &pod, &status.image).await;
        store.kubectl(&["delete", "pod", &pod]).await;
        store.becomes_ready(secs(180)).await;
        let keys = store.same_data().await.keys;
        assert!(keys > KEYS / 10 && keys < KEYS, "{keys} keys are left");
        let writer = Writer::start(&service, "new", Load::LIGHT);
        writer.acknowledges(200, secs(20)).await;
        writer.stop().await.all_at(&service).await;
    });
}

/// In a container that is added to the Pod, so that it has the volume.
async fn repair(store: &Store<'_>, pod: &str, image: &str) {
    let mounts = json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let file = std::env::temp_dir().join(format!("repair-{}.json", std::process::id()));
    std::fs::write(&file, mounts.to_string()).expect("a file");
    let custom = file.to_string_lossy();
    let image = format!("--image={image}");
    let mut args = vec![
        "debug",
        pod,
        &image,
        "--container=repair",
        "--profile=restricted",
    ];
    args.extend(["--custom", &custom, "--"]);
    args.extend(["replica", "repair", "--data-dir=/data", "--accept-loss"]);
    store.kubectl(&args).await;
    let code = eventually(secs(60), "the repair has ended", async || {
        let pod = store.pod(pod).await;
        let added = pod.status.and_then(|it| it.ephemeral_container_statuses);
        let added = added.into_iter().flatten().next().ok_or("not there")?;
        let ended = added.state.and_then(|it| it.terminated);
        ended.map(|it| it.exit_code).ok_or(String::from("it runs"))
    })
    .await;
    let said = store.kubectl(&["logs", pod, "-c", "repair"]).await;
    let _ = std::fs::remove_file(&file);
    assert!(code == 0 && said.contains("the replica starts"), "{said}");
    println!("{said}");
}
