//! The life cycle with real hooks, observed by a real client over a unix socket.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use jmp_client::{AllowList, Client, Dialer, LogLine, Status};
use jmp_driver::{
    ByteStream, Driver, Interface, NodeSpec, OpenContext, Origin, Registry, interface,
};
use jmp_exporter::{HookScript, HookScripts, Lifecycle, LifecycleOptions, Session, SessionOptions};
use jmp_interfaces::power::PowerClient;
use jmp_lease::{Mode, OnFailure};
use serde_json::Value as Json;

/// Longest time a test waits for anything.
const LIMIT: Duration = Duration::from_secs(20);

/// A stream that answers with what it gets.
#[interface(client = "test.client.EchoClient")]
trait Echo: Send + Sync + 'static {
    #[stream]
    async fn connect(&self) -> jmp_driver::Result<ByteStream>;
}

struct Mirror;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct MirrorConfig {}

impl Echo for Mirror {
    async fn connect(&self) -> jmp_driver::Result<ByteStream> {
        let (near, far) = ByteStream::pair(4);
        Ok(ByteStream {
            reader: near.reader,
            writer: far.writer,
        })
    }
}

impl Driver for Mirror {
    const TYPES: &'static [&'static str] = &["test.driver.Mirror"];
    const SUMMARY: &'static str = "Echo";
    type Config = MirrorConfig;

    async fn open(_: MirrorConfig, _: OpenContext) -> jmp_driver::Result<Self> {
        Ok(Self)
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![echo_interface()]
    }
}

fn driver(type_name: &str) -> NodeSpec {
    NodeSpec::Driver {
        type_name: type_name.into(),
        config: Json::Null,
        description: None,
        methods_description: std::collections::BTreeMap::new(),
        children: Vec::new(),
    }
}

struct Fixture {
    session: Session,
    client: Client,
    lifecycle: Lifecycle,
    directory: tempfile::TempDir,
}

fn script(text: impl Into<String>) -> HookScript {
    HookScript {
        script: text.into(),
        exec: None,
        timeout: Duration::from_secs(30),
        on_failure: OnFailure::Warn,
    }
}

/// `$D` in the scripts is a directory for files.
async fn fixture(before: Option<HookScript>, after: Option<HookScript>) -> Fixture {
    jmp_process::testing::install_supervisor();
    let directory = tempfile::tempdir().unwrap();
    let mut registry = Registry::new();
    driver_composite::register(&mut registry);
    driver_power::register(&mut registry);
    registry.add::<Mirror>();
    let root = NodeSpec::Group {
        description: None,
        children: vec![
            (
                "power".into(),
                driver("jumpstarter_driver_power.driver.MockPower"),
            ),
            ("echo".into(), driver("test.driver.Mirror")),
        ],
    };
    let options = SessionOptions {
        motd: "Welcome".into(),
        ..SessionOptions::default()
    };
    let session = Session::open(&registry, &root, options).await.unwrap();
    let socket = directory.path().join("socket");
    session.serve_unix(&socket, Origin::Client).unwrap();
    let place = |hook: Option<HookScript>| {
        hook.map(|hook| HookScript {
            script: format!("D={}\n{}", directory.path().display(), hook.script),
            ..hook
        })
    };
    let lifecycle = Lifecycle::start(
        session.clone(),
        LifecycleOptions {
            mode: Mode::Direct,
            hooks: HookScripts {
                before_lease: place(before),
                after_lease: place(after),
            },
            programs: Some(PathBuf::from("/nonexistent")),
            directory: directory.path().to_owned(),
        },
    )
    .unwrap();
    let client = Client::connect_with(Dialer::unix(&socket), &AllowList::Unsafe)
        .await
        .unwrap();
    Fixture {
        session,
        client,
        lifecycle,
        directory,
    }
}

impl Fixture {
    /// Waits for a status, by its board: a client that polls may miss one.
    async fn status(&self, name: &str) -> Status {
        let mut versions = self.session.status().watch();
        let reached = versions.wait_for(|version| version.status.name() == name);
        let waited = tokio::time::timeout(LIMIT, reached).await;
        drop(waited.unwrap_or_else(|_| panic!("status {name} was never reached")));
        self.client.status().await.unwrap().unwrap()
    }

