//! A deterministic simulation: exporters of three ages, clients, a network that loses, repeats,
//! delays and reorders, crashes of everything, clocks that jump; after every step the promises of
//! the pool are checked.
//!
//! `JMP_SIM_SEED` repeats the schedule that a failure named, `JMP_SIM_SCHEDULES` plays as many.

mod exporter;
mod oracle;
mod world;

use super::fault::Fault;
use world::World;

/// Schedules of the normal test run.
const SCHEDULES: u64 = 100_000;
/// Most schedules until a planted bug has to be found.
const UNTIL_FOUND: u64 = 20_000;

/// Numbers that look random (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

// === impl Dice ===

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `below`, that not included.
    pub(super) fn below(&mut self, below: u64) -> u64 {
        self.next() % below.max(1)
    }

    pub(super) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// Whether something of that many percent happens.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_schedule_keeps_the_promises() {
    if let Some(seed) = number("JMP_SIM_SEED") {
        if let Err(problem) = World::new(seed, None).play() {
            panic!("seed {seed}: {problem}");
        }
        return;
    }
    let schedules = number("JMP_SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let acquired: u64 = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || play_every(first, threads, schedules)))
            .collect();
        let counts = all.into_iter().map(|one| match one.join() {
            Ok(count) => count,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        counts.sum()
    });
    // A simulation in which nothing happens proves nothing.
    assert!(
        acquired > schedules,
        "{acquired} leases in {schedules} schedules"
    );
    println!("{schedules} schedules, {acquired} leases acquired");
}

/// Plays each `every`th schedule; how many leases got their exporter.
fn play_every(first: u64, every: u64, schedules: u64) -> u64 {
    let seeds = (first..schedules).step_by(every as usize);
    let played = seeds.map(|seed| match World::new(seed, None).play() {
        Ok(played) => played.acquired,
        Err(problem) => panic!("{problem}; repeat with JMP_SIM_SEED={seed}"),
    });
    played.sum()
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..200 {
        let trace = || World::new(seed, None).play().map(|played| played.trace);
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for fault in Fault::ALL {
        let found = (0..UNTIL_FOUND).find_map(|seed| {
            let problem = World::new(seed, Some(fault)).play().err()?;
            Some((seed, problem))
        });
        match found {
            Some((seed, problem)) => println!("{fault:?}: seed {seed}: {problem}"),
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
