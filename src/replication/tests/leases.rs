//! Leases: who grants them to whom, for how long, and what a leader may do with them.

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A leader of two voters whose barrier both have on disk, as of an acknowledgement that echoes the
/// message sent at `echo_ms` and grants `lease_ms`.
fn acknowledged(echo_ms: u64, lease_ms: u32) -> Subject {
    let mut subject = leading(1);
    subject.give(Input::Received(7, hello(1)));
    subject.give(Input::Received(7, Message::Ready { from: Lsn(0) }));
    subject.give(Input::Received(7, ack(2, echo_ms, lease_ms)));
    subject
}

fn ack(durable: u64, echo_ms: u64, lease_ms: u32) -> Message {
    Message::Ack {
        durable: Lsn(durable),
        applied: Lsn(0),
        ready: true,
        complete: true,
        echo: echo_ms * 1000,
        lease_ms,
    }
}

#[test]
fn a_leader_answers_as_long_as_it_believes_in_its_leases() {
    let mut subject = acknowledged(900, 1000);
    assert_eq!(subject.core.commit(), Lsn(2));
    let until = ms(900) + ms(980);
    assert_eq!(
        subject.core.answers_until(),
        until,
        "from the time of sending"
    );
    subject.give(Input::Received(7, ack(2, 800, 1000)));
    assert_eq!(
        subject.core.answers_until(),
        until,
        "an older echo takes nothing away"
    );
    subject.give(Input::Received(7, ack(2, 950, 0)));
    assert_eq!(
        subject.core.answers_until(),
        until,
        "an echo without a lease gives nothing"
    );
}

#[test]
fn a_leader_without_a_committed_barrier_answers_nobody() {
    let mut subject = leading(1);
    subject.give(Input::Received(7, hello(1)));
    subject.give(Input::Received(7, Message::Ready { from: Lsn(0) }));
    subject.give(Input::Received(7, ack(1, 900, 1000)));
    assert_eq!(subject.core.answers_until(), Duration::ZERO);
}

#[test]
fn a_leader_that_promised_more_answers_nobody() {
    let mut subject = acknowledged(900, 1000);
    subject.promise(2, 1);
    assert_eq!(subject.core.answers_until(), Duration::ZERO);
}

#[test]
fn an_echo_from_the_future_counts_for_nothing() {
    let subject = acknowledged(5000, 1000);
    assert_eq!(subject.core.answers_until(), Duration::ZERO);
}

#[test]
fn the_lease_of_a_learner_does_not_count() {
    let mut subject = acknowledged(900, 1000);
    let mut other = register(2, 1, ME, 1);
    other.voters = [ME, ReplicaId(3)].into();
    subject.give(Input::Configure(other));
    assert_eq!(subject.core.answers_until(), Duration::ZERO);
}

/// A follower of `OTHER` in epoch 1 that streams.
fn streaming() -> Subject {
    let mut subject = Subject::new();
    told(&mut subject, 1);
    subject.give(Input::Received(7, resume(0)));
    subject
}

fn heartbeat(sent_at: u64, lease_ms: u32) -> Message {
    Message::Heartbeat {
        commit: Lsn(0),
        end: Lsn(0),
        keep_from: Lsn(0),
        sent_at,
        lease_ms,
        time_ms: 0,
    }
}

fn granted(subject: &Subject) -> (u64, u32) {
    match subject.core.acknowledgement() {
        Some((_, Message::Ack { echo, lease_ms, .. })) => (echo, lease_ms),
        other => panic!("no acknowledgement: {other:?}"),
    }
}

fn promise(subject: &mut Subject, epoch: u64) -> Vec<Lease> {
    let effects = subject.promise(epoch, 1).to_vec();
    let answer = effects.into_iter().find_map(|effect| match effect {
        Effect::AnswerPromise {
            granted: true,
            leases,
            ..
        } => Some(leases),
        _ => None,
    });
    answer.expect("a promise")
}

#[test]
fn a_promise_tells_the_leases_that_still_run() {
    let mut subject = streaming();
    subject.give(Input::Received(7, heartbeat(5, 1000))); // noted first
    subject.give(Input::Received(7, heartbeat(6, 1000)));
    assert_eq!(granted(&subject), (6, 1000));
    subject.now += ms(300);
    let expected = Lease {
        holder: Some(Epoch(1)),
        left: ms(700),
    };
    assert_eq!(promise(&mut subject, 2), [expected]);
    subject.now += ms(700);
    assert_eq!(promise(&mut subject, 3), []);
}

/// A restart forgets to whom a lease was granted, so how long it may run must be on disk first.
#[test]
fn a_longer_lease_is_granted_once_it_is_noted() {
    let mut subject = streaming();
    let now = subject.now;
    let effects = subject
        .core
        .step(Input::Received(7, heartbeat(5, 1000)), now);
    let hard = HardState {
        promised: Epoch(1),
        lease_ms: 1000,
        ..HardState::default()
    };
    assert_eq!(effects, [Effect::Save(hard)]);
    assert_eq!(granted(&subject), (0, 0), "not before");
    subject.give(Input::Saved(hard));
    subject.give(Input::Received(7, heartbeat(6, 1000)));
    assert_eq!(granted(&subject), (6, 1000));
    let shorter = subject.give(Input::Received(7, heartbeat(7, 200))).to_vec();
    assert_eq!(shorter, [], "the longer one still runs");
    assert_eq!(granted(&subject), (7, 200));
    subject.now += ms(1000);
    subject.give(Input::Received(7, heartbeat(8, 200)));
    assert_eq!(
        subject.core.view().hard.lease_ms,
        200,
        "and now it has run out"
    );
}

#[test]
fn a_restarted_voter_counts_as_having_granted_a_lease() {
    let found = Recovered {
        hard: HardState {
            promised: Epoch(4),
            lease_ms: 1000,
            ..HardState::default()
        },
        complete: true,
        ..Recovered::default()
    };
    let mut subject = Subject {
        core: Core::new(ME, found, ms(5000)),
        effects: Vec::new(),
        now: ms(5400),
    };
    let expected = Lease {
        holder: None,
        left: ms(600),
    };
    assert_eq!(promise(&mut subject, 5), [expected]);
}

#[test]
fn nothing_is_granted_to_a_leader_below_the_promise() {
    let mut subject = streaming();
    subject.give(Input::Received(7, heartbeat(5, 1000)));
    subject.give(Input::Received(7, heartbeat(6, 1000)));
    promise(&mut subject, 2);
    subject.give(Input::Received(7, heartbeat(7, 1000)));
    assert_eq!(subject.core.acknowledgement(), None);
}
