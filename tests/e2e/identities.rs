//! Objects that are made again, registers that go back, volumes that are put back and copied: nothing that was
//! acknowledged is lost.

use std::collections::BTreeSet;

use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::away::{Away, Image};
use crate::support::fault::{self, Way};
use crate::support::leadership::{leaderless, synchronous};
use crate::support::wait::expect;
use crate::support::writer::Written;
use crate::support::{Gate, Load, Store, World, Writer, eventually, run, secs};

/// Of a store that is made again with one replica, which has no follower to wait for.
fn alone() -> Value {
    json!({"replication": {"mode": "Asynchronous"}})
}

/// Writes that were acknowledged.
async fn write(store: &Store<'_>, prefix: &str) -> Written {
    let writer = Writer::start(&store.leader_service().await, prefix, Load::LIGHT);
    writer.acknowledges(300, secs(60)).await;
    writer.stop().await
}

/// The object is deleted, and what belongs to it, but for the claims.
async fn delete(store: &Store<'_>) {
    store.delete().await;
    eventually(secs(120), "its Pods are gone", async || {
        let names: Vec<_> = store
            .pods()
            .await
            .iter()
            .map(ResourceExt::name_any)
            .collect();
        expect(names.is_empty(), || format!("{names:?}"))
    })
    .await;
}

/// Goal: a store that is made again over its kept volumes, with fewer replicas, has all that was acknowledged,
/// whoever of them has it.
/// Method: ordinal 0 is cut off while the others acknowledge writes; the object is deleted, and made again with
/// one replica.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_store_made_again_with_fewer_replicas_has_every_write() {
    run("rebirth", Gate::Shared, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let before = store.reign().await;
        store.isolate(world, "store-0", Way::Both).await;
        if before.leader == "store-0" {
            store.reign_after(&before, secs(60)).await;
        }
        let written = write(&store, "late").await;
        let last = store.reign().await;
        assert_ne!(last.leader, "store-0");
        delete(&store).await;

        let store = Store::create(world, "store", 1, &alone()).await;
        store.reign_after(&last, secs(120)).await;
        written.all_at(&store.leader_service().await).await;
        store
            .shows(
                secs(120),
                "the one that is wanted has caught up, and leads",
                |status| expect(status.leader == "store-0", || status.leader.clone()),
            )
            .await;
        eventually(secs(120), "the others have gone", async || {
            let pods = store.pods().await.len();
            expect(pods == 1, || format!("{pods} Pods"))
        })
        .await;
        store.becomes_ready(secs(60)).await;
        written.all_at(&store.leader_service().await).await;
    });
}

/// Goal: an empty volume never leads a store of which other volumes are there.
/// Method: the object is deleted, and the claim of ordinal 0, and the labels of the others are taken off, as those of
/// claims that are restored by hand may be; it is made again with one replica.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_store_made_again_without_its_first_volume_has_every_write() {
    run("first-claim", Gate::Shared, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let written = write(&store, "key").await;
        let last = store.reign().await;
        delete(&store).await;
        let deleted = store
            .claims_api()
            .delete("data-store-0", &DeleteParams::default())
            .await;
        let _ = deleted.expect("deleting the claim");
        for claim in ["data-store-1", "data-store-2"] {
            let what = ["patch", "pvc", claim, "--type=json", "-p"];
            let how = [r#"[{"op": "remove", "path": "/metadata/labels"}]"#];
            store.kubectl(&[&what[..], &how[..]].concat()).await;
        }

        let store = Store::create(world, "store", 1, &alone()).await;
        store.reign_after(&last, secs(120)).await;
        written.all_at(&store.leader_service().await).await;
        store.becomes_ready(secs(120)).await;
        written.all_at(&store.leader_service().await).await;
    });
}

/// Goal: a register that is edited away, or older than the disks, is not believed and comes back from them.
/// Method: the first register of the store is put in the place of the present one, and all Pods are killed; then
/// the whole status is taken away.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_register_that_goes_back_is_recovered() {
    run("register", Gate::Shared, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let old = store.status().await.configuration.expect("a register");
        let before = store.reign().await;
        fault::signal(world, &before.leader, "SIGKILL").await;
        let second = store.reign_after(&before, secs(60)).await;
        store.is_whole().await;
        let written = write(&store, "key").await;

        let patch = json!({"status": {"configuration": old}}).to_string();
        patch_status(&store, &patch).await;
        for pod in store.pods().await {
            fault::kill_parent(world, &pod.name_any()).await;
        }
        let third = store.reign_after(&second, secs(120)).await;
        written.all_at(&store.leader_service().await).await;
        store.is_whole().await;

        patch_status(&store, r#"{"status": null}"#).await;
        store.reign_after(&third, secs(120)).await;
        written.all_at(&store.leader_service().await).await;
        store.is_whole().await;
    });
}

