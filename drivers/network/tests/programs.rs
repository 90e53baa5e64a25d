//! The commands of `j`, and programs of the system that use a device through them: D-Bus tools
//! and ssh.
//!
//! A command runs in a process of its own, as in `j`: this test executable starts itself with
//! the name of one of the ignored tests below, which are the parts of other tests.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use common::{Fixture, echo, program, tcp_server};
use jmp_client::forward::{BusKind, Dbus, Forward, Ssh};
use jmp_driver::command::{ClientRegistry, Commands, DeviceInfo, Given, Invocation, OutputFormat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Where the part of a test finds the session.
const SOCKET: &str = "JMP_TEST_SESSION";
/// What the part of a test runs: JSON list of device, command and pairs of argument and value.
const COMMAND: &str = "JMP_TEST_COMMAND";
/// Stands in front of the command's own output.
const START: &str = "=== output ===";

/// A process that ends with the test.
struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    async fn line(&mut self) -> String {
        tokio::task::block_in_place(|| {
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        })
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        kill_process(id, signal).unwrap();
    }

    /// Exit code and the rest of the output.
    fn end(mut self) -> (i32, String) {
        drop(self.child.stdin.take());
        tokio::task::block_in_place(|| {
            let mut rest = String::new();
            self.output.read_to_string(&mut rest).unwrap();
            let status = self.child.wait().unwrap();
            (status.code().unwrap_or(-1), rest)
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts one of the ignored tests of this file in a process of its own.
fn part(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        name,
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    command
}

/// Runs a device command and reads up to where its output starts.
async fn start(session: &Path, device: &str, name: &str, given: &[(&str, &str)]) -> Process {
    let mut command = part("run_command");
    command
        .env(SOCKET, session)
        .env(COMMAND, json!([device, name, given]).to_string());
    let mut process = Process::start(&mut command);
    while !process.line().await.ends_with(START) {}
    process
}

#[test]
#[ignore = "part of other tests"]
fn run_command() {
    let Ok(socket) = std::env::var(SOCKET) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let code = runtime.block_on(async {
        let client = common::connect(Path::new(&socket)).await;
        let wanted: (String, String, Vec<(String, String)>) =
            serde_json::from_str(&std::env::var(COMMAND).unwrap()).unwrap();
        let device = client.device(&wanted.0).unwrap();
        let info = DeviceInfo {
            path: device.path().to_owned(),
            handle: device.handle().unwrap(),
            labels: device.labels().clone(),
        };
        let mut registry = ClientRegistry::new();
        driver_network::register_clients(&mut registry);
        let make = registry.get(device.class()).unwrap().commands;
        let Commands::Group(commands) = make(info.clone()).await.unwrap() else {
            panic!("not a group");
        };
        let command = commands.iter().find(|command| command.name == wanted.1);
        let mut given = Given::default();
        for (name, value) in wanted.2 {
            given.push(&name, value);
        }
        println!("{START}");
        let invocation = Invocation {
            device: info,
            given,
            output: OutputFormat::Text,
            progress: false,
        };
        match (command.unwrap().action)(invocation).await {
            Ok(code) => code,
            Err(error) => {
                println!("error: {error}");
                1
            }
        }
    });
    std::process::exit(code.into());
}

async fn echo_session() -> (Fixture, common::Server<std::net::SocketAddr>) {
    let server = tcp_server(echo).await;
    let config = json!({"host": "127.0.0.1", "port": server.address.port()});
    let shy = json!({"host": "127.0.0.1", "port": 1, "enable_address": false});
    let nodes = [
        ("net", "TcpNetwork", config),
        ("shy", "TcpNetwork", shy),
        ("echo", "EchoNetwork", json!({})),
    ];
    (Fixture::new(&nodes).await, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_commands_print_where_they_listen_and_end_cleanly() {
    let (fixture, _server) = echo_session().await;
    for signal in [Signal::INT, Signal::TERM] {
        let given = [("address", "localhost"), ("port", "0")];
        let mut process = start(&fixture.socket(), "net", "forward-tcp", &given).await;
        let address = process.line().await;
        assert!(address.starts_with("127.0.0.1:"), "{address}");
        let mut local = TcpStream::connect(&address).await.unwrap();
        local.write_all(b"through").await.unwrap();
        let mut received = [0; 7];
        local.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"through");
        process.signal(signal);
        assert_eq!(process.end(), (0, String::new()));
        assert!(TcpStream::connect(&address).await.is_err());

        let mut process = start(&fixture.socket(), "net", "forward-unix", &[]).await;
        let socket = process.line().await;
        UnixStream::connect(&socket).await.unwrap();
        process.signal(signal);
        assert_eq!(process.end(), (0, String::new()));
        assert!(!Path::new(&socket).parent().unwrap().exists());
    }
    let given = [("port", "0"), ("no-encrypt", "")];
    let mut process = start(&fixture.socket(), "net", "novnc", &given).await;
    let url = process.line().await;
    assert!(
        url.starts_with("https://novnc.com/noVNC/vnc.html?encrypt=0&"),
        "{url}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_and_address_commands() {
    let (fixture, server) = echo_session().await;
    let mut process = start(&fixture.socket(), "net", "connect", &[]).await;
    let mut input = process.child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"line\n").unwrap();
    assert_eq!(process.line().await, "line");
    drop(input);
    assert_eq!(process.end(), (0, String::new()));

    let port = server.address.port();
    for (device, given, code, output) in [
        ("net", &[][..], 0, format!("127.0.0.1:{port}\n")),
        ("net", &[("host", "")], 0, "127.0.0.1\n".into()),
        ("net", &[("port", "")], 0, format!("{port}\n")),
        (
            "shy",
            &[],
            1,
            "error: enable_address mode is not true in the exporter configuration: the exporter \
             keeps the address to itself; connect through it with `forward-tcp`\n"
                .into(),
        ),
        (
            "echo",
            &[],
            1,
            "error: This exporter does not support direct connection yet, update exporter to \
             0.7.1 or later\n"
                .into(),
        ),
    ] {
        let process = start(&fixture.socket(), device, "address", given).await;
        assert_eq!(process.end(), (code, output), "{device} {given:?}");
    }
}

// === D-Bus ===

#[tokio::test(flavor = "multi_thread")]
async fn dbus_programs_use_the_bus_of_the_exporter() {
    let (Some(daemon), Some(_), Some(_)) = (
        program("dbus-daemon", "dbus"),
        program("dbus-send", "dbus"),
        program("busctl", "systemd"),
    ) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:path={}", directory.path().join("bus").display());
    let mut daemon = Process::start(Command::new(daemon).args([
        "--session",
        "--nofork",
        "--nopidfile",
        "--print-address",
        &format!("--address={address}"),
    ]));
    assert!(daemon.line().await.starts_with(&address));
    // The driver finds the bus in the environment of its process.
    let mut inner = part("dbus_with_a_bus");
    inner.env("DBUS_SESSION_BUS_ADDRESS", &address);
    let (code, output) = Process::start(&mut inner).end();
    assert!(code == 0 && output.contains("1 passed"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of other tests"]
async fn dbus_with_a_bus() {
    if std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_none() {
        return;
    }
    let nodes = [("bus", "DbusNetwork", json!({"kind": "session"}))];
    let fixture = Fixture::new(&nodes).await;
    let bus = Dbus::open(fixture.device("bus"), BusKind::Session)
        .await
        .unwrap();
    let (variable, address) = bus.environment();
    assert_eq!(variable, "DBUS_SESSION_BUS_ADDRESS");
    assert_eq!(
        address,
        format!("tcp:host=127.0.0.1,port={}", bus.local_addr().port())
    );
    let list = [
        "--session",
        "--print-reply",
        "--dest=org.freedesktop.DBus",
        "/",
        "org.freedesktop.DBus.ListNames",
    ];
    let sent = Process::start(Command::new("dbus-send").args(list).env(variable, &address)).end();
    assert!(
        sent.0 == 0 && sent.1.contains("org.freedesktop.DBus"),
        "{sent:?}"
    );

    let given = [
        ("command", "busctl"),
        ("command", "--user"),
        ("command", "list"),
    ];
    let listed = start(&fixture.socket(), "bus", "run", &given).await.end();
    assert!(
        listed.0 == 0 && listed.1.contains("org.freedesktop.DBus"),
        "{listed:?}"
    );
    let given = [("command", "sh"), ("command", "-c"), ("command", "exit 7")];
    assert_eq!(
        start(&fixture.socket(), "bus", "run", &given).await.end().0,
        7
    );
    let given = [("command", "/nonexistent/program")];
    assert_eq!(
        start(&fixture.socket(), "bus", "run", &given).await.end().0,
        127
    );
}

// === ssh ===

/// A private sshd on a free port of 127.0.0.1 that lets the current user in with `key`.
async fn sshd(directory: &Path) -> Option<(Process, u16)> {
    let sshd = program("sshd", "openssh-server")?;
    program("ssh", "openssh-client")?;
    let keygen = program("ssh-keygen", "openssh-client")?;
    for key in ["host", "key"] {
        let made = Command::new(&keygen)
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(directory.join(key))
            .status();
        assert!(made.unwrap().success());
    }
    std::fs::copy(directory.join("key.pub"), directory.join("authorized")).unwrap();
    // sshd as root insists on its directory; elsewhere it does not look for it.
    let _ = std::fs::create_dir("/run/sshd");
    let port = common::free_port().await;
    let path = |name: &str| directory.join(name).display().to_string();
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n",
        path("host"),
        path("authorized")
    );
    std::fs::write(directory.join("config"), config).unwrap();
    let mut command = Command::new(sshd);
    command.args(["-D", "-e", "-f", &path("config")]);
    let process = Process::start(command.stderr(Stdio::null()));
    for _ in 0..100 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Some((process, port));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("sshd does not listen on port {port}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_runs_commands_on_the_device() {
    let directory = tempfile::tempdir().unwrap();
    let Some((_daemon, port)) = sshd(directory.path()).await else {
        return;
    };
    let config = json!({"host": "127.0.0.1", "port": port});
    let fixture = Fixture::new(&[("ssh", "TcpNetwork", config)]).await;
    let key = directory.path().join("key").display().to_string();
    let before = known_hosts();
    let forward = Forward::new(fixture.device("ssh"));
    let forward = forward.listen_tcp("127.0.0.1", 0).await.unwrap();
    let options = ["-F", "none", "-o", "IdentitiesOnly=yes", "-i", &key];
    let ssh = Ssh::new(forward.local_addr()).args(options).args([
        "sh",
        "-c",
        "'cat; echo said >&2; exit 3'",
    ]);
    let mut command = Command::new("ssh");
    command.args(ssh.arguments()).stderr(Stdio::piped());
    let mut process = Process::start(&mut command);
    let mut input = process.child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"through ssh").unwrap();
    drop(input);
    let mut stderr = process.child.stderr.take().unwrap();
    assert_eq!(process.end(), (3, "through ssh".into()));
    let mut talk = String::new();
    stderr.read_to_string(&mut talk).unwrap();
    assert_eq!(talk, "said\n");
    assert_eq!(known_hosts(), before);

    let mut given: Vec<_> = options.iter().map(|option| ("args", *option)).collect();
    given.extend([("args", "exit"), ("args", "5")]);
    let process = start(&fixture.socket(), "ssh", "ssh", &given).await;
    assert_eq!(process.end(), (5, String::new()));
}

/// What this user's ssh knows of hosts, which a forward must not add to.
fn known_hosts() -> Option<String> {
    let home = std::env::home_dir().unwrap();
    std::fs::read_to_string(home.join(".ssh/known_hosts")).ok()
}
