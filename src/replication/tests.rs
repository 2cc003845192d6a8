//! The core, input by input: what each situation must, and must not, lead to.

use std::time::Duration;

use super::message::Message;
use super::*;

mod handover;
mod identity;
mod leases;
mod release;
mod seeds;
mod truncation;

const ME: ReplicaId = ReplicaId(1);
const OTHER: ReplicaId = ReplicaId(2);

/// A core whose disk answers at once.
struct Subject {
    core: Core,
    effects: Vec<Effect>,
    now: Duration,
}

impl Subject {
    fn new() -> Self {
        let found = Recovered {
            complete: true,
            ..Recovered::default()
        };
        Self {
            core: Core::new(ME, found, Duration::ZERO),
            effects: Vec::new(),
            now: Duration::from_secs(1),
        }
    }

    /// Drives an input and whatever is saved, adopted or compared because of it; the logs are equal.
    /// What was adopted and compared is not among the effects.
    fn give(&mut self, input: Input) -> &[Effect] {
        self.effects = self.core.step(input, self.now);
        let mut at = 0;
        while let Some(effect) = self.effects.get(at).cloned() {
            let answer = match effect {
                Effect::Save(hard) => Input::Saved(hard),
                Effect::Adopt(configuration) => Input::Adopted(configuration),
                Effect::Compare { peer, point, .. } => Input::Compared {
                    peer,
                    point,
                    equal: true,
                },
                _ => {
                    at += 1;
                    continue;
                }
            };
            if matches!(answer, Input::Saved(_)) {
                at += 1;
            } else {
                self.effects.remove(at);
            }
            let more = self.core.step(answer, self.now);
            self.effects.extend(more);
        }
        &self.effects
    }

    /// Asks for a promise.
    fn promise(&mut self, epoch: u64, ticket: u64) -> &[Effect] {
        self.give(asked(epoch, ticket))
    }

    fn seal(&mut self, end: u64, barrier: Option<u64>) {
        let barrier = barrier.map(|version| (version, Lsn(end)));
        self.give(Input::Sealed {
            end: Lsn(end),
            barrier,
        });
    }
}

fn register(version: u64, epoch: u64, leader: ReplicaId, sync: u32) -> Configuration {
    Configuration {
        version,
        epoch: Epoch(epoch),
        leader: Some(leader),
        voters: [ME, OTHER].into(),
        sync,
        ..Configuration::default()
    }
}

/// A request for a promise.
fn asked(epoch: u64, ticket: u64) -> Input {
    Input::Promise {
        epoch: Epoch(epoch),
        ticket,
        to: Addressee::default(),
    }
}

fn resume(point: u64) -> Message {
    Message::Resume {
        point: Lsn(point),
        chain: Some(7),
    }
}

fn seed(point: u64) -> Message {
    Message::Seed {
        point: Lsn(point),
        chain: Some(7),
    }
}

/// What is on disk before the log is cut, or given up.
fn by_word_of(epoch: u64) -> Effect {
    Effect::Save(HardState {
        promised: Epoch(epoch),
        cut: Epoch(epoch),
        ..HardState::default()
    })
}

fn welcome(epoch: u64) -> Message {
    Message::Welcome {
        id: OTHER,
        epoch: Epoch(epoch),
        store: None,
    }
}

fn leading(sync: u32) -> Subject {
    let mut subject = Subject::new();
    subject.promise(1, 0);
    subject.give(Input::Configure(register(1, 1, ME, sync)));
    subject.seal(2, Some(1));
    subject.give(Input::Durable(Lsn(2)));
    subject
}

fn hello(promised: u64) -> Message {
    let promised = Epoch(promised);
    Message::Hello {
        version: message::PROTOCOL_VERSION,
        id: OTHER,
        name: String::new(),
        promised,
        store: None,
    }
}

#[test]
fn a_leader_marks_its_epoch_before_it_leads() {
    let mut subject = Subject::new();
    subject.promise(1, 0);
    let register = register(1, 1, ME, 0);
    let effects = subject
        .core
        .step(Input::Configure(register.clone()), Duration::ZERO);
    assert_eq!(effects, [Effect::Adopt(register.clone())]);
    let effects = subject.core.step(Input::Adopted(register), Duration::ZERO);
    let mark = HardState {
        promised: Epoch(1),
        begun: Epoch(1),
        ..HardState::default()
    };
    assert_eq!(effects, [Effect::Save(mark)]);
    let effects = subject.core.step(Input::Saved(mark), Duration::ZERO);
    let barrier = Effect::AppendBarrier {
        epoch: Epoch(1),
        version: 1,
    };
    assert_eq!(effects, [Effect::Lead(Epoch(1)), barrier]);
}

