//! `jmp run`: the real program as a service, with real clients, hooks and signals.

mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use support::{Ended, User};

/// Longest time a test waits for anything.
const LIMIT: Duration = Duration::from_secs(30);

const EXPORT: &str = "\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {name: example, namespace: default}
export:
  power:
    type: jumpstarter_driver_power.driver.MockPower
  sh:
    type: jumpstarter_driver_shell.driver.Shell
    config:
      methods:
        hang: 'echo $$ > \"$1\"; setsid sleep 60; true'
";

/// A running `jmp run`; ended with the test.
struct Service {
    child: Child,
    address: String,
    log: PathBuf,
}

// === impl Service ===

impl Service {
    /// Starts it on a port of its own and waits until it listens.
    fn start(user: &User, hooks: &str, options: &[&str]) -> Self {
        user.exporter("example", &format!("{EXPORT}{hooks}"));
        let log = user.path("log");
        let mut child = std::process::Command::new(support::program())
            .env_clear()
            .envs(user.environment())
            .args(["run", "--exporter", "example"])
            .args(["--tls-grpc-listener", "127.0.0.1:0"])
            .args(options)
            .current_dir(user.path("home"))
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let said = std::fs::read_to_string(&log).unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on 127.0.0.1:")
            .unwrap_or_else(|| panic!("it said {line:?}: {said}"));
        Self {
            child,
            address: format!("localhost:{address}"),
            log,
        }
    }

    /// Runs a program against it in plain text.
    fn shell(&self, user: &User, options: &[&str], command: &[&str]) -> Ended {
        let target = ["shell", "--tls-grpc", &self.address, "--tls-grpc-insecure"];
        user.jmp(&[&target, options, &["--"], command].concat())
    }

