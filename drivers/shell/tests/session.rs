//! The driver through a real session: real processes, a unix socket, the client library.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use driver_shell::{ShellClient, ShellOutput};
use futures::StreamExt;
use jmp_client::{AllowList, Client, Dialer};
use jmp_driver::command::{ClientRegistry, Commands, DeviceInfo, Given, Invocation, OutputFormat};
use jmp_driver::{ErrorKind, NodeSpec, Origin, Registry};
use jmp_exporter::{Session, SessionOptions};
use serde_json::{Value as Json, json};

struct Fixture {
    session: Session,
    client: Client,
    directory: tempfile::TempDir,
}

impl Fixture {
    fn shell(&self) -> ShellClient {
        self.client.root().client().unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

async fn fixture(config: Json) -> Fixture {
    jmp_process::testing::install_supervisor();
    let mut registry = Registry::new();
    driver_shell::register(&mut registry);
    let directory = tempfile::tempdir().unwrap();
    let root = NodeSpec::Driver {
        type_name: "jumpstarter_driver_shell.driver.Shell".into(),
        config,
        description: None,
        methods_description: [("hello".to_owned(), "configured".to_owned())].into(),
        children: Vec::new(),
    };
    let session = Session::open(&registry, &root, SessionOptions::default())
        .await
        .unwrap();
    let socket = directory.path().join("socket");
    session.serve_unix(&socket, Origin::Client).unwrap();
    session.start_local();
    let client = Client::connect_with(Dialer::unix(&socket), &AllowList::Unsafe)
        .await
        .unwrap();
    Fixture {
        session,
        client,
        directory,
    }
}

fn methods() -> Json {
    json!({"methods": {
        "hello": {"command": "echo \"$0 says $1 to $WHOM\"", "description": "from the driver"},
        "fail": {"command": "echo bad >&2; exit 3", "description": "Fails"},
        "slow": {"command": "echo first; sleep 0.3; printf '\\xe2\\x82'; sleep 0.1; printf '\\xac'"},
        "hang": {"command": "trap 'echo bye' TERM; echo up; sleep 60 & wait", "timeout": 0.3},
        "stubborn": {"command": "echo $$ > \"$1\"; sleep 60"},
        "killed": "kill -9 $$",
        "serve": "sleep 60 & echo $! > \"$1\"",
        "blank": "  ",
        "much": "head -c 10000000 /dev/zero | tr '\\0' x",
    }})
}

fn env(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

async fn collect(shell: &ShellClient, method: &str, args: &[&str]) -> Vec<ShellOutput> {
    let args = args.iter().map(|text| (*text).to_owned()).collect();
    let items = shell
        .call_method(method.to_owned(), env(&[]), args)
        .await
        .unwrap();
    items.map(Result::unwrap).collect().await
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| {
        !stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
    })
}

/// Waits until the process behind a pid file has ended.
async fn gone(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn written(path: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match std::fs::read_to_string(Path::new(path)) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => assert!(Instant::now() < deadline, "{path} was never written"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn both_kinds_answer() {
    let fixture = fixture(methods()).await;
    let shell = fixture.shell();
    let names = shell.get_methods().await.unwrap();
    assert_eq!(names[..3], ["hello", "fail", "slow"]);
    let help = fixture.client.root().methods_description();
    assert_eq!((&*help["hello"], &*help["fail"]), ("configured", "Fails"));
    let call = |method: &str| {
        shell.call_method_to_end(
            method.to_owned(),
            env(&[("WHOM", "you")]),
            vec!["hi".to_owned()],
        )
    };
    let (out, err, code) = call("hello").await.unwrap();
    assert_eq!((&*out, &*err, code), ("hello says hi to you\n", "", 0));
    let (out, err, code) = call("fail").await.unwrap();
    assert_eq!((&*out, &*err, code), ("", "bad\n", 3));
    assert_eq!(call("killed").await.unwrap().2, -9);
    let items = collect(&shell, "fail", &[]).await;
    assert_eq!(
        items,
        [
            (String::new(), "bad\n".into(), None),
            (String::new(), String::new(), Some(3))
        ]
    );
}

#[tokio::test]
async fn output_comes_when_it_is_written() {
    let fixture = fixture(methods()).await;
    let shell = fixture.shell();
    let started = Instant::now();
    let mut items = shell
        .call_method("slow".into(), env(&[]), Vec::new())
        .await
        .unwrap();
    let first = items.next().await.unwrap().unwrap();
    assert_eq!(first.0, "first\n");
    let waited = started.elapsed();
    let rest: Vec<_> = items.map(Result::unwrap).collect().await;
    assert!(started.elapsed() - waited > Duration::from_millis(200));
    // A character in two writes is one character.
    let text: String = rest.iter().map(|item| item.0.as_str()).collect();
    assert_eq!(text, "€");
}

#[tokio::test]
async fn much_output_arrives_whole_in_pieces() {
    let fixture = fixture(methods()).await;
    let shell = fixture.shell();
    let items = collect(&shell, "much", &[]).await;
    let length: usize = items.iter().map(|item| item.0.len()).sum();
    assert_eq!(length, 10_000_000);
    assert!(items.iter().all(|item| item.0.len() <= 128 * 1024));
    let unary = shell.call_method_to_end("much".into(), env(&[]), Vec::new());
    let error = unary.await.unwrap_err();
    assert!(error.message().contains("streaming"), "{error}");
}

#[tokio::test]
async fn a_timeout_ends_the_command() {
    let fixture = fixture(methods()).await;
    let items = collect(&fixture.shell(), "hang", &[]).await;
    let out: String = items.iter().map(|item| item.0.as_str()).collect();
    assert_eq!(out, "up\nbye\n");
    let last = items.last().unwrap();
    assert_eq!((&*last.0, last.2), ("", Some(199)));
    assert!(
        last.1.starts_with("\nTimeout expired while running hang: ") && last.1.ends_with('\n'),
        "{last:?}"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_command() {
    let fixture = fixture(methods()).await;
    let shell = fixture.shell();
    let file = fixture.path("stream");
    let items = shell
        .call_method("stubborn".into(), env(&[]), vec![file.clone()])
        .await
        .unwrap();
    let pid = written(&file).await;
    assert!(is_alive(&pid));
    drop(items);
    gone(&pid).await;

    let file = fixture.path("unary");
    let call = shell.call_method_to_end("stubborn".into(), env(&[]), vec![file.clone()]);
    let abandoned = tokio::time::timeout(Duration::from_secs(1), call).await;
    assert!(abandoned.is_err());
    let pid = written(&file).await;
    gone(&pid).await;
}

#[tokio::test]
async fn what_runs_in_the_background_ends_with_the_session() {
    let fixture = fixture(methods()).await;
    let file = fixture.path("pid");
    let items = collect(&fixture.shell(), "serve", &[&file]).await;
    assert_eq!(items.last().unwrap().2, Some(0));
    let pid = written(&file).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(is_alive(&pid), "a server is of use to later commands");
    fixture.session.close().await;
    assert!(!is_alive(&pid));
}

#[tokio::test]
async fn bad_calls_are_refused() {
    let fixture = fixture(json!({
        "methods": {"a": "true", "b": " "},
        "cwd": "/nonexistent/directory",
    }))
    .await;
    let shell = fixture.shell();
    for (method, variables, text) in [
        (
            "x",
            env(&[]),
            "Method 'x' not found in available methods: ['a', 'b']",
        ),
        (
            "a",
            env(&[("LD_PRELOAD", "x")]),
            "Environment variable 'LD_PRELOAD' is blocked for security reasons",
        ),
        (
            "a",
            env(&[("A B", "x")]),
            "Invalid environment variable name: 'A B'",
        ),
        ("b", env(&[]), "the command of method 'b' is blank"),
        (
            "a",
            env(&[]),
            "Working directory '/nonexistent/directory' does not exist",
        ),
    ] {
        let call = shell.call_method_to_end(method.into(), variables, Vec::new());
        let error = call.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.message().starts_with(text), "{error}");
    }
    let handle = fixture.client.root().handle().unwrap();
    let wrong = handle.call::<Json>("call_method", ("a", json!({}), 5));
    assert_eq!(
        wrong.await.unwrap_err().kind(),
        ErrorKind::InvalidArgument,
        "arguments are text"
    );
}

#[tokio::test]
async fn each_method_is_a_command() {
    let fixture = fixture(methods()).await;
    let mut clients = ClientRegistry::new();
    driver_shell::register_clients(&mut clients);
    let root = fixture.client.root();
    let device = DeviceInfo {
        path: String::new(),
        handle: root.handle().unwrap(),
        labels: root.labels().clone(),
    };
    let kind = clients.get(root.class()).unwrap();
    let Commands::Group(commands) = (kind.commands)(device.clone()).await.unwrap() else {
        panic!("a shell has many commands");
    };
    let names: Vec<&str> = commands.iter().map(|command| &*command.name).collect();
    assert!(names.contains(&"hello") && names.contains(&"killed"));
    let run = async |name: &str, variable: Option<&str>| {
        let command = commands.iter().find(|command| command.name == name);
        let mut given = Given::default();
        if let Some(variable) = variable {
            given.push("env", variable);
        }
        (command.unwrap().action)(Invocation {
            device: device.clone(),
            given,
            output: OutputFormat::Text,
            progress: false,
        })
        .await
    };
    assert_eq!(run("hello", Some("WHOM=me")).await.unwrap(), 0);
    assert_eq!(run("fail", None).await.unwrap(), 3);
    assert_eq!(run("killed", None).await.unwrap(), 137);
    assert_eq!(run("hang", None).await.unwrap(), 199);
    let error = run("hello", Some("WHOM")).await.unwrap_err();
    assert!(error.message().contains("KEY=VALUE"), "{error}");
}