#[test]
fn an_epoch_is_not_led_by_a_second_process() {
    let hard = HardState {
        promised: Epoch(3),
        begun: Epoch(3),
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
    assert_eq!(subject.give(Input::Configure(register(5, 3, ME, 0))), []);
    assert!(subject.core.leading().is_none());
}

#[test]
fn nobody_leads_or_follows_below_its_promise() {
    for leader in [ME, OTHER] {
        let mut subject = Subject::new();
        subject.promise(7, 1);
        assert_eq!(
            subject.give(Input::Configure(register(5, 6, leader, 0))),
            []
        );
    }
}

#[test]
fn a_replica_without_a_whole_state_does_not_lead() {
    let mut subject = Subject {
        core: Core::new(ME, Recovered::default(), Duration::ZERO),
        ..Subject::new()
    };
    subject.promise(1, 0);
    assert_eq!(subject.give(Input::Configure(register(1, 1, ME, 0))), []);
}

#[test]
fn older_configurations_are_ignored() {
    let mut subject = leading(0);
    assert_eq!(subject.give(Input::Configure(register(1, 9, OTHER, 0))), []);
    assert!(subject.core.leading().is_some());
}

#[test]
fn a_leader_waits_for_earlier_leases_before_its_barrier() {
    let mut subject = Subject::new();
    subject.promise(1, 0);
    let configuration = Configuration {
        wait_ms: 1000,
        ..register(1, 1, ME, 0)
    };
    let effects = subject.give(Input::Configure(configuration)).to_vec();
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::AppendBarrier { .. }))
    );
    let early = subject.core.step(Input::Tick, Duration::from_millis(2010));
    assert_eq!(early, [], "the drift of the clocks is waited for, too");
    let late = subject.core.step(Input::Tick, Duration::from_millis(2021));
    assert_eq!(
        late,
        [Effect::AppendBarrier {
            epoch: Epoch(1),
            version: 1
        }]
    );
}

#[test]
fn a_promise_ends_a_leader_and_is_answered_when_the_log_is_quiet() {
    let mut subject = leading(0);
    subject.seal(9, None);
    let effects = subject.promise(2, 4).to_vec();
    assert_eq!(
        effects,
        [Effect::StepDown],
        "the frame on its way decides what the last record is"
    );
    let effects = subject.give(Input::Durable(Lsn(9))).to_vec();
    assert!(
        effects.contains(&Effect::AnswerPromise {
            ticket: 4,
            granted: true,
            before: Epoch(1),
            leases: Vec::new(),
        }),
        "{effects:?}"
    );
    assert_eq!(
        subject.core.last(),
        Position {
            epoch: Epoch(1),
            lsn: Lsn(9)
        }
    );
    let lower = subject.promise(1, 5);
    assert_eq!(
        lower,
        [Effect::AnswerPromise {
            ticket: 5,
            granted: false,
            before: Epoch(2),
            leases: Vec::new(),
        }]
    );
    let again = subject.promise(2, 6);
    assert_eq!(
        again,
        [Effect::AnswerPromise {
            ticket: 6,
            granted: true,
            before: Epoch(2),
            leases: Vec::new(),
        }]
    );
}

#[test]
fn a_synchronous_leader_commits_what_a_follower_has_too() {
    let mut subject = leading(1);
    assert_eq!(subject.core.commit(), Lsn(0));
    subject.give(Input::Received(7, hello(1)));
    subject.give(Input::Received(7, Message::Ready { from: Lsn(0) }));
    let ack = |durable| Message::Ack {
        durable: Lsn(durable),
        applied: Lsn(0),
        ready: false,
        complete: true,
        echo: 0,
        lease_ms: 0,
    };
    assert_eq!(
        subject.give(Input::Received(7, ack(1))),
        [],
        "not before the barrier"
    );
    assert_eq!(
        subject.give(Input::Received(7, ack(2))),
        [Effect::Commit(Lsn(2)), Effect::Release(Lsn(2))]
    );
    assert_eq!(subject.core.view().established, 1);
}

#[test]
fn an_acknowledgement_beyond_the_log_ends_the_connection() {
    let mut subject = leading(1);
    subject.give(Input::Received(7, hello(1)));
    subject.give(Input::Received(7, Message::Ready { from: Lsn(0) }));
    let ack = Message::Ack {
        durable: Lsn(99),
        applied: Lsn(0),
        ready: false,
        complete: true,
        echo: 0,
        lease_ms: 0,
    };
    let effects = subject.give(Input::Received(7, ack));
    assert!(matches!(effects, [Effect::Close(7, _)]), "{effects:?}");
}

#[test]
fn a_follower_that_promised_more_is_refused() {
    let mut subject = leading(0);
    let effects = subject.give(Input::Received(7, hello(2)));
    assert!(
        matches!(effects, [Effect::Send(7, Message::Refuse { .. })]),
        "{effects:?}"
    );
}

