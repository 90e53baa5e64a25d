//! One round: a lab, clients, faults, and the comparison of what was promised with what is.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jmp_client::lease::{short_name, wait_until_ready};
use jmp_client::{LeaseDial, LeaseFilter, LeaseRequest};
use jmp_store::{Options, SqliteStore, StoreExt};
use jmp_types::resource::{Key, Lease};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::audit::{Executions, audit, read_calls, read_store};
use crate::faults::{FaultLog, happen, plan};
use crate::figures::Figures;
use crate::lab::{EXPORTERS, Lab, MARK, PROBE, SHELL, WORKERS};
use crate::ledger::{Ledger, Outcome, Time, now};
use crate::network::Network;
use crate::random::Random;
use crate::worker::{Crew, reach, release};

/// After the last fault, every exporter serves a new lease within this time.
pub const RECOVERY_LIMIT: Duration = Duration::from_secs(90);
/// How long processes of the lab may take to go away after its end.
const LEFT_OVER_LIMIT: Duration = Duration::from_secs(20);
/// How long clients work before something is broken on purpose.
const QUIET: Duration = Duration::from_secs(4);

/// What a round found.
pub struct Report {
    /// Nothing, if all is well.
    pub wrong: Vec<String>,
    /// What happened, for whoever has to find out why.
    pub evidence: String,
}

/// Plays a round. `is_sabotaged` has nothing fail, and two promises broken behind everybody's back.
pub async fn play(
    network: &Network,
    number: u64,
    seed: u64,
    is_sabotaged: bool,
    figures: &mut Figures,
) -> Report {
    let mut random = Random::new(seed);
    let mark = format!("{seed:x}-{}", std::process::id());
    let routers = 1 + usize::from(random.chance(60));
    let lab = Arc::new(Lab::start(network, mark, routers).await);
    let ledger = Arc::new(Ledger::default());
    let stop = CancellationToken::new();
    let crew = Crew::start(&lab, &ledger, &mut random, &stop);
    let shells = tokio::spawn({
        let (shell, ledger, stop) = (Arc::clone(&lab.shell), Arc::clone(&ledger), stop.clone());
        async move { shell.run(&ledger, &stop).await }
    });
    let log = Arc::new(FaultLog::default());
    let plans = match is_sabotaged {
        true => Vec::new(),
        false => plan(number, &mut random, &lab, WORKERS),
    };
    if is_sabotaged {
        tokio::time::sleep(QUIET).await;
        lose_a_lease(&lab, &ledger).await;
    }
    happen(&plans, &lab, &crew, &log).await;
    let calm = now();
    stop.cancel();
    let workers = (0..WORKERS).map(|number| format!("w{number}")).collect();
    tokio::join!(
        async {
            crew.finished(RECOVERY_LIMIT).await;
            drain(&lab, &ledger, workers).await;
        },
        async { shells.await.unwrap() }
    );
    drain(&lab, &ledger, vec![SHELL.to_owned()]).await;
    let recoveries = probe(&lab, &ledger, calm).await;
    lab.stop().await;
    if is_sabotaged {
        repeat_a_call(&lab);
    }
    let mut wrong = lab.complaints();
    wrong.extend(left_over(&lab).await);
    for address in lab.listening().await {
        wrong.push(format!("somebody still listens on {address}"));
    }
    let book = ledger.note(|book| book.clone());
    let stored = read_store(&lab.store());
    let executed: Executions = (0..EXPORTERS)
        .map(|number| (format!("e{number}"), read_calls(&lab.calls(number))))
        .collect();
    let faults = log.all();
    figures.add(&book, stored.leases.len(), &faults, &recoveries);
    wrong.extend(audit(&book, &stored, &executed, &faults, routers));
    let mut evidence = String::from("planned:\n");
    for plan in &plans {
        let _ = writeln!(evidence, "  {plan}");
    }
    for fault in &faults {
        let _ = writeln!(evidence, "  {fault:?}");
    }
    for broken in book.breaks.iter().chain(&book.lost_ways) {
        let _ = writeln!(evidence, "  {broken:?}");
    }
    evidence.push_str(&lab.logs());
    if !wrong.is_empty() && std::env::var_os("JMP_CHAOS_KEEP").is_some() {
        let _ = writeln!(evidence, "kept in {}", lab.user.path("").display());
        std::mem::forget(lab);
    }
    Report { wrong, evidence }
}

