//! What comes of promises: the wait for leases, and which answers are left out.

use std::time::Duration;

use super::super::Waiting;
use super::super::election::Elected;
use super::super::promotion::{Campaign, Cause};
use super::super::world::World;
use crate::api::Verdict;
use crate::operator::view::Held;
use crate::replication::admin::{LeaseLeft, PromiseAnswer};
use crate::replication::types::{Configuration, Epoch, Lsn, Position, ReplicaId, VoterSet};

const LEADER: ReplicaId = ReplicaId(1);

fn voters(n: u128, sync: u32) -> Configuration {
    Configuration {
        version: 7,
        epoch: Epoch(4),
        leader: Some(LEADER),
        voters: (1..=n).map(ReplicaId).collect(),
        sync,
        ..Configuration::default()
    }
}

fn campaign(base: &Configuration) -> (World, Campaign) {
    let world = World::new(3);
    let mut campaign = Campaign::new(&world.view, base, Cause::LeaderSilent);
    campaign.preference = base.voters.iter().copied().collect();
    (world, campaign)
}

fn answer(id: u128, lsn: u64, leases: &[(Option<u64>, u64)]) -> PromiseAnswer {
    let leases = leases.iter().map(|(holder, left_ms)| LeaseLeft {
        holder: holder.map(Epoch),
        left_ms: *left_ms,
    });
    PromiseAnswer {
        id: ReplicaId(id),
        granted: true,
        promised: Epoch(5),
        last: Position {
            epoch: Epoch(4),
            lsn: Lsn(lsn),
        },
        leases: leases.collect(),
        before: None,
        cut: Epoch(0),
        acknowledged: Vec::new(),
        forgotten: false,
    }
}

fn elect(campaign: &(World, Campaign), answers: &[PromiseAnswer]) -> Result<Elected, Waiting> {
    campaign.1.elect(&campaign.0.view, answers)
}

/// Who leads and for how long it waits.
fn outcome(campaign: &(World, Campaign), answers: &[PromiseAnswer]) -> (u128, u64) {
    let elected = elect(campaign, answers).unwrap();
    (elected.leader.0, elected.swap.to.wait_ms)
}

/// Its log was damaged: it may have acknowledged what it has no more.
#[test]
fn a_damaged_log_does_not_count_unless_nobody_else_votes_or_the_user_accepts_it() {
    let forgetful = |id, lsn| PromiseAnswer {
        forgotten: true,
        ..answer(id, lsn, &[])
    };
    let three = campaign(&voters(3, 1));
    let answers = [forgetful(2, 90), answer(3, 80, &[])];
    let waiting = elect(&three, &answers).unwrap_err();
    assert!(
        waiting.message.contains("bootstrap.acceptLoss"),
        "{}",
        waiting.message
    );
    let all = [forgetful(2, 90), answer(3, 80, &[]), answer(1, 70, &[])];
    assert_eq!(outcome(&three, &all).0, 3, "the others are enough");
    let mut forgiven = campaign(&voters(3, 1));
    forgiven.1.forgiven = [ReplicaId(2)].into();
    assert_eq!(outcome(&forgiven, &answers).0, 2);
    assert_eq!(
        outcome(&forgiven, &all).0,
        3,
        "nor is it, where there is another way"
    );
    let put_back = [answer(2, 70, &[]), answer(3, 80, &[]), answer(1, 90, &[])];
    forgiven.1.held.insert(
        ReplicaId(2),
        Held {
            epoch: Epoch(9),
            lsn: Lsn(99),
            newest: Epoch(0),
        },
    );
    let elected = elect(&forgiven, &put_back).unwrap();
    assert!(elected.forgiven.is_empty() && elected.leader == ReplicaId(1));
    let elected = elect(&forgiven, &put_back[..2]).unwrap();
    assert_eq!(elected.forgiven, [ReplicaId(2)].into());
    let alone = campaign(&voters(1, 0));
    assert_eq!(outcome(&alone, &[forgetful(1, 90)]).0, 1);
}

#[test]
fn the_longest_lease_is_waited_for() {
    let campaign = campaign(&voters(3, 1));
    let answers = [
        answer(2, 90, &[(Some(4), 300)]),
        answer(3, 80, &[(Some(4), 700)]),
    ];
    assert_eq!(outcome(&campaign, &answers), (2, 700));
}

