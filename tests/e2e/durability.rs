//! What was acknowledged stays, whatever is lost within the promise, and however the promise changes.

use replicated_store::api::Register;
use serde_json::json;

use crate::support::fault;
use crate::support::leadership::{leaderless, synchronous};
use crate::support::wait::expect;
use crate::support::{Gate, Habit, Sessions, World, eventually, run, secs};

/// Goal: a voter that lost its disk is no voter, whatever its Pod is called: it never stands for what
/// the old one had acknowledged.
/// Method: one follower's process is stopped, and the other's volume deleted; then the leader's
/// process is killed, all within the two leases that voters may be away before they are removed. What
/// was acknowledged may be on the stopped one only: nobody may be promoted, the empty one least of
/// all. Once the stopped one is back, so is all data.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn an_empty_disk_never_counts_as_the_old_one() {
    run("empty-voter", Gate::Shared, async |world: &World| {
        let slow = json!({"failover": {"leaseDuration": "10s"}});
        let store = synchronous(world, 3, &slow).await;
        let before = store.reign().await;
        let followers = store.followers().await;
        let [down, empty] = [&followers[0], &followers[1]];
        let old = store.replica(empty).await.expect("its status").id;
        let sessions = Sessions::start(&[store.service("").await], Habit::HASTY);
        sessions.acknowledges(500, secs(30)).await;
        let register = store.status().await.configuration.expect("a register");

        fault::signal(world, down, "SIGSTOP").await;
        store.lose_volume(empty).await;
        eventually(secs(30), "the empty replica is there", async || {
            let id = store.replica(empty).await?.id;
            expect(id != old, || "it has its old id".to_owned())
        })
        .await;
        fault::signal(world, &before.leader, "SIGKILL").await;
        store.stays(&before, secs(5)).await;
        leaderless(&store, "VotersMissing", secs(10)).await;
        let now = store.status().await.configuration.expect("a register");
        // The lost one may have been given up while there was a leader; its old set counts on.
        let reign = |register: &Register| (register.epoch, register.leader.clone());
        assert_eq!(reign(&now), reign(&register), "a leader was made");
        let sets = now.previous.iter().map(|set| &set.voters);
        let mut sets = sets.chain([&now.voters]);
        assert!(sets.any(|voters| *voters == register.voters), "{now:?}");
        let fresh = store.replica(empty).await.expect("its status").id;
        assert!(!now.voters.contains(&fresh.to_string()), "{now:?}");

        fault::signal(world, down, "SIGCONT").await;
        store.reign_after(&before, secs(60)).await;
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
