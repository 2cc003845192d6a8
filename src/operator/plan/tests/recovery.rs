//! A register that is gone or behind, and disks that were put back.

use std::collections::BTreeSet;

use super::*;
use crate::operator::plan::promotion::Campaign;
use crate::operator::plan::recovery;
use crate::operator::plan::world::Disk;
use crate::replication::types::{Configuration, Lsn, StoreId};

/// Writes that the leader acknowledges with those who follow it.
pub(super) fn write(world: &mut World) -> Lsn {
    for _ in 0..5 {
        world.tick_data(true, true);
    }
    world.acknowledged.last().unwrap().lsn
}

/// Whoever leads in the end has everything that was acknowledged.
pub(super) fn assert_kept(world: &World) {
    let leader = &world.replicas[&world.leading().expect("a leader")];
    let lost = world
        .acknowledged
        .iter()
        .filter(|it| !leader.log().contains(it));
    assert_eq!(
        lost.collect::<Vec<_>>(),
        [] as [&_; 0],
        "{}",
        world.describe()
    );
}

pub(super) fn waits_for(world: &mut World, names: &[&str]) {
    world.look();
    let Decision::Wait(waiting) = decide(&world.view) else {
        panic!("does not wait: {}", world.describe());
    };
    for name in names {
        assert!(waiting.message.contains(name), "{}", waiting.message);
    }
}

/// A store of so many, of which ordinal 0 was away while the others went on.
pub(super) fn with_a_stale_0(replicas: u32, sync: u32) -> World {
    let mut world = World::synchronous(replicas, sync);
    world.kill(0);
    world.converge();
    write(&mut world);
    assert_ne!(world.leading(), Some(0));
    world
}

/// The same, made again with so many, and only ordinal 0 is heard for now.
pub(super) fn made_again_with_a_stale_0(wanted: u32, sync: u32) -> World {
    let mut world = with_a_stale_0(3, sync);
    world.make_again(wanted);
    world.reconcile(usize::MAX);
    world.tick_workload();
    others_are(&mut world, false);
    world
}

/// Whether ordinals 1 and 2 are heard.
pub(super) fn others_are(world: &mut World, up: bool) {
    for ordinal in [1, 2] {
        world.replica(ordinal).up = up;
    }
}

/// The processes of all three start anew, and these are heard.
fn all_restart(world: &mut World, heard: &[u32]) {
    for ordinal in 0..3 {
        world.restart(ordinal);
        let replica = world.replica(ordinal);
        (replica.frozen, replica.up) = (false, heard.contains(&ordinal));
    }
}

/// An operator looks after it for so many ticks.
pub(super) fn look_after(world: &mut World, ticks: usize) {
    for _ in 0..ticks {
        world.tick_data(false, true);
        world.reconcile(usize::MAX);
    }
}

#[test]
fn a_store_made_again_with_fewer_replicas_hears_all_of_its_volumes_first() {
    for sync in [0, 1] {
        let mut world = made_again_with_a_stale_0(1, sync);
        let wanted = world.view.workload.as_ref().map(|it| it.replicas);
        assert_eq!(wanted, Some(3), "those that have a volume are started");
        waits_for(&mut world, &["orders-1", "orders-2", "acceptLoss"]);
        others_are(&mut world, true);
        world.converge();
        assert_kept(&world);
        assert_eq!(
            world.view.existing(),
            1,
            "and then it is as small as it should be"
        );
        assert_eq!(world.leading(), Some(0));
    }
}

/// Two that led and followed were all that had the last writes, and neither of them is wanted any more.
#[test]
fn volumes_beyond_the_wanted_replicas_count() {
    let mut world = World::synchronous(4, 1);
    for ordinal in [0, 1] {
        world.kill(ordinal);
        world.converge();
    }
    write(&mut world);
    world.make_again(2);
    world.converge();
    assert_kept(&world);
}

#[test]
fn an_empty_ordinal_0_does_not_lead_where_others_have_data() {
    let mut world = World::synchronous(3, 1);
    write(&mut world);
    let epoch = world.register().epoch;
    world.make_again(1);
    world.lose_disk(0);
    world.converge();
    assert_kept(&world);
    assert!(
        world.register().epoch > epoch,
        "two histories share no epoch"
    );
    assert_eq!(
        world.register().store,
        Some(StoreId(77)),
        "it is the same store"
    );
}

