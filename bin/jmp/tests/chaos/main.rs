//! The real programs under chaos: controller, routers, exporters and clients are killed, stopped and cut
//! off at random moments. What clients were promised is written down and compared, after each round,
//! with what is on disk and with what the exporters did.
//!
//! `JMP_CHAOS_ROUNDS=200` is the long mode. `JMP_CHAOS_SEED=N JMP_CHAOS_ROUND=M` begins with the faults of
//! that round (what the programs make of the same faults depends on the moment, so it may take some
//! tries); with `JMP_CHAOS_KEEP=1` the files of a round that failed are kept, `JMP_CHAOS_VERBOSE=1` tells
//! of rounds that did not. `JMP_CHAOS_NAMESPACES=0` does without network namespaces, and so without cut cables.

mod audit;
mod console;
mod faults;
mod figures;
mod lab;
mod ledger;
mod network;
mod part;
mod random;
mod round;
mod shells;
#[path = "../support/mod.rs"]
mod support;
mod worker;

use std::time::Duration;

use figures::Figures;
use network::Network;
use round::{Report, play};

/// Rounds of a normal test run.
const ROUNDS: u64 = 10;
/// Between the seeds of two rounds, so that each round can be repeated alone.
const NEXT_SEED: u64 = 1;
/// Something of the test itself is stuck after this time.
const ROUND_LIMIT: Duration = Duration::from_secs(400);

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

async fn one_round(
    network: &Network,
    round: u64,
    seed: u64,
    is_sabotaged: bool,
    figures: &mut Figures,
) -> Report {
    let playing = play(network, round, seed, is_sabotaged, figures);
    match tokio::time::timeout(ROUND_LIMIT, playing).await {
        Ok(report) => report,
        Err(_) => panic!("round {round} with seed {seed} did not end within {ROUND_LIMIT:?}"),
    }
}

#[test]
fn promises_are_kept_whatever_fails() {
    if let Some(status) = network::run_in_hub("promises_are_kept_whatever_fails") {
        assert!(status.success(), "see above: {status}");
        return;
    }
    let rounds = number("JMP_CHAOS_ROUNDS").unwrap_or(ROUNDS);
    let first = number("JMP_CHAOS_ROUND").unwrap_or(0);
    let seed = number("JMP_CHAOS_SEED")
        .unwrap_or_else(|| jmp_types::Timestamp::now().as_microsecond().unsigned_abs());
    let network = Network::set_up(lab::PLACES);
    let mut figures = Figures::default();
    let mut failed = Vec::new();
    runtime().block_on(async {
        for round in first..first + rounds {
            let seed = seed.wrapping_add((round - first) * NEXT_SEED);
            let begun = tokio::time::Instant::now();
            let report = one_round(&network, round, seed, false, &mut figures).await;
            let again = format!("JMP_CHAOS_SEED={seed} JMP_CHAOS_ROUND={round} JMP_CHAOS_ROUNDS=1");
            let seconds = begun.elapsed().as_secs_f64();
            let result = if report.wrong.is_empty() {
                "ok"
            } else {
                "FAILED"
            };
            eprintln!("round {round}: {result} in {seconds:.1} s ({again})");
            if report.wrong.is_empty() {
                if std::env::var_os("JMP_CHAOS_VERBOSE").is_some() {
                    eprintln!("{}", report.evidence);
                }
            } else {
                let wrong = report.wrong.join("\n* ");
                eprintln!("* {wrong}\n{}", report.evidence);
                failed.push(again);
            }
        }
    });
    println!("{figures}");
    assert!(
        failed.is_empty(),
        "promises were broken; again with {failed:?}"
    );
    if rounds >= ROUNDS {
        assert!(
            figures.survivors > 0,
            "no console was open when the controller was killed"
        );
    }
}

#[test]
fn a_lost_lease_and_a_repeated_call_are_found() {
    if let Some(status) = network::run_in_hub("a_lost_lease_and_a_repeated_call_are_found") {
        assert!(status.success(), "see above: {status}");
        return;
    }
    let network = Network::set_up(lab::PLACES);
    let mut figures = Figures::default();
    let report = runtime().block_on(one_round(&network, 0, 1, true, &mut figures));
    for expected in [
        "was acknowledged and is not in the store",
        "was done 2 times",
    ] {
        let is_found = report.wrong.iter().any(|text| text.contains(expected));
        assert!(is_found, "no `{expected}` in {:#?}", report.wrong);
    }
}
