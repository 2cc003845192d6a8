//! The state as a client's command sees it: the store under the lock, with the rules of the
//! replication about who may read and write, and the LSN that the reply must wait for.

use std::sync::atomic::Ordering;
use std::task::Waker;

use super::facts;
use super::gate::Slot;
use super::inner::Inner;
use super::node::Node;
use super::room::{self, Room};
use super::shown::Hidden;
use crate::command::{EntryRef, Facts, View, ViewError};
use crate::replication::{Lsn, Position, Standing};
use crate::store::{Record, StoreError};

/// A view for the commands of one connection's turn.
pub(super) struct StoreView<'a> {
    node: &'a Node,
    inner: &'a mut Inner,
    now_ms: u64,
    /// Keys that a leader has found to have expired.
    overdue: Vec<Box<[u8]>>,
    random: u64,
    /// The newest change that an answer rests on; it must be released first.
    pub(super) need: Lsn,
    /// Whether anything was appended.
    pub(super) wrote: bool,
    /// Whether a leader's state was looked at or changed: an answer needs its leases.
    pub(super) touched: bool,
}

impl<'a> StoreView<'a> {
    pub(super) fn new(node: &'a Node, inner: &'a mut Inner) -> Self {
        let now_ms = node.judged_ms(inner);
        Self {
            node,
            inner,
            now_ms,
            overdue: Vec::new(),
            random: now_ms,
            need: Lsn::ZERO,
            wrote: false,
            touched: false,
        }
    }

    /// The end of the leader's reign up to now: see [`Node::released`].
    pub(super) fn reign(&self) -> u64 {
        self.inner.reign
    }

    /// Begins the wait of what was executed, if an answer has to wait; says whether it has.
    pub(super) fn begin_wait(&mut self, slot: &mut Slot, waker: &Waker) -> bool {
        if self.touched {
            self.node.begin_wait(self.inner, self.need, slot, waker);
        }
        self.touched
    }

    /// Deletes what was found to have expired: so the answer rests on a record, and the key stays gone whoever
    /// leads next. Where nothing can be written, it rests on the clock alone.
    pub(super) fn delete_overdue(&mut self) {
        if self.overdue.is_empty() || self.writable().is_err() || self.inner.stalls_writers() {
            return;
        }
        for key in std::mem::take(&mut self.overdue) {
            let Some(store) = &mut self.inner.store else {
                return;
            };
            let entry = store.get(&key).ok().and_then(|found| found.value);
            let due = entry
                .is_some_and(|entry| entry.expire_at_ms != 0 && entry.expire_at_ms <= self.now_ms);
            // It may have been written since.
            if due && self.append(&Record::Delete { key: &key }).is_ok() {
                self.node.expired.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// What the view looks at.
    pub(super) fn inner(&self) -> &Inner {
        self.inner
    }

    /// The same, to be changed.
    pub(super) fn inner_mut(&mut self) -> &mut Inner {
        self.inner
    }

    fn append(&mut self, record: &Record<'_>) -> Result<(), ViewError> {
        if !self.inner.accepting {
            return Err(ViewError::Refused(self.read_only()));
        }
        let lsn = self
            .inner
            .append(record)
            .map_err(|error| storage(self.node, &error))?;
        self.need = lsn;
        self.wrote = true;
        self.touched = true;
        Ok(())
    }

    /// Whether the key is there physically, expired or not.
    fn exists(&mut self, key: &[u8]) -> Result<bool, ViewError> {
        let Some(store) = &mut self.inner.store else {
            return Err(loading());
        };
        Ok(store
            .get(key)
            .map_err(|error| storage(self.node, &error))?
            .value
            .is_some())
    }
}

fn storage(node: &Node, error: &StoreError) -> ViewError {
    node.suspect(error);
    ViewError::Storage(error.to_string())
}

fn refused(room: Room) -> Result<(), ViewError> {
    let refusal = room::refusal(room).map(|text| ViewError::Refused(text.into()));
    refusal.map_or(Ok(()), Err)
}

fn loading() -> ViewError {
    hidden(Hidden::Seeding)
}

#[cold]
fn hidden(why: Hidden) -> ViewError {
    ViewError::Refused(format!("LOADING this replica {}: try another", why.text()))
}

impl View for StoreView<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<EntryRef<'_>>, ViewError> {
        let leading = self.inner.accepting;
        let Some(store) = &mut self.inner.store else {
            return Err(loading());
        };
        let found = store.get(key).map_err(|error| storage(self.node, &error))?;
        if leading {
            self.touched = true;
            self.need = self.need.max(found.lsn);
        }
        let live = found
            .value
            .filter(|value| value.expire_at_ms == 0 || value.expire_at_ms > self.now_ms);
        if leading && live.is_none() && found.value.is_some() {
            self.overdue.push(key.into());
        }
        Ok(live.map(|value| EntryRef {
            value: value.value,
            expire_at_ms: value.expire_at_ms,
            lsn: value.lsn.0,
        }))
    }

    fn put(&mut self, key: &[u8], value: &[u8], expire_at_ms: u64) -> Result<(), ViewError> {
        self.writable()?;
        let created = !self.exists(key)?;
        self.append(&Record::Put {
            key,
            value,
            expire_at_ms,
            created,
        })
    }

    fn delete(&mut self, key: &[u8]) -> Result<bool, ViewError> {
        let live = self.get(key)?.is_some();
        if live || (self.writable().is_ok() && self.exists(key)?) {
            self.append(&Record::Delete { key })?;
        }
        Ok(live)
    }

    fn clear(&mut self) -> Result<(), ViewError> {
        self.append(&Record::Clear)
    }

    fn len(&mut self) -> Result<u64, ViewError> {
        self.rest_on_everything();
        self.inner
            .store
            .as_ref()
            .map(crate::store::Store::len)
            .ok_or_else(loading)
    }

    fn len_hint(&mut self) -> u64 {
        self.inner
            .store
            .as_ref()
            .map_or(0, crate::store::Store::len)
    }

    fn random_key(&mut self) -> Result<Option<Vec<u8>>, ViewError> {
        self.rest_on_everything();
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let Some(store) = &mut self.inner.store else {
            return Err(loading());
        };
        store
            .random_key(self.random, self.now_ms)
            .map_err(|error| storage(self.node, &error))
    }

    fn scan(&mut self, cursor: u64, count: usize) -> Result<(u64, Vec<Vec<u8>>), ViewError> {
        self.rest_on_everything();
        let Some(store) = &mut self.inner.store else {
            return Err(loading());
        };
        let found = store.scan(cursor, count, self.now_ms);
        found.map_err(|error| match error {
            StoreError::UnknownCursor(_) => ViewError::Refused(format!("ERR {error}")),
            other => storage(self.node, &other),
        })
    }

    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn writable(&self) -> Result<(), ViewError> {
        let gate = &self.inner.gate;
        if gate.bars() {
            return Err(self.barred());
        }
        if !self.inner.accepting {
            // What is queued here is executed by the leader.
            return if self.forwards() {
                Ok(())
            } else {
                Err(ViewError::Refused(self.read_only()))
            };
        }
        if gate.short {
            return Err(self.short());
        }
        match room::room(self.inner) {
            Room::None => refused(Room::None),
            Room::Enough | Room::Little => Ok(()),
        }
    }

    fn growable(&self) -> Result<(), ViewError> {
        if self.inner.accepting {
            refused(room::room(self.inner))
        } else {
            Ok(())
        }
    }

    fn readable(&self) -> Result<(), ViewError> {
        let inner = &*self.inner;
        if inner.store.is_none() {
            return Err(loading());
        }
        if inner.gate.bars() {
            return Err(self.barred());
        }
        inner.shows().map_err(hidden)
    }

    fn end_lsn(&self) -> u64 {
        self.inner.end().0
    }

    fn leads(&self) -> bool {
        self.inner.accepting
    }

    fn copies(&self, lsn: u64) -> u64 {
        self.inner.copies(Lsn(lsn))
    }

    fn facts(&self) -> Facts {
        facts::facts(self.node, self.inner)
    }
}

impl StoreView<'_> {
    /// Whether this replica takes no writes itself.
    pub(super) fn follows(&self) -> bool {
        !self.inner.accepting
    }

