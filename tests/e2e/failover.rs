//! A leader that is gone is replaced, and what was acknowledged stays.

use serde_json::json;
use tokio::time::Instant;

use crate::support::fault::{self, Way};
use crate::support::history::History;
use crate::support::leadership::{leaderless, synchronous, times};
use crate::support::record::spread;
use crate::support::wait::{and_always, eventually, expect, pass};
use crate::support::{Gate, Habit, Sessions, Store, World, installation, run, secs};

/// One of those that soon give up.
const ONE: Habit = Habit {
    clients: 1,
    ..Habit::HASTY
};

/// Where every answer is to be the leader's: the leader's Service, and that port of each Pod.
async fn strict(store: &Store<'_>) -> Vec<String> {
    let mut hosts = store.leader_ports(&store.leader().await).await;
    hosts.push(store.leader_service().await);
    hosts
}

/// Goal: when the leader's process dies, clients of the one Service can write again within a second,
/// and nobody sees anything that one single store could not have done.
/// Method: the process that leads is killed again and again under writes and reads, some of them at the
/// leader's Service and at the leader's ports; the longest time without an acknowledged write is taken
/// from the moment before each kill.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_killed_leader_is_replaced_within_a_second() {
    run("kill", Gate::Alone, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let mut sessions = Sessions::start(&[store.service("").await], Habit::HASTY);
        sessions.also(&strict(&store).await, ONE);
        sessions.acknowledges(300, secs(30)).await;
        let mut gaps = Vec::new();
        for _ in 0..times(5, 20) {
            let before = store.reign().await;
            store.has_run_for_a_while(&before.leader).await;
            let killed = Instant::now();
            fault::signal(world, &before.leader, "SIGKILL").await;
            store.reign_after(&before, secs(30)).await;
            sessions.acknowledges(200, secs(30)).await;
            gaps.push(sessions.gap(killed));
            store.is_whole().await;
        }
        let record = sessions.stop().await;

        record.is_linearizable();
        record.nothing_lost(&store.leader_service().await).await;
        store.same_data().await;
        let median = spread(
            "without an acknowledged write after a kill",
            "kill",
            &mut gaps,
        );
        assert!(median < secs(1), "{gaps:?}");
    });
}

/// Goal: where replicas hand nothing on, the leader's Service leads to one Pod at most at any time, and soon
/// to the new leader's.
/// Method: `forwardWrites: false`; where it leads to is watched while the leader is killed, and then another one is named. The
/// time from the kill, and from the naming, to the new leader's Pod is told, and that without any.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn the_leaders_service_never_leads_to_two() {
    run("endpoint", Gate::Alone, async |world: &World| {
        let direct = json!({"replication": {"forwardWrites": false}});
        let store = synchronous(world, 3, &direct).await;
        let history = History::of_leader_service(&store);
        let leads_to = async |pod: &str| {
            eventually(secs(30), "the leader's Service leads to it", async || {
                let targets = history.targets();
                let last = targets.last().filter(|(_, names)| names == &[pod]);
                last.map(|(at, _)| *at)
                    .ok_or_else(|| format!("{targets:?}"))
            })
            .await
        };
        let first = store.reign().await;
        leads_to(&first.leader).await;
        store.has_run_for_a_while(&first.leader).await;
        let killed = Instant::now();
        fault::signal(world, &first.leader, "SIGKILL").await;
        let second = store.reign_after(&first, secs(30)).await;
        let after_kill = leads_to(&second.leader).await - killed;
        store.is_whole().await;

        let target = store.some_follower().await;
        let named = Instant::now();
        store.change(&json!({"leader": {"target": target}})).await;
        store.reign_after(&second, secs(30)).await;
        let after_naming = leads_to(&target).await - named;

        let targets = history.targets();
        let without: Vec<_> = targets
            .windows(2)
            .filter(|pair| pair[0].1.is_empty())
            .map(|pair| pair[1].0 - pair[0].0)
            .collect();
        eprintln!(
            "the leader's Service led to the new leader {after_kill:?} after a kill, {after_naming:?} after \
             one was named; to nobody for {without:?}"
        );
        let two = targets.iter().find(|(_, names)| names.len() > 1);
        assert!(two.is_none(), "{two:?}");
    });
}

