//! When the lead is taken from a leader, and when it is not.

use std::time::Duration;

use super::super::follow;
use super::super::promotion::Cause;
use super::super::world::{TICK, World};
use super::super::{Decision, Reason, decide};
use super::{cause, reason};
use crate::api::FailoverMode;
use crate::replication::types::Epoch;

/// Milliseconds until another one answers.
fn outage(world: &mut World) -> u64 {
    let (old, start) = (world.register().epoch, world.now);
    for _ in 0..100 {
        while world.reconcile(usize::MAX) {}
        world.tick_data(true, true);
        if world.register().epoch > old && world.answering().is_some() {
            return world.now - start;
        }
    }
    panic!("nobody leads: {}", world.describe());
}

#[test]
fn a_leader_whose_process_has_ended_is_replaced_at_once() {
    for sync in [0, 1, 2] {
        let mut world = World::synchronous(3, sync);
        world.kill(0);
        assert_eq!(cause(&mut world), Some(Cause::LeaderDied));
        let took = outage(&mut world);
        assert!(took <= 3 * TICK, "k = {sync}: {took} ms");
        assert_eq!(
            world.register().wait_ms,
            0,
            "nobody waits for a dead leader's leases"
        );
        assert_ne!(world.leading(), Some(0));
    }
}

#[test]
fn a_leader_that_nobody_hears_is_replaced_when_its_leases_have_run_out() {
    for (n, sync) in [(3, 0), (3, 1), (2, 1), (2, 0), (5, 2)] {
        let mut world = World::synchronous(n, sync);
        world.isolate(0);
        world.tick_data(true, true);
        assert_eq!(
            reason(&mut world),
            Some(Reason::LeaderUnreachable),
            "N = {n}, k = {sync}"
        );
        let took = outage(&mut world);
        assert!(took <= 1500, "N = {n}, k = {sync}: {took} ms");
        world.replica(0).up = true;
        world.replica(0).cut = false;
        world.converge();
        assert_eq!(world.register().voters.len(), n as usize, "it is back");
    }
}

#[test]
fn a_leader_that_only_the_operator_does_not_hear_goes_on() {
    let mut world = World::synchronous(3, 1);
    world.replica(0).up = false;
    for _ in 0..100 {
        world.tick_data(true, true);
        assert!(!world.reconcile(usize::MAX));
    }
    assert_eq!(world.answering(), Some(0));
    assert_eq!(reason(&mut world), Some(Reason::LeaderUnreachable));
    let follow = follow::follow(&world.view);
    assert!(follow.demote.is_empty(), "it is at work: {follow:?}");
}

#[test]
fn a_leader_that_only_the_operator_hears_is_replaced_by_one_that_the_others_hear() {
    for sync in [0, 1, 2] {
        let mut world = World::synchronous(3, sync);
        world.replica(0).cut = true;
        let took = outage(&mut world);
        assert!(took <= 1500, "k = {sync}: {took} ms");
        let (campaign, elected) = world.elected.clone().unwrap();
        assert_eq!(campaign.cause, Cause::LeaderCutOff);
        assert_ne!(elected.leader, world.id(0), "though its log is the longest");
        assert_eq!(world.register().wait_ms, 0, "it has promised");
    }
}

#[test]
fn one_of_two_goes_on_without_the_other() {
    for sync in [0, 1] {
        let mut world = World::synchronous(2, sync);
        world.kill(1);
        world.pass(900);
        assert!(!world.reconcile(usize::MAX));
        world.pass(300);
        while world.reconcile(usize::MAX) {
            world.pass(100);
        }
        assert_eq!(world.register().voters, [world.id(0)].into());
        assert_eq!(world.answering(), Some(0));
        assert_eq!(world.register().epoch, Epoch(1));
        world.replica(1).up = true;
        world.replica(1).frozen = false;
        world.converge();
        assert_eq!(world.register().voters.len(), 2);
    }
}