#[test]
fn leases_of_a_leader_that_has_ended_are_void_and_others_are_not() {
    let mut campaign = campaign(&voters(3, 1));
    campaign.1.ended = true;
    let own = answer(3, 80, &[(Some(4), 700)]);
    for (holder, expected) in [(Some(4), 0), (Some(3), 400), (None, 400)] {
        let answers = [answer(2, 90, &[(holder, 400)]), own.clone()];
        assert_eq!(outcome(&campaign, &answers), (2, expected), "{holder:?}");
    }
}

#[test]
fn leases_of_a_leader_that_promises_are_void() {
    let campaign = campaign(&voters(3, 0));
    let answers = [answer(1, 95, &[]), answer(2, 90, &[(Some(4), 400)])];
    assert_eq!(outcome(&campaign, &answers), (1, 0));
}

#[test]
fn an_answer_that_means_a_wait_is_left_out_if_the_others_are_enough() {
    let mut campaign = campaign(&voters(3, 1));
    campaign.1.ended = true;
    // The old leader's successor has the longest log, and has forgotten what leases it gave.
    let answers = [
        answer(1, 95, &[(None, 900)]),
        answer(2, 80, &[(Some(4), 400)]),
        answer(3, 90, &[(Some(4), 400)]),
    ];
    assert_eq!(outcome(&campaign, &answers), (3, 0));
    let verdicts = elect(&campaign, &answers).unwrap().verdicts;
    let verdicts: Vec<Verdict> = verdicts.into_iter().map(|(_, verdict)| verdict).collect();
    assert_eq!(
        verdicts,
        [Verdict::NotNeeded, Verdict::Behind, Verdict::Elected]
    );
    // Two of three are needed.
    assert_eq!(outcome(&campaign, &answers[..2]), (1, 900));
}

#[test]
fn with_asynchronous_replication_every_answer_counts() {
    let mut campaign = campaign(&voters(3, 0));
    campaign.1.ended = true;
    let answers = [
        answer(1, 95, &[(None, 900)]),
        answer(2, 80, &[]),
        answer(3, 90, &[]),
    ];
    assert_eq!(
        outcome(&campaign, &answers),
        (1, 900),
        "the best log loses least"
    );
}

#[test]
fn every_set_must_have_enough_without_those_that_are_left_out() {
    let mut base = voters(3, 1);
    base.previous = vec![VoterSet {
        voters: [LEADER, ReplicaId(2)].into(),
        sync: 1,
    }];
    let campaign = campaign(&base);
    let answers = [
        answer(1, 95, &[(None, 900)]),
        answer(2, 80, &[(None, 500)]),
        answer(3, 90, &[]),
    ];
    // One of {1, 2} is needed, and two of {1, 2, 3}.
    assert_eq!(outcome(&campaign, &answers), (3, 500));
}

#[test]
fn one_that_should_not_lead_is_left_out_if_that_is_safe() {
    let mut all = campaign(&voters(3, 1));
    all.1.unfit = [ReplicaId(2)].into();
    let answers = [answer(1, 80, &[]), answer(2, 90, &[]), answer(3, 85, &[])];
    assert_eq!(outcome(&all, &answers).0, 3);
    assert_eq!(outcome(&all, &answers[..2]).0, 2, "nobody else can");
    let mut asynchronous = campaign(&voters(3, 0));
    asynchronous.1.unfit = [ReplicaId(2)].into();
    assert_eq!(
        outcome(&asynchronous, &answers).0,
        2,
        "it would lose writes"
    );
    asynchronous.1.avoid = [ReplicaId(2)].into();
    assert_eq!(
        outcome(&asynchronous, &answers).0,
        3,
        "nobody would reach it"
    );
}

#[test]
fn a_replica_without_a_state_is_not_passed_over_if_its_log_is_newer() {
    let mut campaign = campaign(&voters(3, 1));
    campaign.1.barred = [ReplicaId(3)].into();
    // It may have acknowledged what the other one lacks: while it is seeded, it takes the log.
    let answers = [answer(2, 80, &[]), answer(3, 90, &[])];
    assert!(elect(&campaign, &answers).is_err());
    let answers = [answer(2, 90, &[]), answer(3, 90, &[])];
    assert_eq!(outcome(&campaign, &answers).0, 2, "it lacks nothing");
    // Two that have a state are enough, also if one of them means a wait.
    let answers = [
        answer(1, 85, &[(None, 900)]),
        answer(2, 80, &[]),
        answer(3, 90, &[]),
    ];
    assert_eq!(outcome(&campaign, &answers), (1, 900));
}

