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