    /// Its log, once it contains `text`.
    #[track_caller]
    fn log_with(&self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let log = std::fs::read_to_string(&self.log).unwrap();
            if log.contains(text) {
                return log;
            }
            assert!(Instant::now() < deadline, "no {text:?} in {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Its exit code, or minus a signal.
    #[track_caller]
    fn ended(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let signal = || -status.signal().unwrap_or_default();
                return status.code().unwrap_or_else(signal);
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It has ended unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits until a script has written its number.
#[track_caller]
fn pid_in(path: &std::path::Path) -> String {
    let deadline = Instant::now() + LIMIT;
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => assert!(Instant::now() < deadline, "{path:?} was never written"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn gone(pid: &str) {
    let deadline = Instant::now() + LIMIT;
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn command_lines_that_make_no_sense() {
    let user = User::with_example();
    let example = ["run", "--exporter", "example-local"];
    let listener = ["--tls-grpc-listener", "0"];
    for (options, text) in [
        (&[][..], "--tls-grpc-insecure"),
        (&["--tls-cert", "c.pem"], "--tls-key"),
        (
            &["--tls-grpc-insecure", "--tls-cert", "c", "--tls-key", "k"],
            "cannot be used",
        ),
        (&["--tls-grpc-insecure", "--passphrase", ""], "is empty"),
    ] {
        user.jmp(&[&example[..], &listener, options].concat())
            .fails(2, &[text]);
    }
    user.jmp(&["run", "--tls-grpc-listener", "0", "--tls-grpc-insecure"])
        .fails(2, &["--exporter"]);
    user.jmp(&[&example[..], &["--passphrase", "x"]].concat())
        .fails(2, &["--tls-grpc-listener"]);
    let bad = ["--tls-grpc-listener", "x:y", "--tls-grpc-insecure"];
    user.jmp(&[&example[..], &bad].concat())
        .fails(2, &["HOST:PORT"]);
    user.jmp(&example).fails(1, &["controller"]);
}

#[test]
fn what_cannot_be_served_is_said() {
    let user = User::with_example();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = ["run", "--exporter", "example-local", "--tls-grpc-listener"];
    user.jmp(&[&run[..], &[&address, "--tls-grpc-insecure"]].concat())
        .fails(1, &["cannot listen on", &address, "another program"]);
    user.jmp(
        &[
            &run[..],
            &["127.0.0.1:0", "--tls-cert", "c.pem", "--tls-key", "k.pem"],
        ]
        .concat(),
    )
    .fails(1, &["cannot serve TLS", "c.pem"]);
    user.jmp(&["run", "--exporter", "exampel-local"])
        .fails(1, &["exampel-local", "example-local"]);
}

#[test]
fn a_passphrase_keeps_strangers_out_and_hooks_in() {
    let user = User::new();
    let secret = user.write("home/secret", "open sesame\n");
    let hooks = "\
hooks:
  beforeLease: {script: 'j power on && echo prepared as $LEASE_NAME', onFailure: exit}
  afterLease: {script: 'j power off && echo cleaned'}
";
    let options = [
        "--tls-grpc-insecure",
        "--passphrase-file",
        secret.to_str().unwrap(),
    ];
    let mut service = Service::start(&user, hooks, &options);
    let log = service.log_with("prepared as standalone");
    assert!(log.contains("travels without encryption"), "{log}");
    let given = ["--passphrase", "open sesame"];
    let ended = service.shell(&user, &given, &["j", "power", "on"]);
    assert_eq!((ended.code, &*ended.stdout), (0, "ok\n"), "{ended:?}");
    service
        .shell(&user, &["--passphrase", "sesame"], &["true"])
        .fails(1, &["the passphrase is wrong"]);
    service.signal("TERM");
    assert_eq!(service.ended(), 143);
    let log = service.log_with("Exporter shutting down");
    assert!(log.contains("cleaned"), "{log}");
    assert!(!log.contains("sesame"), "{log}");
    assert!(user.left_over().is_empty(), "{:?}", user.left_over());
}

#[test]
fn with_a_certificate() {
    let user = User::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    user.write("home/c.pem", &made.cert.pem());
    user.write("home/k.pem", &made.signing_key.serialize_pem());
    let options = ["--tls-cert", "c.pem", "--tls-key", "k.pem"];
    let mut service = Service::start(&user, "", &options);
    let target = service.address.clone();
    let shell = ["shell", "--tls-grpc", &target];
    let trusting = ["--tls-ca", "c.pem", "--", "j", "power", "on"];
    let ended = user.jmp(&[&shell[..], &trusting].concat());
    assert_eq!((ended.code, &*ended.stdout), (0, "ok\n"), "{ended:?}");
    user.jmp(&[&shell[..], &["--", "true"]].concat())
        .fails(1, &["cannot reach"]);
    // One client that failed is nothing to the next.
    assert_eq!(user.jmp(&[&shell[..], &trusting].concat()).code, 0);
    service.signal("INT");
    assert_eq!(service.ended(), 130);
}

#[test]
fn each_signal_ends_it_after_its_cleanup() {
    for (signal, code) in [("QUIT", 131), ("HUP", 129)] {
        let user = User::new();
        let hooks = "hooks: {afterLease: {script: 'sleep 0.2; echo cleaned'}}\n";
        let mut service = Service::start(&user, hooks, &["--tls-grpc-insecure"]);
        service.log_with("LEASE_READY");
        service.signal(signal);
        assert_eq!(service.ended(), code, "{signal}");
        service.log_with("cleaned");
        assert!(user.left_over().is_empty());
    }
}

#[test]
fn a_hook_can_end_it() {
    let user = User::new();
    let hooks = "hooks: {beforeLease: {script: 'echo no board; exit 4', onFailure: exit}}\n";
    let mut service = Service::start(&user, hooks, &["--tls-grpc-insecure"]);
    assert_eq!(service.ended(), 1);
    let log = service.log_with("exit status 4");
    assert!(log.contains("no board"), "{log}");
}

#[test]
fn the_next_user_comes_after_the_cleanup() {
    let user = User::new();
    let hooks = "\
hooks:
  beforeLease: {script: 'echo prepared'}
  afterLease: {script: 'echo cleaned'}
";
    let mut service = Service::start(&user, hooks, &["--tls-grpc-insecure"]);
    service.log_with("LEASE_READY");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (success, message) = runtime.block_on(async {
        let dialer = jmp_client::Dialer::tcp(&service.address, None, None).unwrap();
        let client = jmp_client::Client::connect(dialer).await.unwrap();
        client.end_session().await.unwrap().unwrap()
    });
    assert!(success, "{message}");
    let log = service.log_with("cleaned");
    assert!(log.contains("prepared"), "{log}");
    let ended = service.shell(&user, &[], &["j", "power", "on"]);
    assert_eq!((ended.code, &*ended.stdout), (0, "ok\n"), "{ended:?}");
    let log = service.log_with("cleaned");
    assert_eq!(log.matches(": prepared ").count(), 2, "{log}");
    service.signal("TERM");
    assert_eq!(service.ended(), 143);
}

#[test]
fn kill_9_leaves_no_child() {
    let user = User::new();
    let (hook, script) = (user.path("hook.pid"), user.path("script.pid"));
    let hooks = format!(
        "hooks: {{beforeLease: {{script: 'setsid sh -c \"echo \\$\\$ > {}; sleep 60\" & sleep 60', timeout: 1}}}}\n",
        hook.display()
    );
    let mut service = Service::start(&user, &hooks, &["--tls-grpc-insecure"]);
    let hook = pid_in(&hook);
    assert!(is_alive(&hook));
    service.signal("KILL");
    assert_eq!(service.ended(), -9);
    gone(&hook);

    let mut service = Service::start(&user, "", &["--tls-grpc-insecure"]);
    let target = service.address.clone();
    let mut client = std::process::Command::new(support::program())
        .env_clear()
        .envs(user.environment())
        .args(["shell", "--tls-grpc", &target, "--tls-grpc-insecure", "--"])
        .args(["j", "sh", "hang", script.to_str().unwrap()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let script = pid_in(&script);
    assert!(is_alive(&script));
    service.signal("KILL");
    assert_eq!(service.ended(), -9);
    gone(&script);
    let status = client.wait().unwrap();
    assert!(!status.success(), "{status}");
}
