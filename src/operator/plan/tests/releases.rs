//! Replicas of two releases, which do not follow each other.

use super::*;
use crate::operator::plan::update;
use crate::replication::admin::ReplicaState;

/// Replaced by one of another release, it has all its data and waits for its leader to be replaced, too.
fn half_updated() -> (World, u32) {
    let mut world = World::synchronous(3, 1);
    let replaced = (world.leading().unwrap() + 1) % 3;
    world.revision = 2;
    world.look();
    let pod = world.view.pods.get_mut(&replaced).unwrap();
    pod.revision = "2".to_owned();
    pod.ready = false;
    let status = &mut pod.heard.as_mut().unwrap().status;
    (status.state, status.ready) = (ReplicaState::Pending, false);
    (world, replaced)
}

#[test]
fn an_update_goes_on_where_releases_do_not_follow_each_other() {
    let (mut world, replaced) = half_updated();
    assert_eq!(update::next(&world.view), None, "it may follow any moment");
    let leader = world.leading().unwrap();
    let protocol = |world: &mut World, ordinal: u32, protocol: u16| {
        let pod = world.view.pods.get_mut(&ordinal).unwrap();
        pod.heard.as_mut().unwrap().status.protocol = protocol;
    };
    for ordinal in 0..3 {
        protocol(&mut world, ordinal, u16::from(ordinal == replaced));
    }
    let next = update::next(&world.view).map(|pod| pod.ordinal);
    let other = (0..3).find(|it| ![leader, replaced].contains(it));
    assert_eq!(next, other, "the leader is the last");
}

#[test]
fn an_update_does_not_go_on_past_a_replica_without_data() {
    let (mut world, replaced) = half_updated();
    let pod = world.view.pods.get_mut(&replaced).unwrap();
    let status = &mut pod.heard.as_mut().unwrap().status;
    (status.protocol, status.empty) = (9, true);
    assert_eq!(update::next(&world.view), None);
}
