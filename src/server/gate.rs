//! Who may be answered: whether this leader holds its leases, and whether clients are served here at
//! all. The turns that wait for it stand here; what they have executed is none of its business.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use super::inner::Inner;
use super::node::Node;
use crate::replication::Lsn;
use crate::replication::admin::Shortfall;

/// For so long those wait who rest on what too few followers hold, from when there are too few voters.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What the waiters, and everybody under the lock, are told.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Turns that wait until something is released: until replies may rest on it.
    unreleased: BTreeMap<(Lsn, u64), Waiter>,
    /// Turns that rest on released records, and wait for this leader's leases to come back.
    unleased: BTreeMap<u64, Waiter>,
    /// Turns that wait until a follower's state has come so far.
    behind: BTreeMap<(Lsn, u64), Waker>,
    /// Since when this leader has been without leases, on the node's clock.
    unleased_since: Option<Duration>,
    /// How often leases ran out before they were renewed.
    pub(super) lapses: u64,
    /// It has been so for longer than a lease: new commands are refused.
    pub(super) cut_off: bool,
    /// It has been so for longer than two: nobody who waits is answered any more.
    pub(super) severed: bool,
    /// The user wants this replica to serve no client.
    pub(super) fenced: bool,
    /// There are fewer voters than the durability that the user asks for needs.
    pub(super) short: bool,
    /// Since when.
    short_since: Option<Duration>,
    /// For so long that nobody waits any more for what is not released.
    pub(super) withholds: bool,
    accepted: bool,
}

/// One turn that waits.
#[derive(Debug)]
struct Waiter {
    waker: Waker,
    turn: u64,
    granted: Arc<AtomicU64>,
}

impl Waiter {
    /// What it waited for has happened; with leases, it may be answered.
    fn settle(self, leased: bool) -> Waker {
        if leased {
            self.granted.store(self.turn, Ordering::Release);
        }
        self.waker
    }
}

/// Identifies one turn after the other of a client. Whether one may be answered is decided when what
/// it waits for happens, not when its task gets to run: by then this replica may have handed the lead
/// over.
#[derive(Debug)]
pub(super) struct Slot {
    who: u64,
    turn: u64,
    /// The newest turn that may be answered.
    granted: Arc<AtomicU64>,
}

impl Slot {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            who: NEXT.fetch_add(1, Ordering::Relaxed),
            turn: 1,
            granted: Arc::default(),
        }
    }

    /// Begins another turn: what earlier ones waited for does not count for it.
    pub(super) fn begin(&mut self) {
        self.turn += 1;
    }

    /// The turn may be answered.
    pub(super) fn grant(&self) {
        self.granted.store(self.turn, Ordering::Release);
    }

    /// Whether the turn may be answered.
    pub(super) fn granted(&self) -> bool {
        self.granted.load(Ordering::Acquire) == self.turn
    }

    fn waiter(&self, waker: &Waker) -> Waiter {
        Waiter {
            waker: waker.clone(),
            turn: self.turn,
            granted: Arc::clone(&self.granted),
        }
    }
}

impl Gate {
    /// The turn waits until `need` is released.
    pub(super) fn wait_for_release(&mut self, need: Lsn, slot: &Slot, waker: &Waker) {
        self.unreleased.insert((need, slot.who), slot.waiter(waker));
    }

    /// The turn waits until this leader holds its leases again.
    pub(super) fn wait_for_leases(&mut self, slot: &Slot, waker: &Waker) {
        self.unleased.insert(slot.who, slot.waiter(waker));
    }

    /// The turn waits until the state has come to `lsn`.
    pub(super) fn wait_for_state(&mut self, lsn: Lsn, slot: &Slot, waker: &Waker) {
        self.behind.insert((lsn, slot.who), waker.clone());
    }

    /// The state has come to `lsn`.
    pub(super) fn applied(&mut self, lsn: Lsn, to_wake: &mut Vec<Waker>) {
        if self.behind.is_empty() {
            return;
        }
        let later = self.behind.split_off(&(Lsn(lsn.0 + 1), 0));
        to_wake.extend(std::mem::replace(&mut self.behind, later).into_values());
    }

