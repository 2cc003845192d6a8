//! Plans in a small world: single decisions as tables, and long runs with faults by seed.

mod chaos;
mod copies;
mod elections;
mod failovers;
mod given_up;
mod recovery;
mod releases;

use super::follow::Label;
use super::promotion::{Cause, needed};
use super::world::{World, workload};
use super::{Decision, Reason, decide, follow};
use crate::replication::admin::PromiseAnswer;
use crate::replication::types::{Epoch, ReplicaId, VoterSet};

fn reason(world: &mut World) -> Option<Reason> {
    world.look();
    match decide(&world.view) {
        Decision::Wait(waiting) => Some(waiting.reason),
        _ => None,
    }
}

fn cause(world: &mut World) -> Option<Cause> {
    world.look();
    match decide(&world.view) {
        Decision::Campaign(campaign) => Some(campaign.cause),
        _ => None,
    }
}

#[test]
fn a_new_store_is_led_by_ordinal_0_and_everybody_comes_to_vote() {
    let mut world = World::new(3);
    world.converge();
    assert_eq!(world.leading(), Some(0));
    let register = world.register();
    assert_eq!(register.epoch, Epoch(1));
    assert_eq!(register.voters.len(), 3);
    assert!(register.previous.is_empty());
}

#[test]
fn a_new_store_does_not_wait_for_followers() {
    let mut world = World::new(3);
    world.view.workload = Some(workload(3));
    world.tick_workload();
    world.replicas.get_mut(&1).unwrap().up = false;
    world.replicas.get_mut(&2).unwrap().up = false;
    world.look();
    let Decision::Campaign(birth) = decide(&world.view) else {
        panic!("nobody is to lead");
    };
    assert_eq!(birth.ask, [0]);
}

#[test]
fn a_first_leader_that_ends_before_it_has_written_is_no_dead_end() {
    let mut world = World::new(3);
    world.view.workload = Some(workload(3));
    world.tick_workload();
    while world.view.register.is_none() || world.replica(0).status.begun == Epoch(0) {
        world.reconcile(usize::MAX);
    }
    world.restart(0);
    assert_eq!(cause(&mut world), Some(Cause::LeaderEnded));
    world.converge();
    assert_eq!(world.register().epoch, Epoch(2));
    assert_eq!(world.register().voters.len(), 3);
}

#[test]
fn old_volumes_are_waited_for_even_if_ordinal_0_is_empty() {
    let mut world = World::new(3);
    world.view.workload = Some(workload(3));
    world.bound = [1, 2].into();
    world.tick_workload();
    world.replicas.get_mut(&2).unwrap().up = false;
    assert_eq!(reason(&mut world), Some(Reason::Starting));
}

#[test]
fn a_store_created_again_is_led_by_the_newest_data() {
    let mut world = World::running(3);
    for ordinal in [1, 2] {
        world.lengthen(ordinal, 900);
    }
    let epoch = world.register().epoch;
    world.view.register = None;
    world.view.known.clear();
    for ordinal in 0..3 {
        world.restart(ordinal);
    }
    world.replicas.get_mut(&1).unwrap().up = false;
    assert_eq!(
        reason(&mut world),
        Some(Reason::Starting),
        "one that may be better is away"
    );
    world.replicas.get_mut(&1).unwrap().up = true;
    world.converge();
    assert_ne!(world.leading(), Some(0));
    assert!(world.register().epoch > epoch);
}

#[test]
fn a_leader_that_restarts_leads_again_in_a_new_epoch() {
    let mut world = World::running(3);
    world.restart(0);
    assert_eq!(cause(&mut world), Some(Cause::LeaderEnded));
    world.converge();
    assert_eq!(
        world.leading(),
        Some(0),
        "it is as good as any, and clients are there"
    );
    assert_eq!(world.register().epoch, Epoch(2));
    assert_eq!(world.register().voters.len(), 3);
}

#[test]
fn an_empty_replica_never_leads_where_the_leaders_disk_was() {
    let mut world = World::running(3);
    world.tick_data(true, true);
    let old = world.register().leader.unwrap();
    world.lose_disk(0);
    world.tick_workload();
    assert_eq!(cause(&mut world), Some(Cause::LeaderLost));
    world.converge();
    assert_eq!(world.leading(), Some(1));
    let register = world.register();
    assert!(!register.voters.contains(&old), "the lost one is given up");
    assert_eq!(
        register.voters.len(),
        3,
        "the empty one was seeded and votes"
    );
}

