//! What replies may rest on, where the user wants none with fewer copies than asked for.

use super::*;

fn ack(durable: u64, complete: bool) -> Input {
    let ack = Message::Ack {
        durable: Lsn(durable),
        applied: Lsn(0),
        ready: false,
        complete,
        echo: 0,
        lease_ms: 0,
    };
    Input::Received(7, ack)
}

fn connect(subject: &mut Subject, from: u64) {
    let ready = Message::Ready { from: Lsn(from) };
    subject.give(Input::Received(7, hello(1)));
    subject.give(Input::Received(7, ready));
}

/// One of two voters leads, the other one is gone and votes no more: of what was written up to 12, it
/// had 2, and it had not said more.
fn alone() -> Subject {
    let mut subject = leading(1);
    subject.give(Input::SetReplySync(1));
    connect(&mut subject, 0);
    subject.give(ack(2, true));
    subject.seal(12, None);
    subject.give(Input::Durable(Lsn(12)));
    subject.give(Input::Closed(7));
    let mut register = register(2, 1, ME, 1);
    register.voters = [ME].into();
    subject.give(Input::Configure(register));
    subject.seal(14, Some(2));
    subject.give(Input::Durable(Lsn(14)));
    subject
}

fn positions(subject: &Subject) -> (u64, u64) {
    (subject.core.commit().0, subject.core.released().0)
}

#[test]
fn a_leader_goes_on_alone_and_shows_nothing_that_it_holds_alone() {
    let subject = alone();
    assert_eq!(positions(&subject), (14, 2));
    assert_eq!(subject.core.view().established, 2);
    assert!(subject.core.may_flush(Lsn(2)));
    assert!(!subject.core.may_flush(Lsn(12)), "a restart would show it");
}

#[test]
fn a_newcomer_with_a_whole_state_releases_it() {
    let mut subject = alone();
    connect(&mut subject, 2);
    assert_eq!(subject.give(ack(14, false)), [], "its state is half copied");
    assert_eq!(
        subject.give(ack(12, true)),
        [Effect::Release(Lsn(14))],
        "the barrier after it shows nothing"
    );
    assert_eq!(positions(&subject), (14, 14));
}

#[test]
fn fewer_copies_are_asked_for_or_more() {
    let mut subject = alone();
    assert_eq!(subject.give(Input::SetReplySync(2)), []);
    let all = Effect::Release(Lsn(14));
    assert_eq!(subject.give(Input::SetReplySync(0)), [all]);
    subject.give(Input::SetReplySync(1));
    assert_eq!(positions(&subject), (14, 14), "it stays so");
    subject.seal(20, None);
    subject.give(Input::Durable(Lsn(20)));
    assert_eq!(positions(&subject), (20, 14));
}

#[test]
fn a_leader_with_nothing_to_hide_shows_its_barriers() {
    let mut subject = Subject::new();
    subject.promise(1, 0);
    subject.give(Input::SetReplySync(1));
    let mut register = register(1, 1, ME, 0);
    register.voters = [ME].into();
    subject.give(Input::Configure(register));
    subject.seal(2, Some(1));
    subject.give(Input::Durable(Lsn(2)));
    assert_eq!(positions(&subject), (2, 2));
}

#[test]
fn a_leader_that_steps_down_forgets_what_it_has_not_released() {
    let mut subject = alone();
    subject.promise(2, 1);
    assert!(subject.core.leading().is_none());
    assert_eq!(positions(&subject), (2, 2));
}

#[test]
fn a_new_leader_shows_what_it_has_heard_of() {
    let mut subject = Subject::new();
    told(&mut subject, 1);
    subject.give(Input::Received(7, resume(0)));
    subject.give(Input::Frames {
        peer: 7,
        start: Lsn(0),
        epochs: vec![(Epoch(1), Lsn(0))],
        end: Lsn(10),
    });
    let news = Message::Heartbeat {
        commit: Lsn(6),
        end: Lsn(10),
        keep_from: Lsn(0),
        sent_at: 1,
        lease_ms: 0,
        time_ms: 0,
    };
    subject.give(Input::Received(7, news));
    subject.give(Input::Durable(Lsn(10)));
    subject.give(Input::SetReplySync(1));
    subject.promise(2, 1);
    let mut register = register(2, 2, ME, 1);
    register.voters = [ME].into();
    subject.give(Input::Configure(register));
    subject.seal(12, Some(2));
    subject.give(Input::Durable(Lsn(12)));
    assert_eq!(positions(&subject), (12, 6));
    assert!(
        subject.core.answers_until() > subject.now,
        "others are answered"
    );
}
