//! What the user gives up, and who cannot lead.

use super::recovery::{
    assert_kept, look_after, made_again_with_a_stale_0, others_are, waits_for, write,
};
use super::*;
use crate::operator::plan::promotion::Campaign;
use crate::operator::view::View;
use crate::replication::admin::{ReplicaState, ReplicaStatus};

#[test]
fn what_is_given_up_is_not_waited_for() {
    let mut world = made_again_with_a_stale_0(3, 1);
    world.view.store.accept_loss = [1].into();
    waits_for(&mut world, &["orders-2"]);
    world.view.store.accept_loss = [1, 2].into();
    waits_for(&mut world, &["orders-1", "orders-2", "30 s"]);
    look_after(&mut world, 350);
    assert_eq!(world.leading(), Some(0), "{}", world.describe());
}

/// The same, with a register: two of three nodes are gone for good, claims and all.
#[test]
fn what_is_given_up_is_not_waited_for_where_a_register_is() {
    let mut world = World::synchronous(3, 1);
    write(&mut world);
    let leader = world.leading().unwrap();
    let survivor = (0..3).rev().find(|it| *it != leader).unwrap();
    for ordinal in (0..3).filter(|it| *it != survivor) {
        world.kill(ordinal);
        world.view.store.accept_loss.insert(ordinal);
    }
    for tick in 0..400 {
        world.tick_data(false, true);
        world.reconcile(usize::MAX);
        assert!(tick > 250 || world.leading() != Some(survivor), "too soon");
    }
    assert_eq!(world.leading(), Some(survivor), "{}", world.describe());
    assert!(world.answering().is_some());
}

/// The same, and nobody can say that the leader's process has ended: its node is gone, and took the proof with it.
#[test]
fn what_is_given_up_is_not_waited_for_where_nobody_saw_it_end() {
    let mut world = World::synchronous(3, 1);
    write(&mut world);
    let leader = world.leading().unwrap();
    let survivor = (0..3).rev().find(|it| *it != leader).unwrap();
    for ordinal in (0..3).filter(|it| *it != survivor) {
        world.replica(ordinal).frozen = true;
        world.view.store.accept_loss.insert(ordinal);
    }
    world.look();
    let ready = |world: &mut World, is: bool| {
        for (ordinal, pod) in &mut world.view.pods {
            pod.ready = is || *ordinal == survivor;
        }
    };
    for _ in 0..400 {
        world.tick_data(false, true);
        world.look();
    }
    ready(&mut world, true);
    let decided = decide(&world.view);
    assert!(
        matches!(decided, Decision::Wait(_)),
        "Kubernetes hears them: {decided:?}"
    );
    ready(&mut world, false);
    let Decision::Campaign(campaign) = decide(&world.view) else {
        panic!("{}", world.describe());
    };
    assert!(
        campaign.enough(&[world.id(survivor)].into()),
        "{campaign:?}"
    );
}

/// It is listed, and was heard a moment ago: it may have what nobody else has, and be back soon.
#[test]
fn what_is_given_up_is_silent_by_its_own_clock() {
    let mut world = made_again_with_a_stale_0(3, 1);
    world.view.store.accept_loss = [1].into();
    others_are(&mut world, true);
    world.replica(2).up = false;
    for _ in 0..400 {
        world.tick_data(false, false);
        world.look();
    }
    others_are(&mut world, false);
    world.replica(2).up = true;
    world.replica(2).frozen = false;
    waits_for(&mut world, &["orders-1"]);
}

/// Each try promises a higher epoch, and a disk that is absent must still understand the last of them.
#[test]
fn epochs_do_not_run_away_by_trying() {
    let mut world = made_again_with_a_stale_0(3, 1);
    world.view.store.accept_loss = [1, 2].into();
    let epoch = |world: &mut World| {
        world.look();
        let base = super::super::recovery::remembered(&world.view)
            .unwrap()
            .clone();
        Campaign::recovery(&world.view, &base).epoch.0
    };
    let first = epoch(&mut world);
    assert!(
        first > 1 << 16,
        "absent disks may have gone further: {first}"
    );
    for _ in 0..1000 {
        let next = epoch(&mut world);
        world.replica(0).status.promised = crate::replication::types::Epoch(next);
    }
    let last = epoch(&mut world);
    assert!(last < 1 << 19, "from {first} to {last}");
}