/// Ends all leases that clients left behind.
async fn drain(lab: &Lab, ledger: &Ledger, clients: Vec<String>) {
    for client in clients {
        let controller = lab.client(&client);
        let draining = async {
            loop {
                let Ok(leases) = controller.list_leases(&LeaseFilter::default()).await else {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                };
                let owner = |lease: &str| short_name(lease) == client.as_str();
                let mut left = leases
                    .iter()
                    .filter(|lease| owner(lease.client.as_deref().unwrap_or_default()))
                    .peekable();
                if left.peek().is_none() {
                    return;
                }
                for lease in left {
                    let name = short_name(&lease.name);
                    if ledger.note(|book| book.leases.contains_key(name)) {
                        release(&controller, ledger, name).await;
                    } else {
                        let _ = controller.delete_lease(name).await;
                    }
                }
            }
        };
        if tokio::time::timeout(RECOVERY_LIMIT, draining)
            .await
            .is_err()
        {
            ledger.violation(format!(
                "the leases of {client} could not be ended within {RECOVERY_LIMIT:?} of the last fault"
            ));
        }
    }
}

/// Leases and uses every exporter; how long after `calm` each of them was so far.
async fn probe(lab: &Lab, ledger: &Ledger, calm: Time) -> Vec<Time> {
    let probes = (0..EXPORTERS).map(|number| async move {
        let exporter = format!("e{number}");
        match tokio::time::timeout(RECOVERY_LIMIT, serve(lab, ledger, &exporter)).await {
            Ok(()) => Some(now() - calm),
            Err(_) => {
                let seen = lab.client(PROBE).exporter(&exporter).await;
                let described = lab.client(PROBE).describe("exporters", &exporter).await;
                ledger.violation(format!(
                    "{exporter} served no lease within {RECOVERY_LIMIT:?} of the last fault: {seen:?}, \
                     {described:?}"
                ));
                None
            }
        }
    });
    let times = futures::future::join_all(probes).await;
    times.into_iter().flatten().collect()
}

/// One lease and one call, however often they have to be tried.
async fn serve(lab: &Lab, ledger: &Ledger, exporter: &str) {
    let controller = lab.client(PROBE);
    let mut number = 0;
    loop {
        number += 1;
        let lease = format!("probe-{exporter}-{number}");
        let served = async {
            let request = LeaseRequest {
                exporter: Some(exporter.to_owned()),
                duration: Some(Duration::from_secs(300)),
                name: Some(lease.clone()),
                ..LeaseRequest::default()
            };
            controller.create_lease(&request).await?;
            wait_until_ready(&controller, &lease, RECOVERY_LIMIT, |_, _| {}).await?;
            let dial = LeaseDial::new(controller.clone(), &lease, Duration::from_secs(30));
            let client = reach(dial).await?;
            let call = format!("{lease}.1");
            ledger.calling(&call, &lease, exporter);
            let arguments = json!(["mark", {}, call, lease]);
            let handle = client.device("sh")?.handle()?;
            let arguments = arguments.as_array().unwrap();
            let (_, said, code): (String, String, i64) =
                handle.call("call_method", arguments).await?;
            assert_eq!(code, 0, "{said}");
            ledger.called(&call);
            jmp_client::Result::<()>::Ok(())
        };
        let served = served.await;
        let _ = controller.delete_lease(&lease).await;
        match served {
            Ok(()) => return,
            Err(error) => eprintln!("  {exporter} did not serve {lease}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A controller that had acknowledged a lease before it was on disk would leave this behind.
async fn lose_a_lease(lab: &Lab, ledger: &Ledger) {
    let controller = &lab.controller.shared;
    controller.kill_and_hold().await;
    let store = SqliteStore::open(lab.store(), &Options::default()).unwrap();
    let acknowledged = ledger.note(|book| {
        let leases = book.leases.iter();
        let found = leases
            .filter(|(_, entry)| entry.created == Outcome::Acknowledged)
            .map(|(name, _)| name.clone())
            .next();
        found.expect("a lease was acknowledged")
    });
    let key = Key::new("default", acknowledged);
    store.delete::<Lease>(&key, None).await.unwrap();
    store.close().await;
    controller.release();
}

/// An exporter that carried out a call twice would leave this behind.
fn repeat_a_call(lab: &Lab) {
    for number in 0..EXPORTERS {
        let path = lab.calls(number);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if let Some(last) = text.lines().last() {
            std::fs::write(&path, format!("{text}{last}\n")).unwrap();
            return;
        }
    }
    panic!("no exporter did anything");
}

/// Processes that outlive the lab.
async fn left_over(lab: &Lab) -> Vec<String> {
    let mark = format!("{MARK}={}", lab.mark);
    let deadline = tokio::time::Instant::now() + LEFT_OVER_LIMIT;
    loop {
        let found = marked(&mark);
        if found.is_empty() || tokio::time::Instant::now() >= deadline {
            return found
                .into_iter()
                .map(|process| format!("left over: {process}"))
                .collect();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Processes with that in their environment.
fn marked(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let path: PathBuf = entry.path();
        let environment = std::fs::read(path.join("environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        if variables.any(|variable| variable == mark.as_bytes()) {
            let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push(format!("{} {command}", entry.file_name().display()));
        }
    }
    found
}
