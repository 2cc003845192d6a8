//! The shell around the core: carries effects out as `src/server/node.rs` does, with what planted
//! mistakes change on the way in.

use std::time::Duration;

use replicated_store::log::Frame;
use replicated_store::replication::admin::{Acknowledged, LeaseLeft, PromiseAnswer};
use replicated_store::replication::message::Message;
use replicated_store::replication::{CoreView, Effect, Epoch, Input, Lease, Lsn, Peer, Position};
use replicated_store::store::{Cut, Record};

use super::bug::Bug;
use super::client::Command;
use super::network::Packet;
use super::node::{Job, Out, Process, Stream, Tip};

/// Ticket of a promise that only a planted mistake asks for.
pub(crate) const NOBODY: u64 = u64::MAX;

impl Process {
    /// Tells the core what happened at local time `now`, and carries its effects out.
    pub(crate) fn drive(&mut self, input: Input, now: Duration) {
        self.now = now;
        let Some(input) = self.spoil(input) else {
            return;
        };
        let told = match (&input, self.bug) {
            (Input::Received(peer, Message::History { end, .. }), Bug::CountsUnmatched) => {
                Some((*peer, *end))
            }
            _ => None,
        };
        self.drive_core(input);
        if let Some((peer, end)) = told {
            self.count_unmatched(peer, end);
        }
    }

    pub(crate) fn drive_core(&mut self, input: Input) {
        self.step(input);
        self.incoming.clear();
        self.say_quiet();
        self.pump();
        self.answer_waiters();
    }

    fn step(&mut self, input: Input) {
        let led = self.core.leading().is_some();
        for effect in self.core.step(input, self.now) {
            match effect {
                Effect::Release(lsn) => self.out.push(Out::Released(lsn, led)),
                effect => self.carry_out(effect),
            }
        }
    }