async fn patch_status(store: &Store<'_>, patch: &str) {
    let name = store.name.as_str();
    let what = ["patch", "replicatedstore", name, "--subresource=status"];
    let how = ["--type=merge", "-p", patch];
    store.kubectl(&[&what[..], &how[..]].concat()).await;
}

/// Goal: a volume that was put back does not count by itself, and nothing is lost when the rest comes back.
/// Method: a follower's volume is saved; writes are acknowledged by both; both go away, the follower's volume is
/// put back, and it comes back alone. It is not promoted and the status says why; then the other one comes.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_follower_that_was_put_back_is_not_promoted() {
    run("put-back", Gate::Alone, async |world: &World| {
        let store = synchronous(world, 2, &json!({})).await;
        let follower = store.some_follower().await;
        let away = Away::send(&store, &follower).await;
        let image = Image::save(world, &follower).await;
        drop(away);
        store.is_whole().await;
        let written = write(&store, "key").await;
        let before = store.reign().await;
        assert_ne!(before.leader, follower);
        let has = store.replica(&follower).await.expect("its status").last.lsn;
        store
            .shows(secs(150), "what it holds is noted", |status| {
                let member = status.members.iter().find(|it| it.name == follower);
                let held = member.and_then(|it| it.held.as_ref()).map(|it| it.lsn);
                expect(held >= Some(has.0 as i64), || format!("{held:?} of {has}"))
            })
            .await;

        let follower_away = Away::send(&store, &follower).await;
        image.put(world, &follower).await;
        let leader_away = Away::send(&store, &before.leader).await;
        drop(follower_away);
        leaderless(&store, "VotersMissing", secs(90)).await;
        store.stays(&before, secs(10)).await;
        drop(leader_away);
        store.reign_after(&before, secs(120)).await;
        written.all_at(&store.leader_service().await).await;
        store.is_whole().await;
        written.all_at(&store.host(&follower).await).await;
    });
}

/// Goal: a leader whose volume was put back to before its epoch does not begin that again, and followers keep
/// what they acknowledged.
/// Method: the leader's volume is saved before it is elected; all go away, the leader's volume is put back, all
/// come back.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_leader_that_was_put_back_loses_nothing() {
    run("leader-back", Gate::Alone, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let next = store.some_follower().await;
        let away = Away::send(&store, &next).await;
        let image = Image::save(world, &next).await;
        drop(away);
        store.is_whole().await;
        let before = store.reign().await;
        store.change(&json!({"leader": {"target": next}})).await;
        let reign = store.reign_after(&before, secs(60)).await;
        assert_eq!(reign.leader, next);
        store.is_whole().await;
        let written = write(&store, "key").await;

        let leader_away = Away::send(&store, &next).await;
        image.put(world, &next).await;
        for pod in store.pods().await {
            if pod.name_any() != next {
                fault::kill_parent(world, &pod.name_any()).await;
            }
        }
        drop(leader_away);
        store.reign_after(&reign, secs(120)).await;
        written.all_at(&store.leader_service().await).await;
        store.is_whole().await;
        store.same_data().await;
        written.all_at(&store.host(&next).await).await;
    });
}

/// Goal: a copy of a replica's volume takes an id of its own; it never speaks for its origin.
/// Method: of three replicas, one follower's volume is replaced by a copy of the other's, which is away when the
/// copy comes up.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_copy_of_a_volume_does_not_speak_for_its_origin() {
    run("copy", Gate::Alone, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let followers = store.followers().await;
        let (origin, other) = (&followers[0], &followers[1]);
        let origin_away = Away::send(&store, origin).await;
        let image = Image::save(world, origin).await;
        let written = write(&store, "key").await;
        let before = store.replica(other).await.expect("its status");
        let other_away = Away::send(&store, other).await;
        image.put(world, other).await;
        drop(other_away);
        let copied = store
            .shows(secs(120), "the copy has an id of its own", |status| {
                let ids: BTreeSet<&str> = status.members.iter().map(|it| it.id.as_str()).collect();
                let member = status.members.iter().find(|it| &it.name == other);
                let member = member.ok_or("it is not there")?;
                let own = ids.len() == 3 && member.ready && member.id != before.id.to_string();
                expect(own, || format!("{:?}", status.members))?;
                Ok(member.id.clone())
            })
            .await;
        drop(origin_away);
        store.is_whole().await;
        let now = store.replica(other).await.expect("its status");
        assert_eq!(now.id.to_string(), copied);
        written.all_at(&store.host(other).await).await;
        store.same_data().await;
    });
}
