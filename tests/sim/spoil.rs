//! Planted mistakes that change what the core is told.

use replicated_store::replication::message::Message;
use replicated_store::replication::{Addressee, Effect, Input, Lsn, Peer, ReplicaId};

use super::bug::Bug;
use super::node::Process;
use super::shell::NOBODY;

impl Process {
    /// The input as a planted mistake lets it through, or not at all.
    pub(crate) fn spoil(&mut self, input: Input) -> Option<Input> {
        match (self.bug, input) {
            (Bug::FollowsOnAfterPromise, Input::Promise { epoch, ticket, .. })
                if self.core.leading().is_none() && epoch > self.core.view().hard.promised =>
            {
                self.answer_promise(ticket, true, self.core.promised(), &[]);
                None
            }
            (Bug::LeadsOnAfterPromise, Input::Promise { epoch, ticket, .. })
                if self.core.leading().is_some_and(|own| own < epoch) =>
            {
                self.answer_promise(ticket, true, self.core.promised(), &[]);
                None
            }
            // Only the process that promised an epoch begins it: it takes itself for that one.
            (Bug::BeginsTwice | Bug::ForgetsPromise, Input::Configure(to))
                if to.leader == Some(self.id)
                    && self.core.leading().is_none()
                    && self.core.view().hard.begun < to.epoch
                    && self.core.promised() <= to.epoch =>
            {
                let (epoch, ticket, nobody) = (to.epoch, NOBODY, Addressee::default());
                let promise = Input::Promise {
                    epoch,
                    ticket,
                    to: nobody,
                };
                self.drive_core(promise);
                Some(Input::Configure(to))
            }
            (_, Input::Received(peer, message)) => {
                let message = self.spoil_message(message);
                Some(Input::Received(peer, message))
            }
            (_, input) => Some(input),
        }
    }

    fn spoil_message(&self, message: Message) -> Message {
        match (self.bug, message) {
            (
                Bug::LeaseFromReceipt,
                Message::Ack {
                    durable,
                    applied,
                    ready,
                    complete,
                    lease_ms,
                    ..
                },
            ) => Message::Ack {
                durable,
                applied,
                ready,
                complete,
                echo: self.now.as_micros() as u64,
                lease_ms,
            },
            (
                Bug::NoDriftAllowance,
                Message::Ack {
                    durable,
                    applied,
                    ready,
                    complete,
                    echo,
                    lease_ms,
                },
            ) => Message::Ack {
                durable,
                applied,
                ready,
                complete,
                echo,
                // The core takes a fiftieth off again.
                lease_ms: lease_ms * 50 / 49 + 1,
            },
            (
                Bug::MatchesByLsn,
                Message::History {
                    end,
                    flushed,
                    complete,
                    ..
                },
            ) => Message::History {
                history: self.core.history().clone(),
                end,
                flushed,
                complete,
            },
            (
                Bug::CountsLearner,
                Message::Hello {
                    version,
                    id,
                    name,
                    promised,
                    store,
                },
            ) => Message::Hello {
                version,
                id: self.absent_voter(id),
                name,
                promised,
                store,
            },
            (_, message) => message,
        }
    }

    /// After a follower has told its history: counts it as if it were the leader's.
    pub(crate) fn count_unmatched(&mut self, peer: Peer, end: Lsn) {
        let from = end.min(self.core.end()).max(self.core.oldest());
        let input = Input::Received(peer, Message::Ready { from });
        let effects = self.core.step(input, self.now);
        for effect in effects {
            if !matches!(effect, Effect::Stream { .. }) {
                self.carry_out(effect);
            }
        }
        self.answer_waiters();
    }

    /// A voter that is not connected, for a learner; any other stays what it is.
    fn absent_voter(&self, id: ReplicaId) -> ReplicaId {
        let voters = &self.core.configuration().voters;
        let followers = self.core.view().followers;
        let absent = voters
            .iter()
            .find(|voter| **voter != self.id && followers.iter().all(|it| it.id != **voter));
        match absent {
            Some(absent) if !voters.contains(&id) => *absent,
            _ => id,
        }
    }
}
