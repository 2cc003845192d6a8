//! Networks that fail in part: nobody is served by two leaders, and who can go on does.

use replicated_store::replication::admin::ReplicaStatus;
use serde_json::json;
use tokio::time::Instant;

use crate::support::fault::{self, Way};
use crate::support::history::History;
use crate::support::leadership::{is_long, lease, synchronous};
use crate::support::record::spread;
use crate::support::wait::{and_always, pass};
use crate::support::{Gate, Habit, Sessions, World, installation, run, secs};

/// Goal: a leader that is cut off from everybody but its clients stops to answer them when its
/// leases end, another leads soon after, and the old one comes back without a copy of everything.
/// Method: the leader's Pod is cut off from the other Pods and from the operator, while clients write
/// at each Pod's own address. The times of the last answer there and of the first one elsewhere are
/// taken. Healed, the old leader, which has records that nobody else has, follows under its id.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn an_isolated_leader_stops_answering() {
    run("isolated", Gate::Alone, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let before = store.reign().await;
        let hosts = store.hosts(&before.leader).await;
        let old = store.replica(&before.leader).await.expect("its status");
        let history = History::<ReplicaStatus>::of_replica(&store, &before.leader);
        let mut sessions = Sessions::start(&hosts, Habit::HASTY);
        let one = Habit {
            clients: 1,
            ..Habit::HASTY
        };
        sessions.also(&store.leader_ports(&before.leader).await, one);
        sessions.acknowledges(500, secs(30)).await;

        let begun = Instant::now();
        store.isolate(world, &before.leader, Way::Both).await;
        let cut = Instant::now();
        let after = store.reign_after(&before, secs(30)).await;
        assert_ne!(after.leader, before.leader);
        sessions.acknowledges(200, secs(30)).await;
        let gap = sessions.gap(begun);
        spread("without an acknowledged write", "cut", &mut [gap]);
        pass(3 * lease()).await;
        fault::heal(world, &before.leader).await;
        let healed = Instant::now();
        store.is_whole().await;
        sessions.acknowledges(200, secs(30)).await;
        let record = sessions.stop().await;

        let isolated = record.at(&hosts[0]);
        let late: Vec<_> = isolated
            .acknowledged()
            .filter(|found| found.end > cut + lease() && found.end < healed)
            .collect();
        let last = isolated
            .acknowledged()
            .map(|found| found.end)
            .filter(|end| *end < healed)
            .max();
        eprintln!(
            "the cut took {:?}; the last answer of the old leader came {:?} after it had begun",
            cut - begun,
            last.map(|last| last.saturating_duration_since(begun))
        );
        assert!(late.is_empty(), "it answered after its lease: {late:?}");
        let new = hosts[1..]
            .iter()
            .filter_map(|host| record.at(host).first_after(cut))
            .min();
        let new = new
            .expect("others answered")
            .saturating_duration_since(begun);
        eprintln!(
            "the first answer of the new leader came {new:?} after the cut had begun; leases take {:?}",
            lease()
        );
        assert!(
            new < 2 * lease() + secs(2),
            "the new leader answered after {new:?}"
        );

        record.is_linearizable();
        record.nothing_lost(&store.leader_service().await).await;
        let now = store.replica(&before.leader).await.expect("its status");
        assert_eq!(
            (now.id, now.incarnation),
            (old.id, old.incarnation),
            "it was restarted"
        );
        assert!(
            !history.was_seeded(),
            "it was seeded anew: {:?}",
            history.states()
        );
        store.same_data().await;
    });
}

/// Goal: a partition that lets packets pass in one direction only is no worse than a whole one.
/// Method: first what the leader sends is dropped, then, with the leader of that time, what it should
/// receive. Each time writes go on at the other Pods, and after healing all is whole again.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn partitions_in_one_direction_are_survived() {
    run("one-way", Gate::Shared, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let hosts = store.hosts("store-0").await;
        let sessions = Sessions::start(
            &hosts,
            Habit {
                clients: 2,
                ..Habit::HASTY
            },
        );
        for way in [Way::Out, Way::In] {
            sessions.acknowledges(200, secs(30)).await;
            let before = store.reign().await;
            let cut = Instant::now();
            store.isolate(world, &before.leader, way).await;
            let after = store.reign_after(&before, secs(30)).await;
            assert_ne!(after.leader, before.leader);
            sessions.acknowledges(200, secs(30)).await;
            sessions.tell_gap(&format!("the leader is cut off ({way:?})"), cut);
            fault::heal(world, &before.leader).await;
            store.is_whole().await;
        }
        let record = sessions.stop().await;
        record.is_linearizable();
        record.nothing_lost(&store.leader_service().await).await;
        store.same_data().await;
    });
}

/// Goal: an operator that does not reach a leader which its followers hear does not depose it.
/// Method: the leader's Pod is cut off from the operator's Pods only, for ten leases. The epoch
/// stays, and no client sees an error.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_leader_that_only_the_operator_misses_goes_on() {
    run("operator-cut", Gate::Shared, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let before = store.reign().await;
        let patient = Habit {
            clients: 4,
            ..Habit::PATIENT
        };
        let sessions = Sessions::start(&[store.service("").await], patient);
        sessions.acknowledges(200, secs(30)).await;

        let operator = installation::hosts(&world.client).await;
        let cut = Instant::now();
        fault::cut(world, &before.leader, &operator, Way::Both).await;
        store.stays(&before, 10 * lease()).await;
        sessions.tell_gap("only the operator misses the leader", cut);
        fault::heal(world, &before.leader).await;
        store.is_whole().await;
        let record = sessions.stop().await;
        record.nothing_failed();
        record.is_linearizable();
        assert_eq!(store.reign().await, before);
    });
}

/// Goal: a store that is in order needs neither the operator nor the API server.
/// Method: the operator is scaled to nothing and the API server stopped, for a minute (five with
/// `E2E_LONG`). No client sees an error, or waits long.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_store_goes_on_without_operator_and_api_server() {
    run("no-api", Gate::Alone, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let before = store.reign().await;
        let patient = Habit {
            clients: 4,
            ..Habit::PATIENT
        };
        let mut sessions = Sessions::start(&[store.service("").await], patient);
        sessions.also(&store.hosts(&before.leader).await, Habit::PATIENT);
        sessions.acknowledges(200, secs(30)).await;

        let away = async {
            installation::scale(&world.client, 0).await;
            let api = fault::stop_api(world).await;
            let stopped = Instant::now();
            pass(secs(if is_long() { 300 } else { 15 })).await;
            let gap = sessions.tell_gap("neither operator nor API server is there", stopped);
            api.start().await;
            gap
        };
        let gap = and_always(away, installation::scale(&world.client, 2)).await;
        store.is_whole().await;
        let record = sessions.stop().await;
        record.nothing_failed();
        record.is_linearizable();
        assert!(gap < secs(2), "no write was acknowledged for {gap:?}");
        assert_eq!(
            store.reign().await,
            before,
            "the leader was changed for no reason"
        );
        store.same_data().await;
    });
}
