//! Cutting the log, and bringing the state to disk meanwhile.

use super::*;

fn follower() -> Subject {
    let mut history = EpochHistory::default();
    history.append(Epoch(1), Lsn(0));
    let found = Recovered {
        history,
        end: Lsn(50),
        flushed: Lsn(20),
        complete: true,
        ..Recovered::default()
    };
    let mut subject = Subject {
        core: Core::new(ME, found, Duration::ZERO),
        effects: Vec::new(),
        now: Duration::from_secs(1),
    };
    told(&mut subject, 2);
    subject
}

#[test]
fn a_follower_cuts_its_log_where_the_histories_part() {
    let mut subject = follower();
    let resume = Message::Resume { point: Lsn(30) };
    assert_eq!(
        subject.give(Input::Received(7, resume)),
        [Effect::Truncate(Lsn(30))]
    );
    let ready = Effect::Send(7, Message::Ready { from: Lsn(30) });
    assert_eq!(subject.give(Input::Truncated(Lsn(30))), [ready]);
    assert_eq!(subject.core.end(), Lsn(30));
}

#[test]
fn no_flush_begins_while_the_log_is_cut() {
    let mut subject = follower();
    assert!(subject.core.may_flush(Lsn(20)));
    assert!(!subject.core.may_flush(Lsn(30)), "it is not committed");
    subject.give(Input::Received(7, Message::Resume { point: Lsn(30) }));
    assert!(!subject.core.may_flush(Lsn(20)));
    subject.give(Input::Truncated(Lsn(30)));
    assert!(subject.core.may_flush(Lsn(20)));
}

#[test]
fn the_log_is_not_cut_below_a_flush_that_has_begun() {
    let mut subject = follower();
    subject.give(Input::Flushed(Lsn(40)));
    let effects = subject.give(Input::Received(7, Message::Resume { point: Lsn(30) }));
    // It connects anew, tells how far its state has come, and is seeded.
    assert!(matches!(effects, [Effect::Close(7, _)]), "{effects:?}");
}
