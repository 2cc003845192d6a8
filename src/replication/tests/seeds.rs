//! A seed, as its target's core sees it.

use super::*;

fn fetch(peer: Peer) -> Effect {
    Effect::FetchSeed {
        peer,
        point: Lsn(0),
        chain: Some(7),
    }
}

/// A follower whose log begins anew at 40, where the snapshot is that it is to copy.
fn seeding() -> Subject {
    let mut subject = Subject::new();
    told(&mut subject, 1);
    assert_eq!(
        subject.give(Input::Received(7, seed(0))),
        [by_word_of(1), fetch(7)]
    );
    let mut history = EpochHistory::default();
    history.append(Epoch(1), Lsn(0));
    subject.give(Input::LogReset {
        at: Lsn(40),
        oldest: Lsn(40),
        history,
    });
    subject
}

fn heartbeat(end: u64) -> Input {
    let heartbeat = Message::Heartbeat {
        commit: Lsn(end),
        end: Lsn(end),
        keep_from: Lsn(0),
        sent_at: 0,
        lease_ms: 0,
        time_ms: 0,
    };
    Input::Received(7, heartbeat)
}

/// Where the leader's end is known, and reached, nothing more is waited for.
#[test]
fn a_seed_that_nothing_follows_makes_ready_at_once() {
    for (end, ready) in [(40, true), (50, false)] {
        let mut subject = seeding();
        subject.give(heartbeat(end));
        assert!(!subject.core.judge_ready(false, 1 << 20), "without a state");
        subject.give(Input::SeedInstalled(Lsn(40)));
        let judged = subject.core.judge_ready(false, 1 << 20);
        assert_eq!(judged, ready, "the leader's log ends at {end}");
    }
}

/// The leader asks for a seed on a new connection while the last one is being installed: it is not
/// waited for a second one that nobody fetches. Found by the simulation, with slow disks.
#[test]
fn a_seed_that_was_installed_meanwhile_is_told_of() {
    let mut subject = seeding();
    subject.give(Input::Closed(7));
    subject.give(Input::Connected(8));
    subject.give(Input::Received(8, welcome(1)));
    assert_eq!(subject.give(Input::Received(8, seed(0))), [fetch(8)]);
    let effects = subject.give(Input::SeedInstalled(Lsn(40))).to_vec();
    let told = |effect: &Effect| {
        matches!(
            effect,
            Effect::Send(8, Message::History { complete: true, .. })
        )
    };
    assert!(effects.iter().any(told), "{effects:?}");
}

/// A seed that was begun under another leader: its log holds what this one's does not.
#[test]
fn the_log_of_an_earlier_seed_goes_on_only_as_far_as_it_is_the_leaders() {
    for (end, goes_on) in [(120, true), (150, false)] {
        let mut history = EpochHistory::default();
        history.append(Epoch(1), Lsn(0));
        let found = Recovered {
            history: history.clone(),
            end: Lsn(end),
            oldest: Lsn(100),
            ..Recovered::default()
        };
        let mut subject = Subject {
            core: Core::new(ME, found, Duration::ZERO),
            ..Subject::new()
        };
        told(&mut subject, 3);
        subject.give(Input::Received(7, seed(120)));
        let effects = subject.give(Input::LogReset {
            at: Lsn(end),
            oldest: Lsn(100),
            history,
        });
        let ready = Effect::Send(7, Message::Ready { from: Lsn(end) });
        assert_eq!(effects.contains(&ready), goes_on, "{effects:?}");
        assert_eq!(subject.core.acknowledgement().is_some(), goes_on);
    }
}
