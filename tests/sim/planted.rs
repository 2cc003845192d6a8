//! The simulation finds what is planted: else its silence about the real code would mean little.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::bug::Bug;
use super::faults::Menu;
use super::run::{blocking, fateful, mixed, planned, restless, run, setting, setup};
use super::world::Setup;

/// So many seeds are tried at most.
const MOST: u64 = 400;

/// Runs seeds until one notices the mistake; `MOST` of them, or as many as `SIM_SEEDS` says. The first
/// one is not long before one that does: what comes before is time spent for nothing.
fn found(bug: Bug, setup: Setup, first: u64) {
    let setup = Setup { bug, ..setup };
    let most = setting("SIM_SEEDS", MOST);
    for seed in first..first + most {
        let noticed = catch_unwind(AssertUnwindSafe(|| run(seed, setup)));
        if let Err(panic) = noticed {
            println!("{bug:?}: seed {seed}: {}", first_line(&*panic));
            return;
        }
    }
    panic!("{bug:?} is not noticed in {most} seeds");
}

/// What a panic says.
pub(crate) fn first_line(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let line = text.and_then(|text| text.lines().next());
    line.unwrap_or_default().to_owned()
}

macro_rules! planted {
    ($($name:ident: $bug:ident in $setup:expr, from $first:literal;)*) => {
        $(#[test]
        fn $name() {
            found(Bug::$bug, $setup, $first);
        })*
    };
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

/// Operators that hear of everything late.
fn late(setup: Setup) -> Setup {
    let menu = Menu {
        slow_words: 8,
        ..setup.menu
    };
    Setup { menu, ..setup }
}

planted! {
    counts_a_log_that_is_not_matched: CountsUnmatched in restless(3, 1), from 1;
    acknowledges_what_is_not_written: AcknowledgesUnwritten in restless(3, 1), from 1;
    follows_on_after_a_promise: FollowsOnAfterPromise in restless(3, 1), from 170;
    leads_on_after_a_promise: LeadsOnAfterPromise in restless(3, 1), from 120;
    forgets_promises: ForgetsPromise in restless(3, 1), from 550;
    begins_an_epoch_twice: BeginsTwice in restless(3, 1), from 100;
    matches_logs_by_their_ends: MatchesByLsn in restless(3, 1), from 1;
    waits_for_no_lease: WaitsForNoLease in leased(1), from 180;
    counts_leases_from_receipt: LeaseFromReceipt in restless(3, 1), from 1;
    counts_learners: CountsLearner in setup(3, 2, 1), from 1;
    elects_the_longest_log: ElectsLongest in restless(3, 1), from 150;
    ignores_replaced_sets: IgnoresPrevious in setup(3, 2, 1), from 1;
    establishes_too_early: EstablishesEarly in setup(3, 2, 1), from 1;
    a_lost_disk_comes_back_under_its_id: KeepsIdentity in setup(3, 3, 1), from 1;
    answers_without_leases: AnswersUnleased in restless(3, 1), from 1;
    answers_before_the_commit: AnswersUncommitted in restless(3, 1), from 1;
    answers_what_is_not_released: AnswersUnreleased in blocking(setup(3, 3, 2)), from 1;
    tells_what_is_not_released: TellsCommitted in blocking(setup(3, 3, 2)), from 1;
    counts_replicas_that_are_seeded: CountsSeeding in setup(3, 3, 1), from 1;
    shows_what_is_older: ShowsOlder in restless(3, 1), from 1;
    applies_what_is_not_committed: AppliesUncommitted in restless(3, 1), from 1;
    // Around the plan of the shipped operator.
    plans_no_wait_for_leases: WaitsForNoLease in mixed(leased(1)), from 50;
    plans_for_the_longest_log: ElectsLongest in planned(restless(3, 1)), from 70;
    plans_without_replaced_sets: IgnoresPrevious in mixed(setup(3, 2, 1)), from 785;
    plans_as_if_established: EstablishesEarly in planned(setup(3, 2, 1)), from 3350;
    plans_with_old_promises: CountsOldPromises in planned(restless(3, 1)), from 520;
    plans_as_if_leases_were_void: VoidsLeases in mixed(leased(1)), from 50;
    plans_without_the_set_that_it_replaces: ForgetsReplaced in planned(setup(3, 2, 1)), from 1;
    counts_disks_that_were_put_back: CountsPutBack in fateful(planned(setup(3, 3, 1))), from 3840;
    counts_damaged_logs: CountsDamaged in planned(setup(3, 3, 1)), from 228;
    counts_copies: CountsCopies in fateful(planned(setup(3, 3, 1))), from 20;
    forgets_what_it_adopted: ForgetsAdopted in fateful(planned(setup(3, 3, 1))), from 680;
    recovers_from_some_volumes: RecoversFromSome in fateful(planned(setup(3, 3, 1))), from 1;
    writes_over_what_others_wrote: SwapsBlindly in late(planned(setup(3, 3, 1))), from 60;
}