#[test]
fn with_the_leaders_disk_a_majority_must_be_heard() {
    let mut world = World::running(3);
    world.lose_disk(0);
    world.tick_workload();
    world.replicas.get_mut(&1).unwrap().up = false;
    assert_eq!(reason(&mut world), Some(Reason::VotersMissing));
    // And it is remembered, should the Pod that tells go away again.
    world.replicas.get_mut(&0).unwrap().up = false;
    world.replicas.get_mut(&1).unwrap().up = true;
    assert_eq!(cause(&mut world), Some(Cause::LeaderLost));
}

#[test]
fn too_many_disks_lost_is_said_and_nobody_leads() {
    let mut world = World::running(3);
    world.lose_disk(0);
    world.lose_disk(1);
    world.tick_workload();
    assert_eq!(reason(&mut world), Some(Reason::NoVoterLeft));
}

#[test]
fn a_single_replica_without_its_disk_starts_no_empty_store() {
    let mut world = World::running(1);
    world.lose_disk(0);
    world.tick_workload();
    assert_eq!(reason(&mut world), Some(Reason::NoVoterLeft));
}

#[test]
fn the_best_log_leads_not_the_old_leader() {
    let mut world = World::running(3);
    world.restart(0);
    world.lengthen(2, 1000);
    world.converge();
    assert_eq!(world.leading(), Some(2));
}

#[test]
fn a_promotion_that_somebody_began_is_carried_through() {
    let mut world = World::running(3);
    world.replicas.get_mut(&2).unwrap().status.promised = Epoch(2);
    assert_eq!(cause(&mut world), Some(Cause::CarriedThrough));
    world.converge();
    assert_eq!(world.register().epoch, Epoch(2));
}

#[test]
fn a_register_from_an_old_backup_is_refused() {
    let mut world = World::running(3);
    world.replicas.get_mut(&2).unwrap().status.promised = Epoch(3);
    assert_eq!(reason(&mut world), Some(Reason::RegisterBehind));
}

#[test]
fn a_register_that_is_one_epoch_behind_is_refused() {
    let mut world = World::running(3);
    let old = world.register().clone();
    world.restart(0);
    world.converge();
    assert_eq!(world.register().epoch, old.epoch.next());
    // The epoch that was begun would be given to another one.
    world.view.register = Some(old);
    assert_eq!(reason(&mut world), Some(Reason::RegisterBehind));
    for begun in [true, false] {
        let mut world = World::running(3);
        let status = &mut world.replica(2).status;
        if begun {
            status.begun = Epoch(2);
        } else {
            status.last.epoch = Epoch(2);
        }
        assert_eq!(reason(&mut world), Some(Reason::RegisterBehind));
    }
}

#[test]
fn a_register_that_is_a_change_of_voters_behind_is_refused() {
    let mut world = World::running(2);
    let both = world.register().clone();
    world.isolate(1);
    world.converge();
    assert_eq!(world.register().voters, [world.id(0)].into());
    assert_eq!(world.register().epoch, both.epoch);
    // The one that was removed could be promoted without what its leader has committed alone.
    world.view.register = Some(both);
    assert_eq!(reason(&mut world), Some(Reason::RegisterBehind));
}

#[test]
fn replicas_that_know_more_than_the_register_that_was_read_delay_one_look() {
    let mut world = World::running(3);
    let read = world.register().clone();
    world.restart(0);
    world.converge();
    let now = world.view.register.replace(read);
    assert_eq!(reason(&mut world), Some(Reason::RegisterBehind));
    world.view.register = now;
    world.look();
    assert_eq!(decide(&world.view), Decision::Keep);
}

#[test]
fn nobody_is_ahead_of_the_register_while_a_promotion_is_under_way() {
    let mut world = World::running(3);
    world.restart(0);
    for _ in 0..200 {
        assert_ne!(reason(&mut world), Some(Reason::RegisterBehind));
        world.tick_data(true, true);
        world.reconcile(usize::MAX);
    }
    assert_eq!(world.register().epoch, Epoch(2));
}

#[test]
fn a_copied_volume_is_refused() {
    let mut world = World::running(3);
    let id = world.replicas[&1].status.id;
    world.replicas.get_mut(&2).unwrap().status.id = id;
    world.replicas.get_mut(&2).unwrap().status.last.lsn.0 += 1;
    world.look();
    let Decision::Wait(waiting) = decide(&world.view) else {
        panic!("{}", world.describe());
    };
    assert_eq!(waiting.reason, Reason::Duplicate);
    let told = "the Pod of orders-1, which holds less;";
    assert!(waiting.message.contains(told), "{waiting:?}");
}