    pub(crate) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Save(hard) => self.jobs.push_back(Job::Save(hard)),
            Effect::Adopt(configuration) => self.jobs.push_back(Job::Adopt(configuration)),
            Effect::AppendBarrier { epoch, version } => {
                self.jobs.push_back(Job::Barrier { epoch, version });
            }
            Effect::Truncate(to) => self.jobs.push_back(Job::Truncate(to)),
            Effect::AnswerPromise {
                ticket,
                granted,
                before,
                leases,
            } => self.answer_promise(ticket, granted, before, &leases),
            Effect::Refuse { ticket, .. } => self.out.push(Out::Refused(ticket)),
            Effect::Hold => (self.holding, self.quiet_said) = (true, false),
            Effect::Resume => self.holding = false,
            Effect::Beat => self.jobs.push_back(Job::Beat),
            Effect::Lead(_) => self.ahead = [self.applied].into(),
            Effect::StepDown => self.step_down(),
            Effect::Follow(leader) => self.follows = Some(leader),
            Effect::Unfollow => {
                self.follows = None;
                if let Some(peer) = self.link {
                    self.out.push(Out::Close(peer));
                }
            }
            Effect::Send(peer, message) => {
                self.out.push(Out::Send(peer, Packet::Message(message)));
            }
            Effect::Stream { peer, from } => {
                let commit = Lsn::ZERO;
                self.streams.insert(peer, Stream { at: from, commit });
            }
            Effect::Close(peer, _) => self.out.push(Out::Close(peer)),
            Effect::Take(_) => self.take(),
            Effect::SendResume { peer, point } => {
                let chain = self.chain_at(point);
                let resume = Packet::Message(Message::Resume { point, chain });
                self.out.push(Out::Send(peer, resume));
            }
            Effect::SendSeed { peer, point } => {
                let chain = self.chain_at(point);
                let seed = Packet::Message(Message::Seed { point, chain });
                self.out.push(Out::Send(peer, seed));
            }
            Effect::Compare { peer, point, chain } => {
                let ours = self.chain_at(point);
                // These must be seen whatever the checksums say.
                let blind = matches!(
                    self.bug,
                    Bug::BeginsTwice | Bug::ForgetsPromise | Bug::MatchesByLsn
                );
                let equal = (ours.is_some() && ours == chain) || blind;
                for effect in self
                    .core
                    .step(Input::Compared { peer, point, equal }, self.now)
                {
                    self.carry_out(effect);
                }
            }
            Effect::FetchSeed { peer, point, chain } => {
                self.parted = Some((point, chain));
                self.ready = false;
                self.out.push(Out::Send(peer, Packet::SeedWanted));
            }
            Effect::Commit(lsn) => self.out.push(Out::Committed(lsn)),
            Effect::Release(lsn) => self.released_ahead(lsn), // the rest is told with who has done it
        }
    }

    /// The chain of the log at this point; `None` if no frame of it ends there, or if that was freed.
    fn chain_at(&self, point: Lsn) -> Option<u32> {
        if point == self.tip.end {
            return Some(self.tip.chain);
        }
        let after = self.tail.iter().find(|frame| frame.start() == point);
        if let Some(frame) = after {
            return Some(frame.prev_chain());
        }
        let tip = self.reader.locate(point).ok()?;
        (tip.position.lsn == point).then_some(tip.chain)
    }

    pub(crate) fn answer_promise(
        &mut self,
        ticket: u64,
        granted: bool,
        before: Epoch,
        leases: &[Lease],
    ) {
        let view = self.core.view();
        let left = |lease: &Lease| LeaseLeft {
            holder: lease.holder,
            left_ms: lease.left.as_micros().div_ceil(1000) as u64,
        };
        let answer = PromiseAnswer {
            id: self.id,
            granted,
            promised: view.hard.promised,
            before: Some(before),
            last: view.last,
            cut: view.hard.cut,
            acknowledged: self.acknowledged(&view),
            forgotten: self.core.forgotten(),
            leases: leases.iter().map(left).collect(),
        };
        if ticket != NOBODY {
            self.out.push(Out::Promise(ticket, answer));
        }
    }

    /// What this replica, if it leads, knows its followers to have on disk.
    fn acknowledged(&self, view: &CoreView) -> Vec<Acknowledged> {
        let known = view.followers.iter().filter(|it| it.durable > Lsn::ZERO);
        let last = |lsn| Position {
            epoch: self.core.history().epoch_at(lsn),
            lsn,
        };
        let all = known.map(|it| Acknowledged {
            id: it.id,
            epoch: view.epoch,
            last: last(it.durable),
        });
        all.collect()
    }

    fn step_down(&mut self) {
        self.accepting = false;
        self.holding = false;
        self.reign += 1;
        self.streams.clear();
        self.jobs.retain(|job| !matches!(job, Job::Barrier { .. }));
        self.pending.clear();
        self.records = 0;
        if self.applied.end > self.core.commit() {
            if !self.take_back() {
                self.rewind();
            }
        } else if self.applied.end == self.tip.end {
            self.applied = self.tip; // the chain was not kept while it led
        }
        self.waiters.clear();
    }

    pub(crate) fn released_ahead(&mut self, lsn: Lsn) {
        while self.ahead.get(1).is_some_and(|next| next.end <= lsn) {
            self.ahead.pop_front();
        }
        if let Some(store) = &mut self.store {
            store.committed(lsn);
        }
    }

    /// Takes back what the state holds beyond the commit LSN.
    fn take_back(&mut self) -> bool {
        let commit = self.core.commit();
        // As if there had been too much of it, now and then.
        let known = !self.applied.end.0.is_multiple_of(3);
        let to = self.ahead.front().copied();
        let Some(to) = to.filter(|to| known && to.end == commit) else {
            return false;
        };
        self.going_back();
        self.flush.take_if(|job| job.cut() > commit);
        let taken = self
            .store
            .as_mut()
            .is_some_and(|store| store.take_back(commit));
        assert!(taken, "little is not committed");
        self.applied = to;
        let told = self.core.step(Input::Applied(commit), self.now);
        assert!(told.is_empty(), "nothing rests on it");
        true
    }

    /// Brings the state back to what was flushed; the applier goes on from there.
    pub(crate) fn rewind(&mut self) {
        self.going_back();
        self.flush = None;
        if let Some(store) = &mut self.store {
            let to = store.reset();
            let meta = store.meta();
            let flushed = Tip {
                end: meta.flushed,
                chain: meta.chain,
            };
            self.applied = if to == flushed.end { flushed } else { self.cut };
            assert_eq!(self.applied.end, to, "the state goes back to a cut");
            let told = self.core.step(Input::Applied(to), self.now);
            assert!(told.is_empty(), "nothing rests on it");
        }
    }

    /// A frame of this leader is complete.
    pub(crate) fn seal(&mut self, frame: &Frame, barrier: Option<u64>) {
        self.note(frame);
        let mut at = frame.end();
        if self.bug == Bug::CommitsWithoutBarrier {
            at = Lsn(1);
        }
        let end = frame.end();
        if barrier.is_some() {
            self.barriers.insert(end, frame.start());
        }
        let barrier = barrier.map(|version| (version, at));
        self.ahead.push_back(self.tip);
        self.drive_core(Input::Sealed { end, barrier });
    }

    fn note(&mut self, frame: &Frame) {
        self.tip = Tip {
            end: frame.end(),
            chain: frame.chain(),
        };
        self.shadow
            .insert(frame.end(), (frame.epoch().0, frame.chain()));
        self.tail.push_back(frame.clone());
        self.out
            .push(Out::Frame(frame.epoch(), frame.end(), frame.chain()));
    }

    fn take(&mut self) {
        let frames = std::mem::take(&mut self.incoming);
        for frame in &frames {
            self.note(frame);
        }
        self.jobs.push_back(Job::Append(frames));
    }

    /// Offers frames to the core; they must continue the log in position and in checksum.
    pub(crate) fn offer(&mut self, peer: Peer, frames: Vec<Frame>, now: Duration) {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            return;
        };
        if first.start() == self.tip.end && first.prev_chain() != self.tip.chain {
            self.out.push(Out::Close(peer));
            return;
        }
        let (start, end) = (first.start(), last.end());
        let mut epochs: Vec<(Epoch, Lsn)> = Vec::new();
        for frame in &frames {
            if epochs
                .last()
                .is_none_or(|(epoch, _)| *epoch != frame.epoch())
            {
                epochs.push((frame.epoch(), frame.start()));
            }
        }
        self.incoming = frames;
        let input = Input::Frames {
            peer,
            start,
            epochs,
            end,
        };
        self.drive(input, now);
        if self.bug == Bug::AcknowledgesUnwritten {
            self.drive_core(Input::Durable(self.core.end()));
        }
    }

    /// After `Hold`: says so once everything that was executed is sealed.
    fn say_quiet(&mut self) {
        if self.holding && !self.quiet_said && self.records == 0 {
            self.quiet_said = true;
            self.step(Input::Quiet);
        }
    }

    /// Sends followers what there is, and what is released if that moved.
    pub(crate) fn pump(&mut self) {
        let peers: Vec<Peer> = self.streams.keys().copied().collect();
        for peer in peers {
            let stream = self.streams[&peer];
            if stream.at >= self.tip.end {
                if self.told() > stream.commit {
                    self.heartbeat(peer);
                }
                continue;
            }
            let Some(frames) = self.after(stream.at) else {
                self.streams.remove(&peer);
                self.out.push(Out::Close(peer));
                continue;
            };
            let Some(last) = frames.last() else { continue };
            let commit = self.told();
            let at = last.end();
            self.streams.insert(peer, Stream { at, commit });
            let packet = Packet::Append(self.news(), frames);
            self.out.push(Out::Send(peer, packet));
        }
    }

    /// Frames after `at`, from memory or from the log; `None` if they are gone.
    fn after(&self, at: Lsn) -> Option<Vec<Frame>> {
        if self.tail.front().is_some_and(|first| first.start() <= at) {
            let from = self.tail.partition_point(|frame| frame.end() <= at);
            return Some(self.tail.range(from..).take(16).cloned().collect());
        }
        self.reader.read_from(at, 1 << 12).ok()
    }

    pub(crate) fn heartbeat(&mut self, peer: Peer) {
        let news = self.news();
        let commit = self.told();
        if let Some(stream) = self.streams.get_mut(&peer) {
            stream.commit = commit;
            self.out.push(Out::Send(peer, Packet::Message(news)));
        }
    }

    /// What followers are told of the commit.
    fn told(&self) -> Lsn {
        match self.bug {
            Bug::TellsCommitted => self.core.commit(),
            _ => self.core.released(),
        }
    }

    fn news(&self) -> Message {
        Message::Heartbeat {
            commit: self.told(),
            end: self.tip.end,
            keep_from: Lsn::ZERO,
            sent_at: self.now.as_micros() as u64,
            lease_ms: self.core.lease().as_millis() as u32,
            time_ms: 0,
        }
    }

    pub(crate) fn acknowledge(&mut self) {
        if let Some((peer, message)) = self.core.acknowledgement() {
            self.out.push(Out::Send(peer, Packet::Message(message)));
        }
    }

    /// Gives the answers that may be given now.
    pub(crate) fn answer_waiters(&mut self) {
        if self.waiters.is_empty() {
            return;
        }
        let leased = self.core.answers_until() > self.now || self.bug == Bug::AnswersUnleased;
        let released = match self.bug {
            Bug::AnswersUnreleased => self.core.commit(),
            _ => self.core.released(),
        };
        let reign = self.reign;
        let serves = self.core.view().serving;
        let hasty = self.bug == Bug::AnswersUncommitted;
        let out = &mut self.out;
        self.waiters.retain(|waiter| {
            let rests = waiter.need <= released || hasty;
            let given = leased && serves && rests && waiter.reign == reign;
            if given {
                let (need, at) = (waiter.need, waiter.at);
                out.push(Out::Answer(need, waiter.op, waiter.result, at));
            }
            !given
        });
    }

    /// Executes a command of a client: the result, and what the answer rests on.
    pub(crate) fn run_command(&mut self, command: Command) -> Option<(Option<u64>, Lsn)> {
        let store = self.store.as_mut()?;
        let key = [command.key()];
        let found = store.get(&key).expect("memory does not fail");
        let lsn = found.lsn;
        let old = found.value.map(|entry| {
            u64::from_le_bytes(entry.value.try_into().expect("values are eight bytes"))
        });
        let new = match command {
            Command::Get(_) => return Some((old, lsn)),
            Command::Set(_, value) => value,
            Command::Incr(_) => old.unwrap_or(0) + 1,
        };
        let value = new.to_le_bytes();
        let record = Record::Put {
            key: &key,
            value: &value,
            expire_at_ms: 0,
            created: old.is_none(),
        };
        record.encode(&mut self.pending);
        self.records += 1;
        let end = self.tip.end.advance(self.pending.len() as u64);
        store
            .apply_ahead(&record, end)
            .expect("memory does not fail");
        self.applied.end = end;
        Some((Some(new), end))
    }

    /// Cuts the state for a flush, if it stands at the end of a frame.
    pub(crate) fn cut_state(&mut self) {
        let at = if self.accepting {
            if self.records > 0 {
                return;
            }
            self.tip
        } else {
            self.applied
        };
        let history = self.history_to(at.end);
        if let Some(store) = &mut self.store
            && self.flush.is_none()
        {
            assert_eq!(store.applied(), at.end, "the state is cut where it stands");
            let cut = Cut {
                history,
                chain: at.chain,
            };
            self.flush = store.seal(cut);
            if self.flush.is_some() {
                self.cut = at;
            }
        }
    }
}
