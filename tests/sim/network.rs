//! Simulated connections: messages of one connection keep their order, and a connection may break
//! at any moment, losing what is on its way.

use std::collections::{BTreeMap, VecDeque};

use replicated_store::replication::message::Message;
use replicated_store::replication::{Lsn, Peer};

use super::node::Frame;

/// What travels.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    Message(Message),
    Append(Message, Vec<Frame>),
}

/// A follower's connection to a leader. Each end knows it by the same number.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) follower: usize,
    pub(crate) leader: usize,
    pub(crate) to_leader: VecDeque<Packet>,
    pub(crate) to_follower: VecDeque<Packet>,
    /// Everything up to here was sent.
    pub(crate) streamed: Option<Lsn>,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) links: BTreeMap<Peer, Link>,
    next: Peer,
}

impl Network {
    pub(crate) fn connect(&mut self, follower: usize, leader: usize) -> Peer {
        self.next += 1;
        let link = Link {
            follower,
            leader,
            to_leader: VecDeque::new(),
            to_follower: VecDeque::new(),
            streamed: None,
        };
        self.links.insert(self.next, link);
        self.next
    }

    pub(crate) fn of_follower(&self, follower: usize) -> Option<Peer> {
        self.links
            .iter()
            .find(|(_, link)| link.follower == follower)
            .map(|(peer, _)| *peer)
    }

    /// Puts a message of `from` onto the connection.
    pub(crate) fn send(&mut self, peer: Peer, from: usize, packet: Packet) {
        if let Some(link) = self.links.get_mut(&peer) {
            if link.follower == from {
                link.to_leader.push_back(packet);
            } else {
                link.to_follower.push_back(packet);
            }
        }
    }
}
