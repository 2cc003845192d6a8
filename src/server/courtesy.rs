//! How much of its time background work may take, so that clients hardly notice it: as long as their writes
//! take about as long as without the work it may take more, and less once they take longer. What they take
//! without it is seen in short moments in which all of it rests.
//!
//! Additive increase and multiplicative decrease, as in TCP (Chiu and Jain 1989), with the resting moments of
//! BBR's `ProbeRTT`. It must not know what the work is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// All work rests: first until what is under way has passed, then for as long as is measured.
const DRAIN: Duration = Duration::from_millis(10);
const PROBE: Duration = Duration::from_millis(30);
/// From one rest to the next.
const ROUND: Duration = Duration::from_secs(1);
/// The share is looked at so often.
const STEP: Duration = Duration::from_millis(50);
/// Work that comes after a longer time begins anew.
const STALE: Duration = Duration::from_secs(1);
/// Where nobody wrote for so long, nobody is disturbed,
const IDLE: Duration = Duration::from_millis(50);
/// unless it is the work that keeps them from it.
const BLOCKED: Duration = Duration::from_millis(500);
/// Fewer writes tell nothing.
const ENOUGH: u64 = 5;
/// The share that work begins with, and the least that it is left with.
const FIRST: f64 = 0.3;
const LEAST: f64 = 0.1;
/// How much longer writes may take: up to the one the share grows, from the other on it shrinks.
const FINE: f64 = 1.1;
const TOO_LONG: f64 = 1.25;
const MORE: f64 = 0.05;
const LESS: f64 = 0.75;
/// No pause is longer.
const LONGEST: Duration = Duration::from_millis(300);

/// Writes that were answered until now.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    writes: u64,
    /// Microseconds that all of them took together.
    took: u64,
    /// When the last of them was answered.
    last: Duration,
}

impl Seen {
    /// What one of those since `before` took, if they were enough.
    fn mean_since(self, before: Self) -> Option<f64> {
        let writes = self.writes - before.writes;
        (writes >= ENOUGH).then(|| (self.took - before.took) as f64 / writes as f64)
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Drain { until: Duration },
    Probe { until: Duration, before: Seen },
    Work { until: Duration, step: Step },
}

#[derive(Clone, Copy, Debug)]
struct Step {
    until: Duration,
    before: Seen,
}

/// What decides. Times are those since it was made.
#[derive(Debug)]
struct Controller {
    phase: Phase,
    /// Microseconds that a write takes without the work.
    usual: f64,
    /// The share of its time that each worker may take.
    share: f64,
    called: Option<Duration>,
}

impl Controller {
    fn new() -> Self {
        Self {
            phase: Phase::Drain {
                until: Duration::ZERO,
            },
            usual: 0.0,
            share: FIRST,
            called: None,
        }
    }

    /// How long one should rest who has worked for `worked`, and must be given a share of `least`.
    fn pause(&mut self, now: Duration, seen: Seen, worked: Duration, least: f64) -> Duration {
        let fresh = self.called.is_none_or(|called| now > called + STALE);
        self.called = Some(now);
        let quiet = now.saturating_sub(seen.last);
        let working = !fresh && matches!(self.phase, Phase::Work { .. });
        if seen.writes == 0 || quiet > if working { BLOCKED } else { IDLE } {
            self.called = None;
            return Duration::ZERO;
        }
        if fresh {
            self.share = FIRST;
            self.phase = Phase::Drain { until: now + DRAIN };
        }
        let rest = self.rest(now, seen);
        let share = self.share.max(least);
        let pause = worked.mul_f64((1.0 / share - 1.0).max(0.0));
        if least < 0.5 {
            pause.max(rest).min(LONGEST)
        } else {
            pause.min(LONGEST)
        }
    }

    /// Goes on in the round; what is left of a rest for all.
    fn rest(&mut self, now: Duration, seen: Seen) -> Duration {
        match self.phase {
            Phase::Drain { until } if now < until => until.saturating_sub(now),
            Phase::Drain { .. } => {
                let until = now + PROBE;
                self.phase = Phase::Probe {
                    until,
                    before: seen,
                };
                PROBE
            }
            Phase::Probe { until, .. } if now < until => until.saturating_sub(now),
            Phase::Probe { before, .. } => {
                self.usual = seen.mean_since(before).unwrap_or(f64::INFINITY);
                let step = Step {
                    until: now + STEP,
                    before: seen,
                };
                let until = now + ROUND;
                self.phase = Phase::Work { until, step };
                Duration::ZERO
            }
            Phase::Work { until, step } if now >= step.until => {
                // Hardly a write in a step: they are held up.
                let takes = seen.mean_since(step.before).unwrap_or(f64::INFINITY);
                self.share = match takes / self.usual {
                    ratio if ratio <= FINE => (self.share + MORE).min(1.0),
                    ratio if ratio > TOO_LONG => (self.share * LESS).max(LEAST),
                    _ => self.share,
                };
                let step = Step {
                    until: now + STEP,
                    before: seen,
                };
                self.phase = if now >= until {
                    Phase::Drain { until: now + DRAIN }
                } else {
                    Phase::Work { until, step }
                };
                Duration::ZERO
            }
            Phase::Work { .. } => Duration::ZERO,
        }
    }
}

/// Shared by clients, who tell what their writes took, and by those who work beside them.
#[derive(Debug)]
pub(super) struct Courtesy {
    began: Instant,
    writes: AtomicU64,
    took: AtomicU64,
    last: AtomicU64,
    rested: AtomicU64,
    controller: Mutex<Controller>,
}

/// What it has seen and done since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    /// Turns of clients with writes in them that were answered.
    pub(super) writes: u64,
    /// What these took, from their execution to the answer.
    pub(super) took: Duration,
    /// How long work has rested for their sake.
    pub(super) rested: Duration,
}

