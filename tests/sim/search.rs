//! TEMPORARY.
use super::bug::Bug;
use super::run::{mixed, planned, restless, run, setting, setup};
use super::world::Setup;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[test]
fn search() {
    let all = [
        ("p321", planned(setup(3, 2, 1))),
        ("p431", planned(setup(4, 3, 1))),
        ("pr31", planned(restless(3, 1))),
        ("pr41", planned(restless(4, 1))),
        ("m321", mixed(setup(3, 2, 1))),
        ("p331", planned(setup(3, 3, 1))),
        ("p532", planned(setup(5, 3, 2))),
    ];
    let bugs = [Bug::EstablishesEarly, Bug::CountsOldPromises];
    let (first, count) = (setting("SIM_FIRST", 1), setting("SIM_SEEDS", 100));
    for bug in bugs {
        for (name, setup) in all {
            let mut hits = Vec::new();
            for seed in first..first + count {
                if catch_unwind(AssertUnwindSafe(|| run(seed, Setup { bug, ..setup }))).is_err() {
                    hits.push(seed);
                }
            }
            println!("FOUND {bug:?} {name}: {hits:?}");
        }
    }
}