    /// Why clients should not come here, if they should not.
    pub(super) fn message(&self) -> Option<&'static str> {
        if self.fenced {
            return Some("fenced: its name is in spec.fenced");
        }
        let unleased = self.is_unleased();
        unleased.then_some("cut off from its followers: it holds no leases")
    }

    /// Whether this leader is without leases, if only for a moment.
    fn is_unleased(&self) -> bool {
        self.unleased_since.is_some()
    }

    /// Whether commands are refused whatever they are, but for those that touch no state.
    #[inline]
    pub(super) fn bars(&self) -> bool {
        self.fenced || self.cut_off
    }

    /// Everybody who waits must look again.
    pub(super) fn wake_all(&mut self, to_wake: &mut Vec<Waker>) {
        let unreleased = std::mem::take(&mut self.unreleased).into_values();
        let unleased = std::mem::take(&mut self.unleased).into_values();
        to_wake.extend(unreleased.chain(unleased).map(|waiter| waiter.waker));
    }

    /// Replies may rest on records up to `lsn`; with leases, those who waited for it may be answered.
    pub(super) fn released(&mut self, lsn: Lsn, leased: bool, to_wake: &mut Vec<Waker>) {
        let later = self.unreleased.split_off(&(Lsn(lsn.0 + 1), 0));
        let ready = std::mem::replace(&mut self.unreleased, later);
        to_wake.extend(ready.into_values().map(|waiter| waiter.settle(leased)));
    }

    /// This leader is without leases at `now`; those that it had ran out at `until`.
    fn miss(&mut self, until: Duration, now: Duration, lease: Duration, to_wake: &mut Vec<Waker>) {
        let from = if until.is_zero() { now } else { until };
        // A new leader has none yet: that is no lapse.
        if self.unleased_since.is_none() && !until.is_zero() {
            self.lapses += 1;
        }
        let since = *self.unleased_since.get_or_insert(from);
        let missed = now.saturating_sub(since);
        if missed >= lease && !self.cut_off {
            self.cut_off = true;
            tracing::warn!("is cut off from its followers: refuses commands");
        }
        if missed >= lease * 2 && !self.severed {
            self.severed = true;
            self.wake_all(to_wake);
        }
    }

    /// Whether there are too few voters at `now`. That others come back is waited for, not for ever.
    fn run_short(&mut self, short: bool, now: Duration, to_wake: &mut Vec<Waker>) {
        self.short = short;
        if !short {
            (self.short_since, self.withholds) = (None, false);
            return;
        }
        let since = *self.short_since.get_or_insert(now);
        if !self.withholds && now.saturating_sub(since) >= LONGEST_WAIT {
            self.withholds = true;
            self.wake_all(to_wake);
        }
    }

    /// This leader holds its leases, or leads no more.
    fn regain(&mut self, leased: bool, to_wake: &mut Vec<Waker>) {
        self.unleased_since = None;
        self.severed = false;
        if std::mem::take(&mut self.cut_off) && leased {
            tracing::info!("reaches its followers again");
        }
        let unleased = std::mem::take(&mut self.unleased).into_values();
        to_wake.extend(unleased.map(|waiter| waiter.settle(leased)));
    }
}

/// Microseconds for the atomic; an end that never comes is the greatest number.
fn micros(until: Duration) -> u64 {
    u64::try_from(until.as_micros()).unwrap_or(u64::MAX)
}

impl Node {
    /// Looks at the leases after a step of the core, and tells those whom it concerns.
    pub(super) fn watch_gate(&self, inner: &mut Inner, now: Duration, configured: bool) {
        let until = inner.core.answers_until();
        self.answers.store(micros(until), Ordering::Release);
        self.reign.store(inner.reign, Ordering::Release);
        let gate = &mut inner.gate;
        let was_unleased = gate.is_unleased();
        if until > now || !inner.accepting {
            if gate.is_unleased() || !gate.unleased.is_empty() {
                gate.regain(until > now, &mut inner.to_wake);
            }
        } else {
            gate.miss(until, now, inner.core.lease(), &mut inner.to_wake);
        }
        if gate.is_unleased() != was_unleased {
            self.changed();
        }
        if gate.accepted != inner.accepting {
            gate.accepted = inner.accepting;
            self.leads.store(inner.accepting, Ordering::Release);
            self.relief.notify_waiters();
            self.role_changed.notify_waiters();
        }
        if configured {
            let own = inner.members.get(&self.id);
            gate.fenced = own.is_some_and(|member| member.fenced);
        }
        let (settings, voters) = (&inner.settings, &inner.core.configuration().voters);
        let wanted = settings.sync_replicas as usize;
        let block = settings.on_shortfall == Shortfall::Block;
        let short = inner.accepting && block && wanted > 0 && voters.len() <= wanted;
        gate.run_short(short, now, &mut inner.to_wake);
    }

