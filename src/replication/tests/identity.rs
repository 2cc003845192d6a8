//! What a replica remembers of itself and of its store, and what it refuses in the name of another.

use super::*;

const STORE: StoreId = StoreId(1);
const ANOTHER: StoreId = StoreId(2);

/// A replica whose disk has adopted this.
fn remembering(adopted: Configuration) -> Subject {
    let found = Recovered {
        adopted,
        complete: true,
        ..Recovered::default()
    };
    Subject {
        core: Core::new(ME, found, Duration::ZERO),
        ..Subject::new()
    }
}

fn of_store(version: u64, store: StoreId) -> Configuration {
    Configuration {
        store: Some(store),
        ..register(version, 3, OTHER, 1)
    }
}

fn refused(effects: &[Effect]) -> bool {
    matches!(effects, [Effect::Refuse { .. }])
}

#[test]
fn a_configuration_is_on_disk_before_anything_is_done_by_it() {
    let mut subject = remembering(Configuration::default());
    let to_adopt = register(1, 1, OTHER, 0);
    let effects = subject
        .core
        .step(Input::Configure(to_adopt.clone()), subject.now);
    assert_eq!(effects, [Effect::Adopt(to_adopt.clone())]);
    assert_eq!(subject.core.configuration().version, 0, "not before");
    // Two that come meanwhile: the newest of them is adopted after it.
    for version in [2, 3] {
        let later = register(version, 1, OTHER, 0);
        assert_eq!(subject.core.step(Input::Configure(later), subject.now), []);
    }
    let effects = subject.core.step(Input::Adopted(to_adopt), subject.now);
    let last = register(3, 1, OTHER, 0);
    assert_eq!(
        effects,
        [Effect::Adopt(last.clone()), Effect::Follow(OTHER)]
    );
    subject.core.step(Input::Adopted(last), subject.now);
    assert_eq!(subject.core.configuration().version, 3);
}

#[test]
fn a_register_that_has_gone_back_is_ignored_after_a_restart_too() {
    let mut subject = remembering(of_store(7, STORE));
    assert_eq!(subject.give(Input::Configure(of_store(6, STORE))), []);
    assert_eq!(subject.core.configuration().version, 0);
    assert_eq!(
        subject.give(Input::Configure(of_store(7, STORE))),
        [Effect::Follow(OTHER)],
        "the very one that it has adopted is no news for its disk"
    );
}

#[test]
fn two_configurations_of_one_version_are_told_apart() {
    let mut subject = remembering(of_store(7, STORE));
    let other = Configuration {
        sync: 0,
        ..of_store(7, STORE)
    };
    assert!(subject.core.refuses(&other).is_some());
    assert_eq!(subject.give(Input::Configure(other)), []);
    assert_eq!(subject.core.configuration().version, 0);
}

#[test]
fn nothing_of_another_store_is_taken() {
    let mut subject = remembering(of_store(7, STORE));
    assert!(subject.core.refuses(&of_store(8, ANOTHER)).is_some());
    assert_eq!(subject.give(Input::Configure(of_store(8, ANOTHER))), []);
    let to = Addressee {
        id: None,
        store: Some(ANOTHER),
    };
    let (epoch, ticket) = (Epoch(4), 1);
    assert!(refused(subject.give(Input::Promise { epoch, ticket, to })));
    assert_eq!(subject.core.promised(), Epoch(0));
    // And its leader is none.
    subject.give(Input::Configure(of_store(8, STORE)));
    subject.give(Input::Connected(7));
    let foreign = Message::Welcome {
        id: OTHER,
        epoch: Epoch(3),
        store: Some(ANOTHER),
    };
    let effects = subject.give(Input::Received(7, foreign)).to_vec();
    assert!(matches!(effects[..], [Effect::Close(7, _)]), "{effects:?}");
    assert_eq!(subject.core.promised(), Epoch(0));
}

#[test]
fn a_leader_welcomes_no_follower_of_another_store() {
    let mut subject = remembering(of_store(1, STORE));
    subject.promise(4, 0);
    let mine = Configuration {
        store: Some(STORE),
        ..register(2, 4, ME, 1)
    };
    subject.give(Input::Configure(mine));
    for (store, welcomed) in [(Some(ANOTHER), false), (Some(STORE), true), (None, true)] {
        let hello = Message::Hello {
            version: message::PROTOCOL_VERSION,
            id: OTHER,
            name: String::new(),
            promised: Epoch(1),
            store,
        };
        let effects = subject.give(Input::Received(7, hello)).to_vec();
        let answered = effects
            .iter()
            .any(|it| matches!(it, Effect::Send(7, Message::Welcome { .. })));
        assert_eq!(answered, welcomed, "{store:?}: {effects:?}");
    }
}