/// Goal: nothing has to change in the leader's Service when the lead does; the label that tells people of
/// the leader is never on two Pods, and is on the new leader's soon after.
/// Method: the Service and the Pods are watched while another leader is named, and then the leader killed.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn the_leaders_service_stays_as_it_is() {
    run("address", Gate::Shared, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let (slices, pods) = (History::of_leader_service(&store), History::of_pods(&store));
        let all = |targets: &[(Instant, Vec<String>)]| {
            expect(
                targets.last().is_some_and(|(_, names)| names.len() == 3),
                || format!("{targets:?}"),
            )
        };
        eventually(secs(30), "it leads to all", async || all(&slices.targets())).await;
        let before = slices.targets().len();
        let first = store.reign().await;
        store.has_run_for_a_while(&first.leader).await;
        let target = store.some_follower().await;
        let named = Instant::now();
        store.change(&json!({"leader": {"target": target}})).await;
        let second = store.reign_after(&first, secs(30)).await;
        let labelled = async |pod: &str| {
            eventually(secs(30), "it has the label", async || {
                let labelled = pods.labelled();
                let last = labelled.last().filter(|(_, names)| names == &[pod]);
                last.map(|(at, _)| *at)
                    .ok_or_else(|| format!("{labelled:?}"))
            })
            .await
        };
        let after_naming = labelled(&second.leader).await - named;
        store.is_whole().await;
        let killed = Instant::now();
        fault::signal(world, &second.leader, "SIGKILL").await;
        let third = store.reign_after(&second, secs(30)).await;
        let after_kill = labelled(&third.leader).await - killed;
        store.is_whole().await;
        eprintln!(
            "the label was on the new leader {after_naming:?} after one was named, {after_kill:?} after a kill"
        );
        let targets = slices.targets();
        let changes: Vec<_> = targets[before - 1..].windows(2).collect();
        let changed = changes.iter().any(|pair| {
            let sorted = |names: &[String]| {
                let mut names = names.to_vec();
                names.sort();
                names
            };
            sorted(&pair[0].1) != sorted(&pair[1].1)
        });
        assert!(!changed, "where it leads to has changed: {targets:?}");
        let labelled = pods.labelled();
        let two = labelled.iter().find(|(_, names)| names.len() > 1);
        assert!(two.is_none(), "{two:?}");
    });
}

/// Goal: an asynchronous store says what a failover lost: at least so much at first, as nobody knows what
/// a silent leader had, and exactly when it is back.
/// Method: the leader is cut off from all but its clients, which it acknowledges for a moment more; then
/// the cut is healed. After that the leader's Pod is deleted by force: that failover has its own figures.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn what_a_failover_lost_is_told_when_it_is_known() {
    run("loss", Gate::Shared, async |world: &World| {
        let store = synchronous(world, 3, &json!({"replication": {"mode": "Asynchronous"}})).await;
        let before = store.reign().await;
        let hosts = store.hosts(&before.leader).await;
        let sessions = Sessions::start(&hosts, Habit::HASTY);
        sessions.acknowledges(300, secs(30)).await;
        store.isolate(world, &before.leader, Way::Both).await;
        let after = store.reign_after(&before, secs(30)).await;
        let told = store.status().await.last_failover.expect("it is told");
        assert_eq!(
            (told.epoch, told.lost_bytes),
            (after.epoch, None),
            "{told:?}"
        );
        assert!(told.lost_bytes_at_least.is_some(), "{told:?}");
        assert!(told.message.contains("comes back"), "{told:?}");
        drop(sessions.stop().await);
        fault::heal(world, &before.leader).await;
        let known = store
            .shows(secs(60), "what was lost is known", |status| {
                let told = status.last_failover.as_ref().ok_or("no failover")?;
                told.lost_bytes
                    .map(|_| told.clone())
                    .ok_or_else(|| format!("{told:?}"))
            })
            .await;
        eprintln!("the status says: {known:?}");
        assert!(
            known.lost_bytes > Some(0),
            "it acknowledged while it was cut off: {known:?}"
        );
        assert_eq!(known.lost_bytes_at_least, known.lost_bytes);
        let outage = known.outage_milliseconds.expect("it was heard");
        assert!((500..20_000).contains(&outage), "{known:?}");
        store.is_whole().await;
        let events = store
            .kubectl(&[
                "get",
                "events.events.k8s.io",
                "-o",
                "jsonpath={.items[*].reason}",
            ])
            .await;
        assert!(events.contains("FailoverLossKnown"), "{events}");

        store
            .kubectl(&[
                "delete",
                "pod",
                &after.leader,
                "--force",
                "--grace-period=0",
            ])
            .await;
        let last = store.reign_after(&after, secs(60)).await;
        store.is_whole().await;
        let told = store.status().await.last_failover.expect("it is told");
        eprintln!("after a Pod was deleted by force: {told:?}");
        if told.epoch == last.epoch {
            assert!(
                told.outage_milliseconds.is_some() || !told.message.is_empty(),
                "{told:?}"
            );
        } else {
            assert_eq!(told.epoch, after.epoch, "{told:?}");
        }
    });
}

