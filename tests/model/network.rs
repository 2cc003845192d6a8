//! Connections: in order, as slow as you like, broken at any time.

use std::collections::VecDeque;

use crate::replication::message::Message;
use crate::replication::{Input, Lsn, Peer};
use crate::state::{Connection, FOLLOWER, Job, LEADER, Packet, Record};
use crate::switch::{number, on};
use crate::world::{LEASE, World, local};

const TELLS_COMMITTED: usize = number("shell: followers are told what is committed");

/// Neither slow.
pub(crate) const FAST: [bool; 2] = [false, false];

impl World<'_> {
    pub(crate) fn connect(&mut self, follower: usize, leader: usize, slow: [bool; 2]) {
        let taken = |peer| self.state.connections.iter().any(|it| it.peer == peer);
        let peer = (1..=Peer::MAX)
            .find(|peer| !taken(*peer))
            .unwrap_or_default();
        self.state.connections.push(Connection {
            peer,
            ends: [follower, leader],
            open: [true, true],
            queues: [VecDeque::new(), VecDeque::new()],
            slow,
            stream: None,
            sent_at: 0,
            acknowledged: None,
        });
        self.tell(follower, Input::Connected(peer));
    }

    fn find(&mut self, peer: Peer) -> Option<&mut Connection> {
        let mut connections = self.state.connections.iter_mut();
        connections.find(|it| it.peer == peer)
    }

    /// Towards that end, if it listens.
    fn push(connection: &mut Connection, end: usize, packet: Packet) {
        if connection.open[end] {
            connection.queues[end].push_back(packet);
        }
    }

    pub(crate) fn send(&mut self, slot: usize, peer: Peer, message: Message) {
        if let Some(connection) = self.find(peer) {
            let other = usize::from(connection.ends[FOLLOWER] == slot);
            if connection.open[1 - other] {
                Self::push(connection, other, Packet::Message(message));
            }
        }
    }

    /// One end is closed; the other one learns it after what is on its way to there.
    pub(crate) fn close(&mut self, slot: usize, peer: Peer) {
        let Some(connection) = self.find(peer) else {
            return;
        };
        let end = usize::from(connection.ends[FOLLOWER] != slot);
        if connection.open[end] {
            Self::shut(connection, end);
            self.tell(slot, Input::Closed(peer));
        }
        self.state
            .connections
            .retain(|it| it.open != [false, false]);
    }

    fn shut(connection: &mut Connection, end: usize) {
        connection.open[end] = false;
        connection.slow[end] = false;
        connection.queues[end].clear();
        if end == LEADER {
            connection.stream = None;
        }
        Self::push(connection, 1 - end, Packet::Closed);
    }

    /// A process is gone, and its ends of all connections with it.
    pub(crate) fn hang_up(&mut self, slot: usize) {
        for connection in &mut self.state.connections {
            for end in [FOLLOWER, LEADER] {
                if connection.ends[end] == slot && connection.open[end] {
                    Self::shut(connection, end);
                }
            }
        }
        self.state
            .connections
            .retain(|it| it.open != [false, false]);
    }

    pub(crate) fn unfollow(&mut self, slot: usize) {
        self.state.replica(slot).follows = None;
        let connections = self.state.connections.iter();
        let mine = connections.filter(|it| it.ends[FOLLOWER] == slot && it.open[FOLLOWER]);
        let peers: Vec<Peer> = mine.map(|it| it.peer).collect();
        for peer in peers {
            self.close(slot, peer);
        }
    }

    pub(crate) fn deliver(&mut self, index: usize, end: usize) {
        let connection = &mut self.state.connections[index];
        let Some(packet) = connection.queues[end].pop_front() else {
            return;
        };
        let (peer, slot) = (connection.peer, connection.ends[end]);
        match packet {
            Packet::Message(message) => self.drive(slot, Input::Received(peer, message)),
            Packet::Append(at, records, message) => {
                self.offer(slot, peer, at, &records);
                self.drive(slot, Input::Received(peer, message));
            }
            Packet::Closed => self.close(slot, peer),
        }
    }

    /// Frames go into the log if the core takes them. That they continue it by their checksums, as
    /// the shell sees to, is not asked for here: the protocol must not need it.
    fn offer(&mut self, slot: usize, peer: Peer, at: usize, records: &[Record]) {
        let end = Lsn((at + records.len()) as u64);
        let mut epochs = Vec::new();
        for (number, record) in records.iter().enumerate() {
            if epochs
                .last()
                .is_none_or(|(epoch, _)| *epoch != record.epoch)
            {
                epochs.push((record.epoch, Lsn((at + number) as u64)));
            }
        }
        let before = self.state.replicas[slot].core.end();
        self.drive(
            slot,
            Input::Frames {
                peer,
                start: Lsn(at as u64),
                epochs,
                end,
            },
        );
        let replica = self.state.replica(slot);
        if replica.core.end() > before {
            replica.log.extend_from_slice(records);
            replica.jobs.push_back(Job::Write(end.0 as usize));
        }
    }

    pub(crate) fn stream(&mut self, slot: usize, peer: Peer, from: Lsn) {
        if let Some(connection) = self.find(peer)
            && connection.ends[LEADER] == slot
            && connection.open[LEADER]
        {
            connection.stream = Some((from.0 as usize, Lsn::ZERO));
            connection.sent_at = 0;
        }
    }

    /// Sends followers what there is: records, a commit LSN that moved, or that time passed.
    pub(crate) fn pump(&mut self, slot: usize, beat: bool) {
        let replica = &self.state.replicas[slot];
        let told = if on(TELLS_COMMITTED) {
            replica.core.commit()
        } else {
            replica.core.released()
        };
        let (commit, now) = (
            told,
            local(self.scope, self.state.time, slot).as_micros() as u64,
        );
        let news = Message::Heartbeat {
            commit,
            end: replica.core.end(),
            keep_from: Lsn::ZERO,
            sent_at: now,
            lease_ms: LEASE.as_millis() as u32,
            time_ms: 0,
        };
        for connection in &mut self.state.connections {
            let Some((at, told)) = connection.stream else {
                continue;
            };
            let idle = at >= replica.log.len() && commit <= told && connection.sent_at > 0;
            if connection.ends[LEADER] != slot || (idle && !(beat && connection.sent_at < now)) {
                continue;
            }
            if at < replica.disk.oldest.0 as usize {
                self.wrong = Some(format!("{slot} streams what it has freed"));
                return;
            }
            let packet = match &replica.log[at.min(replica.log.len())..] {
                [] => Packet::Message(news.clone()),
                records => Packet::Append(at, records.to_vec(), news.clone()),
            };
            connection.stream = Some((replica.log.len(), commit));
            connection.sent_at = now;
            Self::push(connection, FOLLOWER, packet);
        }
    }

    /// A follower acknowledges whenever that would say something new.
    pub(crate) fn acknowledge(&mut self, slot: usize) {
        let Some((peer, message)) = self.state.replicas[slot].core.acknowledgement() else {
            return;
        };
        if let Some(connection) = self.find(peer)
            && connection.open[FOLLOWER]
            && connection.acknowledged.as_ref() != Some(&message)
        {
            connection.acknowledged = Some(message.clone());
            Self::push(connection, LEADER, Packet::Message(message));
        }
    }
}