#[test]
fn a_request_for_somebody_else_changes_nothing() {
    let mut subject = leading(0);
    let to = Addressee {
        id: Some(OTHER),
        store: None,
    };
    let (epoch, ticket) = (Epoch(2), 1);
    assert!(refused(subject.give(Input::Promise { epoch, ticket, to })));
    let switchover = Input::Switchover {
        epoch,
        target: OTHER,
        within: Duration::from_secs(1),
        ticket,
        to,
    };
    assert!(refused(subject.give(switchover)));
    assert_eq!(subject.core.leading(), Some(Epoch(1)));
}

#[test]
fn an_absurd_epoch_is_neither_promised_nor_adopted() {
    for epoch in [u64::MAX, 1 << 33] {
        let mut subject = leading(0);
        assert!(refused(subject.promise(epoch, 1)));
        assert_eq!(
            subject.give(Input::Configure(register(9, epoch, OTHER, 0))),
            []
        );
        assert_eq!(subject.core.leading(), Some(Epoch(1)), "it leads on");
        assert_eq!(subject.core.promised(), Epoch(1));
    }
}

/// A disk that was put back to before its promise: it does not begin an epoch that it was chosen for
/// with what it had then.
#[test]
fn an_epoch_is_begun_only_by_a_disk_that_has_promised_it() {
    let mut subject = Subject::new();
    assert_eq!(subject.give(Input::Configure(register(1, 1, ME, 0))), []);
    assert_eq!(subject.core.leading(), None);
    subject.promise(1, 0);
    assert_eq!(subject.core.leading(), Some(Epoch(1)));
}

/// A disk that was put back to just after its promise, or a copy of it: the epoch may have been led since.
#[test]
fn an_epoch_is_begun_only_by_the_process_that_has_promised_it() {
    let hard = HardState {
        promised: Epoch(1),
        ..HardState::default()
    };
    let found = Recovered {
        hard,
        complete: true,
        ..Recovered::default()
    };
    let mut subject = Subject {
        core: Core::new(ME, found, Duration::ZERO),
        ..Subject::new()
    };
    let mark = HardState {
        begun: Epoch(1),
        ..hard
    };
    let effects = subject.give(Input::Configure(register(1, 1, ME, 0)));
    assert_eq!(effects, [Effect::Save(mark)], "operators see that it ended");
    assert_eq!(subject.core.leading(), None);
    subject.promise(2, 0);
    subject.give(Input::Configure(register(2, 2, ME, 0)));
    assert_eq!(subject.core.leading(), Some(Epoch(2)));
}

/// Epochs that are equal do not make logs equal: nothing is cut, streamed or acknowledged then.
#[test]
fn a_log_that_is_not_the_leaders_is_given_up_for_a_seed() {
    let mut history = EpochHistory::default();
    history.append(Epoch(1), Lsn(0));
    let found = Recovered {
        history,
        end: Lsn(50),
        complete: true,
        ..Recovered::default()
    };
    let mut subject = Subject {
        core: Core::new(ME, found, Duration::ZERO),
        ..Subject::new()
    };
    told(&mut subject, 2);
    let effects = subject
        .core
        .step(Input::Received(7, resume(30)), subject.now);
    let compare = Effect::Compare {
        peer: 7,
        point: Lsn(30),
        chain: Some(7),
    };
    assert_eq!(effects, [compare]);
    let differs = Input::Compared {
        peer: 7,
        point: Lsn(30),
        equal: false,
    };
    assert_eq!(subject.give(differs), [Effect::Send(7, Message::Parted)]);
    assert_eq!(subject.core.acknowledgement(), None);
    assert_eq!(subject.core.end(), Lsn(50), "nothing is cut");
    let effects = subject.give(Input::Received(7, seed(0))).to_vec();
    assert!(
        matches!(
            effects[..],
            [Effect::Save(_), Effect::FetchSeed { peer: 7, .. }]
        ),
        "{effects:?}"
    );
}

#[test]
fn a_leader_seeds_a_follower_whose_log_is_another() {
    let mut subject = leading(0);
    subject.give(Input::Received(7, hello(1)));
    let point = Lsn(0);
    let effects = subject.give(Input::Received(7, Message::Parted)).to_vec();
    assert_eq!(effects, [Effect::SendSeed { peer: 7, point }]);
    assert_eq!(
        subject.give(Input::Received(8, Message::Parted)),
        [],
        "a stranger's"
    );
}

/// A second connection of one replica is a half open one's successor, or a copy: only one counts.
#[test]
fn a_replica_counts_by_its_newest_connection() {
    let mut subject = leading(1);
    subject.give(Input::Received(7, hello(1)));
    subject.give(Input::Received(7, Message::Ready { from: Lsn(0) }));
    let effects = subject.give(Input::Received(8, hello(1))).to_vec();
    assert!(
        matches!(effects[..], [Effect::Close(7, _), Effect::Send(8, _)]),
        "{effects:?}"
    );
    let peers: Vec<Peer> = subject
        .core
        .view()
        .followers
        .iter()
        .map(|it| it.peer)
        .collect();
    assert_eq!(peers, [8]);
}