/// Goal: leases of a second are long enough: a leader under full load is left in peace, and never
/// without leases.
/// Method: all that a few clients at each Pod can do, for some time (an hour with `E2E_LONG`), each
/// minute with new clients; the epoch stays, and the leader counts no lapse.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_busy_leader_keeps_the_lead() {
    run("busy", Gate::Alone, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let reign = store.reign().await;
        let hosts = store.hosts(&reign.leader).await;
        let lapses = async || store.metric(&reign.leader, "lease_lapses_total").await;
        let (mut gaps, before) = (Vec::new(), lapses().await);
        for _ in 0..times(1, 60) {
            let sessions = Sessions::start(
                &hosts,
                Habit {
                    clients: 4,
                    ..Habit::FULL
                },
            );
            sessions.acknowledges(100, secs(30)).await;
            let begin = Instant::now();
            store.stays(&reign, secs(times(10, 60) as u64)).await;
            gaps.push(sessions.gap(begin));
            let record = sessions.stop().await;
            record.nothing_failed();
            record.is_linearizable();
        }
        spread(
            "longest without an acknowledged write, a minute",
            "busy",
            &mut gaps,
        );
        let lapsed = lapses().await - before;
        eprintln!("measured lapses of leases: {lapsed}");
        assert!(lapsed < 1.0, "the leader was without leases {lapsed} times");
    });
}

/// Goal: a container that ends as a whole is no different from a process that does.
/// Method: the leader's main process is killed, once, as above.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_killed_container_is_replaced() {
    run("kill-container", Gate::Shared, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let sessions = Sessions::start(&[store.service("").await], Habit::HASTY);
        sessions.acknowledges(300, secs(30)).await;
        let before = store.reign().await;
        let killed = Instant::now();
        fault::kill_parent(world, &before.leader).await;
        store.reign_after(&before, secs(30)).await;
        sessions.acknowledges(200, secs(30)).await;
        let gap = sessions.gap(killed);
        eprintln!("without an acknowledged write after the container's end: {gap:?}");
        store.is_whole().await;
        let record = sessions.stop().await;

        record.is_linearizable();
        record.nothing_lost(&store.leader_service().await).await;
        store.same_data().await;
        assert!(gap < secs(10), "{gap:?}");
    });
}

/// Goal: a failover does not wait for the operator with the lease, and is told of all the same.
/// Method: that one is stopped, and a leader's container killed: the other operator makes a leader
/// before the lease is over. The one that wakes reports what the other has done, with its reason.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn the_operator_without_the_lease_makes_a_leader() {
    run("standby", Gate::Alone, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let sessions = Sessions::start(&[store.service("").await], Habit::HASTY);
        sessions.acknowledges(300, secs(30)).await;
        let before = store.reign().await;
        let holder = installation::holder(&world.client).await;
        fault::signal_in(installation::NAMESPACE, &holder, "SIGSTOP").await;
        let gap = and_always(
            async {
                let killed = Instant::now();
                fault::kill_parent(world, &before.leader).await;
                sessions.acknowledges(200, secs(10)).await;
                sessions.tell_gap("the operator with the lease sleeps", killed)
            },
            fault::signal_in(installation::NAMESPACE, &holder, "SIGCONT"),
        )
        .await;
        store.reign_after(&before, secs(30)).await;
        store.is_whole().await;
        let record = sessions.stop().await;

        let last = store.status().await.last_failover.expect("it is told");
        let causes = ["LeaderDied", "LeaderEnded", "LeaderSilent"];
        assert!(causes.contains(&last.reason.as_str()), "{last:?}");
        assert_eq!(
            (last.from.as_str(), last.epoch),
            (before.leader.as_str(), before.epoch + 1)
        );
        assert!(!last.candidates.is_empty(), "{last:?}");
        record.is_linearizable();
        record.nothing_lost(&store.leader_service().await).await;
        store.same_data().await;
        assert!(gap < secs(10), "{gap:?}");
    });
}

