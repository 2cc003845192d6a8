//! Planted mistakes that chance alone shows too seldom: scenarios that lead up to them. Chance still
//! decides on how long everything takes and on what operators do, so each is tried with many seeds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use replicated_store::replication::{Addressee, Input};

use super::bug::Bug;
use super::client::{Command, Op, STRIDE};
use super::clock::{LocalClock, MOST_PPM};
use super::event::Event;
use super::faults::Menu;
use super::planted::first_line;
use super::run::{conclude, planned, setup};
use super::world::{Setup, World};

const SECOND: Duration = Duration::from_secs(1);
/// Seeds of each scenario.
const SEEDS: u64 = 100;

/// Runs a scenario until a seed notices the mistake. Without the mistake no seed may notice anything.
fn found(bug: Bug, setup: Setup, scenario: fn(&mut World) -> Option<()>) {
    let seeds = 1..=SEEDS;
    let run = |seed: u64, bug: Bug| {
        let mut world = World::new(seed, Setup { bug, ..setup });
        let reached = scenario(&mut world).is_some();
        world.operators_wait(SECOND / 2);
        conclude(world);
        reached
    };
    let mut reached = 0;
    let bad = seeds.clone().find_map(|seed| {
        let noticed = catch_unwind(AssertUnwindSafe(|| run(seed, bug)));
        reached += u64::from(*noticed.as_ref().unwrap_or(&false));
        noticed.err().map(|panic| (seed, panic))
    });
    let Some((seed, panic)) = bad else {
        panic!("{bug:?} is not noticed in {SEEDS} seeds, {reached} of which get to the end");
    };
    println!("{bug:?}: seed {seed}: {}", first_line(&*panic));
    let reached = seeds.take(20).filter(|seed| run(*seed, Bug::None)).count();
    println!("{reached} of 20 seeds without it get to the end of the scenario");
}

/// Nothing happens but what the scenario wants.
fn calm(setup: Setup, lease_ms: u64) -> Setup {
    Setup {
        menu: Menu::CALM,
        lease: Duration::from_millis(lease_ms),
        ..setup
    }
}

impl World {
    fn after(&mut self, time: Duration, done: impl FnMut(&Self) -> bool) -> Option<()> {
        self.run_until(self.now + time, done).then_some(())
    }

    /// Waits until all vote: the leader, and the others.
    fn assembled(&mut self) -> Option<(usize, Vec<usize>)> {
        let count = self.machines.len();
        self.after(SECOND * 30, |world| {
            world.register.voters.len() == count
                && world.register.previous.is_empty()
                && world.leader().is_some()
                && (0..count).all(|slot| !world.is_seeding(world.machines[slot].id))
        })?;
        self.run_until(self.now + SECOND / 2, |_| false);
        let leader = self.leader()?;
        let others = (0..count).filter(|slot| *slot != leader).collect();
        Some((leader, others))
    }

    /// These reach each other, and nobody else, operators included.
    fn part(&mut self, group: &[usize]) {
        let all = self.machines.len() + self.desks.len();
        let pairs = (0..all).flat_map(|from| (0..all).map(move |to| (from, to)));
        let parted = pairs.filter(|(from, to)| group.contains(from) != group.contains(to));
        self.network.cut = parted.collect();
    }

    fn cut_between(&mut self, one: usize, other: usize) {
        self.network.cut.extend([(one, other), (other, one)]);
    }

    /// The simulation's own operators hold a leader to be away after this.
    fn operators_wait(&mut self, patience: Duration) {
        for desk in &mut self.desks {
            desk.seen.patience = patience;
        }
    }

    /// Waits until it is the only voter, and lets it get to work.
    fn goes_alone(&mut self, slot: usize) -> Option<()> {
        let alone = [self.machines[slot].id].into();
        self.after(SECOND, |world| world.register.voters == alone)?;
        self.operators_wait(SECOND * 100);
        for _ in 0..300 {
            self.apply(slot);
            self.settle(slot);
            self.run_until(self.now + Duration::from_millis(1), |_| false);
        }
        Some(())
    }

