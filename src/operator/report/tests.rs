//! Reports of a store at rest, at work and in trouble.

use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::EventType;

use super::*;
use crate::api::{
    ConditionStatus, ConditionType, LastFailover, MemberState, Phase, Survives, Verdict,
};
use crate::operator::plan::follow;
use crate::operator::plan::world::World;
use crate::replication::admin::{Divergent, ReplicaState, SeedProgress};
use crate::replication::types::{Epoch, Lsn};

fn report(world: &mut World, old: &ReplicatedStoreStatus, second: i64) -> ReplicatedStoreStatus {
    report_with(world, old, second, None)
}

fn report_with(
    world: &mut World,
    old: &ReplicatedStoreStatus,
    second: i64,
    change: Option<(&LastFailover, bool)>,
) -> ReplicatedStoreStatus {
    report_heard(world, old, second, change, None)
}

fn report_heard(
    world: &mut World,
    old: &ReplicatedStoreStatus,
    second: i64,
    change: Option<(&LastFailover, bool)>,
    outage: Option<Duration>,
) -> ReplicatedStoreStatus {
    world.look();
    let decision = plan::decide(&world.view);
    let waiting = match &decision {
        plan::Decision::Wait(waiting) => Some(waiting),
        _ => None,
    };
    report_waiting(world, old, second, change, outage, waiting)
}

/// Of what was seen last.
fn report_seen(world: &World, old: &ReplicatedStoreStatus, second: i64) -> ReplicatedStoreStatus {
    report_waiting(world, old, second, None, None, None)
}

