//! The driver in a session, used by clients over a socket; the boards are pseudo terminals and
//! real peer programs.

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use driver_serial::driver::{PySerial, PySerialConfig};
use futures::{FutureExt, SinkExt, StreamExt};
use jmp_client::{AllowList, Client, Dialer};
use jmp_driver::{ByteStream, ErrorKind, LogHub, NodeSpec, Origin, Registry};
use jmp_exporter::{Session, SessionOptions};
use jmp_interfaces::serial::{Serial, SerialClient, SerialControlClient, SerialReplayClient};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value as Json, json};
use support::{LIMIT, PyserialServer};
use tokio::time::{Instant, timeout};

/// A board: the controlling side of a pseudo terminal whose device has a name that stays when the
/// board is plugged in again.
struct Board {
    master: File,
    link: PathBuf,
}

impl Board {
    fn plug_in(folder: &Path) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master: OwnedFd = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let link = folder.join("ttyBoard");
        std::os::unix::fs::symlink(path, &link).unwrap();
        Self {
            master: master.into(),
            link,
        }
    }

    fn unplug(self) {
        std::fs::remove_file(&self.link).unwrap();
    }

    fn say(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// What the board hears. The wait is in a thread; what is asked for must come.
    async fn hear(&mut self, length: usize) -> String {
        let mut master = self.master.try_clone().unwrap();
        let hearing = tokio::task::spawn_blocking(move || {
            let mut heard = vec![0; length];
            master.read_exact(&mut heard).map(|()| heard)
        });
        let heard = timeout(LIMIT, hearing).await.unwrap().unwrap().unwrap();
        String::from_utf8(heard).unwrap()
    }
}

struct Fixture {
    session: Session,
    folder: tempfile::TempDir,
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    driver_serial::register(&mut registry);
    registry
}

fn spec(config: Json) -> NodeSpec {
    NodeSpec::Driver {
        type_name: "jumpstarter_driver_pyserial.driver.PySerial".into(),
        config,
        description: None,
        methods_description: BTreeMap::new(),
        children: Vec::new(),
    }
}

impl Fixture {
    async fn new(config: Json) -> Self {
        let session = Session::open(&registry(), &spec(config), SessionOptions::default())
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        session
            .serve_unix(&folder.path().join("socket"), Origin::Client)
            .unwrap();
        session.start_local();
        Self { session, folder }
    }

    async fn client(&self) -> Client {
        let dialer = Dialer::unix(self.folder.path().join("socket"));
        Client::connect_with(dialer, &AllowList::Unsafe)
            .await
            .unwrap()
    }
}

fn serial(client: &Client) -> SerialClient {
    client.root().client().unwrap()
}

async fn read(stream: &mut ByteStream, wanted: usize) -> String {
    let mut all = Vec::new();
    while all.len() < wanted {
        let chunk = timeout(LIMIT, stream.reader.next()).await;
        all.extend_from_slice(&chunk.expect("in time").expect("no end yet").unwrap());
    }
    String::from_utf8(all).unwrap()
}