    /// A client that never hears of it writes.
    fn write(&mut self, slot: usize) {
        let command = Command::Set(0, (self.history.len() as u64 + 1) * STRIDE);
        let op = self.note(Op {
            client: usize::MAX,
            command,
            asked: self.now,
            answered: None,
            result: None,
            refused: false,
        });
        let now = self.local(slot);
        if let Some(process) = &mut self.machines[slot].process {
            process.now = now;
            self.history[op].refused = !process.execute(op, command);
        }
        self.settle(slot);
    }

    fn skew(&mut self, slot: usize, ppm: i64) {
        let local = self.local(slot).as_micros() as i128;
        let passed = self.now.as_micros() as i128 * i128::from(1_000_000 + ppm) / 1_000_000;
        let offset = (local - passed).max(0) as u64;
        self.machines[slot].clock = LocalClock::new(offset, ppm);
    }

    fn epoch_of_log(&self, slot: usize) -> u64 {
        let process = self.machines[slot].process.as_ref();
        process.map_or(0, |it| it.core.view().last.epoch.0)
    }
}

/// The leader is cut off while the only one who knows of its lease starts anew, and is promoted.
fn restarted_grantor(world: &mut World) -> Option<()> {
    let (leader, others) = world.assembled()?;
    let alone = others[0];
    world.part(&[leader]);
    world.stop(alone, false);
    world.at(1_000, Event::Start(alone));
    world.operators_wait(Duration::ZERO);
    world.goes_alone(alone)?;
    Some(())
}

/// The leader's clock is slow and its follower's is fast, and the follower is promoted just when
/// its lease has run out by its own clock.
fn slow_leader(world: &mut World) -> Option<()> {
    let (leader, others) = world.assembled()?;
    world.operators_wait(SECOND * 100);
    for machine in &mut world.machines {
        machine.disk_us = 200;
    }
    world.skew(leader, -MOST_PPM);
    world.skew(others[0], MOST_PPM);
    world.run_until(world.now + SECOND * 3, |_| false);
    if world.leader() != Some(leader) {
        return None;
    }
    world.part(&[leader]);
    let soon = Duration::from_millis(120);
    world.after(SECOND * 6, |world| {
        let until = world.machines[leader].process.as_ref();
        let until = until.map(|it| it.core.answers_until());
        until.is_some_and(|until| until < world.local(leader) + soon)
    })?;
    world.operators_wait(Duration::ZERO);
    for desk in &mut world.desks {
        desk.seen.words.remove(&leader); // nobody waits for its answer
    }
    world.operator(0);
    world.operator(1);
    world.goes_alone(others[0])?;
    Some(())
}

/// Who heard nothing of the leader for long promises alone, on the operators' side of a network that
/// is parted; the other side is the greater one.
fn parted(world: &mut World) -> Option<()> {
    let (leader, others) = world.assembled()?;
    world.part(&[leader, others[0]]);
    world.run_until(world.now + SECOND / 2, |_| false);
    world.operators_wait(Duration::ZERO);
    world.run_until(world.now + SECOND * 3, |_| false);
    Some(())
}

/// The same, and somebody else has asked for its promise: the shipped operator carries that through
/// with all that it has heard, of which only one answers.
fn carried_through(world: &mut World) -> Option<()> {
    let (leader, others) = world.assembled()?;
    world.part(&[leader, others[0]]);
    world.run_until(world.now + SECOND * 2 / 5, |_| false);
    let epoch = world.register.epoch.next();
    let ticket = 0; // nobody waits for the answer
    world.drive(
        others[1],
        Input::Promise {
            epoch,
            ticket,
            to: Addressee::default(),
        },
    );
    world.run_until(world.now + SECOND * 5, |_| false);
    Some(())
}