#[test]
fn two_failures_one_after_the_other_are_survived() {
    let mut world = World::synchronous(3, 1);
    world.kill(0);
    world.converge();
    let first = world.answering().unwrap();
    assert_eq!(
        world.register().voters.len(),
        2,
        "who is gone does not count"
    );
    world.kill(first);
    world.converge();
    let second = world.answering().unwrap();
    assert!(second != first && second != 0);
    assert_eq!(world.register().voters, [world.id(second)].into());
}

#[test]
fn a_voter_that_goes_before_its_set_is_established_is_given_up() {
    for lost in [true, false] {
        let mut world = World::synchronous(3, 1);
        world.view.store.settings.sync_replicas = 2;
        world.reconcile(2); // it is swapped, and nobody is told
        assert_eq!(world.register().sync, 2);
        if lost {
            world.lose_disk(2);
        } else {
            world.kill(2);
        }
        world.converge();
        let register = world.register();
        assert!(register.previous.is_empty(), "{}", world.describe());
        assert_eq!(register.voters.len(), if lost { 3 } else { 2 });
    }
}

#[test]
fn too_few_voters_promote_nobody_and_it_is_said_who_is_missing() {
    let mut world = World::synchronous(3, 1);
    world.kill(0);
    world.kill(1);
    world.look();
    let Decision::Wait(waiting) = decide(&world.view) else {
        panic!("{}", world.describe());
    };
    assert_eq!(waiting.reason, Reason::VotersMissing);
    assert!(
        waiting.message.contains("2 of 3 voters must agree"),
        "{}",
        waiting.message
    );
    assert!(
        waiting.message.contains("orders-0 or orders-1"),
        "{}",
        waiting.message
    );
    world.replica(1).up = true;
    world.replica(1).frozen = false;
    world.converge();
    assert!(
        world.answering().is_some_and(|it| it != 0),
        "{}",
        world.describe()
    );
}

#[test]
fn all_restarted_somebody_leads() {
    for sync in [0, 1, 2] {
        let mut world = World::synchronous(3, sync);
        for ordinal in 0..3 {
            world.delete_pod(ordinal);
        }
        world.converge();
        assert_eq!(world.register().voters.len(), 3);
    }
}

#[test]
fn a_delay_is_kept_for_a_leader_that_may_come_back() {
    let mut world = World::synchronous(3, 1);
    world.view.store.failover_delay = Duration::from_secs(5);
    world.isolate(0);
    world.look();
    world.pass(3000);
    assert_eq!(reason(&mut world), Some(Reason::FailoverDelayed));
    world.pass(2100);
    assert_eq!(cause(&mut world), Some(Cause::LeaderSilent));
    // Not for one that is known to be dead.
    let mut world = World::synchronous(3, 1);
    world.view.store.failover_delay = Duration::from_secs(5);
    world.kill(0);
    assert_eq!(cause(&mut world), Some(Cause::LeaderDied));
}

#[test]
fn a_manual_failover_waits_for_the_user() {
    let mut world = World::synchronous(3, 1);
    world.view.store.failover = FailoverMode::Manual;
    world.kill(0);
    assert_eq!(reason(&mut world), Some(Reason::FailoverManual));
    world.view.store.target = Some(0);
    assert_eq!(
        reason(&mut world),
        Some(Reason::FailoverManual),
        "it is dead"
    );
    world.view.store.target = Some(2);
    world.converge();
    assert_eq!(world.answering(), Some(2));
}

/// Who gives up what the leader had asks for another one.
#[test]
fn a_manual_failover_follows_what_is_given_up() {
    let mut world = World::synchronous(3, 1);
    world.view.store.failover = FailoverMode::Manual;
    let leader = world.leading().unwrap();
    world.kill(leader);
    world.view.store.accept_loss = [leader].into();
    for _ in 0..200 {
        world.tick_data(false, true);
        world.look();
    }
    assert_eq!(
        reason(&mut world),
        Some(Reason::FailoverManual),
        "it may come back"
    );
    for _ in 0..200 {
        world.tick_data(false, true);
        world.look();
    }
    let decided = decide(&world.view);
    assert!(matches!(decided, Decision::Campaign(_)), "{decided:?}");
}