#[test]
fn voters_that_a_leader_cannot_do_without_must_have_answered() {
    // The other one of three is enough for leases and copies: the silent one stays.
    let two = [answer(2, 90, &[]), answer(3, 80, &[])];
    let elected = elect(&campaign(&voters(3, 1)), &two).unwrap();
    assert_eq!(elected.swap.to.voters.len(), 3);
    // If all three must have a record, it is given up.
    let elected = elect(&campaign(&voters(3, 2)), &two).unwrap();
    assert_eq!(elected.swap.to.voters, [ReplicaId(2), ReplicaId(3)].into());
    let elected = elect(&campaign(&voters(2, 1)), &two[..1]).unwrap();
    assert_eq!(elected.swap.to.voters, [ReplicaId(2)].into());
    assert_eq!(elected.swap.to.previous, [voters(2, 1).current()]);
}

/// It was put back to what it was before a later leader had it cut its log: longer than what it had
/// then, and older.
#[test]
fn a_disk_that_was_put_back_does_not_count_for_being_longer() {
    let mut campaign = campaign(&voters(3, 1));
    let held = Held {
        epoch: Epoch(4),
        lsn: Lsn(90),
        newest: Epoch(4),
    };
    campaign.1.held.insert(ReplicaId(2), held);
    let mut longer = answer(2, 95, &[]);
    longer.last.epoch = Epoch(3);
    let mut answers = vec![longer, answer(3, 80, &[])];
    assert!(elect(&campaign, &answers).is_err(), "one of two that count");
    answers.push(answer(1, 90, &[]));
    assert_eq!(outcome(&campaign, &answers).0, 1);
}

/// A promotion that was begun: whoever came of it may have led, on a disk that is gone or was put back.
#[test]
fn a_recovery_takes_an_epoch_that_nobody_has_heard_of() {
    let mut world = World::synchronous(3, 1);
    let base = world.register().clone();
    let promised = base.epoch.next();
    world.replica(1).status.promised = promised;
    world.view.register = None;
    world.look();
    let campaign = Campaign::recovery(&world.view, &base);
    assert_eq!(campaign.epoch, promised.next());
}

/// What disks are known to have had may be gone with the register: so the best of all counts, and not of
/// enough, one of which may have been put back.
#[test]
fn a_recovery_counts_everybody_who_is_heard() {
    let mut world = World::synchronous(3, 1);
    let base = world.register().clone();
    world.view.register = None;
    world.look();
    let mut campaign = Campaign::recovery(&world.view, &base);
    campaign.held.clear();
    let ids: Vec<ReplicaId> = (0..3).map(|ordinal| world.id(ordinal)).collect();
    let answer = |at: usize, lsn, leases: &[(Option<u64>, u64)]| answer(ids[at].0, lsn, leases);
    let mut answers = vec![answer(0, 80, &[]), answer(1, 80, &[])];
    assert!(campaign.elect(&world.view, &answers).is_err());
    answers.push(answer(2, 90, &[(None, 700)]));
    let elected = campaign.elect(&world.view, &answers).unwrap();
    assert_eq!(elected.leader, ids[2]);
}

#[test]
fn whom_a_leader_made_room_for_is_waited_for() {
    let (_, campaign) = campaign(&voters(3, 1));
    let [leader, other, target] = [1, 2, 3].map(ReplicaId);
    let lease = Duration::from_secs(1);
    let patience = |promised: &[ReplicaId], target| {
        campaign.patience(&promised.iter().copied().collect(), target, lease)
    };
    assert_eq!(patience(&[leader], Some(target)), None, "too few");
    assert_eq!(patience(&[leader, other], Some(target)), Some(lease));
    let without = patience(&[leader, other], None).unwrap();
    assert!(!without.is_zero() && without < lease);
    assert_eq!(
        patience(&[leader, target], Some(target)),
        Some(Duration::ZERO)
    );
}