/// Goal: a leader that sleeps and wakes does not answer from the past.
/// Method: the leader's process is stopped for 10 s, while clients of its Pod wait for answers on
/// connections that stay open, and others go on through the Service. Another leads meanwhile. What
/// all of them saw is linearizable.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_leader_that_was_stopped_answers_nothing_stale() {
    run("stop", Gate::Shared, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let before = store.reign().await;
        let mut sessions = Sessions::start(&[store.service("").await], Habit::LIGHT);
        sessions.also(&store.hosts(&before.leader).await, Habit::PATIENT);
        sessions.acknowledges(300, secs(30)).await;

        let stopped = Instant::now();
        fault::signal(world, &before.leader, "SIGSTOP").await;
        let after = store.reign_after(&before, secs(30)).await;
        assert_ne!(after.leader, before.leader, "it leads in its sleep");
        sessions.acknowledges(200, secs(30)).await;
        pass(secs(10).saturating_sub(stopped.elapsed())).await;
        fault::signal(world, &before.leader, "SIGCONT").await;
        sessions.acknowledges(200, secs(30)).await;
        store.is_whole().await;
        let record = sessions.stop().await;

        record.is_linearizable();
        record.nothing_lost(&store.leader_service().await).await;
        store.same_data().await;
    });
}

/// Goal: a store survives the loss of two of three, if the second fails once the store has got over
/// the first.
/// Method: with `onShortfall: Degrade`, the leader is cut off; once only two vote, the next leader is
/// cut off, too. The third goes on alone. Healed, all are voters again.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn two_failures_one_after_the_other_are_survived() {
    run("two-failures", Gate::Shared, async |world: &World| {
        let store = synchronous(
            world,
            3,
            &json!({"replication": {"onShortfall": "Degrade"}}),
        )
        .await;
        let first = store.reign().await;
        let hosts = store.hosts(&first.leader).await;
        let sessions = Sessions::start(
            &hosts,
            Habit {
                clients: 2,
                ..Habit::HASTY
            },
        );
        sessions.acknowledges(300, secs(30)).await;

        store.isolate(world, &first.leader, Way::Both).await;
        let second = store.reign_after(&first, secs(30)).await;
        store.has_voters(2, secs(60)).await;
        sessions.acknowledges(100, secs(30)).await;
        store.isolate(world, &second.leader, Way::Both).await;
        let third = store.reign_after(&second, secs(30)).await;
        assert!(
            third.leader != first.leader && third.leader != second.leader,
            "{third:?}"
        );
        sessions.acknowledges(100, secs(30)).await;
        store.has_voters(1, secs(60)).await;

        fault::heal(world, &first.leader).await;
        fault::heal(world, &second.leader).await;
        store.is_whole().await;
        let record = sessions.stop().await;
        record.is_linearizable();
        record.nothing_lost(&store.leader_service().await).await;
        store.same_data().await;
    });
}