async fn send(stream: &mut ByteStream, text: &'static str) {
    let sent = stream.writer.send(Bytes::from_static(text.as_bytes()));
    timeout(LIMIT, sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn two_clients_share_a_device_and_a_third_asks_for_its_history() {
    let folder = tempfile::tempdir().unwrap();
    let mut board = Board::plug_in(folder.path());
    let fixture = Fixture::new(json!({"url": board.link})).await;
    let (first, second) = (fixture.client().await, fixture.client().await);
    let mut one = serial(&first).connect().await.unwrap();
    let mut two = serial(&second).connect().await.unwrap();
    board.say("U-Boot> ");
    assert_eq!(read(&mut one, 8).await, "U-Boot> ");
    assert_eq!(read(&mut two, 8).await, "U-Boot> ");
    send(&mut one, "boot\n").await;
    assert_eq!(board.hear(5).await, "boot\n");
    send(&mut two, "again\n").await;
    assert_eq!(board.hear(6).await, "again\n");

    drop((one, two));
    board.say("nobody listens, ");
    let mut late = serial(&first).connect().await.unwrap();
    let replay: SerialReplayClient = second.root().client().unwrap();
    let mut replayed = replay.replay().await.unwrap();
    board.say("or do they");
    let shown = read(&mut replayed, 34).await;
    assert_eq!(shown, "U-Boot> nobody listens, or do they");
    // What was on its way when the stream was opened may be in it; the history may not.
    let shown = read(&mut late, 10).await;
    assert!(!shown.contains("U-Boot"), "{shown}");
    fixture.session.close().await;
}

#[tokio::test]
async fn close_ends_the_streams_and_the_next_one_opens_the_port_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut board = Board::plug_in(folder.path());
    let fixture = Fixture::new(json!({"url": board.link})).await;
    let client = fixture.client().await;
    let control: SerialControlClient = client.root().client().unwrap();
    control.close_port().await.unwrap();
    let mut stream = serial(&client).connect().await.unwrap();
    control.close_port().await.unwrap();
    assert!(
        timeout(LIMIT, stream.reader.next())
            .await
            .unwrap()
            .is_none()
    );
    let mut stream = serial(&client).connect().await.unwrap();
    board.say("back");
    assert_eq!(read(&mut stream, 4).await, "back");
    let error = control.set_dtr(true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    fixture.session.close().await;
}

#[tokio::test]
async fn an_unplugged_device_ends_the_stream_and_is_found_again_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let board = Board::plug_in(folder.path());
    let fixture = Fixture::new(json!({"url": board.link})).await;
    let client = fixture.client().await;
    let mut stream = serial(&client).connect().await.unwrap();
    board.unplug();
    let end = timeout(LIMIT, stream.reader.next()).await.unwrap();
    let text = end.expect("a reason").unwrap_err().to_string();
    assert!(text.contains("ttyBoard"), "{text}");
    let error = serial(&client).connect().await.err().unwrap();
    assert!(error.message().contains("ttyBoard"), "{}", error.message());
    let mut board = Board::plug_in(folder.path());
    let mut stream = serial(&client).connect().await.unwrap();
    board.say("hello again");
    assert_eq!(read(&mut stream, 11).await, "hello again");
    fixture.session.close().await;
}

#[tokio::test]
async fn a_missing_device_keeps_the_exporter_from_starting_unless_told_otherwise() {
    let path = "/dev/serial/by-id/no-such-board";
    let options = SessionOptions::default;
    let opened = Session::open(&registry(), &spec(json!({"url": path})), options()).await;
    let error = opened.err().expect("the device is missing").to_string();
    for expected in [path, "check_present: false"] {
        assert!(error.contains(expected), "{error}");
    }
    let fixture = Fixture::new(json!({"url": path, "check_present": false})).await;
    let client = fixture.client().await;
    let error = serial(&client).connect().await.err().unwrap();
    assert!(error.message().contains(path), "{}", error.message());
    fixture.session.close().await;
}

#[tokio::test]
async fn wrong_configurations_say_what_to_write() {
    for (config, expected) in [
        (json!({}), "`url` is missing"),
        (json!({"url": "lop://"}), "lop"),
        (json!({"url": "loop://", "cps": -1}), "cps -1"),
        (
            json!({"url": "loop://", "baudrate": "fast"}),
            "`baudrate`: expected an integer",
        ),
    ] {
        let opened = Session::open(&registry(), &spec(config), SessionOptions::default()).await;
        let error = opened.err().expect("it is wrong").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_client_that_dies_takes_nothing_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut board = Board::plug_in(folder.path());
    let fixture = Fixture::new(json!({"url": board.link})).await;
    let doomed = fixture.client().await;
    let stream = serial(&doomed).connect().await.unwrap();
    let survivor = fixture.client().await;
    let mut other = serial(&survivor).connect().await.unwrap();
    drop((stream, doomed));
    board.say("still here");
    assert_eq!(read(&mut other, 10).await, "still here");
    fixture.session.close().await;
}

#[tokio::test]
async fn five_hundred_quick_connections_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut board = Board::plug_in(folder.path());
    let fixture = Fixture::new(json!({"url": board.link})).await;
    let client = fixture.client().await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    drop(serial(&client).connect().await.unwrap());
    let before = descriptors();
    for _ in 0..500 {
        let mut stream = serial(&client).connect().await.unwrap();
        drop(stream.writer.send(Bytes::from_static(b".")).now_or_never());
    }
    // Other tests of this process open and close descriptors meanwhile.
    assert!(descriptors() < before + 100, "{before}, {}", descriptors());
    let mut stream = serial(&client).connect().await.unwrap();
    board.say("calm");
    assert_eq!(read(&mut stream, 4).await, "calm");
    fixture.session.close().await;
}

#[tokio::test]
async fn each_stream_on_a_loop_has_its_own_echo() {
    let fixture = Fixture::new(json!({"url": "loop://"})).await;
    let client = fixture.client().await;
    let control: SerialControlClient = client.root().client().unwrap();
    control.set_dtr(true).await.unwrap();
    control.set_rts(false).await.unwrap();
    let mut one = serial(&client).connect().await.unwrap();
    let mut two = serial(&client).connect().await.unwrap();
    send(&mut one, "first").await;
    send(&mut one, "second").await;
    send(&mut two, "other").await;
    for expected in ["first", "second"] {
        let chunk = timeout(LIMIT, one.reader.next()).await.unwrap();
        assert_eq!(chunk.unwrap().unwrap(), expected);
    }
    assert_eq!(read(&mut two, 5).await, "other");
    one.writer.close().await.unwrap();
    assert!(timeout(LIMIT, one.reader.next()).await.unwrap().is_none());
    control.close_port().await.unwrap();
    assert!(timeout(LIMIT, two.reader.next()).await.unwrap().is_none());
    fixture.session.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_paced_loop_gives_back_single_bytes_in_time() {
    let config: PySerialConfig =
        serde_json::from_value(json!({"url": "loop://", "cps": 10})).unwrap();
    let log = LogHub::default().logger("driver.PySerial", jmp_driver::log::LogSource::Driver);
    let driver = PySerial::new(config, log).await.unwrap();
    let mut stream = driver.connect().await.unwrap();
    let start = Instant::now();
    let ByteStream { reader, writer } = &mut stream;
    let receiving = async {
        let mut times = Vec::new();
        for expected in ["a", "b", "c", "d"] {
            assert_eq!(reader.next().await.unwrap().unwrap(), expected);
            times.push(start.elapsed().as_millis());
        }
        times
    };
    let (sent, times) = tokio::join!(writer.send(Bytes::from_static(b"abcd")), receiving);
    sent.unwrap();
    assert_eq!(times, [0, 100, 200, 300]);
}

#[tokio::test]
async fn a_port_behind_rfc_2217_is_driven_through_the_session() {
    let Some(mut server) = PyserialServer::new("loop://").await else {
        return;
    };
    let config = json!({"url": server.url(), "baudrate": 57600, "check_present": false});
    let fixture = Fixture::new(config).await;
    let client = fixture.client().await;
    let mut stream = serial(&client).connect().await.unwrap();
    send(&mut stream, "over the wire").await;
    assert_eq!(read(&mut stream, 13).await, "over the wire");
    let control: SerialControlClient = client.root().client().unwrap();
    control.set_dtr(false).await.unwrap();
    server.wait_for_state(r#""dtr": false, "rts": true"#).await;
    control.set_rts(false).await.unwrap();
    server.wait_for_state(r#""dtr": false, "rts": false"#).await;
    let state = server.state().await;
    assert!(state.contains(r#""baudrate": 57600"#), "{state}");
    fixture.session.close().await;
}

#[tokio::test]
async fn sending_and_leaving_at_once_still_sends() {
    let folder = tempfile::tempdir().unwrap();
    let mut board = Board::plug_in(folder.path());
    let fixture = Fixture::new(json!({"url": board.link})).await;
    let client = fixture.client().await;
    let mut stream = serial(&client).connect().await.unwrap();
    send(&mut stream, "reboot\n").await;
    stream.writer.close().await.unwrap();
    let leaving = tokio::time::sleep(Duration::from_millis(300));
    leaving.await;
    drop(stream);
    assert_eq!(board.hear(7).await, "reboot\n");
    fixture.session.close().await;
}

/// A shipped client in a process of its own.
struct PythonClient {
    _process: tokio::process::Child,
    output: tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStdout>>,
}

impl PythonClient {
    fn new(python: &std::ffi::OsStr, socket: &Path, answer: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/console_client.py");
        let mut process = tokio::process::Command::new(python)
            .arg(script)
            .arg(answer)
            .env("JUMPSTARTER_HOST", socket)
            .env("JMP_DRIVERS_ALLOW", "UNSAFE")
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = tokio::io::BufReader::new(process.stdout.take().unwrap());
        Self {
            _process: process,
            output: tokio::io::AsyncBufReadExt::lines(output),
        }
    }

    async fn line(&mut self) -> String {
        let line = timeout(4 * LIMIT, self.output.next_line()).await;
        line.unwrap().unwrap().expect("the client says something")
    }
}

/// A client says that it is connected when it has made the call, which is before the exporter has
/// served it.
async fn wait_for_connections(log: &LogHub, count: usize) {
    let connecting = log.subscribe().filter(|line| {
        let found = line.message.starts_with("Connecting to ");
        std::future::ready(found)
    });
    let all = connecting.take(count).count();
    assert_eq!(timeout(LIMIT, all).await.unwrap(), count);
    // The line is written just before the stream is attached.
    tokio::time::sleep(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn two_shipped_clients_share_one_console_and_connect_again() {
    let Some(python) = support::python_with("jumpstarter.utils.env").await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut board = Board::plug_in(folder.path());
    let fixture = Fixture::new(json!({"url": board.link})).await;
    let socket = fixture.folder.path().join("socket");
    let mut clients = ["one", "two"].map(|answer| PythonClient::new(&python, &socket, answer));
    for client in &mut clients {
        assert_eq!(client.line().await, "connected");
    }
    let log = fixture.session.log();
    wait_for_connections(log, 2).await;
    board.say("U-Boot> ");
    let heard = board.hear(8).await;
    assert!(
        ["one\ntwo\n", "two\none\n"].contains(&heard.as_str()),
        "{heard}"
    );
    board.say("goodbye");
    for client in &mut clients {
        assert_eq!(client.line().await, "served");
        assert_eq!(client.line().await, "connected");
    }
    wait_for_connections(log, 4).await;
    board.say("again> ");
    for client in &mut clients {
        assert_eq!(client.line().await, "before: b''");
    }
    fixture.session.close().await;
}
