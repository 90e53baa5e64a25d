//! `jmp shell` processes, one after the other, as a person or a CI job uses them.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use crate::ledger::{Ledger, Outcome};
use crate::network::Place;
use crate::support::program;

/// Calls the drivers and writes down what it was promised.
const SCRIPT: &str = "for n in 1 2 3 4; do
  echo \"ask $CHAOS_CALL-$n $JMP_LEASE $JMP_EXPORTER\" >> \"$CHAOS_CALLS\"
  j sh mark $CHAOS_CALL-$n $JMP_LEASE && echo \"got $CHAOS_CALL-$n\" >> \"$CHAOS_CALLS\"
  j power on
done";

/// How long one may go on after the last fault before it is asked to end.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long it may take to give its lease back then.
const STOP_LIMIT: Duration = Duration::from_secs(45);

/// The place where they run, and the one that runs now.
#[derive(Debug)]
pub struct Shell {
    pub place: Place,
    environment: Vec<(String, PathBuf)>,
    /// Written by the script.
    calls: PathBuf,
    log: PathBuf,
    process: Mutex<Option<Pid>>,
}

// === impl Shell ===

impl Shell {
    pub fn new(
        place: Place,
        environment: Vec<(String, PathBuf)>,
        calls: PathBuf,
        log: PathBuf,
    ) -> Self {
        Self {
            place,
            environment,
            calls,
            log,
            process: Mutex::new(None),
        }
    }

    /// Sends a signal to the one that runs now; whether there was one.
    pub fn signal(&self, signal: Signal) -> bool {
        let process = *self.process.lock().unwrap();
        process.is_some_and(|process| kill_process(process, signal).is_ok())
    }

    /// One after the other until `stop`.
    pub async fn run(&self, ledger: &Ledger, stop: &CancellationToken) {
        let mut number = 0;
        while !stop.is_cancelled() {
            number += 1;
            let mut child = self.spawn(number);
            let process = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
            *self.process.lock().unwrap() = process;
            let asked = async {
                stop.cancelled().await;
                tokio::time::sleep(PATIENCE).await;
                self.signal(Signal::TERM);
                tokio::time::sleep(STOP_LIMIT).await;
            };
            let is_stuck = tokio::select! {
                _ = child.wait() => false,
                () = asked => true,
            };
            *self.process.lock().unwrap() = None;
            ledger.note(|book| book.shells += 1);
            if is_stuck {
                ledger.violation(format!(
                    "jmp shell did not end within {STOP_LIMIT:?} of SIGTERM:\n{}",
                    crate::part::end_of(&self.log)
                ));
                child.kill().await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.read(ledger);
    }

    fn spawn(&self, number: u64) -> tokio::process::Child {
        let mut options = OpenOptions::new();
        let log = options.create(true).append(true).open(&self.log).unwrap();
        self.place
            .command(program())
            .args(["shell", "--client", "shell", "-l", "lab=chaos"])
            .args(["--duration", "30s", "--", "sh", "-c", SCRIPT])
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("CHAOS_CALL", format!("shell-{number}"))
            .env("CHAOS_CALLS", &self.calls)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Takes what the scripts wrote into the ledger.
    pub fn read(&self, ledger: &Ledger) {
        let text = std::fs::read_to_string(&self.calls).unwrap_or_default();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["ask", call, lease, exporter] => ledger.calling(call, lease, exporter),
                ["got", call] => {
                    ledger.note(|book| {
                        book.calls.get_mut(*call).unwrap().outcome = Outcome::Acknowledged
                    });
                }
                _ => ledger.violation(format!("jmp shell wrote `{line}`")),
            }
        }
    }
}
