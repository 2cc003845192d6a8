//! Leases: a voter's word to a leader that it will promise no other for a while without saying so.
//!
//! The voter counts a lease from the moment at which the leader's message came, the leader from the
//! moment at which it was sent, less an allowance for clocks that run at different rates; so the
//! leader stops believing first, and no two clocks are compared. Clocks may be wrong by up to one
//! part in [`DRIFT`] times two: a hundredth.

use std::collections::BTreeMap;
use std::time::Duration;

use super::types::Epoch;

/// A lease is counted shorter, and a wait longer, by this part: twice the error of a clock's rate.
const DRIFT: u32 = 50;

/// For how long a leader believes in a lease that was granted for `lease`.
pub(super) fn believed(lease: Duration) -> Duration {
    lease.saturating_sub(lease / DRIFT)
}

/// For how long a leader waits so that `left` has passed on the clock of whoever said it.
pub(super) fn waited(left: Duration) -> Duration {
    left + left / DRIFT
}

/// A lease that may still run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Epoch of the leader that holds it; `None` if it was granted before this process started.
    pub holder: Option<Epoch>,
    /// How long it still runs.
    pub left: Duration,
}

/// What a voter has granted.
#[derive(Clone, Debug, Hash)]
pub(super) struct Grants {
    until: BTreeMap<Epoch, Duration>,
    /// What an earlier process granted is forgotten: it may run until then.
    unknown_until: Duration,
}

impl Grants {
    /// Those of a process that starts at `now`, after one that granted leases of up to `longest`.
    pub(super) fn restarted(now: Duration, longest: Duration) -> Self {
        Self {
            until: BTreeMap::new(),
            unknown_until: now + longest,
        }
    }

    /// Grants the leader of `epoch` a lease until then.
    pub(super) fn grant(&mut self, epoch: Epoch, until: Duration) {
        let known = self.until.entry(epoch).or_default();
        *known = until.max(*known);
    }

    /// What may still run to leaders of epochs below `epoch`.
    pub(super) fn below(&self, epoch: Epoch, now: Duration) -> Vec<Lease> {
        let known = self.until.range(..epoch);
        let known = known.map(|(epoch, until)| (Some(*epoch), *until));
        let all = known.chain([(None, self.unknown_until)]);
        let running = all.filter(|(_, until)| *until > now);
        running
            .map(|(holder, until)| Lease {
                holder,
                left: until.saturating_sub(now),
            })
            .collect()
    }

    /// Forgets what has run out.
    pub(super) fn expire(&mut self, now: Duration) {
        self.until.retain(|_, until| *until > now);
    }

    /// Whether everything will have run out by then.
    pub(super) fn over_by(&self, then: Duration) -> bool {
        self.unknown_until <= then && self.until.values().all(|until| *until <= then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn leases_of_lower_epochs_are_told_until_they_run_out() {
        let mut grants = Grants::restarted(ms(0), ms(0));
        grants.grant(Epoch(3), ms(1000));
        grants.grant(Epoch(3), ms(900));
        grants.grant(Epoch(4), ms(1200));
        let told = grants.below(Epoch(4), ms(400));
        let expected = Lease {
            holder: Some(Epoch(3)),
            left: ms(600),
        };
        assert_eq!(told, [expected]);
        assert_eq!(grants.below(Epoch(5), ms(400)).len(), 2);
        assert!(grants.below(Epoch(5), ms(1200)).is_empty());
        assert!(grants.over_by(ms(1200)) && !grants.over_by(ms(1199)));
        grants.expire(ms(1200));
        assert!(grants.over_by(ms(0)));
    }

    #[test]
    fn a_restart_counts_as_a_lease_to_nobody_knows_whom() {
        let grants = Grants::restarted(ms(5000), ms(1000));
        let told = grants.below(Epoch(9), ms(5400));
        let expected = Lease {
            holder: None,
            left: ms(600),
        };
        assert_eq!(told, [expected]);
        assert!(grants.below(Epoch(9), ms(6000)).is_empty());
    }

    #[test]
    fn the_leader_stops_believing_first() {
        assert!(believed(ms(1000)) + ms(10) < ms(1000));
        assert!(waited(ms(1000)) > ms(1010));
    }
}