impl Courtesy {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            writes: AtomicU64::new(0),
            took: AtomicU64::new(0),
            last: AtomicU64::new(0),
            rested: AtomicU64::new(0),
            controller: Mutex::new(Controller::new()),
        }
    }

    /// A client's writes that were begun at `begun` may be answered.
    pub(super) fn wrote(&self, begun: Instant) {
        let now = Instant::now();
        let took = now.saturating_duration_since(begun).as_micros() as u64;
        self.took.fetch_add(took, Ordering::Relaxed);
        self.writes.fetch_add(1, Ordering::Relaxed);
        let last = now.saturating_duration_since(self.began).as_micros() as u64;
        self.last.store(last, Ordering::Relaxed);
    }

    /// How long one should rest who has worked for `worked`. A share of `least` of its time is its due:
    /// with 1, it does not rest at all.
    pub(super) fn pause(&self, worked: Duration, least: f64) -> Duration {
        if least >= 1.0 {
            return Duration::ZERO;
        }
        let seen = Seen {
            writes: self.writes.load(Ordering::Relaxed),
            took: self.took.load(Ordering::Relaxed),
            last: Duration::from_micros(self.last.load(Ordering::Relaxed)),
        };
        let now = self.began.elapsed();
        let pause = self.controller.lock().pause(now, seen, worked, least);
        let rested = pause.as_micros() as u64;
        self.rested.fetch_add(rested, Ordering::Relaxed);
        pause
    }

    /// Whether clients write.
    pub(super) fn is_busy(&self) -> bool {
        let last = Duration::from_micros(self.last.load(Ordering::Relaxed));
        let quiet = self.began.elapsed().saturating_sub(last);
        self.writes.load(Ordering::Relaxed) > 0 && quiet < BLOCKED
    }

    pub(super) fn account(&self) -> Account {
        let micros = |of: &AtomicU64| Duration::from_micros(of.load(Ordering::Relaxed));
        Account {
            writes: self.writes.load(Ordering::Relaxed),
            took: micros(&self.took),
            rested: micros(&self.rested),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds of a worker beside clients that write 20 times a millisecond, each for `takes(share)`
    /// microseconds while it works; the shares that it had.
    fn beside(takes: impl Fn(f64) -> f64, milliseconds: u64, least: f64) -> Vec<f64> {
        let mut controller = Controller::new();
        let mut seen = Seen::default();
        let (mut shares, mut resting) = (Vec::new(), 0);
        for now in (1..milliseconds).map(Duration::from_millis) {
            let busy = resting == 0;
            let share = if busy { controller.share } else { 0.0 };
            seen.writes += 20;
            seen.took += (20.0 * takes(share)) as u64;
            seen.last = now;
            if busy {
                let pause = controller.pause(now, seen, Duration::from_micros(500), least);
                resting = pause.as_millis() as u64;
                shares.push(controller.share);
            } else {
                resting -= 1;
            }
        }
        shares
    }

    #[test]
    fn who_disturbs_nobody_gets_all_the_time() {
        let shares = beside(|_| 400.0, 3000, 0.0);
        assert_eq!(shares.last(), Some(&1.0));
    }

    #[test]
    fn what_makes_writes_longer_is_held_to_what_they_bear() {
        // With a share of 0.4 they take a fifth longer.
        let shares = beside(|share| 400.0 * (1.0 + share / 2.0), 8000, 0.0);
        let late = &shares[shares.len() / 2..];
        let mean = late.iter().sum::<f64>() / late.len() as f64;
        assert!((0.15..0.55).contains(&mean), "{mean}");
        // However much longer they take, something is left.
        let shares = beside(|share| 400.0 * (1.0 + share * 50.0), 8000, 0.0);
        assert_eq!(shares.last(), Some(&LEAST));
    }

    #[test]
    fn nobody_waits_for_clients_that_do_not_write() {
        let mut controller = Controller::new();
        let worked = Duration::from_millis(1);
        let mut pause = |now: u64, writes: u64, last: u64| {
            let seen = Seen {
                writes,
                took: writes * 300,
                last: Duration::from_millis(last),
            };
            controller.pause(Duration::from_millis(now), seen, worked, 0.0)
        };
        assert_eq!(pause(1000, 0, 0), Duration::ZERO);
        assert_eq!(pause(1000, 50, 900), Duration::ZERO);
        assert_eq!(pause(1100, 100, 1100), DRAIN);
        assert_eq!(pause(1110, 200, 1110), PROBE);
        assert_eq!(pause(1120, 200, 1110), Duration::from_millis(20));
        let first = worked.mul_f64(1.0 / FIRST - 1.0);
        assert_eq!(pause(1140, 300, 1140), first);
        // Held up by the work, not gone.
        assert!(pause(1300, 301, 1141) > first);
        assert_eq!(pause(1700, 301, 1141), Duration::ZERO);
    }

    #[test]
    fn what_is_due_is_had_without_a_rest() {
        let mut controller = Controller::new();
        let seen = Seen {
            writes: 10,
            took: 1000,
            last: Duration::from_secs(1),
        };
        let worked = Duration::from_millis(3);
        let pause = controller.pause(Duration::from_secs(1), seen, worked, 0.6);
        assert_eq!(pause, Duration::from_millis(2));
    }
}
