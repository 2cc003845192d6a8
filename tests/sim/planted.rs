//! The simulation finds what is planted: else its silence about the real code would mean little.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::bug::Bug;
use super::faults::Menu;
use super::run::{mixed, planned, restless, run, setting, setup};
use super::world::Setup;

/// Runs seeds until one notices the mistake; `most` of them, or as many as `SIM_SEEDS` says.
fn found(bug: Bug, setup: Setup, most: u64) {
    let setup = Setup { bug, ..setup };
    let most = setting("SIM_SEEDS", most);
    for seed in 1..=most {
        let noticed = catch_unwind(AssertUnwindSafe(|| run(seed, setup)));
        if let Err(panic) = noticed {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
            let text = text.unwrap_or_default();
            println!(
                "{bug:?}: seed {seed}: {}",
                text.lines().next().unwrap_or_default()
            );
            return;
        }
    }
    panic!("{bug:?} is not noticed in {most} seeds");
}

macro_rules! planted {
    ($($(#[$attribute:meta])* $name:ident: $bug:ident in $setup:expr, $most:literal;)*) => {
        $(#[test]
        $(#[$attribute])*
        fn $name() {
            found(Bug::$bug, $setup, $most);
        })*
    };
}

/// Leases that are so long that what clocks differ by in that time is long as well.
fn slow() -> Setup {
    Setup {
        lease: Duration::from_secs(2),
        ..restless(2, 1)
    }
}

/// Leases that outlive promotions which nobody needs.
fn leased(sync: u32) -> Setup {
    let setup = restless(3, sync);
    let menu = Menu {
        whims: 120,
        pauses: 0,
        stops: 1,
        delay_us: 8_000,
        ..setup.menu
    };
    Setup {
        menu,
        lease: Duration::from_millis(1_200),
        ..setup
    }
}

/// And in which voters are given up often.
fn wasteful() -> Setup {
    let setup = leased(2);
    let menu = Menu {
        removals: 40,
        ..setup.menu
    };
    Setup { menu, ..setup }
}

/// Operators that hear of everything late.
fn late(setup: Setup) -> Setup {
    let menu = Menu {
        slow_words: 8,
        ..setup.menu
    };
    Setup { menu, ..setup }
}

planted! {
    #[ignore = "needs more seeds than there is time for"]
    commits_without_its_barrier: CommitsWithoutBarrier in restless(3, 1), 400;
    counts_a_log_that_is_not_matched: CountsUnmatched in restless(3, 1), 400;
    acknowledges_what_is_not_written: AcknowledgesUnwritten in restless(3, 1), 400;
    follows_on_after_a_promise: FollowsOnAfterPromise in restless(3, 1), 400;
    leads_on_after_a_promise: LeadsOnAfterPromise in restless(3, 1), 400;
    forgets_promises: ForgetsPromise in restless(3, 1), 400;
    begins_an_epoch_twice: BeginsTwice in restless(3, 1), 400;
    matches_logs_by_their_ends: MatchesByLsn in restless(3, 1), 400;
    waits_for_no_lease: WaitsForNoLease in leased(1), 400;
    counts_leases_from_receipt: LeaseFromReceipt in restless(3, 1), 400;
    #[ignore = "needs more seeds than there is time for"]
    forgets_leases_at_a_restart: RestartForgetsLease in restless(2, 1), 400;
    counts_learners: CountsLearner in setup(3, 2, 1), 400;
    elects_the_longest_log: ElectsLongest in restless(3, 1), 400;
    ignores_replaced_sets: IgnoresPrevious in setup(3, 2, 1), 400;
    establishes_too_early: EstablishesEarly in setup(3, 2, 1), 400;
    quorum_without_leases: QuorumWithoutLeases in wasteful(), 400;
    a_lost_disk_comes_back_under_its_id: KeepsIdentity in setup(3, 3, 1), 400;
    answers_without_leases: AnswersUnleased in restless(3, 1), 400;
    answers_before_the_commit: AnswersUncommitted in restless(3, 1), 400;
    #[ignore = "needs more seeds than there is time for"]
    believes_in_leases_in_full: NoDriftAllowance in slow(), 400;
    counts_replicas_that_are_seeded: CountsSeeding in setup(3, 3, 1), 400;
    applies_what_is_not_committed: AppliesUncommitted in restless(3, 1), 400;
    // Around the plan of the shipped operator.
    plans_no_wait_for_leases: WaitsForNoLease in mixed(leased(1)), 400;
    plans_for_the_longest_log: ElectsLongest in planned(restless(3, 1)), 400;
    plans_without_replaced_sets: IgnoresPrevious in mixed(setup(3, 2, 1)), 400;
    plans_as_if_established: EstablishesEarly in planned(setup(3, 2, 1)), 400;
    plans_with_too_few_promises: QuorumWithoutLeases in planned(leased(2)), 400;
    #[ignore = "needs more seeds than there is time for"]
    plans_past_a_newer_log: CountsSeeding in late(planned(setup(3, 3, 1))), 400;
    plans_with_old_promises: CountsOldPromises in planned(restless(3, 1)), 400;
    plans_as_if_leases_were_void: VoidsLeases in mixed(leased(1)), 400;
    plans_without_the_set_that_it_replaces: ForgetsReplaced in planned(setup(3, 2, 1)), 400;
    writes_over_what_others_wrote: SwapsBlindly in late(planned(setup(3, 3, 1))), 400;
}