#[test]
fn a_store_that_waits_cannot_be_scaled_past_its_wait() {
    let mut world = made_again_with_a_stale_0(3, 1);
    waits_for(&mut world, &["orders-1", "orders-2"]);
    world.view.store.replicas = 1;
    waits_for(&mut world, &["orders-1", "orders-2"]);
    let follow = follow::follow(&world.view);
    assert_eq!(follow.replicas, 3);
    assert!(
        follow.scale_waits.is_some(),
        "and says why it is not smaller"
    );
}

/// A healthy store has nothing to carry through for a disk of another store, whatever that has promised.
#[test]
fn the_promise_of_another_stores_disk_unseats_nobody() {
    let mut world = World::synchronous(3, 1);
    let mut stranger = world.copy_of(2);
    stranger.belongs_to(Some(StoreId(78)));
    world.put_back(2, stranger);
    world.replica(2).status.promised = Epoch(50);
    world.look();
    assert!(!matches!(decide(&world.view), Decision::Campaign(_)));
}

#[test]
fn a_register_that_was_taken_away_is_made_anew_from_the_disks() {
    let mut world = World::synchronous(3, 1);
    write(&mut world);
    let old = world.register().clone();
    world.view.register = None;
    world.converge();
    assert_kept(&world);
    let new = world.register();
    assert!(new.epoch > old.epoch && new.version > old.version);
    assert_eq!(new.voters, old.voters);
}

/// What etcd's backup brings back, all processes restarted: a voter that was removed since would win.
#[test]
fn an_older_register_is_not_believed_after_a_restart() {
    let mut world = World::synchronous(3, 1);
    let old = world.register().clone();
    world.kill(0);
    world.converge();
    assert_eq!(world.register().voters.len(), 2);
    write(&mut world);
    world.view.register = Some(old.clone());
    world.view.known.clear();
    world.view.held.clear();
    all_restart(&mut world, &[0, 1]);
    world.forget();
    assert_eq!(reason(&mut world), Some(Reason::RegisterBehind));
    world.pass(2500);
    waits_for(&mut world, &["orders-2", "old backup"]);
    assert_eq!(world.register(), &old, "nothing is done by it");
    world.replica(2).up = true;
    world.converge();
    assert_kept(&world);
    assert!(recovery::behind(&world.view, world.register()).is_none());
}

/// The same, and only the removed voter is there for the time being: its disk knows no later register.
#[test]
fn an_operator_that_has_just_started_waits_for_who_may_know_better() {
    let mut world = World::synchronous(2, 1);
    let old = world.register().clone();
    world.view.store.replicas = 3;
    world.converge();
    world.kill(0);
    world.converge();
    write(&mut world);
    let last = world.register().clone();
    assert!(last.version > old.version && !last.voters.contains(&world.id(0)));
    world.view.register = Some(old.clone());
    world.view.known.clear();
    world.view.held.clear();
    all_restart(&mut world, &[0]);
    world.replica(0).status.adopted = Some(old.clone());
    world.forget();
    look_after(&mut world, 200);
    waits_for(&mut world, &["just started", "orders-1"]);
    assert_eq!(world.register(), &old, "nothing is done by it");
    others_are(&mut world, true);
    world.converge();
    assert_kept(&world);
}

/// The other way round: what is missing does not come back, and the register was right.
#[test]
fn an_operator_that_has_just_started_does_not_wait_for_ever() {
    for just_started in [true, false] {
        let mut world = World::synchronous(3, 1);
        write(&mut world);
        let leader = world.leading().unwrap();
        world.kill(leader);
        if just_started {
            world.forget();
        }
        look_after(&mut world, 100);
        assert_eq!(world.leading().is_none(), just_started);
        world.converge();
        assert_kept(&world);
    }
}

/// A status that goes back while this operator looks is known to be older, though no disk that is heard knows.
#[test]
fn a_register_that_goes_back_is_noticed_by_who_knew_it() {
    let mut world = World::synchronous(3, 1);
    let old = world.register().clone();
    world.kill(0);
    world.converge();
    write(&mut world);
    world.view.register = Some(old);
    all_restart(&mut world, &[0]);
    assert_eq!(reason(&mut world), Some(Reason::RegisterBehind));
    world.pass(2500);
    waits_for(&mut world, &["orders-1", "orders-2", "old backup"]);
    others_are(&mut world, true);
    world.converge();
    assert_kept(&world);
}

