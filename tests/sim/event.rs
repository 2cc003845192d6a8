//! What happens in the world, one thing after the other.

use replicated_store::replication::Peer;

use super::api::{Ask, Reply};
use super::client::OpId;
use super::network::Network;

/// What happens at a moment. Processes are named with their incarnation: what was meant for an
/// earlier one does not happen.
pub(crate) enum Event {
    Start(usize),
    Tick(usize, u64),
    Beat(usize, u64),
    Connect(usize, u64),
    Work(usize, u64),
    Apply(usize, u64),
    Flush(usize, u64),
    Install(usize, u64),
    Deliver(Peer, usize),
    Think(usize),
    Look(usize),
    Request(OpId, usize),
    Response(OpId, Option<u64>),
    Timeout(OpId),
    Operator(usize),
    Status(usize, usize),
    Conclude(usize, u64),
    User,
    Evict(usize, u64),
    Ask(Ask),
    Reply(Reply),
    Fault,
}

impl Event {
    /// The machine on which it happens, if it waits while that is paused.
    pub(crate) fn machine(&self, network: &Network) -> Option<usize> {
        match self {
            Self::Tick(slot, _)
            | Self::Beat(slot, _)
            | Self::Connect(slot, _)
            | Self::Work(slot, _)
            | Self::Apply(slot, _)
            | Self::Flush(slot, _)
            | Self::Install(slot, _)
            | Self::Request(_, slot) => Some(*slot),
            Self::Ask(ask) => ask.slot(),
            Self::Deliver(peer, to) => network.links.get(peer).map(|link| link.ends[*to].slot),
            _ => None,
        }
    }

    pub(crate) fn incarnation(&self) -> Option<u64> {
        match self {
            Self::Tick(_, incarnation)
            | Self::Beat(_, incarnation)
            | Self::Connect(_, incarnation)
            | Self::Work(_, incarnation)
            | Self::Apply(_, incarnation)
            | Self::Flush(_, incarnation)
            | Self::Install(_, incarnation) => Some(*incarnation),
            _ => None,
        }
    }
}
