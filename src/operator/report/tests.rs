//! Reports of a store at rest, at work and in trouble.

use k8s_openapi::jiff::Timestamp;

use super::*;
use crate::api::{ConditionStatus, ConditionType, MemberState, Phase};
use crate::operator::plan::follow;
use crate::operator::plan::world::World;
use crate::replication::admin::{ReplicaState, SeedProgress};

fn report(world: &mut World, old: &ReplicatedStoreStatus, second: i64) -> ReplicatedStoreStatus {
    world.look();
    let follow = follow::follow(&world.view);
    let decision = plan::decide(&world.view);
    let waiting = match &decision {
        plan::Decision::Wait(waiting) => Some(waiting),
        _ => None,
    };
    status(&Findings {
        view: &world.view,
        follow: &follow,
        change: None,
        waiting,
        problem: "",
        image: "example/store:1",
        old,
        now: Timestamp::from_second(second).unwrap(),
    })
}

fn is(status: &ReplicatedStoreStatus, type_: ConditionType) -> bool {
    let condition = status
        .conditions
        .iter()
        .find(|it| it.type_ == type_)
        .unwrap();
    condition.status == ConditionStatus::True
}

fn running() -> (World, ReplicatedStoreStatus) {
    let mut world = World::running(3);
    let status = report(&mut world, &ReplicatedStoreStatus::default(), 100);
    (world, status)
}

fn reasons(old: &ReplicatedStoreStatus, new: &ReplicatedStoreStatus) -> Vec<String> {
    let events = events::events("shop", old, new);
    events.into_iter().map(|event| event.reason).collect()
}

#[test]
fn a_store_at_rest_is_healthy() {
    let (_, status) = running();
    assert_eq!(status.phase, Phase::Healthy);
    assert_eq!(
        (status.ready.as_str(), status.leader.as_str()),
        ("3/3", "orders-0")
    );
    assert_eq!((status.max_lag_bytes, status.max_lag_seconds), (0, 0));
    for condition in [
        ConditionType::Ready,
        ConditionType::LeaderElected,
        ConditionType::ReplicasSynced,
    ] {
        assert!(is(&status, condition), "{condition:?}");
    }
    assert!(!is(&status, ConditionType::Degraded));
    assert!(
        status.configuration.is_none(),
        "the register has its own writer"
    );
}

#[test]
fn a_second_report_is_the_same_and_not_worth_a_write() {
    let (mut world, first) = running();
    let second = report(&mut world, &first, 500);
    assert_eq!(difference(&first, &second), Significance::None);
    assert_eq!(
        first.conditions, second.conditions,
        "times stay while nothing changes"
    );
    assert!(reasons(&first, &second).is_empty());
}

#[test]
fn positions_alone_are_not_worth_a_write() {
    let (mut world, first) = running();
    for _ in 0..1000 {
        world.tick_data(true, true);
    }
    let second = report(&mut world, &first, 500);
    assert_ne!(first.members[0].durable_lsn, second.members[0].durable_lsn);
    assert_eq!(difference(&first, &second), Significance::None);
}

#[test]
fn lag_alone_can_wait_and_is_rounded() {
    let (mut world, first) = running();
    for _ in 0..1000 {
        world.tick_data(true, false);
    }
    let second = report(&mut world, &first, 500);
    assert_eq!(second.max_lag_bytes, 4096, "of 10,000");
    assert_eq!(difference(&first, &second), Significance::Soft);
    assert_eq!(second.phase, Phase::Healthy);
}

#[test]
fn a_leader_that_is_away_is_said_with_what_is_waited_for() {
    let (mut world, first) = running();
    world.replicas.get_mut(&0).unwrap().up = false;
    let second = report(&mut world, &first, 500);
    assert_eq!(second.phase, Phase::Degraded);
    assert!(!is(&second, ConditionType::LeaderElected));
    assert!(is(&second, ConditionType::Degraded));
    let elected = second
        .conditions
        .iter()
        .find(|it| it.type_ == ConditionType::LeaderElected);
    let elected = elected.unwrap();
    assert_eq!(elected.reason, "LeaderUnreachable");
    assert!(elected.message.contains("orders-0"), "{}", elected.message);
    assert_eq!(elected.last_transition_time.as_second(), 500);
    assert_eq!(difference(&first, &second), Significance::Hard);
    assert_eq!(reasons(&first, &second), ["ReplicaUnreachable", "NoLeader"]);
}