#[test]
fn scaled_up_a_learner_comes_to_vote() {
    let mut world = World::running(3);
    world.view.store.replicas = 5;
    world.converge();
    assert_eq!(world.register().voters.len(), 5);
    assert_eq!(
        world.register().epoch,
        Epoch(1),
        "without a change of leader"
    );
}

#[test]
fn scaled_down_the_vote_goes_before_the_pod() {
    let mut world = World::running(5);
    world.view.store.replicas = 3;
    world.look();
    let follow = follow::follow(&world.view);
    assert_eq!(follow.replicas, 5);
    assert_eq!(follow.scale_waits.unwrap().reason, Reason::VoterInTheWay);
    world.converge();
    assert_eq!(world.register().voters.len(), 3);
    assert_eq!(world.replicas.len(), 3);
}

#[test]
fn an_update_replaces_followers_first_and_the_leader_when_it_has_handed_over() {
    let mut world = World::running(3);
    world.revision = 2;
    let mut order = Vec::new();
    for _ in 0..300 {
        world.look();
        order.extend(follow::follow(&world.view).replace);
        world.reconcile(usize::MAX);
        assert!(world.replicas.len() >= 2, "one at a time");
        world.tick_workload();
        world.tick_data(true, true);
    }
    assert_eq!(order, [2, 1, 0]);
    assert!(world.replicas.values().all(|replica| replica.revision == 2));
    let (campaign, _) = world.elected.clone().unwrap();
    assert_eq!(campaign.cause, Cause::Switchover);
}

#[test]
fn a_damaged_leader_hands_over_to_one_that_is_whole() {
    let mut world = World::running(3);
    world.replica(0).status.damaged = true;
    world.replica(1).status.damaged = true;
    for _ in 0..20 {
        world.pass(1000);
        world.converge();
    }
    assert_eq!(world.leading(), Some(2));
    let (campaign, _) = world.elected.clone().unwrap();
    assert_eq!(campaign.cause, Cause::Switchover);
}

#[test]
fn where_all_are_damaged_the_leader_leads_on() {
    let mut world = World::running(3);
    for ordinal in 0..3 {
        world.replica(ordinal).status.damaged = true;
    }
    for _ in 0..20 {
        world.pass(1000);
        world.converge();
    }
    assert_eq!(
        (world.leading(), world.register().epoch),
        (Some(0), Epoch(1))
    );
}

#[test]
fn of_equal_logs_one_whose_state_is_whole_leads() {
    for damaged in [1, 2] {
        let mut world = World::running(3);
        world.replica(damaged).status.damaged = true;
        world.kill(0);
        world.converge();
        assert_eq!(world.leading(), Some(3 - damaged));
    }
}

#[test]
fn a_replica_that_cannot_start_is_replaced_by_a_better_template() {
    let mut world = World::running(3);
    world.revision = 2;
    let broken = world.replicas.get_mut(&1).unwrap();
    broken.up = false;
    world.look();
    assert_eq!(follow::follow(&world.view).replace, Some(1));
}

#[test]
fn the_leader_label_is_taken_away_before_it_is_given() {
    let mut world = World::running(3);
    world.lengthen(2, 500);
    world.restart(0);
    world.converge();
    let labels: Vec<_> = world
        .replicas
        .values()
        .map(|it| it.label.as_deref())
        .collect();
    assert_eq!(labels, [Some("follower"), Some("follower"), Some("leader")]);
    // However it came to this: the old one first, the new one after that.
    world.replicas.get_mut(&0).unwrap().label = Some("leader".into());
    world.replicas.get_mut(&2).unwrap().label = None;
    world.look();
    let follow = follow::follow(&world.view);
    let label = |ordinal, to| Label { ordinal, to };
    assert_eq!(follow.demote, [label(0, Some("follower"))]);
    assert_eq!(follow.elevate, Some(label(2, Some("leader"))));
}

#[test]
fn a_new_leader_is_labelled_before_it_has_begun() {
    let mut world = World::running(3);
    world.look();
    let old = world.register().leader;
    let successor = world.id(1);
    let register = world.view.register.as_mut().unwrap();
    register.leader = Some(successor);
    register.epoch = register.epoch.next();
    register.version += 1;
    assert_ne!(old, Some(successor));
    let follow = follow::follow(&world.view);
    let elevated = Label {
        ordinal: 1,
        to: Some("leader"),
    };
    assert_eq!(
        follow.elevate,
        Some(elevated),
        "it has heard of nothing yet"
    );
    assert!(follow.demote.iter().any(|label| label.ordinal == 0));
    // Where the old one is not heard any more it is no different.
    world.view.pods.get_mut(&0).unwrap().heard = None;
    let follow = follow::follow(&world.view);
    assert_eq!(follow.elevate, Some(elevated));
    let demoted = Label {
        ordinal: 0,
        to: None,
    };
    assert!(follow.demote.contains(&demoted), "{:?}", follow.demote);
}