    /// Waits until a hook has written a whole line.
    async fn file(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        let deadline = Instant::now() + LIMIT;
        loop {
            match std::fs::read_to_string(&path) {
                Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
                _ => assert!(Instant::now() < deadline, "{name} was never written"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn touch(&self, name: &str) {
        std::fs::write(self.directory.path().join(name), "\n").unwrap();
    }

    /// The log up to a line that contains `last`.
    async fn log_until(&self, last: &str) -> Vec<LogLine> {
        let mut lines = self.client.logs().await.unwrap();
        let mut log = Vec::new();
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let line = tokio::time::timeout_at(deadline, lines.next()).await;
            let line = line.unwrap_or_else(|_| panic!("no line with {last}: {log:#?}"));
            let line = line.unwrap().unwrap();
            let found = line.message.contains(last);
            log.push(line);
            if found {
                return log;
            }
        }
    }

    async fn stop(mut self) -> u8 {
        self.lifecycle.shutdown_handle().request(false, 143).await;
        let code = tokio::time::timeout(LIMIT, self.lifecycle.finished()).await;
        code.expect("the exporter ends")
    }
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn messages(log: &[LogLine], source: &str) -> Vec<String> {
    log.iter()
        .filter(|line| line.source == source)
        .map(|line| line.message.clone())
        .collect()
}

#[tokio::test]
async fn a_turn_with_hooks_and_the_next_one() {
    let fixture = fixture(
        Some(script(
            "echo \"lease=$LEASE_NAME client=$CLIENT_NAME ps1=$(env | grep -c ^PS1) term=$TERM\"\n\
             tty >/dev/null && echo on a terminal\nprintf 'no end'",
        )),
        Some(script("echo cleaning")),
    )
    .await;
    let ready = fixture.status("LEASE_READY").await;
    assert_eq!(
        (ready.message.as_str(), ready.version),
        ("Ready for commands", 2)
    );
    let (success, text) = fixture.client.end_session().await.unwrap().unwrap();
    assert!(success, "{text}");
    let log = fixture.log_until("cleaning").await;
    assert_eq!(
        messages(&log, "beforeLease"),
        [
            "[jumpstarter.exporter.hooks] lease=standalone client= ps1=0 term=dumb",
            "[jumpstarter.exporter.hooks] on a terminal",
            "[jumpstarter.exporter.hooks] no end",
        ]
    );
    assert_eq!(messages(&log, "afterLease").len(), 1);
    let mut versions = fixture.session.status().watch();
    let next = versions.wait_for(|now| now.version >= 6 && now.status.name() == "LEASE_READY");
    drop(tokio::time::timeout(LIMIT, next).await.unwrap().unwrap());
    // The same connection goes on in the next turn.
    let power: PowerClient = fixture.client.device("power").unwrap().client().unwrap();
    power.on().await.unwrap();
    assert_eq!(fixture.stop().await, 143);
}

#[tokio::test]
async fn clients_wait_for_the_hook_which_may_use_the_devices() {
    let fixture = fixture(
        Some(script(
            "echo $JUMPSTARTER_HOST > $D/host\nwhile [ ! -e $D/go ]; do sleep 0.02; done",
        )),
        None,
    )
    .await;
    let host = fixture.file("host").await;
    let power: PowerClient = fixture.client.device("power").unwrap().client().unwrap();
    let refused = power.on().await.unwrap_err();
    assert_eq!(refused.code_name(), "FAILED_PRECONDITION", "{refused}");
    let hook = Client::connect_with(Dialer::unix(&host), &AllowList::Unsafe)
        .await
        .unwrap();
    let hook_power: PowerClient = hook.device("power").unwrap().client().unwrap();
    hook_power.on().await.unwrap();
    fixture.touch("go");
    fixture.status("LEASE_READY").await;
    power.on().await.unwrap();
    assert_eq!(fixture.stop().await, 143);
}

#[tokio::test]
async fn a_failed_hook_warns_ends_or_exits() {
    for (on_failure, status, code) in [
        (OnFailure::Warn, "LEASE_READY", 143),
        (OnFailure::EndLease, "BEFORE_LEASE_HOOK_FAILED", 1),
        (OnFailure::Exit, "BEFORE_LEASE_HOOK_FAILED", 1),
    ] {
        let hook = HookScript {
            on_failure,
            ..script("exit 3")
        };
        let mut fixture = fixture(Some(hook), None).await;
        let shown = fixture.status(status).await;
        let text = "beforeLease hook failed: exit status 3";
        assert!(shown.message.contains(text), "{shown:?}");
        assert_eq!(
            shown.message.starts_with("[HOOK_WARNING] "),
            on_failure == OnFailure::Warn
        );
        if on_failure == OnFailure::Warn {
            assert_eq!(fixture.stop().await, code);
        } else {
            let ended = tokio::time::timeout(LIMIT, fixture.lifecycle.finished()).await;
            assert_eq!(ended.unwrap(), code);
        }
    }
}

#[tokio::test]
async fn a_failed_cleanup_leaves_the_devices_usable() {
    let hook = HookScript {
        on_failure: OnFailure::EndLease,
        ..script("kill -9 $$")
    };
    let fixture = fixture(None, Some(hook)).await;
    fixture.status("LEASE_READY").await;
    fixture.client.end_session().await.unwrap().unwrap();
    let shown = fixture.status("AFTER_LEASE_HOOK_FAILED").await;
    assert!(shown.message.contains("signal 9"), "{shown:?}");
    fixture.status("LEASE_READY").await;
    assert_eq!(fixture.stop().await, 143);
}

#[tokio::test]
async fn a_timeout_ends_the_hook_with_all_it_started() {
    let hook = HookScript {
        timeout: Duration::from_millis(300),
        ..script(
            "setsid sleep 60 & echo $! > $D/pid\ntrap 'echo asked; exit 0' TERM\nsleep 60 & wait",
        )
    };
    let fixture = fixture(Some(hook), None).await;
    let pid = fixture.file("pid").await;
    assert!(is_alive(&pid));
    let shown = fixture.status("LEASE_READY").await;
    assert_eq!(
        shown.message,
        "[HOOK_WARNING] beforeLease hook failed: timed out after 0.3 s; it printed last:\nasked"
    );
    assert!(!is_alive(&pid), "what the hook started is still there");
    let log = fixture.log_until("asked").await;
    assert_eq!(messages(&log, "beforeLease").len(), 1, "{log:#?}");
    fixture.stop().await;
}

#[tokio::test]
async fn what_a_hook_leaves_running_ends_with_the_turn() {
    let before = script(
        "setsid sh -c 'echo $$ > $0/pid; sleep 60' $D &\nwhile [ ! -s $D/pid ]; do sleep 0.02; done",
    );
    let fixture = fixture(Some(before), Some(script("true"))).await;
    fixture.status("LEASE_READY").await;
    let pid = fixture.file("pid").await;
    assert!(is_alive(&pid));
    fixture.client.end_session().await.unwrap().unwrap();
    let deadline = Instant::now() + LIMIT;
    while is_alive(&pid) {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fixture.stop().await;
}

#[tokio::test]
async fn streams_of_clients_end_with_their_turn() {
    let fixture = fixture(
        None,
        Some(script("while [ ! -e $D/go ]; do sleep 0.02; done")),
    )
    .await;
    fixture.status("LEASE_READY").await;
    let echo = fixture.client.device("echo").unwrap().handle().unwrap();
    let mut stream = echo.open_stream("connect").await.unwrap();
    stream.writer.send(Bytes::from("x")).await.unwrap();
    assert_eq!(stream.reader.next().await.unwrap().unwrap(), "x");
    fixture.client.end_session().await.unwrap().unwrap();
    let end = tokio::time::timeout(LIMIT, async {
        loop {
            match stream.reader.next().await {
                Some(Ok(_)) => {}
                end => return end,
            }
        }
    });
    end.await.expect("the stream ends with the turn");
    let refused = echo.open_stream("connect").await.err().unwrap();
    assert_eq!(refused.code_name(), "FAILED_PRECONDITION", "{refused}");
    fixture.touch("go");
    fixture.status("LEASE_READY").await;
    let mut stream = echo.open_stream("connect").await.unwrap();
    stream.writer.send(Bytes::from("y")).await.unwrap();
    assert_eq!(stream.reader.next().await.unwrap().unwrap(), "y");
    fixture.stop().await;
}

#[tokio::test]
async fn a_shutdown_cancels_preparation_and_waits_for_cleanup() {
    let before = script("echo $$ > $D/pid; sleep 60");
    let fixture = fixture(Some(before), Some(script("echo never"))).await;
    let pid = fixture.file("pid").await;
    let session = fixture.session.clone();
    assert_eq!(fixture.stop().await, 143);
    assert!(!is_alive(&pid));
    assert_eq!(session.status().get().status.name(), "OFFLINE");
    assert_eq!(session.status().get().message, "Exporter shutting down");
}

#[tokio::test]
async fn cleanup_runs_at_the_end() {
    let fixture = fixture(None, Some(script("sleep 0.2; echo done > $D/done"))).await;
    fixture.status("LEASE_READY").await;
    let done = fixture.directory.path().join("done");
    let mut fixture = fixture;
    fixture
        .lifecycle
        .shutdown_handle()
        .request(false, 130)
        .await;
    assert_eq!(fixture.lifecycle.finished().await, 130);
    assert_eq!(std::fs::read_to_string(done).unwrap(), "done\n");
}

#[tokio::test]
async fn a_hook_may_leave_a_text_for_people() {
    let fixture = fixture(
        Some(script("echo 'Board 7 is on the left' > \"$JMP_MOTD_FILE\"")),
        None,
    )
    .await;
    fixture.status("LEASE_READY").await;
    let socket = fixture.directory.path().join("socket");
    let client = Client::connect_with(Dialer::unix(&socket), &AllowList::Unsafe)
        .await
        .unwrap();
    assert_eq!(client.motd(), "Welcome\nBoard 7 is on the left\n");
    fixture.stop().await;
}

#[tokio::test]
async fn a_burst_of_lines_reaches_every_subscriber() {
    let count = 10_000;
    let fixture = fixture(
        Some(script(format!(
            "i=0; while [ $i -lt {count} ]; do echo line $i; i=$((i+1)); done"
        ))),
        None,
    )
    .await;
    let last = format!("line {}", count - 1);
    let (first, second) = tokio::join!(fixture.log_until(&last), fixture.log_until(&last));
    for log in [first, second] {
        let lost = log
            .iter()
            .any(|line| line.message.contains("log lines were dropped"));
        let lines = messages(&log, "beforeLease");
        assert!(lost || lines.len() == count, "{} lines", lines.len());
        let numbers: Vec<u32> = lines
            .iter()
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(numbers.is_sorted());
    }
    fixture.stop().await;
}
