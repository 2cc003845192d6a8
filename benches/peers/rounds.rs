//! Rounds: each takes every test, and in a test the systems in turn, every other round in swapped order.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use crate::bench::{Bench, say};
use crate::load::{Load, Outcome, Pace};
use crate::peer::System;
use crate::rows;

/// A load and which of its numbers counts.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) load: Load,
    pub(crate) value: fn(&Outcome) -> f64,
}

/// Runs all tests on all systems that take part in them.
pub(crate) fn alternate(
    bench: &mut Bench,
    systems: &mut [Box<dyn System>],
    tests: &[Test],
) -> Result<()> {
    for test in tests {
        bench.results.forget(test.name);
    }
    for round in 0..bench.scale.rounds {
        for test in tests {
            let mut line = format!(
                "round {} of {}, {}:",
                round + 1,
                bench.scale.rounds,
                test.name
            );
            let mut order: Vec<&mut Box<dyn System>> = systems
                .iter_mut()
                .filter(|system| rows::takes_part(test.name, system.column()))
                .collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for system in order {
                let column = system.column();
                let outcome = system.run(bench, &test.load);
                let outcome = outcome.with_context(|| format!("{}, {column}", test.name))?;
                let value = (test.value)(&outcome);
                if let Pace::Open(rate) = test.load.pace
                    && outcome.rate < 0.9 * rate
                {
                    let done = outcome.rate;
                    say(&format!(
                        "{column} does only {done:.0} of {rate:.0} a second"
                    ));
                }
                bench.results.add(test.name, column, value);
                bench.results.detail(test.name, column, &outcome);
                let _ = write!(line, " {column} {value:.2}");
            }
            say(&line);
        }
    }
    Ok(())
}

/// Operations a second.
pub(crate) fn rate(outcome: &Outcome) -> f64 {
    outcome.rate
}