#[test]
fn a_restarted_leader_is_a_fail_over() {
    let (mut world, first) = running();
    world.restart(0);
    let second = report(&mut world, &first, 500);
    assert_eq!(second.phase, Phase::FailingOver);
    world.converge();
    let third = report(&mut world, &second, 600);
    assert_eq!((third.phase, third.epoch), (Phase::Healthy, 2));
    assert!(reasons(&second, &third).contains(&"LeaderElected".to_owned()));
}

#[test]
fn a_seed_is_told_from_start_to_end() {
    let (mut world, first) = running();
    let seeded = world.replicas.get_mut(&2).unwrap();
    seeded.status.state = ReplicaState::Seeding;
    seeded.status.ready = false;
    seeded.status.seed = Some(SeedProgress {
        from: "orders-0".into(),
        bytes: 43,
        total_bytes: 100,
        rate: 1,
        started_at: 400,
    });
    let second = report(&mut world, &first, 500);
    assert_eq!(second.phase, Phase::Seeding);
    assert_eq!(second.members[2].seed.as_ref().unwrap().percent, 40);
    assert_eq!(second.ready, "2/3");
    assert_eq!(reasons(&first, &second), ["SeedStarted"]);
    let seed = world
        .replicas
        .get_mut(&2)
        .unwrap()
        .status
        .seed
        .as_mut()
        .unwrap();
    seed.bytes = 80;
    let third = report(&mut world, &second, 501);
    assert_eq!(difference(&second, &third), Significance::Soft);
    let seeded = world.replicas.get_mut(&2).unwrap();
    seeded.status.state = ReplicaState::Streaming;
    seeded.status.ready = true;
    seeded.status.seed = None;
    let fourth = report(&mut world, &third, 502);
    assert_eq!(fourth.phase, Phase::Healthy);
    assert_eq!(reasons(&third, &fourth), ["SeedFinished", "ReplicaReady"]);
}

#[test]
fn a_store_that_is_not_there_yet_is_creating() {
    let mut world = World::new(3);
    let status = report(&mut world, &ReplicatedStoreStatus::default(), 100);
    assert_eq!(status.phase, Phase::Creating);
    assert_eq!(status.ready, "0/3");
    assert_eq!(status.members.len(), 3);
    assert!(
        status
            .members
            .iter()
            .all(|member| member.state == MemberState::Pending)
    );
    let events = reasons(&ReplicatedStoreStatus::default(), &status);
    assert!(events.is_empty(), "nobody is surprised: {events:?}");
}

#[test]
fn a_paused_store_says_so() {
    let (mut world, first) = running();
    world.view.store.paused = true;
    let second = report(&mut world, &first, 500);
    assert_eq!(second.phase, Phase::Paused);
}

#[test]
fn what_cannot_pass_by_itself_is_a_failure() {
    let mut world = World::running(1);
    let first = report(&mut world, &ReplicatedStoreStatus::default(), 100);
    world.lose_disk(0);
    world.tick_workload();
    let second = report(&mut world, &first, 500);
    assert_eq!(second.phase, Phase::Failed);
    assert_eq!(second.lost_replicas.len(), 1);
    let reasons = reasons(&first, &second);
    assert!(reasons.contains(&"VolumeLost".to_owned()), "{reasons:?}");
}

#[test]
fn an_invalid_specification_keeps_what_was_known() {
    let (_, first) = running();
    let now = Timestamp::from_second(500).unwrap();
    let second = invalid(&first, 9, "spec.replicas is 0", now);
    assert_eq!(second.members, first.members);
    assert_eq!(second.observed_generation, 9);
    assert!(!is(&second, ConditionType::SpecValid));
    assert_eq!(reasons(&first, &second), ["SpecInvalid"]);
    assert_eq!(
        difference(&second, &invalid(&second, 9, "spec.replicas is 0", now)),
        Significance::None
    );
}
