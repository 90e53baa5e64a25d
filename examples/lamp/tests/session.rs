//! The drivers through a real session: a unix socket and the client library.

use std::collections::BTreeMap;

use example_lamp::behaviour;
use example_lamp::commands::LAMP;
use example_lamp::interface::LampClient;
use futures::StreamExt;
use jmp_client::{AllowList, Client, Dialer};
use jmp_driver::command::{Commands, DeviceInfo, Given, Invocation, OutputFormat};
use jmp_driver::{ErrorKind, NodeSpec, Origin, Registry};
use jmp_exporter::{Session, SessionOptions};
use serde_json::{Value as Json, json};

struct Fixture {
    session: Session,
    client: Client,
    _directory: tempfile::TempDir,
}

async fn open(type_name: &str, config: Json) -> Result<Fixture, String> {
    let mut registry = Registry::new();
    example_lamp::register(&mut registry);
    let root = NodeSpec::Driver {
        type_name: type_name.into(),
        config,
        description: None,
        methods_description: BTreeMap::new(),
        children: Vec::new(),
    };
    let session = Session::open(&registry, &root, SessionOptions::default())
        .await
        .map_err(|error| error.to_string())?;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    session.serve_unix(&socket, Origin::Client).unwrap();
    session.start_local();
    let client = Client::connect_with(Dialer::unix(&socket), &AllowList::Unsafe)
        .await
        .unwrap();
    Ok(Fixture {
        session,
        client,
        _directory: directory,
    })
}

fn lamp(fixture: &Fixture) -> LampClient {
    fixture.client.root().client().unwrap()
}

#[tokio::test]
async fn the_mock_behaves() {
    let fixture = open("example_lamp.driver.MockLamp", json!({}))
        .await
        .unwrap();
    behaviour::check(&lamp(&fixture)).await;
    fixture.session.close().await;
}

#[tokio::test]
async fn the_led_behaves() {
    let led = tempfile::tempdir().unwrap();
    std::fs::write(led.path().join("max_brightness"), "255\n").unwrap();
    let config = json!({"directory": led.path(), "initial": "20"});
    let fixture = open("example_lamp.driver.Led", config).await.unwrap();
    let brightness = || std::fs::read_to_string(led.path().join("brightness")).unwrap();
    assert_eq!(brightness(), "51");
    behaviour::check(&lamp(&fixture)).await;
    assert_eq!(brightness(), "0");
}

#[tokio::test]
async fn a_weak_supply_is_told() {
    let config = json!({"fails_above": 60});
    let fixture = open("example_lamp.driver.MockLamp", config).await.unwrap();
    let error = lamp(&fixture).set(61).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Device);
    assert_eq!(error.message(), "setting 61 %: the supply broke down");
}

#[tokio::test]
async fn wrong_configurations_are_refused() {
    for (type_name, config, expected) in [
        ("Led", json!({"directory": "/nowhere"}), "opening /nowhere"),
        ("Led", json!({}), "key `directory` is missing"),
        (
            "MockLamp",
            json!({"fail_above": 1}),
            "did you mean `fails_above`?",
        ),
    ] {
        let opened = open(&format!("example_lamp.driver.{type_name}"), config).await;
        let message = opened.err().expect("refused");
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn commands_work_and_the_log_tells() {
    let fixture = open("example_lamp.driver.MockLamp", json!({}))
        .await
        .unwrap();
    let device = fixture.client.root();
    let device = DeviceInfo {
        path: device.path().into(),
        handle: device.handle().unwrap(),
        labels: device.labels().clone(),
    };
    let Commands::Group(commands) = (LAMP.commands)(device.clone()).await.unwrap() else {
        panic!("a lamp has a group of commands");
    };
    let set = commands
        .iter()
        .find(|command| command.name == "set")
        .unwrap();
    let mut given = Given::default();
    given.push("percent", "40");
    let invocation = Invocation {
        device,
        given,
        output: OutputFormat::Text,
        progress: false,
    };
    assert_eq!((set.action)(invocation).await.unwrap(), 0);
    assert_eq!(lamp(&fixture).get().await.unwrap(), 40);
    let line = fixture.client.logs().await.unwrap().next().await.unwrap();
    let message = line.unwrap().message;
    assert!(message.starts_with("[driver.MockLamp] 40 %"), "{message}");
}