/// The handshake of a follower up to the answer to its history.
fn told(subject: &mut Subject, epoch: u64) {
    subject.give(Input::Configure(register(1, epoch, OTHER, 0)));
    subject.give(Input::Connected(7));
    let effects = subject.give(Input::Received(7, welcome(epoch))).to_vec();
    let told = effects
        .iter()
        .any(|e| matches!(e, Effect::Send(7, Message::History { .. })));
    assert!(told, "{effects:?}");
    assert_eq!(
        subject.core.view().hard.promised,
        Epoch(epoch),
        "promised before anything else"
    );
}

#[test]
fn a_follower_takes_only_what_continues_its_log() {
    let mut subject = Subject::new();
    told(&mut subject, 4);
    let ready = Effect::Send(7, Message::Ready { from: Lsn(0) });
    assert_eq!(subject.give(Input::Received(7, resume(0))), [ready]);
    let frames = |peer, start, epoch, end| Input::Frames {
        peer,
        start: Lsn(start),
        epochs: vec![(Epoch(epoch), Lsn(start))],
        end: Lsn(end),
    };
    assert_eq!(subject.give(frames(7, 0, 4, 10)), [Effect::Take(7)]);
    for bad in [
        frames(7, 11, 4, 20),
        frames(8, 10, 4, 20),
        frames(7, 10, 5, 20),
        frames(7, 10, 3, 20),
    ] {
        let effects = subject.give(bad).to_vec();
        assert!(
            matches!(effects.as_slice(), [Effect::Close(..)]),
            "{effects:?}"
        );
    }
    assert_eq!(subject.core.end(), Lsn(10));
}

#[test]
fn a_follower_commits_no_more_than_it_has_on_disk() {
    let mut subject = Subject::new();
    told(&mut subject, 1);
    subject.give(Input::Received(7, resume(0)));
    let epochs = vec![(Epoch(1), Lsn(0))];
    subject.give(Input::Frames {
        peer: 7,
        start: Lsn(0),
        epochs,
        end: Lsn(10),
    });
    let news = Message::Heartbeat {
        commit: Lsn(10),
        end: Lsn(10),
        keep_from: Lsn(0),
        sent_at: 1,
        lease_ms: 0,
        time_ms: 0,
    };
    assert_eq!(subject.give(Input::Received(7, news)), []);
    assert_eq!(
        subject.give(Input::Durable(Lsn(10))),
        [Effect::Commit(Lsn(10)), Effect::Release(Lsn(10))]
    );
}

#[test]
fn an_empty_follower_and_one_beyond_the_log_are_seeded() {
    let mut subject = leading(0);
    subject.seal(500, None);
    subject.give(Input::Durable(Lsn(500)));
    subject.give(Input::Flushed(Lsn(500)));
    subject.give(Input::Trimmed(Lsn(400)));
    subject.give(Input::Received(7, hello(1)));
    let mut history = EpochHistory::default();
    history.append(Epoch(1), Lsn(0));
    let mut answer = |end, complete| {
        let told = Message::History {
            history: history.clone(),
            end: Lsn(end),
            flushed: Lsn(0),
            complete,
        };
        subject.give(Input::Received(7, told)).to_vec()
    };
    let seed = |point| Effect::SendSeed {
        peer: 7,
        point: Lsn(point),
    };
    assert_eq!(answer(0, true), [seed(0)]);
    assert_eq!(answer(300, true), [seed(300)]);
    assert_eq!(answer(450, false), [seed(450)]);
    let resume = Effect::SendResume {
        peer: 7,
        point: Lsn(450),
    };
    assert_eq!(answer(450, true), [resume]);
}

/// A connection that breaks while the log is being cut: the next one learns of the end only when
/// that is done, and nothing is cut twice. Found by the simulation, with slow disks.
#[test]
fn a_log_that_is_being_cut_is_not_told_of() {
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
        effects: Vec::new(),
        now: Duration::from_secs(1),
    };
    told(&mut subject, 2);
    subject.give(Input::Received(7, resume(30)));
    subject.give(Input::Closed(7));
    subject.give(Input::Connected(8));
    assert_eq!(subject.give(Input::Received(8, welcome(2))), []);
    assert_eq!(subject.promise(2, 1), []);
    let effects = subject.give(Input::Truncated(Lsn(30))).to_vec();
    let ticket = Effect::AnswerPromise {
        ticket: 1,
        granted: true,
        before: Epoch(2),
        leases: Vec::new(),
    };
    assert_eq!(effects.first(), Some(&ticket), "{effects:?}");
    let told = effects.iter().any(|effect| {
        matches!(
            effect,
            Effect::Send(8, Message::History { end: Lsn(30), .. })
        )
    });
    assert!(told, "{effects:?}");
}
