//! Simulated connections: messages of one connection keep their order and take their time, an end
//! may be closed without the other knowing, and a direction may deliver nothing for long.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use replicated_store::log::Frame;
use replicated_store::replication::message::Message;
use replicated_store::replication::{EpochHistory, Lsn, Peer};

use super::node::Engine;

/// What travels.
#[derive(Clone)]
pub(crate) enum Packet {
    Message(Message),
    Append(Message, Vec<Frame>),
    SeedWanted,
    Seed(Box<Seed>),
    /// The other end was closed.
    Fin,
}

/// A snapshot on its way.
#[derive(Clone)]
pub(crate) struct Seed {
    pub(crate) at: Lsn,
    pub(crate) chain: u32,
    pub(crate) history: EpochHistory,
    pub(crate) engine: Engine,
    /// The checker's own knowledge of the log up to there.
    pub(crate) shadow: BTreeMap<Lsn, (u64, u32)>,
}

/// One end of a connection: a process on a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) slot: usize,
    pub(crate) incarnation: u64,
    pub(crate) open: bool,
    pub(crate) heard_at: Duration,
}

/// A follower's connection to a leader. Each end knows it by the same number.
pub(crate) struct Link {
    /// The follower's end and the leader's.
    pub(crate) ends: [End; 2],
    /// What is on its way to each of them, with the time of arrival.
    pub(crate) queues: [VecDeque<(Duration, Packet)>; 2],
    /// Nothing arrives before that.
    pub(crate) stalled_until: Duration,
}

/// Index of the follower's end.
pub(crate) const FOLLOWER: usize = 0;
/// Index of the leader's end.
pub(crate) const LEADER: usize = 1;

/// All connections, and who cannot reach whom.
#[derive(Default)]
pub(crate) struct Network {
    pub(crate) links: BTreeMap<Peer, Link>,
    pub(crate) cut: BTreeSet<(usize, usize)>,
    next: Peer,
}

impl Network {
    pub(crate) fn connect(&mut self, follower: End, leader: End) -> Peer {
        self.next += 1;
        let link = Link {
            ends: [follower, leader],
            queues: [VecDeque::new(), VecDeque::new()],
            stalled_until: Duration::ZERO,
        };
        self.links.insert(self.next, link);
        self.next
    }

    pub(crate) fn passes(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// Puts a message of `from` onto the connection; tells when somebody must look for it, if
    /// nobody looks already.
    pub(crate) fn send(
        &mut self,
        peer: Peer,
        from: usize,
        packet: Packet,
        arrival: Duration,
    ) -> Option<(usize, Duration)> {
        let link = self.links.get_mut(&peer)?;
        let to = usize::from(link.ends[FOLLOWER].slot == from);
        let queue = &mut link.queues[to];
        let arrival = queue.back().map_or(arrival, |(last, _)| arrival.max(*last));
        queue.push_back((arrival, packet));
        (queue.len() == 1).then_some((to, arrival))
    }

    /// Forgets a connection of which both ends are closed.
    pub(crate) fn forget(&mut self, peer: Peer) {
        let closed = |link: &Link| link.ends.iter().all(|end| !end.open);
        if self.links.get(&peer).is_some_and(closed) {
            self.links.remove(&peer);
        }
    }
}