/// Goal: where two of three are lost at once nobody can know what was acknowledged: nothing is
/// promoted, the status says why, and the store goes on when they are back.
/// Method: the leader's and a follower's process are stopped at the same time. The third is not
/// promoted, and the condition tells the reason. After SIGCONT, the store serves.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn two_failures_at_once_are_refused() {
    run("both-lost", Gate::Shared, async |world: &World| {
        let store = synchronous(world, 3, &json!({})).await;
        let before = store.reign().await;
        let other = store.some_follower().await;
        let sessions = Sessions::start(&[store.service("").await], Habit::HASTY);
        sessions.acknowledges(300, secs(30)).await;

        tokio::join!(
            fault::signal(world, &before.leader, "SIGSTOP"),
            fault::signal(world, &other, "SIGSTOP")
        );
        let stopped = Instant::now();
        leaderless(&store, "VotersMissing", secs(20)).await;
        pass(secs(5)).await;
        let meanwhile = sessions.so_far();
        let last = meanwhile.last().expect("a write was acknowledged");
        assert!(
            last < stopped + secs(1),
            "a write was acknowledged {:?} after two of three were stopped",
            last - stopped
        );
        assert_eq!(
            store.status().await.epoch,
            before.epoch,
            "somebody was promoted"
        );

        fault::signal(world, &before.leader, "SIGCONT").await;
        fault::signal(world, &other, "SIGCONT").await;
        sessions.acknowledges(200, secs(60)).await;
        store.is_whole().await;
        let record = sessions.stop().await;
        record.is_linearizable();
        record.nothing_lost(&store.leader_service().await).await;
        store.same_data().await;
    });
}

/// Goal: two replicas that may go on alone survive the loss of either.
/// Method: with `onShortfall: Degrade`, first the follower is cut off: the leader goes on alone.
/// Healed, both vote again; then the leader is cut off: the follower takes over.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_pair_survives_the_loss_of_either() {
    run("pair", Gate::Shared, async |world: &World| {
        let store = synchronous(
            world,
            2,
            &json!({"replication": {"onShortfall": "Degrade"}}),
        )
        .await;
        let before = store.reign().await;
        let follower = store.some_follower().await;
        let hosts = store.hosts(&before.leader).await;
        let sessions = Sessions::start(&hosts, Habit::HASTY);
        sessions.acknowledges(300, secs(30)).await;

        let cut = Instant::now();
        store.isolate(world, &follower, Way::Both).await;
        store.has_voters(1, secs(30)).await;
        sessions.acknowledges(200, secs(30)).await;
        sessions.tell_gap("the follower is lost", cut);
        assert_eq!(store.reign().await, before, "the leader was changed");
        fault::heal(world, &follower).await;
        store.is_whole().await;

        let cut = Instant::now();
        store.isolate(world, &before.leader, Way::Both).await;
        let after = store.reign_after(&before, secs(30)).await;
        assert_eq!(after.leader, follower);
        sessions.acknowledges(200, secs(30)).await;
        sessions.tell_gap("the leader is lost", cut);
        fault::heal(world, &before.leader).await;
        store.is_whole().await;

        let record = sessions.stop().await;
        record.is_linearizable();
        record.nothing_lost(&store.leader_service().await).await;
        store.same_data().await;
    });
}

/// Goal: with `failover.mode: Manual`, a person decides.
/// Method: the leader is cut off. Nobody is promoted, and the status says what to do, until
/// `leader.target` names a follower: that one leads then.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn manual_failover_waits_for_a_name() {
    run("manual", Gate::Shared, async |world: &World| {
        let store = synchronous(world, 3, &json!({"failover": {"mode": "Manual"}})).await;
        let before = store.reign().await;
        let chosen = store.followers().await.pop().expect("a follower");
        let hosts = store.hosts(&before.leader).await;
        let sessions = Sessions::start(&hosts[1..], Habit::HASTY);
        sessions.acknowledges(300, secs(30)).await;

        store.isolate(world, &before.leader, Way::Both).await;
        leaderless(&store, "FailoverManual", secs(20)).await;
        store.stays(&before, secs(8)).await;

        let named = Instant::now();
        store.change(&json!({"leader": {"target": chosen}})).await;
        let after = store.reign_after(&before, secs(30)).await;
        assert_eq!(after.leader, chosen);
        sessions.acknowledges(200, secs(30)).await;
        sessions.tell_gap("the leader is named", named);
        fault::heal(world, &before.leader).await;
        store.is_whole().await;
        let record = sessions.stop().await;
        record.is_linearizable();
        record.nothing_lost(&store.leader_service().await).await;
    });
}
