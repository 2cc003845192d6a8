//! The time by which deadlines of keys are judged. It never goes back, over a change of leader or a restart either:
//! what has expired for anybody stays gone, though the next leader's clock may be behind. So it is the greater of
//! this machine's clock and of what the log's frames, and the leader, have told; where that is ahead, it runs a
//! little slow until the clock has caught up. And how far the clocks of leader and follower are apart.

use std::time::Duration;

/// What is ahead of the clock runs slow by one part of so many.
const SLOW_BY: u32 = 8;
/// Clocks that are further apart are told of.
pub(super) const MOST_SKEW_MS: u64 = 500;
/// The nearest of what the leader said in this time counts: the rest was longer on its way.
const WINDOW: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Time {
    newest: u64,
    /// What it was when it was found to be ahead of the clock, and when that was.
    ahead: Option<(u64, Duration)>,
    /// How far it is ahead.
    by: u64,
    skew: Skew,
}

/// How far the leader's clock is ahead of this one: at least by what it says less what this one shows then.
#[derive(Debug, Default)]
struct Skew {
    since: Duration,
    /// The greatest difference in the present window, and in the one before.
    present: Option<i64>,
    before: Option<i64>,
}

impl Time {
    /// That of a replica whose log ends with this time.
    pub(super) fn after(time_ms: u64) -> Self {
        Self {
            newest: time_ms,
            ..Self::default()
        }
    }

    /// The time, as the machine's clock shows `wall_ms`.
    #[inline]
    pub(super) fn now(&mut self, wall_ms: u64, monotonic: impl FnOnce() -> Duration) -> u64 {
        if wall_ms >= self.newest && self.ahead.is_none() {
            self.newest = wall_ms;
            return wall_ms;
        }
        self.run_slow(wall_ms, monotonic())
    }

    #[cold]
    fn run_slow(&mut self, wall_ms: u64, now: Duration) -> u64 {
        let (from, since) = *self.ahead.get_or_insert((self.newest, now));
        let passed = now.saturating_sub(since);
        let passed = (passed / SLOW_BY * (SLOW_BY - 1)).as_millis() as u64;
        self.newest = self.newest.max(from.saturating_add(passed));
        if wall_ms >= self.newest {
            self.newest = wall_ms;
            self.ahead = None;
        }
        self.by = self.newest - wall_ms;
        self.newest
    }

    /// A frame of the log has this time.
    pub(super) fn hear(&mut self, time_ms: u64) {
        if time_ms > self.newest {
            self.newest = time_ms;
            self.ahead = None;
        }
    }

    /// The leader says that it is this time there.
    pub(super) fn hear_leader(&mut self, time_ms: u64, wall_ms: u64, now: Duration) {
        self.hear(time_ms);
        let skew = &mut self.skew;
        if now.saturating_sub(skew.since) >= WINDOW {
            skew.since = now;
            skew.before = skew.present.take();
        }
        let difference = difference(time_ms, wall_ms);
        skew.present = skew.present.max(Some(difference));
    }

    /// Another leader is followed, or none.
    pub(super) fn forget_leader(&mut self) {
        self.skew = Skew::default();
    }

    /// How far this machine's clock is ahead of its leader's, or of what the log tells, in milliseconds; negative
    /// where it is behind.
    pub(super) fn skew_ms(&self) -> i64 {
        match self.skew.present.max(self.skew.before) {
            Some(leader_ahead) => leader_ahead.saturating_neg(),
            None => i64::try_from(self.by).unwrap_or(i64::MAX).saturating_neg(),
        }
    }
}

fn difference(one: u64, other: u64) -> i64 {
    let apart = i64::try_from(one.abs_diff(other)).unwrap_or(i64::MAX);
    if one >= other {
        apart
    } else {
        apart.saturating_neg()
    }
}

/// What is told of clocks that are too far apart.
pub(super) fn message(skew_ms: i64) -> Option<String> {
    if skew_ms.unsigned_abs() <= MOST_SKEW_MS {
        return None;
    }
    let by = skew_ms.unsigned_abs();
    let way = if skew_ms < 0 { "behind" } else { "ahead of" };
    Some(format!(
        "its clock is {by} ms {way} its leader's: keys may expire too late, or too soon, by that: see to the \
         synchronisation of the nodes' clocks"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000_000;

    fn at(ms: u64) -> impl Fn() -> Duration {
        move || Duration::from_millis(ms)
    }

    #[test]
    fn it_never_goes_back_and_runs_slow_until_the_clock_has_caught_up() {
        let mut time = Time::default();
        assert_eq!(time.now(START, at(0)), START);
        // Another one's clock was ahead by 4 seconds, and this one leads now.
        time.hear(START + 4_000);
        assert_eq!(time.now(START, at(0)), START + 4_000);
        assert_eq!(time.now(START + 800, at(800)), START + 4_700);
        assert_eq!(time.skew_ms(), -3_900);
        assert_eq!(time.now(START + 31_999, at(31_999)), START + 31_999);
        assert_eq!(time.now(START + 32_001, at(32_001)), START + 32_001);
        assert_eq!(time.skew_ms(), 0);
        // The clock itself is set back.
        assert_eq!(time.now(START, at(32_001)), START + 32_001);
        assert_eq!(time.now(START + 8, at(32_009)), START + 32_008);
        // What a frame of long ago has changes nothing.
        time.hear(START);
        assert_eq!(time.now(START + 16, at(32_017)), START + 32_015);
    }

    #[test]
    fn a_restart_goes_on_where_the_log_ends() {
        let mut time = Time::after(START + 50);
        assert_eq!(time.now(START, at(7)), START + 50);
        assert_eq!(time.now(START + 100, at(107)), START + 137);
        assert_eq!(time.now(START + 200, at(207)), START + 225);
    }

    #[test]
    fn a_time_from_nowhere_is_borne() {
        let mut time = Time::after(u64::MAX);
        assert_eq!(time.now(START, at(0)), u64::MAX);
        assert_eq!(time.now(START, at(1_000)), u64::MAX);
        assert!(time.skew_ms() < 0);
        time.hear_leader(u64::MAX, 0, Duration::ZERO);
        assert!(time.skew_ms() < 0);
    }

    #[test]
    fn the_skew_is_what_the_quickest_word_shows() {
        let mut time = Time::default();
        let wall = |ms: u64| START + ms;
        // The leader's clock is 700 ms behind; words take 1 to 400 ms.
        for (sent, takes) in [(0, 400), (1_000, 1), (2_000, 90)] {
            let came = sent + takes;
            let leader = wall(sent) - 700;
            time.hear_leader(leader, wall(came), Duration::from_millis(came));
        }
        assert_eq!(time.skew_ms(), 701);
        assert!(message(701).unwrap().contains("701 ms ahead of"));
        // It is set right, which shows after a while.
        for sent in [15_000, 26_000] {
            time.hear_leader(wall(sent), wall(sent + 2), Duration::from_millis(sent));
        }
        assert_eq!((time.skew_ms(), message(2)), (2, None));
        time.forget_leader();
        assert_eq!(time.skew_ms(), 0);
        assert!(message(-501).unwrap().contains("501 ms behind"));
    }
}
