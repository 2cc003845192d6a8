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
    assert_eq!(
        subject.give(Input::Received(7, resume(30))),
        [by_word_of(2), Effect::Truncate(Lsn(30))]
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
    subject.give(Input::Received(7, resume(30)));
    assert!(!subject.core.may_flush(Lsn(20)));
    subject.give(Input::Truncated(Lsn(30)));
    assert!(subject.core.may_flush(Lsn(20)));
}

#[test]
fn the_log_is_not_cut_below_a_flush_that_has_begun() {
    let mut subject = follower();
    subject.give(Input::Flushed(Lsn(40)));
    let effects = subject.give(Input::Received(7, resume(30)));
    // It connects anew, tells how far its state has come, and is seeded.
    assert!(matches!(effects, [Effect::Close(7, _)]), "{effects:?}");
}

/// A state is brought to disk while the logs are compared: it is not cut below that.
#[test]
fn the_log_is_not_cut_below_a_flush_that_has_begun_meanwhile() {
    let mut subject = follower();
    let compare = subject
        .core
        .step(Input::Received(7, resume(30)), subject.now);
    assert!(
        matches!(compare[..], [Effect::Compare { peer: 7, .. }]),
        "{compare:?}"
    );
    subject.give(Input::Flushed(Lsn(40)));
    let compared = Input::Compared {
        peer: 7,
        point: Lsn(30),
        equal: true,
    };
    let effects = subject.give(compared);
    assert!(
        matches!(effects, [Effect::Save(_), Effect::Close(7, _)]),
        "{effects:?}"
    );
    assert_eq!(subject.core.end(), Lsn(50));
}