fn report_waiting(
    world: &World,
    old: &ReplicatedStoreStatus,
    second: i64,
    change: Option<(&LastFailover, bool)>,
    outage: Option<Duration>,
    waiting: Option<&Waiting>,
) -> ReplicatedStoreStatus {
    let follow = follow::follow(&world.view);
    status(&Findings {
        view: &world.view,
        follow: &follow,
        outage,
        change,
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
    assert_eq!(difference(&first, &second), Significance::Slow);
    let mut third = second.clone();
    third.members[0].durable_lsn += 1;
    assert_eq!(difference(&second, &third), Significance::None);
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
fn what_an_acknowledged_write_survives_is_said() {
    for (n, sync, survives) in [
        (1, 0, Survives::LeaderOnly),
        (3, 0, Survives::LeaderOnly),
        (2, 1, Survives::OneReplica),
        (3, 1, Survives::OneReplica),
        (3, 2, Survives::OneReplica),
        (5, 2, Survives::TwoReplicas),
    ] {
        let mut world = World::synchronous(n, sync);
        let status = report(&mut world, &ReplicatedStoreStatus::default(), 100);
        let durability = status.durability.clone().unwrap();
        assert_eq!(
            durability.acknowledged_survives, survives,
            "N = {n}, k = {sync}"
        );
        assert_eq!(durability.failover_would_lose_bytes, (n > 1).then_some(0));
        assert!(
            is(&status, ConditionType::DurabilityMet),
            "N = {n}, k = {sync}"
        );
    }
}

#[test]
fn what_a_failover_would_lose_is_rounded_and_can_wait() {
    let (mut world, first) = running();
    for _ in 0..1000 {
        world.tick_data(true, false);
    }
    let second = report(&mut world, &first, 500);
    let lose = |status: &ReplicatedStoreStatus| {
        status
            .durability
            .as_ref()
            .unwrap()
            .failover_would_lose_bytes
    };
    assert_eq!((lose(&first), lose(&second)), (Some(0), Some(4096)));
    assert_eq!(difference(&first, &second), Significance::Soft);
}

#[test]
fn durability_is_not_met_while_replies_are_withheld() {
    let mut world = World::synchronous(3, 1);
    let first = report(&mut world, &ReplicatedStoreStatus::default(), 100);
    assert!(is(&first, ConditionType::DurabilityMet));
    world.replica(0).status.withheld_bytes = 100;
    let second = report(&mut world, &first, 110);
    assert!(!is(&second, ConditionType::DurabilityMet));
    assert_eq!(difference(&first, &second), Significance::Hard);
}

#[test]
fn a_shortfall_is_said_from_beginning_to_end() {
    let mut world = World::synchronous(3, 2);
    let first = report(&mut world, &ReplicatedStoreStatus::default(), 100);
    world.kill(2);
    world.pass(1200);
    let second = report(&mut world, &first, 500);
    assert!(!is(&second, ConditionType::DurabilityMet));
    assert!(reasons(&first, &second).contains(&"ShortfallBegan".to_owned()));
    world.replica(2).up = true;
    world.replica(2).frozen = false;
    world.converge();
    let third = report(&mut world, &second, 600);
    assert!(is(&third, ConditionType::DurabilityMet));
    assert!(reasons(&second, &third).contains(&"ShortfallEnded".to_owned()));
}

#[test]
fn a_failover_is_told_with_who_could_have_led_and_what_it_lost() {
    let (mut world, first) = running();
    world.tick_data(true, false);
    world.look();
    world.kill(0);
    let before = world.view.clone();
    world.converge();
    let (campaign, elected) = world.elected.clone().unwrap();
    let now = Timestamp::from_second(550).unwrap();
    let mut record = failover::record(&before, &campaign, &elected, now);
    assert_eq!((record.reason.as_str(), record.epoch), ("LeaderDied", 2));
    assert_eq!(
        (record.from.as_str(), record.to.as_str()),
        ("orders-0", "orders-1")
    );
    assert_eq!(record.lost_bytes, None, "nobody knows what it had last");
    let heard = record.lost_bytes_at_least;
    assert_eq!(heard, Some(10), "the write that nobody else had");
    let verdicts: Vec<(&str, Verdict)> = record
        .candidates
        .iter()
        .map(|it| (it.name.as_str(), it.verdict))
        .collect();
    let expected = [
        ("orders-0", Verdict::Silent),
        ("orders-1", Verdict::Elected),
        ("orders-2", Verdict::AsGood),
    ];
    assert_eq!(verdicts, expected);
    record.outage_milliseconds = Some(42);
    let event = events::leader_changed("shop", &record, false);
    assert_eq!(event.reason, "FailoverFinished");
    assert_eq!(event.type_, EventType::Warning, "something is lost");
    let note = event.note.unwrap();
    assert!(
        note.contains("42 ms without a leader, at least 10 bytes lost"),
        "{note}"
    );
    let second = report_with(&mut world, &first, 600, Some((&record, false)));
    let told = second.last_failover.clone().unwrap();
    assert!(told.message.starts_with("orders-0 did not say"), "{told:?}");
    let message = String::new();
    assert_eq!(LastFailover { message, ..told }, record);
    // Another operator comes to work, and knows nothing of it.
    let third = report(&mut world, &second, 700);
    assert_eq!(third.last_failover, second.last_failover);
    // One that another operator made is told with what can be seen of it.
    let seen = report(&mut world, &first, 600).last_failover.unwrap();
    assert_eq!(
        (seen.reason.as_str(), seen.epoch),
        ("MadeByAnotherOperator", 2)
    );
    // One that was planned is none.
    let planned = report_with(&mut world, &first, 600, Some((&record, true)));
    assert_eq!(planned.last_failover, None);
}

/// A failover of an asynchronous store from a leader that is gone, as it is told.
fn failed_over(world: &mut World, first: &ReplicatedStoreStatus) -> LastFailover {
    world.tick_data(true, false);
    world.look();
    world.kill(0);
    let before = world.view.clone();
    world.converge();
    let (campaign, elected) = world.elected.clone().unwrap();
    let now = Timestamp::from_second(550).unwrap();
    let record = failover::record(&before, &campaign, &elected, now);
    let status = report_with(world, first, 600, Some((&record, false)));
    status.last_failover.unwrap()
}

#[test]
fn what_a_silent_leader_had_is_told_when_it_is_back() {
    // What it has in `divergent/`: nothing, the tail of this failover, that of an earlier one.
    for (before_the_end, lost) in [(None, 0), (Some(0), 77), (Some(1), 0)] {
        let (mut world, first) = running();
        let failover = failed_over(&mut world, &first);
        let second = ReplicatedStoreStatus {
            last_failover: Some(failover.clone()),
            ..first.clone()
        };
        assert_eq!(
            (failover.lost_bytes, failover.lost_bytes_at_least),
            (None, Some(10))
        );
        // It is there, and has not come to the new leader's history.
        let replica = world.replica(0);
        (replica.up, replica.frozen) = (true, false);
        let third = report(&mut world, &second, 700);
        assert_eq!(third.last_failover.unwrap().lost_bytes, None);
        world.converge();
        world.replica(0).status.divergent = before_the_end.map(|before| Divergent {
            epoch: Epoch(1),
            after: Lsn(elected_end(&failover) - before),
            bytes: 77,
            file: "divergent/0-0".into(),
        });
        let fourth = report(&mut world, &second, 800);
        let told = fourth.last_failover.clone().unwrap();
        assert_eq!(
            (told.lost_bytes, told.lost_bytes_at_least),
            (Some(lost), Some(lost))
        );
        let events = reasons(&second, &fourth);
        assert!(
            events.contains(&"FailoverLossKnown".to_owned()),
            "{events:?}"
        );
        // It is known once and for all, whoever is away then.
        world.kill(0);
        let fifth = report_with(&mut world, &fourth, 900, Some((&failover, false)));
        assert_eq!(fifth.last_failover.clone().unwrap().lost_bytes, Some(lost));
        assert!(!reasons(&fourth, &fifth).contains(&"FailoverLossKnown".to_owned()));
    }
}

fn elected_end(failover: &LastFailover) -> u64 {
    let mut candidates = failover.candidates.iter();
    let elected = candidates.find(|it| it.verdict == Verdict::Elected);
    elected.unwrap().lsn as u64
}

#[test]
fn a_disk_that_is_gone_tells_nothing_of_what_was_lost() {
    let (mut world, first) = running();
    let failover = failed_over(&mut world, &first);
    let second = ReplicatedStoreStatus {
        last_failover: Some(failover),
        ..first
    };
    world.lose_disk(0);
    world.converge();
    let third = report(&mut world, &second, 700).last_failover.unwrap();
    assert_eq!(
        (third.lost_bytes, third.lost_bytes_at_least),
        (None, Some(10))
    );
    assert!(third.message.contains("with its disk"), "{third:?}");
}

#[test]
fn a_failover_of_a_synchronous_store_loses_nothing() {
    let mut world = World::synchronous(3, 1);
    let first = report(&mut world, &ReplicatedStoreStatus::default(), 100);
    let failover = failed_over(&mut world, &first);
    assert_eq!(
        (failover.lost_bytes, failover.lost_bytes_at_least),
        (Some(0), None)
    );
}

#[test]
fn each_failover_has_its_own_outage_or_says_why_not() {
    let (mut world, first) = running();
    let failover = failed_over(&mut world, &first);
    assert_eq!(failover.outage_milliseconds, None);
    assert!(
        failover.message.contains("nobody knows how long"),
        "{failover:?}"
    );
    // Whoever made it, it is enough to have heard it.
    let second = ReplicatedStoreStatus {
        last_failover: Some(failover.clone()),
        ..first
    };
    let heard = Some(Duration::from_secs(31));
    let third = report_heard(&mut world, &second, 700, None, heard);
    let told = third.last_failover.clone().unwrap();
    assert_eq!(told.outage_milliseconds, Some(31_000));
    assert!(!told.message.contains("how long"), "{told:?}");
    // It stays, when the operator that heard it is gone, and is not that of the next one.
    let fourth = report(&mut world, &third, 800).last_failover.unwrap();
    assert_eq!(fourth.outage_milliseconds, Some(31_000));
    let next = LastFailover {
        epoch: failover.epoch + 1,
        ..failover
    };
    let register = world.view.register.as_mut().unwrap();
    register.epoch = register.epoch.next();
    let fifth = report_with(&mut world, &third, 900, Some((&next, false)));
    assert_eq!(fifth.last_failover.unwrap().outage_milliseconds, None);
}

#[test]
fn a_fenced_replica_is_not_missed() {
    let (mut world, first) = running();
    world.view.store.fenced = [2].into();
    let fenced = &mut world.replica(2).status;
    (fenced.fenced, fenced.ready) = (true, false);
    world.converge();
    let second = report(&mut world, &first, 500);
    assert_eq!(second.members[2].state, MemberState::Fenced);
    assert_eq!(
        (second.phase, second.ready.as_str()),
        (Phase::Healthy, "2/3")
    );
    assert!(is(&second, ConditionType::Ready) && is(&second, ConditionType::ReplicasSynced));
}

#[test]
fn records_that_were_given_up_are_told_once() {
    let (mut world, first) = running();
    world.replica(1).status.divergent = Some(Divergent {
        epoch: Epoch(1),
        after: Lsn(80),
        bytes: 300,
        file: "divergent-1-80".into(),
    });
    let second = report(&mut world, &first, 500);
    assert_eq!(reasons(&first, &second), ["DivergentTail"]);
    assert_eq!(second.members[1].divergent.as_ref().unwrap().bytes, 300);
    let third = report(&mut world, &second, 501);
    assert!(reasons(&second, &third).is_empty());
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

/// A leader leads, so that Ready and LeaderElected say nothing of it.
#[test]
fn what_is_wrong_is_said_while_a_leader_leads() {
    let (mut world, first) = running();
    let mut copy = world.copy_of(1);
    copy.renew(1, world.id(1));
    world.put_back(2, copy);
    world.look();
    let second = report(&mut world, &first, 500);
    assert!(is(&second, ConditionType::LeaderElected));
    let told = |status: &ReplicatedStoreStatus| {
        let mut all = status.conditions.iter();
        let degraded = all.find(|it| it.type_ == ConditionType::Degraded).unwrap();
        (degraded.reason.clone(), degraded.message.clone())
    };
    let (reason, message) = told(&second);
    assert_eq!(reason, "DuplicateReplica", "{message}");
    assert!(
        message.contains("orders-0 leads epoch 1, and goes on"),
        "{message}"
    );
    assert!(reasons(&first, &second).contains(&"Unsettled".to_owned()));
    let third = report(&mut world, &second, 600);
    assert!(
        !reasons(&second, &third).contains(&"Unsettled".to_owned()),
        "once"
    );
}

/// What a Pod said at its end, or what Kubernetes says of it, is where people look.
#[test]
fn why_a_replica_is_not_there_is_said() {
    let (mut world, first) = running();
    world.kill(2);
    world.look();
    let pod = world.view.pods.get_mut(&2).unwrap();
    pod.problem = "its log is damaged: see replica repair".to_owned();
    let second = report_seen(&world, &first, 500);
    for type_ in [ConditionType::Ready, ConditionType::Degraded] {
        let mut all = second.conditions.iter();
        let condition = all.find(|it| it.type_ == type_).unwrap();
        assert!(
            condition.message.contains("its log is damaged"),
            "{condition:?}"
        );
    }
}

#[test]
fn what_may_be_lost_is_told_as_long_as_it_may() {
    let (mut world, first) = running();
    world.view.store.accept_loss = [1].into();
    let second = report(&mut world, &first, 500);
    let mut conditions = second.conditions.iter();
    let valid = conditions
        .find(|it| it.type_ == ConditionType::SpecValid)
        .unwrap();
    assert!(is(&second, ConditionType::SpecValid));
    assert!(valid.message.contains("only orders-1 has"), "{valid:?}");
}

#[test]
fn a_register_that_cannot_be_read_is_told() {
    let (_, first) = running();
    let now = Timestamp::from_second(500).unwrap();
    let second = refused(
        &first,
        9,
        Unusable::Register,
        "status.configuration is unreadable",
        now,
    );
    assert_eq!(
        (second.phase, &second.members),
        (Phase::Failed, &first.members)
    );
    assert!(is(&second, ConditionType::Degraded) && is(&second, ConditionType::LeaderElected));
    assert_eq!(reasons(&first, &second), ["Unsettled"]);
    let again = refused(
        &second,
        9,
        Unusable::Register,
        "status.configuration is unreadable",
        now,
    );
    assert_eq!(difference(&second, &again), Significance::None);
}

#[test]
fn a_replica_that_ends_again_and_again_has_failed() {
    let (mut world, first) = running();
    world.kill(2);
    world.look();
    let pod = world.view.pods.get_mut(&2).unwrap();
    pod.failed = true;
    let second = report_seen(&world, &first, 500);
    assert_eq!(second.members[2].state, MemberState::Failed);
    assert!(reasons(&first, &second).contains(&"ReplicaFailed".to_owned()));
}

#[test]
fn an_invalid_specification_keeps_what_was_known() {
    let (_, first) = running();
    let now = Timestamp::from_second(500).unwrap();
    let second = refused(
        &first,
        9,
        Unusable::Specification,
        "spec.replicas is 0",
        now,
    );
    assert_eq!(second.members, first.members);
    assert_eq!(second.observed_generation, 9);
    assert!(!is(&second, ConditionType::SpecValid));
    assert_eq!(reasons(&first, &second), ["SpecInvalid"]);
    assert_eq!(
        difference(
            &second,
            &refused(
                &second,
                9,
                Unusable::Specification,
                "spec.replicas is 0",
                now
            )
        ),
        Significance::None
    );
}
