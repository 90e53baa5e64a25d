//! `jmp shell --tls-grpc`: exporters that listen for their clients themselves.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use jmp_driver::NodeSpec;
use jmp_exporter::{DirectOptions, Session, SessionOptions};
use support::{Ended, User};

/// An exporter with a power switch on a port of its own.
struct Exporter {
    session: Session,
    address: SocketAddr,
    runtime: tokio::runtime::Runtime,
}

// === impl Exporter ===

impl Exporter {
    fn start(options: DirectOptions) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (session, address) = runtime.block_on(async {
            let power = NodeSpec::Driver {
                type_name: "jumpstarter_driver_power.driver.MockPower".into(),
                config: serde_json::json!({}),
                description: None,
                methods_description: Default::default(),
                children: Vec::new(),
            };
            let root = NodeSpec::Group {
                description: None,
                children: vec![("power".into(), power)],
            };
            let session = Session::open(&driver_all::registry(), &root, SessionOptions::default())
                .await
                .unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = session.serve_tcp(listener, options).unwrap();
            (session, address)
        });
        Self {
            session,
            address,
            runtime,
        }
    }

    fn ready(self) -> Self {
        self.session.start_local();
        self
    }

    fn target(&self) -> String {
        format!("localhost:{}", self.address.port())
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.runtime.block_on(self.session.close());
    }
}

#[test]
fn in_plain_text_with_a_passphrase() {
    let options = DirectOptions {
        tls: None,
        passphrase: Some(Arc::from("open sesame")),
    };
    let exporter = Exporter::start(options).ready();
    let user = User::new();
    let target = exporter.target();
    user.write("home/secret", "open sesame\n");
    let shell = ["shell", "--tls-grpc", &target, "--tls-grpc-insecure"];
    let script = "echo $JUMPSTARTER_HOST $JMP_GRPC_INSECURE $JMP_GRPC_PASSPHRASE $JMP_EXPORTER; j power on; exit 6";
    let passphrase = ["--passphrase", "open sesame", "--", "sh", "-c", script];
    let ended = user.jmp(&[&shell[..], &passphrase].concat());
    assert_eq!(ended.code, 6, "{ended:?}");
    assert_eq!(ended.stdout, format!("{target} 1 open sesame direct\nok\n"));
    user.jmp(&[&shell[..], &["--passphrase-file", "secret", "true"]].concat())
        .succeeds();
    user.jmp(&[&shell[..], &["--passphrase", "wrong", "true"]].concat())
        .fails(1, &["Authentication failed", "the passphrase is wrong"]);
    user.jmp(&[&shell[..], &["true"]].concat())
        .fails(1, &["Authentication failed", "wants a passphrase"]);
    assert!(user.left_over().is_empty());
}

#[test]
fn with_tls_and_an_authority_of_our_own() {
    let user = User::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = user.write("home/c.pem", &made.cert.pem());
    let key = user.write("home/k.pem", &made.signing_key.serialize_pem());
    jmp_wire::tls::install_provider();
    let options = DirectOptions {
        tls: Some(jmp_wire::tls::server(&certificate, &key).unwrap()),
        passphrase: None,
    };
    let exporter = Exporter::start(options).ready();
    let target = exporter.target();
    // The caller's own variable must not make `j` speak plain text to a TLS listener.
    let mut command = user.command();
    command
        .env("JMP_GRPC_INSECURE", "1")
        .args(["shell", "--tls-grpc", &target, "--tls-ca", "c.pem"])
        .args(["--", "sh", "-c", "cd /; j power on"]);
    let ended = Ended::of(&mut command);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "ok\n"),
        "{ended:?}"
    );
    user.jmp(&["shell", "--tls-grpc", &target, "--", "true"])
        .fails(1, &["cannot reach", "--tls-ca"]);
}

#[test]
fn nobody_there_or_no_address() {
    let user = User::new();
    user.jmp(&[
        "shell",
        "--tls-grpc",
        "127.0.0.1:1",
        "--tls-grpc-insecure",
        "true",
    ])
    .fails(
        1,
        &[
            "cannot reach the exporter at 127.0.0.1:1",
            "Connection refused",
        ],
    );
    user.jmp(&["shell", "--tls-grpc", "nonsense", "true"])
        .fails(2, &["HOST:PORT"]);
    user.jmp(&["shell", "--tls-grpc-insecure", "true"])
        .fails(2, &["--tls-grpc"]);
}

#[test]
fn a_failed_hook_is_told_and_no_shell_starts() {
    let exporter = Exporter::start(DirectOptions::default());
    exporter.session.status().set(
        jmp_lease::ExporterStatus::BeforeLeaseHookFailed,
        "no power on the bench",
    );
    let user = User::new();
    let target = exporter.target();
    let ended = user.jmp(&[
        "shell",
        "--tls-grpc",
        &target,
        "--tls-grpc-insecure",
        "echo",
        "started",
    ]);
    ended.fails(1, &["BEFORE_LEASE_HOOK_FAILED", "no power on the bench"]);
    assert_eq!(ended.stdout, "");
}

#[test]
fn it_waits_until_the_exporter_is_ready_and_passes_on_its_warning() {
    let exporter = Exporter::start(DirectOptions::default());
    let status = exporter.session.status();
    status.set(jmp_lease::ExporterStatus::BeforeLeaseHook, "preparing");
    let user = User::new();
    let target = exporter.target();
    let mut child = std::process::Command::new(support::program())
        .env_clear()
        .envs(user.environment())
        .args([
            "shell",
            "--tls-grpc",
            &target,
            "--tls-grpc-insecure",
            "echo",
            "started",
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert!(line.contains("BEFORE_LEASE_HOOK: preparing"), "{line}");
    status.set(
        jmp_lease::ExporterStatus::LeaseReady,
        "[HOOK_WARNING] fan is loud",
    );
    let output = child.wait_with_output().unwrap();
    std::io::Read::read_to_string(&mut said, &mut line).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, b"started\n");
    assert!(line.contains("Warning: fan is loud"), "{line}");
}
