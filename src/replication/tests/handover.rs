//! A leader that makes room for a follower, and one whose disk does not answer.

use super::*;

fn ready(durable: u64) -> Message {
    Message::Ack {
        durable: Lsn(durable),
        applied: Lsn(0),
        ready: true,
        complete: true,
        echo: 0,
        lease_ms: 0,
    }
}

/// A leader with a log of 10 bytes, of which its follower has 2, that is asked to make room.
fn preparing() -> Subject {
    let mut subject = leading(1);
    subject.give(Input::Received(7, hello(1)));
    subject.give(Input::Received(7, Message::Ready { from: Lsn(0) }));
    subject.give(Input::Received(7, ready(2)));
    subject.seal(10, None);
    subject.give(Input::Durable(Lsn(10)));
    let hold = subject.give(switchover(OTHER)).to_vec();
    assert_eq!(hold, [Effect::Hold]);
    subject
}

fn switchover(target: ReplicaId) -> Input {
    Input::Switchover {
        epoch: Epoch(2),
        target,
        within: Duration::from_secs(1),
        ticket: 5,
        to: Addressee::default(),
    }
}

fn granted(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| {
        matches!(
            effect,
            Effect::AnswerPromise {
                ticket: 5,
                granted: true,
                ..
            }
        )
    })
}

#[test]
fn a_leader_promises_once_the_target_has_everything() {
    let mut subject = preparing();
    assert!(
        !granted(subject.give(Input::Received(7, ready(10)))),
        "not quiet yet"
    );
    let effects = subject.give(Input::Quiet).to_vec();
    assert!(granted(&effects), "{effects:?}");
    assert!(effects.contains(&Effect::StepDown), "{effects:?}");
    assert_eq!(subject.core.last().lsn, Lsn(10));
}

#[test]
fn a_leader_that_is_quiet_waits_for_the_target() {
    let mut subject = preparing();
    assert_eq!(subject.give(Input::Quiet), []);
    assert_eq!(subject.give(Input::Tick), []);
    assert!(granted(subject.give(Input::Received(7, ready(10)))));
}

#[test]
fn a_leader_that_waits_in_vain_leads_on() {
    let mut subject = preparing();
    subject.give(Input::Quiet);
    subject.now += Duration::from_secs(1);
    let effects = subject.give(Input::Tick).to_vec();
    assert!(matches!(
        effects.first(),
        Some(Effect::Refuse { ticket: 5, .. })
    ));
    assert!(effects.contains(&Effect::Resume), "{effects:?}");
    assert_eq!(subject.core.leading(), Some(Epoch(1)));
}

#[test]
fn a_switchover_to_somebody_else_is_refused() {
    let mut subject = leading(0);
    let effects = subject.give(switchover(ReplicaId(9))).to_vec();
    assert!(matches!(effects[..], [Effect::Refuse { ticket: 5, .. }]));
    let effects = Subject::new().give(switchover(OTHER)).to_vec();
    assert!(matches!(effects[..], [Effect::Refuse { ticket: 5, .. }]));
}

#[test]
fn a_promise_to_somebody_else_ends_a_switchover() {
    let mut subject = preparing();
    let effects = subject.promise(3, 6).to_vec();
    let refused = |it: &Effect| matches!(it, Effect::Refuse { ticket: 5, .. });
    assert!(effects.iter().any(refused), "{effects:?}");
}

/// Lets time pass, a tick each 20 ms; everything that was to be done.
fn ticks(subject: &mut Subject, count: usize) -> Vec<Effect> {
    let mut effects = Vec::new();
    for _ in 0..count {
        subject.now += Duration::from_millis(20);
        effects.extend_from_slice(subject.give(Input::Tick));
    }
    effects
}

#[test]
fn a_leader_whose_disk_does_not_answer_steps_down() {
    let mut subject = leading(0);
    assert_eq!(ticks(&mut subject, 30), [Effect::Beat], "it is asked once");
    subject.give(Input::Beat);
    assert_eq!(
        ticks(&mut subject, 30),
        [Effect::Beat],
        "and again, as it has answered"
    );
    let effects = ticks(&mut subject, 60);
    assert!(effects.contains(&Effect::StepDown), "{effects:?}");
    assert!(subject.core.view().stalled);
    assert_eq!(subject.core.leading(), None);
}

#[test]
fn a_leader_whose_writes_do_not_end_steps_down() {
    let mut subject = leading(0);
    subject.seal(20, None);
    assert_eq!(ticks(&mut subject, 49), []);
    assert!(ticks(&mut subject, 1).contains(&Effect::StepDown));
}

/// A process that was stopped for a while knows nothing of its disk.
#[test]
fn a_frozen_leader_does_not_hold_it_against_its_disk() {
    let mut subject = leading(0);
    subject.seal(20, None);
    subject.now += Duration::from_secs(10);
    assert_eq!(subject.give(Input::Tick), []);
    subject.give(Input::Durable(Lsn(20)));
    assert_eq!(subject.core.leading(), Some(Epoch(1)));
}