#[test]
fn the_leaders_port_is_used_once_every_pod_has_it() {
    let mut world = World::running(3);
    world.look();
    let has = |world: &World| follow::follow(&world.view).leader_port;
    assert!(has(&world));
    world.view.pods.get_mut(&2).unwrap().leader_port = false;
    assert!(!has(&world), "a Pod of an older template");
    world.view.pods.get_mut(&2).unwrap().leader_port = true;
    let heard = |world: &mut World, port, connected| {
        let pod = world.view.pods.get_mut(&1).unwrap();
        let heard = pod.heard.as_mut().unwrap();
        (heard.status.leader_port, heard.connected) = (port, connected);
    };
    heard(&mut world, 0, true);
    assert!(!has(&world), "an older image in a newer Pod");
    heard(&mut world, 6381, false);
    assert!(has(&world), "one that is away for a moment changes nothing");
    world.view.pods.get_mut(&1).unwrap().heard = None;
    assert!(has(&world));
    world.view.workload.as_mut().unwrap().leader_port = false;
    assert!(!has(&world), "Pods that are made anew will not have it");
    world.view.pods.clear();
    world.view.workload = None;
    assert!(has(&world), "a store that begins");
}

#[test]
fn members_are_told_again_after_a_restart_and_after_a_change_of_settings() {
    let mut world = World::running(3);
    world.look();
    assert!(follow::follow(&world.view).tell.is_empty());
    world.view.store.settings.max_lag += 1;
    assert_eq!(follow::follow(&world.view).tell, [0, 1, 2]);
    world.converge();
    world.restart(1);
    world.look();
    assert_eq!(follow::follow(&world.view).tell, [1]);
}

/// What is delayed on its way may come after what was said later.
#[test]
fn a_replica_is_told_again_if_it_has_taken_an_older_assignment_since() {
    let mut world = World::running(3);
    world.look();
    let now = follow::follow(&world.view).assignment.unwrap().stamp;
    world.replica(1).status.stamp = Some(now);
    world.replica(2).status.stamp = Some(now + 1);
    world.look();
    assert_eq!(follow::follow(&world.view).tell, [2]);
    assert!(follow::unfinished(&world.view));
}

/// The answers that matter come from a race, which the small world does not have.
#[test]
fn one_refusal_ends_a_campaign() {
    let mut world = World::running(3);
    world.restart(0);
    world.look();
    let Decision::Campaign(campaign) = decide(&world.view) else {
        panic!("no campaign");
    };
    let answer = |ordinal: u32, granted| PromiseAnswer {
        leases: Vec::new(),
        before: None,
        cut: Epoch(0),
        acknowledged: Vec::new(),
        forgotten: false,
        id: world.replicas[&ordinal].status.id,
        granted,
        promised: Epoch(9),
        last: world.replicas[&ordinal].status.last,
    };
    let all = [answer(0, true), answer(1, true), answer(2, true)];
    assert!(campaign.elect(&world.view, &all).is_ok());
    let refused = [answer(0, true), answer(1, true), answer(2, false)];
    assert!(
        campaign.elect(&world.view, &refused).is_err(),
        "somebody has gone further"
    );
    let silent = [answer(1, true), answer(2, true)];
    assert!(
        campaign.elect(&world.view, &silent).is_err(),
        "an asynchronous leader that answers is waited for"
    );
}

#[test]
fn enough_promises_meet_every_earlier_leader() {
    let set = |n: u128, sync| VoterSet {
        voters: (0..n).map(ReplicaId).collect(),
        sync,
    };
    for (n, sync, expected) in [
        (1, 0, 1),
        (2, 0, 1),
        (3, 0, 2),
        (4, 0, 2),
        (5, 0, 3),
        (2, 1, 1),
        (3, 1, 2),
        (3, 2, 2),
        (5, 1, 4),
        (5, 2, 3),
        (5, 4, 3),
    ] {
        assert_eq!(needed(&set(n, sync)), expected, "N = {n}, k = {sync}");
    }
}