    /// Whether a client that has seen this would be shown an older state here.
    pub(super) fn lacks(&self, seen: Position) -> bool {
        self.inner.store.is_some() && self.inner.standing(seen) == Standing::Behind
    }

    /// Whether what a client has seen was given up, so that no state here will ever follow it.
    pub(super) fn has_lost(&self, seen: Position) -> bool {
        self.inner.store.is_some() && self.inner.standing(seen) == Standing::Parted
    }

    /// The newest change that what was executed has shown, or made. What a leader shows may have been there for
    /// long, but then it shows as well what is committed.
    pub(super) fn shows(&self) -> Lsn {
        if self.touched {
            self.need.max(self.inner.core.released())
        } else {
            self.inner.applied.end
        }
    }

    /// Whether this replica hands writes on to its leader.
    pub(super) fn forwards(&self) -> bool {
        !self.inner.accepting && self.inner.settings.forward_writes && !self.inner.gate.fenced
    }

    /// On a leader, the answer rests on every change so far.
    fn rest_on_everything(&mut self) {
        if self.inner.accepting {
            self.touched = true;
            self.need = self.inner.end();
        }
    }

    #[cold]
    fn barred(&self) -> ViewError {
        ViewError::Refused(if self.inner.gate.fenced {
            "READONLY this replica is fenced: it serves no client while its name is in spec.fenced"
                .into()
        } else {
            "CLUSTERDOWN this leader is cut off from its followers: it does not know whether it \
             still leads. Try another replica, or again"
                .into()
        })
    }

    #[cold]
    fn short(&self) -> ViewError {
        let wanted = self.inner.settings.sync_replicas;
        let voters = self.inner.core.configuration().voters.len();
        ViewError::Refused(format!(
            "NOREPLICAS writes need {wanted} synchronous followers, and there are {} now. Bring \
             followers back, lower replication.syncReplicas, or set replication.onShortfall to Degrade",
            voters.saturating_sub(1)
        ))
    }

    fn read_only(&self) -> String {
        let view = self.inner.core.view();
        let leader = view.leader.filter(|id| *id != self.node.id);
        let known = leader.and_then(|id| self.inner.members.get(&id));
        match known {
            Some(member) => format!(
                "READONLY You can't write against a read only replica. The leader is {} at {}",
                member.name, member.client_address
            ),
            None => "READONLY You can't write against a read only replica. \
                     There is no leader at the moment"
                .to_owned(),
        }
    }
}
