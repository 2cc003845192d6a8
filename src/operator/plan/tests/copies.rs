//! Disks that are copies of others, and disks whose logs were damaged.

use super::*;
use crate::operator::plan::follow::follow;
use crate::operator::view::View;
use crate::replication::types::ReplicaId;

/// The Pod of this ordinal has a disk that says that it belongs to that ordinal's claim.
fn belongs_to(view: &mut View, ordinal: u32, claim: u32) {
    let pod = view.pods.get_mut(&ordinal).unwrap();
    pod.claim = Some(format!("claim-{ordinal}"));
    let heard = pod.heard.as_mut().unwrap();
    heard.status.claim = Some(format!("claim-{claim}"));
}

/// Three replicas, of which 2 runs on a copy of the disk of 1, which leads and is away.
fn copied() -> World {
    let mut world = World::synchronous(3, 1);
    let leader = world.leading().unwrap();
    let copy = world.copy_of(leader);
    let other = (leader + 1) % 3;
    world.kill(leader);
    world.put_back(other, copy);
    world.look();
    let third = (leader + 2) % 3;
    belongs_to(&mut world.view, other, leader);
    belongs_to(&mut world.view, third, third);
    world.view.claims = (0..3).map(|it| format!("claim-{it}")).collect();
    world.view.mark_copies();
    world
}

#[test]
fn a_copy_does_not_count_while_the_claim_of_its_origin_is_there() {
    let world = copied();
    let view = &world.view;
    let (copy, _) = view
        .pods
        .iter()
        .find(|(_, pod)| pod.copy)
        .expect("one is a copy");
    assert_eq!(view.live().count(), 1, "the copy is not heard");
    let decision = decide(view);
    assert!(
        !matches!(decision, Decision::Campaign(_)),
        "one of three is not enough: {decision:?}"
    );
    let bound = follow(view).bind;
    assert_eq!(bound, [*copy], "it gets an id of its own");
}

#[test]
fn until_it_was_looked_up_whose_it_is_a_disk_does_not_count() {
    let mut world = copied();
    world.view.claims.clear();
    world.view.mark_copies();
    assert!(world.view.pods.values().any(|pod| pod.copy));
}

#[test]
fn a_volume_that_was_moved_counts_and_learns_its_claim() {
    let mut world = copied();
    let copy = world.view.pods.values().find(|pod| pod.copy).unwrap();
    let (ordinal, origin) = (copy.ordinal, copy.elsewhere().unwrap().clone());
    world.view.claims.remove(&origin);
    world.view.mark_copies();
    assert_eq!(world.view.live().count(), 2);
    assert_eq!(follow(&world.view).bind, [ordinal]);
}

#[test]
fn all_are_told_their_claims_once() {
    let mut world = World::synchronous(3, 1);
    world.look();
    assert_eq!(follow(&world.view).bind, [0; 0], "they are not known");
    for pod in world.view.pods.values_mut() {
        pod.claim = Some(format!("claim-{}", pod.ordinal));
    }
    assert_eq!(follow(&world.view).bind, [0, 1, 2]);
    for ordinal in 0..3 {
        belongs_to(&mut world.view, ordinal, ordinal);
    }
    assert_eq!(follow(&world.view).bind, [0; 0]);
}

/// Everybody's disk was given another id; nobody whom the register names is left.
#[test]
fn where_all_voters_are_gone_the_user_decides_and_then_the_best_log_leads() {
    let mut world = World::synchronous(2, 1);
    for _ in 0..5 {
        world.tick_data(true, true);
    }
    for ordinal in 0..2 {
        let mut disk = world.copy_of(ordinal);
        disk.renew(ordinal, ReplicaId(100 + u128::from(ordinal)));
        world.put_back(ordinal, disk);
    }
    world.look();
    let Decision::Wait(waiting) = decide(&world.view) else {
        panic!("nobody is asked: {}", world.describe());
    };
    assert_eq!(waiting.reason, Reason::NoVoterLeft);
    assert!(
        waiting.message.contains("bootstrap.acceptLoss"),
        "{}",
        waiting.message
    );
    world.view.store.accept_loss = [0, 1].into();
    world.look();
    let decision = decide(&world.view);
    let Decision::Campaign(campaign) = decision else {
        panic!("{decision:?}");
    };
    assert_eq!(campaign.ask, [0, 1], "everybody is asked");
    assert_eq!(campaign.require.len(), 2, "and everybody must answer");
    let answers: Vec<PromiseAnswer> = (0..2)
        .map(|ordinal| {
            let now = world.now;
            world.replica(ordinal).promise(campaign.epoch, now)
        })
        .collect();
    let elected = campaign.elect(&world.view, &answers).unwrap();
    let best = answers.iter().map(|it| it.last.lsn.0).max();
    assert_eq!(Some(elected.end), best);
}