/// A volume of another store, left by a release that noted no store on it, has higher epochs than all of ours.
#[test]
fn a_disk_that_remembers_no_store_takes_nothing_over() {
    let mut world = World::synchronous(3, 1);
    let mut foreign = World::synchronous(3, 1);
    for _ in 0..3 {
        let leader = foreign.leading().unwrap();
        foreign.kill(leader);
        foreign.converge();
        foreign.replica(leader).frozen = false;
        foreign.replica(leader).up = true;
        foreign.converge();
    }
    foreign.lengthen(2, 9000);
    let mut stranger = foreign.copy_of(2);
    stranger.renew(3, ReplicaId(999));
    stranger.belongs_to(None);
    write(&mut world);
    world.view.store.replicas = 4;
    world.converge();
    world.put_back(3, stranger);
    let epoch = world.register().epoch;
    look_after(&mut world, 100);
    assert_kept(&world);
    assert_eq!(world.register().epoch, epoch, "{}", world.describe());
}

/// An operator that lost the race sees a register that is a moment old.
#[test]
fn a_register_that_is_only_a_moment_old_is_left_alone() {
    let mut world = World::synchronous(3, 1);
    let old = world.register().clone();
    world.replica(1).status.configuration_version += 1;
    assert_eq!(reason(&mut world), Some(Reason::RegisterBehind));
    world.replica(1).status.configuration_version -= 1;
    assert_eq!(reason(&mut world), None);
    assert_eq!(world.register(), &old);
}

#[test]
fn volumes_of_two_stores_are_told_apart() {
    let mut world = World::synchronous(3, 1);
    write(&mut world);
    let mut foreign = World::synchronous(3, 1);
    foreign.lengthen(2, 9000);
    let mut stranger: Disk = foreign.copy_of(2);
    stranger.belongs_to(Some(StoreId(78)));
    world.make_again(3);
    world.reconcile(usize::MAX);
    world.tick_workload();
    world.put_back(2, stranger);
    assert_eq!(reason(&mut world), Some(Reason::ForeignVolume));
    waits_for(&mut world, &["orders-2", "acceptLoss"]);
}

/// A follower's volume is put back to what it was, and heard alone.
#[test]
fn a_disk_that_was_put_back_does_not_lead() {
    let mut world = World::synchronous(2, 1);
    let before = world.copy_of(1);
    write(&mut world);
    world.look();
    world.put_back(1, before);
    world.kill(0);
    for _ in 0..60 {
        world.tick_data(false, true);
        world.reconcile(usize::MAX);
        assert_ne!(world.leading(), Some(1), "{}", world.describe());
    }
    // Who is waited for, and why the other one does not count.
    world.look();
    let campaign = Campaign::new(&world.view, world.register(), Cause::LeaderDied);
    let waiting = campaign.too_few(&world.view, &BTreeSet::new()).unwrap();
    assert!(
        waiting.message.contains("waiting for orders-0: bring"),
        "{waiting:?}"
    );
    // With the other one back nothing is lost, and it is as good as new.
    world.replica(0).frozen = false;
    world.replica(0).up = true;
    world.converge();
    assert_kept(&world);
    world.kill(0);
    world.converge();
    assert_eq!(world.leading(), Some(1));
    assert_kept(&world);
}

/// The leader's volume is put back to what it was before its epoch.
#[test]
fn a_leader_that_was_put_back_does_not_begin_its_epoch_again() {
    let mut world = World::synchronous(3, 1);
    let before = world.copy_of(1);
    world.kill(0);
    world.converge();
    let leader = world.leading().unwrap();
    write(&mut world);
    assert_eq!(leader, 1, "the next of the voters");
    world.put_back(1, before);
    world.forget();
    world.view.held.clear();
    world.converge();
    assert_eq!(world.leading(), Some(2));
    assert_kept(&world);
}

/// The only voter never had anything on disk, and a learner has the barrier that it was sent.
#[test]
fn a_recovery_goes_on_where_only_a_learner_has_anything() {
    let mut world = World::running(2);
    world.look();
    let (voter, learner) = (
        world.view.pods[&0].id().unwrap(),
        world.view.pods[&1].id().unwrap(),
    );
    let remembered = Configuration {
        leader: Some(voter),
        voters: [voter].into(),
        previous: Vec::new(),
        ..world.register().clone()
    };
    world.view.register = None;
    world.view.volumes = [0, 1].into();
    for pod in world.view.pods.values_mut() {
        let status = &mut pod.heard.as_mut().unwrap().status;
        status.adopted = Some(remembered.clone());
        status.empty = status.id == voter;
    }
    let Decision::Campaign(campaign) = decide(&world.view) else {
        panic!("{:?}", decide(&world.view));
    };
    assert!(campaign.require.contains(&voter) && campaign.require.contains(&learner));
    assert_eq!(campaign.barred, [voter].into());
}
