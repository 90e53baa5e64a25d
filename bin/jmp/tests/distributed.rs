//! Distributed mode with the real programs: controller, router, exporters and clients, as people use them.

mod support;

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Ended, User, program};

/// How long something may take to happen.
const LIMIT: Duration = Duration::from_secs(30);

const POWER: &str = "\
export:
  power:
    type: jumpstarter_driver_power.driver.MockPower
  echo:
    type: jumpstarter_driver_network.driver.EchoNetwork
";

/// A controller with its router, and whatever is added to it.
struct Lab {
    user: User,
    processes: Vec<Child>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Exporters first; the controller ends its router.
        for process in self.processes.iter_mut().rev() {
            let _ = Command::new("kill").arg(process.id().to_string()).status();
            let end = Instant::now() + Duration::from_secs(15);
            while matches!(process.try_wait(), Ok(None)) {
                if Instant::now() > end {
                    let _ = process.kill();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

#[track_caller]
fn ok(ended: Ended) -> Ended {
    assert_eq!(ended.code, 0, "{ended:?}");
    ended
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

#[track_caller]
fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "{what} within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Lab {
    fn new() -> Self {
        let mut lab = Self {
            user: User::new(),
            processes: Vec::new(),
        };
        let data = lab.user.path("data").display().to_string();
        lab.start(
            "controller",
            &[
                "controller",
                "run",
                "--data-directory",
                &data,
                "--listen",
                "127.0.0.1:0",
                "--login-listen",
                "127.0.0.1:0",
                "--router-listen",
                "127.0.0.1:0",
                "--metrics-listen",
                "none",
                "-o",
                "json",
            ],
        );
        eventually("a router has joined", || {
            let status = json(&lab.jmp(&["admin", "status", "-o", "json"]));
            (status["routers"][0]["connected"] == true).then_some(())
        });
        lab
    }

    fn log(&self, name: &str) -> PathBuf {
        self.user.path(&format!("{name}.out"))
    }

    /// Starts a program of the lab and waits for its first words.
    fn start(&mut self, name: &str, arguments: &[&str]) {
        let out = File::create(self.log(name)).unwrap();
        let errors = File::create(self.user.path(&format!("{name}.err"))).unwrap();
        let child = Command::new(program())
            .args(arguments)
            .env_clear()
            .envs(self.user.environment())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .unwrap();
        self.processes.push(child);
        let errors = self.user.path(&format!("{name}.err"));
        eventually(
            &format!("{name} says that it is ready ({})", errors.display()),
            || {
                let said = std::fs::read_to_string(self.log(name)).unwrap();
                said.ends_with('\n').then_some(())
            },
        );
    }

    fn jmp(&self, arguments: &[&str]) -> Ended {
        self.user.jmp(arguments)
    }

    fn client(&self, name: &str) {
        let create = [
            "admin",
            "create",
            "client",
            name,
            "--save",
            "--unsafe",
            "-l",
            "team=audio",
        ];
        ok(self.jmp(&create));
    }

    /// Makes an exporter and runs it.
    fn exporter(&mut self, name: &str, more: &str) {
        let create = [
            "admin",
            "create",
            "exporter",
            name,
            "-l",
            "board=mock",
            "--save",
        ];
        ok(self.jmp(&create));
        let file = self.user.path(&format!("config/exporters/{name}.yaml"));
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.lines().filter(|line| !line.starts_with("export:"));
        let text = text.collect::<Vec<_>>().join("\n");
        std::fs::write(&file, format!("{text}\n{POWER}{more}")).unwrap();
        self.start(name, &["run", "--exporter", name]);
        self.available(name);
    }

    fn available(&self, name: &str) {
        eventually(&format!("{name} is available"), || {
            let listed = self.jmp(&["admin", "get", "exporter", name, "-o", "json"]);
            (json(&listed)["status"]["exporterStatus"] == "Available").then_some(())
        });
    }

    fn leases(&self) -> Vec<Value> {
        let leases = json(&ok(self.jmp(&["get", "leases", "-A", "-o", "json"])));
        leases["leases"].as_array().unwrap().clone()
    }
}

#[test]
fn the_documented_way_from_nothing_to_a_leased_device() {
    let mut lab = Lab::new();
    let unlabelled = lab.jmp(&["admin", "create", "exporter", "bench", "--save"]);
    unlabelled.fails(2, &["an exporter needs at least one --label"]);
    lab.exporter("bench", "");
    lab.client("hello");
    let again = lab.jmp(&["admin", "create", "client", "hello"]);
    again.fails(1, &["hello"]);

    let names = ok(lab.jmp(&["get", "exporters", "-o", "name"]));
    assert_eq!(names.stdout, "bench\n");
    let nobody = lab.jmp(&["get", "exporters", "-l", "board=other"]);
    assert_eq!(ok(nobody).stdout, "No resources found.\n");

    // One command: the lease is made, used and given back; the exit code is the command's.
    let script = "j power on && echo $JMP_EXPORTER $JMP_EXPORTER_LABELS $JMP_LEASE && exit 7";
    let shell = lab.jmp(&[
        "shell",
        "--client",
        "hello",
        "--selector",
        "board=mock",
        "--",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(shell.code, 7, "{shell:?}");
    let words: Vec<&str> = shell.stdout.split_whitespace().collect();
    assert_eq!(words[..3], ["ok", "bench", "board=mock"], "{shell:?}");
    assert!(lab.leases().is_empty(), "{:?}", lab.leases());
    let ended = json(&ok(lab.jmp(&["get", "leases", "--all", "-o", "json"])));
    assert_eq!(ended["leases"][0]["name"], words[3]);

    let unknown = lab.jmp(&["shell", "-l", "board=unknown", "--", "true"]);
    unknown.fails(1, &["cannot be satisfied"]);

    let audit = ok(lab.jmp(&["admin", "audit", "--actor", "client:default:hello"]));
    assert!(audit.stdout.contains("CreateLease"), "{}", audit.stdout);
    assert!(audit.stdout.contains("DeleteLease"), "{}", audit.stdout);
}

#[test]
fn leases_are_kept_queued_changed_and_handed_over() {
    let mut lab = Lab::new();
    lab.exporter("bench", "");
    lab.client("one");
    lab.client("two");
    let made = ok(lab.jmp(&[
        "create",
        "lease",
        "--client",
        "one",
        "-l",
        "board=mock",
        "--duration",
        "1h",
        "--wait",
        "20",
        "--tag",
        "build=17",
        "-o",
        "name",
    ]));
    let first = made.stdout.trim().to_owned();

    let wide = ok(lab.jmp(&["get", "exporters", "--client", "one", "-o", "wide"])).stdout;
    assert!(
        wide.contains("MESSAGE") && wide.contains("In-Use"),
        "{wide}"
    );
    let wide = ok(lab.jmp(&["get", "leases", "--client", "one", "-o", "wide"])).stdout;
    assert!(wide.contains("bench is assigned until"), "{wide}");

    let everywhere = ok(lab.jmp(&["admin", "get", "exporters", "-A"])).stdout;
    assert!(everywhere.starts_with("NAMESPACE"), "{everywhere}");
    assert!(everywhere.contains("\ndefault"), "{everywhere}");

    // The next one has to wait, and is told why.
    let waiting = ok(lab.jmp(&[
        "create",
        "lease",
        "--client",
        "two",
        "-n",
        "bench",
        "--duration",
        "10m",
        "-o",
        "name",
    ]));
    let second = waiting.stdout.trim().to_owned();
    let described = ok(lab.jmp(&["describe", "lease", &second, "--client", "two"]));
    assert!(
        described.stdout.contains("queue: place 1 of 1"),
        "{}",
        described.stdout
    );
    assert!(described.stdout.contains("bench"), "{}", described.stdout);
    let impatient = lab.jmp(&[
        "create",
        "lease",
        "--client",
        "two",
        "-n",
        "bench",
        "--duration",
        "10m",
        "--wait",
        "1",
    ]);
    impatient.fails(1, &["was not ready within 1 s"]);

    let tagged = [
        "get",
        "leases",
        "-A",
        "--tag-filter",
        "build=17",
        "-o",
        "name",
    ];
    assert_eq!(ok(lab.jmp(&tagged)).stdout.trim(), first);
    let others = lab.jmp(&["delete", "lease", &first, "--client", "two"]);
    others.fails(1, &["permission denied", "somebody else's lease"]);
    let longer = ok(lab.jmp(&[
        "update",
        "lease",
        &first,
        "--client",
        "one",
        "--duration",
        "2h",
        "-o",
        "json",
    ]));
    assert_eq!(json(&longer)["duration"], 7200.0);

    let handed = ok(lab.jmp(&[
        "update",
        "lease",
        &first,
        "--client",
        "one",
        "--to-client",
        "two",
        "-o",
        "json",
    ]));
    assert_eq!(json(&handed)["client"], "two");
    let script = [
        "shell", "--client", "two", "--lease", &first, "--", "j", "power", "on",
    ];
    assert_eq!(ok(lab.jmp(&script)).stdout, "ok\n");
    let former = lab.jmp(&["shell", "--client", "one", "--lease", &first, "--", "true"]);
    former.fails(1, &["belongs to client two"]);

    // When the first ends the second begins.
    ok(lab.jmp(&["delete", "lease", &first, "--client", "two"]));
    lab.jmp(&["delete", "lease", &first, "--client", "two"])
        .fails(1, &["already been released"]);
    // The clean-up of a job comes after that, too.
    let mut cleanup = lab.user.command();
    cleanup
        .env("JMP_LEASE", &first)
        .args(["delete", "lease", "--client", "two"]);
    let cleaned = ok(Ended::of(&mut cleanup));
    assert!(cleaned.stderr.contains("has ended already"), "{cleaned:?}");
    eventually("the waiting lease is ready", || {
        let leases = lab.leases();
        let lease = leases
            .iter()
            .find(|lease| lease["name"] == second.as_str())?;
        (lease["exporter"] == "bench").then_some(())
    });
    let all = ok(lab.jmp(&["delete", "leases", "--all", "--client", "two"]));
    assert_eq!(all.stdout, format!("lease \"{second}\" deleted\n"));
    let none = lab.jmp(&["delete", "lease", "--client", "two"]);
    assert_eq!(none.code, 0, "{none:?}");
}

#[test]
fn policies_reservations_and_service() {
    let mut lab = Lab::new();
    lab.exporter("bench", "");
    lab.client("one");
    let policy = lab.user.write(
        "home/policy.yaml",
        "\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterAccessPolicy
metadata:
  name: lab
spec:
  exporterSelector:
    matchLabels:
      board: mock
  policies:
    - description: ask the lab team
      priority: 5
      maximumDuration: 1h
      from:
        - clientSelector:
            matchLabels:
              team: audio
",
    );
    let file = policy.display().to_string();
    let applied = ok(lab.jmp(&["admin", "apply", "-f", &file]));
    assert_eq!(
        applied.stdout,
        "exporteraccesspolicy.jumpstarter.dev/lab created\n"
    );
    let applied = ok(lab.jmp(&["admin", "apply", "-f", &file]));
    assert_eq!(
        applied.stdout,
        "exporteraccesspolicy.jumpstarter.dev/lab unchanged\n"
    );
    let long = lab.jmp(&[
        "create",
        "lease",
        "-l",
        "board=mock",
        "--duration",
        "2h",
        "--wait",
        "5",
    ]);
    long.fails(1, &["DurationTooLong"]);
    ok(lab.jmp(&[
        "admin", "create", "client", "stranger", "--save", "--unsafe",
    ]));
    let stranger = lab.jmp(&[
        "shell",
        "--client",
        "stranger",
        "-l",
        "board=mock",
        "--",
        "true",
    ]);
    stranger.fails(1, &["NoAccess", "ask the lab team"]);
    ok(lab.jmp(&["admin", "delete", "policy", "lab"]));

    // A device that is reserved can be had before, but not beyond.
    let reserve = |begin: &str, duration: &str| {
        lab.jmp(&[
            "create",
            "lease",
            "--client",
            "one",
            "-n",
            "bench",
            "--begin-time",
            begin,
            "--duration",
            duration,
            "-o",
            "name",
        ])
    };
    let reserved = ok(reserve("2035-01-31T10:00:00Z", "2h"))
        .stdout
        .trim()
        .to_owned();
    let conflict = reserve("2035-01-31T11:00:00Z", "2h");
    conflict.fails(1, &["choose another time", "bench"]);
    ok(lab.jmp(&[
        "shell", "--client", "one", "-n", "bench", "--", "j", "power", "on",
    ]));
    ok(lab.jmp(&["delete", "lease", &reserved, "--client", "one"]));

    ok(lab.jmp(&["admin", "disable", "exporter", "bench"]));
    let disabled = lab.jmp(&["shell", "--client", "one", "-n", "bench", "--", "true"]);
    disabled.fails(1, &["ExporterDisabled"]);
    ok(lab.jmp(&[
        "shell",
        "--client",
        "one",
        "-n",
        "bench",
        "--allow-disabled",
        "--",
        "j",
        "power",
        "on",
    ]));
    let hidden = ok(lab.jmp(&["get", "exporters", "--client", "one", "-o", "name"]));
    assert_eq!(hidden.stdout, "");
    ok(lab.jmp(&["admin", "enable", "exporter", "bench"]));
    ok(lab.jmp(&[
        "shell", "--client", "one", "-n", "bench", "--", "j", "power", "on",
    ]));
}

#[test]
fn a_failing_hook_is_shown_and_the_exporter_comes_back() {
    let mut lab = Lab::new();
    let hooks = "\
hooks:
  beforeLease:
    script: |
      echo preparing the bench
      test -e $HOME/good || { echo the bench is on fire; exit 3; }
    onFailure: endLease
  afterLease:
    script: echo tidying up
";
    lab.exporter("bench", hooks);
    lab.client("hello");
    let failed = lab.jmp(&["shell", "-l", "board=mock", "--", "true"]);
    failed.fails(1, &["the bench is on fire"]);
    assert!(lab.leases().is_empty());
    lab.user.write("home/good", "");
    lab.available("bench");
    let shell = ok(lab.jmp(&["shell", "-l", "board=mock", "--", "j", "power", "on"]));
    for line in ["preparing the bench", "tidying up"] {
        assert!(
            shell.stderr.contains(line),
            "no {line:?} in {}",
            shell.stderr
        );
    }
}

#[test]
fn the_end_of_a_lease_ends_the_shell_with_a_reason() {
    let mut lab = Lab::new();
    lab.exporter("bench", "");
    lab.client("hello");
    let start = Instant::now();
    let expired = lab.jmp(&[
        "shell",
        "-l",
        "board=mock",
        "--duration",
        "3s",
        "--",
        "sleep",
        "40",
    ]);
    assert!(
        start.elapsed() < Duration::from_secs(25),
        "{:?}",
        start.elapsed()
    );
    expired.fails(129, &["ends in", "has ended"]);
    // Extended for as long as it runs.
    let extended = ok(lab.jmp(&[
        "shell",
        "-l",
        "board=mock",
        "--duration",
        "3s",
        "--extend",
        "30s",
        "--",
        "sh",
        "-c",
        "sleep 6; j power on",
    ]));
    assert_eq!(extended.stdout, "ok\n");
    assert!(
        extended.stderr.contains("extended to"),
        "{}",
        extended.stderr
    );
    lab.available("bench");
}

#[test]
fn revocation_ends_what_is_open_and_rotation_goes_on() {
    let mut lab = Lab::new();
    lab.exporter("bench", "");
    lab.client("hello");
    let script = "while j power on; do sleep 0.1; done; echo over; exit 3";
    let shell = Command::new(program())
        .args(["shell", "-l", "board=mock", "--", "sh", "-c", script])
        .env_clear()
        .envs(lab.user.environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the lease is in use", || {
        (lab.leases().len() == 1).then_some(())
    });
    ok(lab.jmp(&["admin", "revoke", "client", "hello"]));
    let ended = shell.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_ne!(ended.status.code(), Some(0), "{said}{errors}");
    let refused = lab.jmp(&["get", "leases"]);
    refused.fails(1, &["revoked"]);
    ok(lab.jmp(&["admin", "rotate", "client", "hello", "--save"]));
    ok(lab.jmp(&["get", "leases"]));
    ok(lab.jmp(&["delete", "lease"]));
    ok(lab.jmp(&["shell", "-l", "board=mock", "--", "j", "power", "on"]));
}