/// Records of an old epoch reach a second replica under a new leader, and its barrier does not; a
/// third one has the barrier of an epoch in between.
fn old_records(world: &mut World) -> Option<()> {
    let (old, _) = world.assembled()?;
    let epoch = world.register.epoch;
    world.part(&[old]);
    for _ in 0..40 {
        world.write(old);
        world.run_until(world.now + Duration::from_millis(5), |_| false);
    }
    world.operators_wait(Duration::ZERO);
    world.after(SECOND * 3, |world| world.register.epoch > epoch)?;
    world.operators_wait(SECOND * 100);
    let between = world.register.leader?;
    let between = world.machines.iter().position(|it| it.id == between)?;
    let last = (0..3).find(|slot| ![old, between].contains(slot))?;
    world.cut_between(between, last);
    world.after(SECOND, |world| world.epoch_of_log(between) > epoch.0)?;
    world.part(&[between]);
    world.operators_wait(Duration::ZERO);
    let commit = world.machines[old].process.as_ref()?.core.commit();
    world.after(SECOND * 3, |world| {
        let process = world.machines[old].process.as_ref();
        let leads = process.filter(|it| it.core.leading() > Some(epoch));
        let committed = leads.is_some_and(|it| it.core.commit() > commit);
        committed && Some(world.epoch_of_log(last)) <= Some(epoch.0)
    })?;
    world.part(&[old]);
    world.run_until(world.now + SECOND * 3, |_| false);
    Some(())
}

/// A voter that is being seeded is the only one, but for the leader that is cut off, that has what
/// was acknowledged last.
fn seeded_voter(world: &mut World) -> Option<()> {
    let (leader, others) = world.assembled()?;
    let (seeded, behind) = (others[0], others[1]);
    let end = world.machines[seeded].process.as_ref()?.core.end();
    for machine in [leader, behind] {
        world.cut_between(seeded, machine);
    }
    world.stop(seeded, false); // what is on its way to it is lost
    let voters = world.register.voters.clone();
    for _ in 0..800 {
        world.write(leader);
        world.run_until(world.now + Duration::from_micros(1_500), |_| false);
        let (trim, now) = (world.machines[behind].told, world.local(leader));
        let process = world.machines[leader].process.as_mut()?;
        process.upkeep(Some(trim), now);
    }
    let oldest = world.machines[leader].process.as_ref()?.core.oldest();
    if oldest <= end || world.register.voters != voters || world.leader() != Some(leader) {
        return None;
    }
    world.network.cut.clear();
    world.cut_between(leader, behind);
    world.after(SECOND, |world| {
        let end = world.machines[behind].process.as_ref();
        let end = end.map(|it| it.core.end());
        let commit = world.machines[leader].process.as_ref();
        let commit = commit.map(|it| it.core.commit());
        world.is_seeding(world.machines[seeded].id) && commit > end
    })?;
    world.stop(seeded, false);
    world.part(&[leader]);
    world.run_until(world.now + SECOND * 6, |_| false);
    Some(())
}

#[test]
fn forgets_leases_at_a_restart() {
    let setup = calm(setup(2, 2, 1), 2_000);
    found(Bug::RestartForgetsLease, setup, restarted_grantor);
}

#[test]
fn believes_in_leases_in_full() {
    let setup = calm(setup(2, 2, 1), 2_400);
    found(Bug::NoDriftAllowance, setup, slow_leader);
}

#[test]
fn quorum_without_leases() {
    found(Bug::QuorumWithoutLeases, calm(setup(3, 3, 2), 300), parted);
}

#[test]
fn plans_with_too_few_promises() {
    let setup = calm(planned(setup(3, 3, 2)), 300);
    found(Bug::QuorumWithoutLeases, setup, carried_through);
}

#[test]
fn commits_without_its_barrier() {
    let setup = calm(setup(3, 3, 1), 300);
    let menu = Menu {
        removals: 0,
        ..setup.menu
    };
    let setup = Setup { menu, ..setup };
    found(Bug::CommitsWithoutBarrier, setup, old_records);
}

#[test]
fn plans_past_a_newer_log() {
    let setup = calm(planned(setup(3, 3, 1)), 300);
    found(Bug::CountsSeeding, setup, seeded_voter);
}
