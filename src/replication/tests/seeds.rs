//! A seed, as its target's core sees it.

use super::*;

/// A follower whose log begins anew at 40, where the snapshot is that it is to copy.
fn seeding() -> Subject {
    let mut subject = Subject::new();
    told(&mut subject, 1);
    assert_eq!(
        subject.give(Input::Received(7, Message::Seed { point: Lsn(0) })),
        [Effect::FetchSeed {
            peer: 7,
            point: Lsn(0)
        }]
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
    let welcome = Message::Welcome {
        id: OTHER,
        epoch: Epoch(1),
    };
    subject.give(Input::Received(8, welcome));
    assert_eq!(
        subject.give(Input::Received(8, Message::Seed { point: Lsn(0) })),
        [Effect::FetchSeed {
            peer: 8,
            point: Lsn(0)
        }]
    );
    let effects = subject.give(Input::SeedInstalled(Lsn(40))).to_vec();
    let told = |effect: &Effect| {
        matches!(
            effect,
            Effect::Send(8, Message::History { complete: true, .. })
        )
    };
    assert!(effects.iter().any(told), "{effects:?}");
}
