//! What was acknowledged stays, whatever is lost within the promise, and however the promise changes.

use replicated_store::api::ReplicatedStore;
use serde_json::json;

use crate::support::fault;
use crate::support::history::History;
use crate::support::leadership::synchronous;
use crate::support::store::member;
use crate::support::wait::{expect, pass};
use crate::support::{Gate, Habit, Sessions, World, run, secs};

/// Goal: a voter that lost its disk is no voter, whatever its Pod is called: it never stands for what
/// the old one had acknowledged.
/// Method: one follower's process is stopped, and the other's volume deleted; then the leader's
/// process is killed. What the leader had acknowledged may be on the stopped one only: the empty one
/// must neither lead nor vote for a leader. Once the stopped one is back, so is all data.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn an_empty_disk_never_counts_as_the_old_one() {
    run("empty-voter", Gate::Shared, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let before = store.reign().await;
        let followers = store.followers().await;
        let [down, empty] = [&followers[0], &followers[1]];
        let old = store
            .replica(empty)
            .await
            .expect("its status")
            .id
            .to_string();
        let sessions = Sessions::start(&[store.host(&before.leader).await], Habit::HASTY);
        sessions.acknowledges(500, secs(30)).await;
        let history = History::<ReplicatedStore>::of_store(&store).await;

        fault::signal(world, down, "SIGSTOP").await;
        store.lose_volume(empty).await;
        store
            .shows(
                secs(60),
                "the empty replica is known under its own id",
                |status| {
                    let id = &member(status, empty)?.id;
                    expect(!id.is_empty() && *id != old, || format!("{id:?}"))
                },
            )
            .await;
        fault::signal(world, &before.leader, "SIGKILL").await;
        pass(secs(5)).await;
        let new = store
            .replica(empty)
            .await
            .expect("its status")
            .id
            .to_string();
        for status in history
            .all()
            .into_iter()
            .filter_map(|(_, store)| store.status)
        {
            let register = status.configuration.expect("a register");
            assert_ne!(
                register.leader.as_ref(),
                Some(&new),
                "the empty one was promoted"
            );
        }

        fault::signal(world, down, "SIGCONT").await;
        store.is_whole().await;
        sessions.acknowledges(200, secs(30)).await;
        let record = sessions.stop().await;
        record.is_linearizable();
        record.nothing_lost(&store.leader_service().await).await;
        store.same_data().await;
    });
}

/// Goal: mode and number of synchronous replicas can be changed at any time.
/// Method: under writes and reads, the store goes from one follower to two, to none, and back, and
/// after each change has come into force a process is killed: the leader's, but a follower's where
/// the mode promises nothing for the leader's.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn mode_and_number_of_copies_change_under_load() {
    run("modes", Gate::Shared, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let hosts = [store.service("").await];
        let sessions = Sessions::start(
            &hosts,
            Habit {
                clients: 6,
                ..Habit::HASTY
            },
        );
        for (mode, copies) in [("Synchronous", 2), ("Asynchronous", 0), ("Synchronous", 1)] {
            sessions.acknowledges(200, secs(30)).await;
            store
                .change(&json!({"replication": {"mode": mode, "syncReplicas": copies.max(1)}}))
                .await;
            store
                .shows(secs(30), "the change is in force", |status| {
                    let register = status.configuration.as_ref().ok_or("no register")?;
                    expect(
                        register.sync == copies && register.previous.is_empty(),
                        || format!("{register:?}"),
                    )
                })
                .await;
            sessions.acknowledges(200, secs(30)).await;
            let before = store.reign().await;
            if copies == 0 {
                let follower = store.some_follower().await;
                fault::signal(world, &follower, "SIGKILL").await;
            } else {
                fault::signal(world, &before.leader, "SIGKILL").await;
                store.reign_after(&before, secs(30)).await;
            }
            sessions.acknowledges(200, secs(30)).await;
            store.is_whole().await;
        }
        let record = sessions.stop().await;
        record.is_linearizable();
        record.nothing_lost(&store.leader_service().await).await;
        store.same_data().await;
    });
}
