//! Real peers for the tests: each is a process that ends with its guard.

#![allow(dead_code, reason = "each test binary uses some of these")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use driver_serial::device::PortSettings;
use driver_serial::url::Address;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

/// No single step of a test takes longer.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Whether a peer's program may be missing: not where the tests count.
fn missing(what: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "{what} is not installed, and CI has to have it"
    );
    eprintln!("SKIPPED: {what} is not installed");
}

async fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().await.is_ok_and(|status| status.success())
}

pub fn settings(url: &str) -> PortSettings {
    PortSettings::new(url.parse().unwrap())
}

pub async fn read_exactly(port: &mut (impl AsyncRead + Unpin), length: usize) -> Vec<u8> {
    let mut data = vec![0; length];
    timeout(LIMIT, port.read_exact(&mut data))
        .await
        .expect("the bytes arrive in time")
        .unwrap();
    data
}

/// Waits for a condition of another process, which offers no event to wait for.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < LIMIT, "{what} in time");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Two ends of a serial cable, made by socat.
pub struct Cable {
    pub left: PathBuf,
    pub right: PathBuf,
    socat: Child,
    _folder: TempDir,
}

impl Cable {
    /// `None` when socat is not installed and need not be.
    pub async fn new() -> Option<Self> {
        if !runs("socat", &["-V"]).await {
            missing("socat");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let (left, right) = (folder.path().join("left"), folder.path().join("right"));
        let socat = Command::new("socat")
            .args([&left, &right].map(|link| format!("pty,rawer,link={}", link.display())))
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        until("socat makes its links", async || {
            left.exists() && right.exists()
        })
        .await;
        Some(Self {
            left,
            right,
            socat,
            _folder: folder,
        })
    }

    /// Pulls the cable out.
    pub async fn unplug(&mut self) {
        self.socat.kill().await.unwrap();
    }
}

/// A Python that has `module`; `None` when there is none and need not be.
pub async fn python_with(module: &str) -> Option<std::ffi::OsString> {
    let python = std::env::var("JMP_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if runs(&python, &["-c", &format!("import {module}")]).await {
        return Some(python.into());
    }
    missing(&format!("{module} for {python} (JMP_TEST_PYTHON)"));
    None
}

/// pyserial's RFC 2217 server.
pub struct PyserialServer {
    pub address: Address,
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl PyserialServer {
    /// `None` when no Python with pyserial is there and need not be.
    pub async fn new(serial_url: &str) -> Option<Self> {
        let python = python_with("serial.rfc2217").await?;
        let mut process = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/rfc2217_server.py"))
            .arg(serial_url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = timeout(LIMIT, output.next_line())
            .await
            .unwrap()
            .unwrap()
            .expect("a port number");
        let address = Address {
            host: "127.0.0.1".to_owned(),
            port: port.parse().unwrap(),
        };
        Some(Self {
            address,
            _process: process,
            input,
            output,
        })
    }

    pub fn url(&self) -> String {
        format!("rfc2217://{}", self.address)
    }

    /// The server's serial port as JSON, with Python's spelling.
    pub async fn state(&mut self) -> String {
        self.input.write_all(b"?\n").await.unwrap();
        timeout(LIMIT, self.output.next_line())
            .await
            .unwrap()
            .unwrap()
            .expect("a state")
    }

    /// Waits until the state contains `text`.
    pub async fn wait_for_state(&mut self, text: &str) {
        until(&format!("the state has {text}"), async || {
            self.state().await.contains(text)
        })
        .await;
    }
}

/// ser2net with RFC 2217 for one device.
pub struct Ser2net {
    pub address: Address,
    _process: Child,
    _folder: TempDir,
}

impl Ser2net {
    /// `None` when ser2net is not installed and need not be.
    pub async fn new(device: &Path) -> Option<Self> {
        // ser2net lives in an sbin folder, which users may not have on their path.
        let mut found = None;
        for program in ["ser2net", "/usr/sbin/ser2net"] {
            if found.is_none() && runs(program, &["-v"]).await {
                found = Some(program);
            }
        }
        let Some(program) = found else {
            missing("ser2net");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        // ser2net does not tell which port it was given, so a free one is chosen for it.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let configuration = folder.path().join("ser2net.yaml");
        let text = format!(
            "%YAML 1.1\n---\nconnection: &test\n  accepter: telnet(rfc2217),tcp,127.0.0.1,{port}\n  connector: serialdev,{},9600n81,local\n  options:\n    kickolduser: true\n",
            device.display()
        );
        std::fs::write(&configuration, text).unwrap();
        let process = Command::new(program)
            .args(["-n", "-d", "-u", "-c"])
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // A listening socket is waited for in the kernel's table: a connection would occupy the device.
        let line = format!("0100007F:{port:04X} 00000000:0000 0A");
        until("ser2net listens", async || {
            std::fs::read_to_string("/proc/net/tcp")
                .unwrap()
                .contains(&line)
        })
        .await;
        let address = Address {
            host: "127.0.0.1".to_owned(),
            port,
        };
        Some(Self {
            address,
            _process: process,
            _folder: folder,
        })
    }

    pub fn url(&self) -> String {
        format!("rfc2217://{}", self.address)
    }
}
