//! A simulation of the real services on virtual time: the controller with its engine and all its
//! services, the router, the client library, and exporters with the habits of released ones, over
//! connections in memory that are slow, stall and break, while processes are killed, writes fail and
//! clocks jump.
//!
//! `JMP_SIM_SEED` repeats the schedule that a failure named and prints what happens in it,
//! `JMP_SIM_SCHEDULES` plays as many.

mod client;
mod dice;
mod exporter;
mod ledger;
mod network;
mod template;
mod world;

use jmp_lease::pool::Fault;
use world::{Planted, play};

/// Schedules of the normal test run.
const SCHEDULES: u64 = 300;
/// Most schedules until a planted bug has to be found.
const UNTIL_FOUND: u64 = 60;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn threads() -> u64 {
    std::thread::available_parallelism().map_or(1, usize::from) as u64
}

#[test]
fn every_schedule_keeps_the_promises() {
    if let Some(seed) = number("JMP_SIM_SEED") {
        let played = play(seed, Planted::default(), true);
        played.unwrap_or_else(|failed| panic!("seed {seed}: {}", failed.problem));
        return;
    }
    let schedules = number("JMP_SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let threads = threads();
    let all: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|first| {
                let seeds = (first..schedules).step_by(threads as usize);
                let one = |seed| (seed, play(seed, Planted::default(), false));
                scope.spawn(move || seeds.map(one).collect::<Vec<_>>())
            })
            .collect();
        running
            .into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect()
    });
    let mut sum = ledger::Counts::default();
    let mut failed = Vec::new();
    for (seed, played) in all {
        match played {
            Ok(played) => sum.add(&played.counts),
            Err(one) => {
                if failed.is_empty() {
                    println!("{}\n", one.story);
                }
                failed.push(format!("{}; repeat with JMP_SIM_SEED={seed}", one.problem));
            }
        }
    }
    println!("{schedules} schedules: {sum:?}");
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
    // A simulation in which nothing happens proves nothing.
    assert!(sum.acquired > 5 * schedules, "{sum:?}");
    assert!(sum.lines > 20 * schedules, "{sum:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..5 {
        let trace =
            || play(seed, Planted::default(), false).map(|played| (played.counts, played.trace));
        assert_eq!(trace().ok(), trace().ok(), "seed {seed}");
    }
}

/// The first schedule that finds it.
fn found(planted: Planted) -> Option<(u64, String)> {
    (0..UNTIL_FOUND).find_map(|seed| Some((seed, play(seed, planted, false).err()?.problem)))
}

#[test]
fn planted_bugs_are_found() {
    let of_pool = [
        Fault::LoseOnRestore,
        Fault::NeverClean,
        Fault::DropNotice,
        Fault::ForgetExpiry,
        Fault::UnsavedAssignment,
        Fault::SkipDelivery,
    ];
    let mut planted: Vec<Planted> = of_pool
        .into_iter()
        .map(|fault| Planted {
            pool: Some(fault),
            ..Planted::default()
        })
        .collect();
    planted.push(Planted {
        answer_before_save: true,
        ..Planted::default()
    });
    planted.push(Planted {
        lying_store: true,
        ..Planted::default()
    });
    let mut missed = Vec::new();
    for planted in planted {
        match found(planted) {
            Some((seed, problem)) => println!("{planted:?}: seed {seed}: {problem}"),
            None => missed.push(planted),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
