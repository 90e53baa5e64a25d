//! Leases as a CI farm makes them: each from a client of its own, connected, used, released.

use std::time::{Duration, Instant};

use jmp_client::lease::{short_name, wait_until_ready};
use jmp_client::{AllowList, Client, Controller, Dialer, LeaseDial, LeaseRequest};
use tokio::task::JoinSet;

use crate::lab::{Outcome, PLAYING, Place, percentile};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Length of each lease, if nobody released it.
const DURATION: Duration = Duration::from_secs(600);

/// Times of one lease in ms, each from the request.
struct Times {
    ready: f64,
    used: f64,
    released: f64,
}

/// Asks for a lease of any playing exporter; its name and how long it took to be ready.
pub async fn acquire(controller: &Controller) -> Outcome<(String, f64)> {
    // The connection is not part of the request.
    controller.connection().await?;
    let begin = Instant::now();
    let request = LeaseRequest {
        selector: format!("{}={}", PLAYING.0, PLAYING.1),
        duration: Some(DURATION),
        ..LeaseRequest::default()
    };
    let lease = controller.create_lease(&request).await?;
    let name = short_name(&lease.name).to_owned();
    wait_until_ready(controller, &name, PATIENCE, |_, _| {}).await?;
    Ok((name, begin.elapsed().as_secs_f64() * 1e3))
}

/// The devices of a lease through a tunnel of its own.
pub async fn connect(controller: &Controller, lease: &str) -> Outcome<Client> {
    let dialer = Dialer::new(LeaseDial::new(controller.clone(), lease, PATIENCE));
    Ok(Client::connect_with(dialer, &AllowList::parse("UNSAFE")).await?)
}

pub async fn run(place: &Place, count: usize, interval: Duration) -> Outcome<()> {
    let mut clock = tokio::time::interval(interval);
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..count {
        clock.tick().await;
        // A client of its own, with connections of its own.
        running.spawn(one(place.controller()?));
    }
    let (mut times, mut failures) = (Vec::new(), Vec::new());
    while let Some(done) = running.join_next().await {
        match done? {
            Ok(done) => times.push(done),
            Err(error) => failures.push(error.to_string()),
        }
    }
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    println!("failures {}", failures.len());
    println!("per_minute {}", times.len() as f64 / minutes);
    for (name, pick) in [
        ("ready", (|t| t.ready) as fn(&Times) -> f64),
        ("used", |t| t.used),
        ("released", |t| t.released),
    ] {
        let mut values: Vec<f64> = times.iter().map(pick).collect();
        println!("{name}_p50 {}", percentile(&mut values, 0.5));
        println!("{name}_p99 {}", percentile(&mut values, 0.99));
    }
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} of {count} leases failed: {first}", failures.len()).into()),
    }
}

async fn one(controller: Controller) -> Outcome<Times> {
    let (name, ready) = acquire(&controller).await?;
    let begin = Instant::now();
    let client = connect(&controller, &name).await?;
    let power = client.device("power")?.handle()?;
    power.call::<()>("on", ()).await?;
    let used = begin.elapsed().as_secs_f64() * 1e3;
    drop((power, client));
    controller.delete_lease(&name).await?;
    Ok(Times {
        ready,
        used: ready + used,
        released: ready + begin.elapsed().as_secs_f64() * 1e3,
    })
}
