//! What is asked of replicas and of the API server, and what comes back, over a slow network.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use replicated_store::api::ReplicatedStoreStatus;
use replicated_store::replication::admin::{Assignment, PromiseAnswer, ReplicaStatus};
use replicated_store::replication::{Addressee, Configuration, Epoch, Input, ReplicaId};

use super::cluster::Reading;
use super::event::Event;
use super::node::Process;
use super::world::World;

/// What is on its way to a replica or to the API server. `desk` is who asks, in its `life`.
#[derive(Clone)]
pub(crate) enum Ask {
    Promise {
        desk: usize,
        life: u64,
        slot: usize,
        epoch: Epoch,
    },
    Switchover {
        desk: usize,
        life: u64,
        slot: usize,
        epoch: Epoch,
        target: ReplicaId,
        within: Duration,
    },
    Configure {
        desk: usize,
        life: u64,
        slot: usize,
        notice: Notice,
    },
    Read {
        desk: usize,
        life: u64,
    },
    /// On the condition that nobody has written the object since `version`.
    Swap {
        desk: usize,
        life: u64,
        version: u64,
        next: Configuration,
    },
    Report(Box<ReplicatedStoreStatus>),
    Scale(u32),
    Delete {
        slot: usize,
        uid: u64,
    },
}

/// What a replica is told.
#[derive(Clone)]
pub(crate) enum Notice {
    Register(Configuration),
    Assignment(Arc<Assignment>),
}

impl Ask {
    /// The replica that it goes to.
    pub(crate) fn slot(&self) -> Option<usize> {
        match self {
            Self::Promise { slot, .. }
            | Self::Switchover { slot, .. }
            | Self::Configure { slot, .. } => Some(*slot),
            Self::Read { .. }
            | Self::Swap { .. }
            | Self::Report(_)
            | Self::Scale(_)
            | Self::Delete { .. } => None,
        }
    }
}

/// What comes back to an operator.
pub(crate) enum Reply {
    Object(usize, u64, Box<Reading>),
    Swapped(usize, u64, Option<Configuration>),
    /// And whether its replica has a whole state.
    Promise(usize, u64, PromiseAnswer, bool),
    /// Nobody is there to promise anything.
    Silence(usize, u64),
    Refused(usize, u64),
    Told(usize, u64, usize, &'static str),
    Word(usize, usize, Word),
}

/// What an operator hears of a replica.
pub(crate) enum Word {
    /// By the Pod of this identity.
    Said(String, Box<ReplicaStatus>),
    /// The stream of its states has ended.
    Lost,
    /// The parent of its process says which ones have ended.
    Ended(Vec<u64>),
}

impl World {
    pub(crate) fn message_us(&mut self) -> u64 {
        let slow = self.setup.menu.slow_words;
        match self.rng.random_range(0..20) {
            it if self.faults && it < slow => self.rng.random_range(1_000..800_000),
            _ => self.rng.random_range(500..8_000),
        }
    }

    /// Sends it; now and then it arrives twice, but for a read, of which one answer is taken.
    pub(crate) fn ask(&mut self, ask: Ask) {
        let repeats = !matches!(ask, Ask::Read { .. });
        if repeats && self.faults && self.rng.random_bool(0.03) {
            let micros = self.message_us();
            self.at(micros, Event::Ask(ask.clone()));
        }
        let micros = self.message_us();
        self.at(micros, Event::Ask(ask));
    }

    pub(crate) fn reply(&mut self, reply: Reply) {
        let micros = self.message_us();
        self.at(micros, Event::Reply(reply));
    }

    /// Something arrives at a replica or at the API server.
    pub(crate) fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Read { desk, life } => {
                let reading = Box::new(self.reading());
                self.reply(Reply::Object(desk, life, reading));
            }
            Ask::Swap {
                desk,
                life,
                version,
                next,
            } => {
                let done = self.swap(version, &next).then_some(next);
                self.reply(Reply::Swapped(desk, life, done));
            }
            Ask::Report(status) => self.report(*status),
            Ask::Scale(replicas) => self.scale(replicas),
            Ask::Delete { slot, uid } => self.delete_pod(slot, uid),
            Ask::Configure {
                desk,
                life,
                slot,
                notice,
            } => {
                let refusal = self.configure(slot, notice);
                self.reply(Reply::Told(desk, life, slot, refusal));
            }
            Ask::Promise {
                desk, life, slot, ..
            }
            | Ask::Switchover {
                desk, life, slot, ..
            } if self.machines[slot].process.is_none() => {
                self.reply(Reply::Silence(desk, life));
            }
            Ask::Promise {
                desk,
                life,
                slot,
                epoch,
            } => {
                let ticket = self.ticket(desk, life);
                let to = Addressee::default();
                self.drive(slot, Input::Promise { epoch, ticket, to });
            }
            Ask::Switchover {
                desk,
                life,
                slot,
                epoch,
                target,
                within,
            } => {
                let ticket = self.ticket(desk, life);
                self.drive(
                    slot,
                    Input::Switchover {
                        epoch,
                        target,
                        within,
                        ticket,
                        to: Addressee::default(),
                    },
                );
            }
        }
    }

    /// A replica is told something; answers why it does not take it.
    fn configure(&mut self, slot: usize, notice: Notice) -> &'static str {
        let id = self.machines[slot].id;
        let Some(process) = &mut self.machines[slot].process else {
            return "nobody is there";
        };
        match notice {
            Notice::Register(register) => self.drive(slot, Input::Configure(register)),
            Notice::Assignment(assignment) => {
                let own = assignment.members.iter().find(|member| member.id == id);
                let Some(own) = own else {
                    return "it is not among the members";
                };
                process.stamp = assignment.stamp;
                process.settle_in(own.fenced, &assignment.settings);
                let lease = Duration::from_millis(assignment.settings.lease_ms);
                let configuration = assignment.configuration.clone();
                self.drive(slot, Input::SetLease(lease));
                self.drive(slot, Input::Configure(configuration));
            }
        }
        ""
    }

    fn ticket(&mut self, desk: usize, life: u64) -> u64 {
        self.next_ticket += 1;
        self.tickets.insert(self.next_ticket, (desk, life));
        self.next_ticket
    }

    /// A replica answers a request for a promise.
    pub(crate) fn promised(&mut self, ticket: u64, answer: Option<PromiseAnswer>, slot: usize) {
        let Some((desk, life)) = self.tickets.remove(&ticket) else {
            return;
        };
        if !self.reaches(desk, slot) {
            return;
        }
        let process = self.machines[slot].process.as_ref();
        let whole = process.is_some_and(Process::is_whole);
        if let Some(answer) = &answer
            && answer.granted
        {
            let machine = &mut self.machines[slot];
            machine.told = machine.told.max(answer.last.lsn);
        }
        let Some(answer) = answer else {
            self.reply(Reply::Refused(desk, life));
            return;
        };
        if self.faults && self.rng.random_bool(0.05) {
            self.reply(Reply::Promise(desk, life, answer.clone(), whole));
        }
        self.reply(Reply::Promise(desk, life, answer, whole));
    }
}