#[test]
fn the_lead_is_handed_over_to_whom_the_user_names() {
    let mut world = World::synchronous(3, 1);
    world.tick_data(true, true);
    world.view.store.target = Some(2);
    let took = outage(&mut world);
    assert!(took <= 2 * TICK, "{took} ms");
    world.converge();
    assert_eq!(world.answering(), Some(2));
    let (campaign, _) = world.elected.clone().unwrap();
    assert_eq!(campaign.cause, Cause::Switchover);
    assert_eq!(world.register().wait_ms, 0);
    assert_eq!(world.register().voters.len(), 3);
}

#[test]
fn a_target_that_is_not_in_step_is_waited_for() {
    let mut world = World::synchronous(3, 1);
    world.view.store.target = Some(2);
    world.replica(2).cut = true;
    world.pass(1200);
    assert_eq!(reason(&mut world), Some(Reason::SwitchoverWaits));
    assert_eq!(world.answering(), Some(0));
    world.replica(2).cut = false;
    world.converge();
    assert_eq!(world.answering(), Some(2));
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over() {
    for sync in [0, 1] {
        let mut world = World::synchronous(3, sync);
        world.replica(0).status.leaving = true;
        let took = outage(&mut world);
        assert!(took <= 2 * TICK, "{took} ms");
        assert_ne!(world.leading(), Some(0));
        assert_eq!(world.elected.clone().unwrap().0.cause, Cause::Switchover);
    }
}

#[test]
fn a_fenced_replica_leads_nobody_and_is_labelled_as_nothing() {
    let mut world = World::synchronous(3, 1);
    world.view.store.fenced = [0].into();
    world.converge();
    assert_ne!(world.answering(), Some(0));
    assert_eq!(world.replicas[&0].label, None);
    assert_eq!(world.register().voters.len(), 3, "it votes");
    let follow = follow::follow(&world.view);
    let members = follow.assignment.unwrap().members.clone();
    let fenced: Vec<bool> = members.iter().map(|member| member.fenced).collect();
    assert_eq!(fenced, [true, false, false]);
    world.view.store.fenced.clear();
    world.converge();
    assert_eq!(world.replicas[&0].label.as_deref(), Some("follower"));
}

#[test]
fn a_leader_in_the_way_hands_over_though_the_store_is_busy() {
    let mut world = World::synchronous(3, 1);
    world.view.store.target = Some(2);
    world.converge();
    world.view.store.target = None;
    world.view.store.replicas = 2;
    world.look();
    let waits = follow::follow(&world.view).scale_waits.unwrap();
    assert_eq!(waits.reason, Reason::LeaderInTheWay);
    for _ in 0..100 {
        world.tick_data(true, true);
        world.reconcile(usize::MAX);
        world.tick_workload();
    }
    assert_eq!(world.replicas.len(), 2);
    assert!(world.answering().is_some_and(|it| it < 2));
}

#[test]
fn the_rule_of_durability_follows_the_specification() {
    let mut world = World::running(3);
    world.view.store.settings.sync_replicas = 2;
    world.converge();
    assert_eq!(
        (world.register().sync, world.register().epoch),
        (2, Epoch(1))
    );
    assert!(world.register().previous.is_empty());
    world.view.store.settings.sync_replicas = 0;
    world.converge();
    assert_eq!(world.register().sync, 0);
}

#[test]
fn a_voter_that_is_far_behind_for_long_is_a_learner_again_unless_it_is_needed() {
    for (sync, left) in [(1, 2), (2, 3)] {
        let mut world = World::synchronous(3, sync);
        world.view.store.settings.max_lag = 0;
        let slow = world.id(2);
        for _ in 0..400 {
            world.tick_data(false, true);
            let leader = world.replica(0);
            let follower = leader.status.followers.iter_mut();
            for it in follower.filter(|it| it.id == slow) {
                it.lag_bytes = 1;
            }
            world.replica(2).status.ready = false;
            world.reconcile(usize::MAX);
        }
        assert_eq!(world.register().voters.len(), left, "k = {sync}");
    }
}
