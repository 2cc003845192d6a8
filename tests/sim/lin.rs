//! Is a history linearizable? The search of Wing and Gong with the memory of Lowe, for one key.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::client::{Command, Op, STRIDE};

/// The search gives up after so many steps; that is no verdict.
const MOST_STEPS: usize = 200_000;

/// What the search came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Linearizable,
    Broken,
    Unknown,
}

/// Judges each key by itself, which is as good as all together.
pub(crate) fn check(history: &[Op]) -> Verdict {
    let mut by_key: BTreeMap<u8, Vec<Op>> = BTreeMap::new();
    for op in history.iter().filter(|op| !op.refused) {
        by_key.entry(op.command.key()).or_default().push(*op);
    }
    let mut unknown = false;
    for ops in by_key.into_values() {
        match check_key(&relevant(ops)) {
            Verdict::Linearizable => {}
            Verdict::Broken => return Verdict::Broken,
            Verdict::Unknown => unknown = true,
        }
    }
    if unknown {
        Verdict::Unknown
    } else {
        Verdict::Linearizable
    }
}

/// Without reads that nobody got an answer to, and unanswered writes whose value nobody ever saw:
/// if the others have an order with them, they have one without.
fn relevant(ops: Vec<Op>) -> Vec<Op> {
    let answers = ops.iter().filter(|op| op.answered.is_some());
    let seen: BTreeSet<u64> = answers
        .filter_map(|op| op.result.map(|value| value / STRIDE))
        .collect();
    let keep = |op: &Op| {
        op.answered.is_some()
            || match op.command {
                Command::Get(_) => false,
                Command::Set(_, value) => seen.contains(&(value / STRIDE)),
                Command::Incr(_) => true,
            }
    };
    ops.into_iter().filter(keep).collect()
}

/// What a key holds.
type Value = Option<u64>;

/// The value after the operation, if it fits into the order here.
fn apply(op: &Op, value: Value) -> Option<Value> {
    let after = match op.command {
        Command::Get(_) => value,
        Command::Set(_, new) => Some(new),
        Command::Incr(_) => Some(value.unwrap_or(0) + 1),
    };
    let fits = op.answered.is_none() || op.result == after;
    fits.then_some(after)
}

struct Frame {
    value: Option<u64>,
    taken: Option<usize>,
    /// Where to go on among the candidates.
    next: usize,
}

fn check_key(ops: &[Op]) -> Verdict {
    let mut order: Vec<&Op> = ops.iter().collect();
    order.sort_by_key(|op| op.asked);
    let mut done = vec![0_u64; order.len().div_ceil(64).max(1)];
    let mut open = order.iter().filter(|op| op.answered.is_some()).count();
    let mut memory: HashSet<(Vec<u64>, Option<u64>)> = HashSet::new();
    let mut stack = vec![Frame {
        value: None,
        taken: None,
        next: 0,
    }];
    let mut steps = 0;
    while let Some(top) = stack.last_mut() {
        if open == 0 {
            return Verdict::Linearizable;
        }
        steps += 1;
        if steps > MOST_STEPS {
            return Verdict::Unknown;
        }
        let found = candidate(&order, &done, top.next, top.value);
        if let Some((at, value)) = found {
            top.next = at + 1;
            done[at / 64] |= 1 << (at % 64);
            if memory.insert((done.clone(), value)) {
                open -= usize::from(order[at].answered.is_some());
                stack.push(Frame {
                    value,
                    taken: Some(at),
                    next: 0,
                });
            } else {
                done[at / 64] &= !(1 << (at % 64));
            }
        } else if let Some(Frame {
            taken: Some(at), ..
        }) = stack.pop()
        {
            done[at / 64] &= !(1 << (at % 64));
            open += usize::from(order[at].answered.is_some());
        }
    }
    Verdict::Broken
}

/// The next operation that may come first of those left: it was asked before any of them was
/// answered, and fits.
fn candidate(
    order: &[&Op],
    done: &[u64],
    from: usize,
    value: Option<u64>,
) -> Option<(usize, Option<u64>)> {
    let left = |at: usize| done[at / 64] & (1 << (at % 64)) == 0;
    let answers = (0..order.len()).filter(|at| left(*at));
    let bound = answers.filter_map(|at| order[at].answered).min();
    let bound = bound.unwrap_or(Duration::MAX);
    let rest = order.iter().enumerate().skip(from);
    let mut first = rest
        .take_while(|(_, op)| op.asked <= bound)
        .filter(|(at, _)| left(*at));
    first.find_map(|(at, op)| apply(op, value).map(|after| (at, after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(client: usize, command: Command, asked: u64, answered: u64, result: Option<u64>) -> Op {
        Op {
            client,
            command,
            asked: Duration::from_millis(asked),
            answered: (answered > 0).then(|| Duration::from_millis(answered)),
            result,
            refused: false,
        }
    }

    #[test]
    fn an_old_value_after_a_newer_one_is_noticed() {
        let (one, two) = (STRIDE, 2 * STRIDE);
        let mut history = vec![
            op(0, Command::Set(1, one), 0, 10, Some(one)),
            op(0, Command::Set(1, two), 20, 30, Some(two)),
            op(1, Command::Get(1), 25, 28, Some(two)),
            op(2, Command::Get(1), 26, 27, Some(one)),
        ];
        assert_eq!(check(&history), Verdict::Linearizable);
        history.push(op(2, Command::Get(1), 29, 40, Some(one)));
        assert_eq!(check(&history), Verdict::Broken);
    }

    #[test]
    fn what_nobody_was_told_may_have_happened_or_not() {
        let one = STRIDE;
        let mut history = vec![
            op(0, Command::Set(1, one), 0, 10, Some(one)),
            op(1, Command::Incr(1), 20, 0, None),
            op(2, Command::Get(1), 30, 40, Some(one)),
            op(2, Command::Get(1), 50, 60, Some(one + 1)),
        ];
        assert_eq!(check(&history), Verdict::Linearizable);
        history.push(op(2, Command::Get(1), 70, 80, Some(one)));
        assert_eq!(check(&history), Verdict::Broken);
    }

    #[test]
    fn an_increment_is_lost() {
        let history = [
            op(0, Command::Incr(1), 0, 10, Some(1)),
            op(1, Command::Incr(1), 20, 30, Some(1)),
        ];
        assert_eq!(check(&history), Verdict::Broken);
    }
}