/// The list is left from a loss of long ago; the one that it names has been made anew, and has the newest.
#[test]
fn a_list_that_was_left_gives_nothing_up_that_is_there() {
    let mut world = World::synchronous(2, 0);
    let last = world.leading().unwrap();
    let other = 1 - last;
    world.kill(other);
    world.converge();
    write(&mut world);
    world.view.store.accept_loss = [last].into();
    world.replica(other).frozen = false;
    world.replica(other).up = true;
    world.view.register = None;
    world.view.held.clear();
    world.look();
    let Decision::Campaign(campaign) = decide(&world.view) else {
        panic!("{}", world.describe());
    };
    let both = [world.id(0), world.id(1)].into();
    assert_eq!(campaign.require, both, "all that are heard must answer");
    world.converge();
    assert_kept(&world);
}

fn words(view: &mut View) -> &mut ReplicaStatus {
    let pod = view.pods.get_mut(&1).unwrap();
    &mut pod.heard.as_mut().unwrap().status
}

/// Its state cannot be read, and its log does not reach back to the beginning: it would never begin to lead.
#[test]
fn who_cannot_read_its_state_is_not_chosen() {
    let mut world = World::synchronous(3, 1);
    world.look();
    let register = world.register().clone();
    let id = world.id(1);
    let mut view = world.view.clone();
    words(&mut view).damaged = true;
    let barred = |view: &View| Campaign::new(view, &register, Cause::LeaderDied).barred;
    assert!(
        barred(&view).is_empty(),
        "it serves what it has, and is repaired"
    );
    words(&mut view).state = ReplicaState::Seeding;
    assert_eq!(barred(&view), [id].into());
}

/// What was acknowledged since the loss was accepted is kept when the disks that were given up come back.
#[test]
fn what_is_given_up_and_comes_back_gives_way() {
    for still_listed in [true, false] {
        let mut world = made_again_with_a_stale_0(3, 1);
        world.view.store.accept_loss = [1, 2].into();
        look_after(&mut world, 350);
        assert_eq!(world.leading(), Some(0), "{}", world.describe());
        world.acknowledged.clear();
        write(&mut world);
        if !still_listed {
            world.view.store.accept_loss.clear();
        }
        others_are(&mut world, true);
        world.converge();
        assert_kept(&world);
    }
}

/// The only disk is gone, and an empty one has taken its place, and its name: it is given up by that all the same.
#[test]
fn a_disk_that_was_replaced_is_given_up_by_its_old_place() {
    for forgotten in [false, true] {
        let mut world = World::running(1);
        world.lose_disk(0);
        world.tick_workload();
        for _ in 0..10 {
            world.tick_data(false, true);
            world.reconcile(usize::MAX);
        }
        assert_eq!(world.leading(), None);
        if forgotten {
            world.forget();
        }
        world.view.store.accept_loss = [0].into();
        world.converge();
        assert_eq!(world.leading(), Some(0), "{}", world.describe());
    }
}

/// Two of three disks are gone, and empty ones have taken their places: the last one has all that is left.
#[test]
fn what_two_new_disks_have_replaced_is_given_up() {
    for without_register in [false, true] {
        let mut world = World::synchronous(3, 1);
        let leader = world.leading().unwrap();
        let survivor = (0..3).find(|it| *it != leader).unwrap();
        for ordinal in (0..3).filter(|it| *it != survivor) {
            world.lose_disk(ordinal);
        }
        for _ in 0..50 {
            world.tick_workload();
            world.tick_data(false, true);
            world.reconcile(usize::MAX);
        }
        assert_eq!(world.leading(), None, "{}", world.describe());
        if without_register {
            world.view.register = None;
            world.view.known.clear();
            world.view.formerly.clear();
            world.forget();
        }
        world.view.store.accept_loss = (0..3).filter(|it| *it != survivor).collect();
        world.converge();
        assert_eq!(world.leading(), Some(survivor), "{}", world.describe());
    }
}