    /// Whether leases are held while a step is carried out: those from before it count until they
    /// run out, though the step ends the reign.
    pub(super) fn leased_in_step(&self, inner: &Inner) -> bool {
        let before = self.answers.load(Ordering::Acquire);
        let now = micros(self.now());
        before.max(micros(inner.core.answers_until())) > now
    }

    /// Begins another turn of `slot`, which has just been executed under this lock and rests on
    /// `need`: from here on it is settled by what happens, whenever its task gets to run.
    pub(super) fn begin_wait(&self, inner: &mut Inner, need: Lsn, slot: &mut Slot, waker: &Waker) {
        slot.begin();
        if self.wait_on(inner, need, slot, waker) {
            slot.grant();
        }
    }

    /// Whether what rests on `need` may be answered now; if not, `waker` is woken when that may have
    /// changed.
    pub(super) fn wait_on(&self, inner: &mut Inner, need: Lsn, slot: &Slot, waker: &Waker) -> bool {
        if inner.core.released() < need {
            if inner.gate.withholds {
                inner.to_wake.push(waker.clone()); // it is told so
            } else {
                inner.gate.wait_for_release(need, slot, waker);
            }
            return false;
        }
        let until = self.answers.load(Ordering::Acquire);
        let leased = until == u64::MAX || until > micros(self.now());
        if !leased {
            inner.gate.wait_for_leases(slot, waker);
        }
        leased
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_leader_without_leases_is_cut_off_then_severed_and_comes_back() {
        let (mut gate, mut woken) = (Gate::default(), Vec::new());
        let (early, late) = (Slot::new(), Slot::new());
        gate.wait_for_release(Lsn(9), &late, Waker::noop());
        gate.miss(ms(100), ms(150), ms(1000), &mut woken);
        assert!(gate.is_unleased() && !gate.cut_off && gate.lapses == 1);
        gate.wait_for_leases(&early, Waker::noop());
        gate.regain(true, &mut woken);
        assert!(!gate.is_unleased() && early.granted() && !late.granted());
        gate.miss(ms(500), ms(1500), ms(1000), &mut woken);
        assert!(gate.cut_off && !gate.severed);
        woken.clear();
        gate.miss(ms(500), ms(2500), ms(1000), &mut woken);
        assert!(gate.severed && woken.len() == 1 && !late.granted());
        gate.regain(true, &mut woken);
        assert!(!gate.bars() && !gate.severed);
        gate.miss(ms(0), ms(3000), ms(1000), &mut woken);
        assert_eq!(gate.lapses, 2, "the begin of a reign is none");
    }

    #[test]
    fn a_store_short_of_voters_lets_nobody_wait_for_ever() {
        let (mut gate, mut woken) = (Gate::default(), Vec::new());
        let slot = Slot::new();
        gate.wait_for_release(Lsn(9), &slot, Waker::noop());
        gate.run_short(true, ms(1000), &mut woken);
        gate.run_short(true, ms(5999), &mut woken);
        assert!(gate.short && !gate.withholds && woken.is_empty());
        gate.run_short(true, ms(6000), &mut woken);
        assert!(gate.withholds && woken.len() == 1 && !slot.granted());
        gate.run_short(false, ms(7000), &mut woken);
        assert!(!gate.short && !gate.withholds);
        gate.run_short(true, ms(8000), &mut woken);
        assert!(!gate.withholds, "it counts anew");
    }

    #[test]
    fn a_release_grants_only_with_leases() {
        let (mut gate, mut woken) = (Gate::default(), Vec::new());
        let slots = [Slot::new(), Slot::new(), Slot::new()];
        for (slot, lsn) in slots.iter().zip([5, 6, 7]) {
            gate.wait_for_release(Lsn(lsn), slot, Waker::noop());
        }
        gate.released(Lsn(5), true, &mut woken);
        gate.released(Lsn(6), false, &mut woken);
        assert_eq!(woken.len(), 2);
        let granted: Vec<bool> = slots.iter().map(Slot::granted).collect();
        assert_eq!(granted, [true, false, false]);
    }

    #[test]
    fn what_an_earlier_turn_waited_for_grants_no_later_one() {
        let (mut gate, mut woken) = (Gate::default(), Vec::new());
        let mut slot = Slot::new();
        slot.begin();
        gate.wait_for_leases(&slot, Waker::noop());
        slot.begin();
        gate.wait_for_release(Lsn(9), &slot, Waker::noop());
        gate.regain(true, &mut woken);
        assert!(!slot.granted());
        gate.released(Lsn(9), true, &mut woken);
        assert!(slot.granted());
        slot.begin();
        assert!(!slot.granted());
    }
}
