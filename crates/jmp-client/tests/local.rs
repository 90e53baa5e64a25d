//! A client against a session in the same process, over a real unix socket.

use std::collections::BTreeMap;

use futures::StreamExt;
use jmp_client::{AllowList, Client, Dialer, Error};
use jmp_driver::{ErrorKind, NodeSpec, Origin};
use jmp_exporter::{Session, SessionOptions};
use jmp_interfaces::power::PowerClient;
use serde_json::Value as Json;

fn driver(type_name: &str) -> NodeSpec {
    NodeSpec::Driver {
        type_name: type_name.into(),
        config: Json::Null,
        description: Some("described".into()),
        methods_description: BTreeMap::new(),
        children: Vec::new(),
    }
}

fn group(children: Vec<(&str, NodeSpec)>) -> NodeSpec {
    NodeSpec::Group {
        description: None,
        children: children
            .into_iter()
            .map(|(name, child)| (name.to_owned(), child))
            .collect(),
    }
}

fn reference(path: &str) -> NodeSpec {
    NodeSpec::Reference { path: path.into() }
}

const MOCK_POWER: &str = "jumpstarter_driver_power.driver.MockPower";

struct Fixture {
    session: Session,
    client: Client,
    _directory: tempfile::TempDir,
}

async fn fixture(root: NodeSpec) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let registry = driver_all::registry();
    let session = Session::open(&registry, &root, SessionOptions::default())
        .await
        .unwrap();
    session.serve_unix(&socket, Origin::Client).unwrap();
    session.start_local();
    let client = Client::connect_with(Dialer::unix(&socket), &AllowList::Unsafe)
        .await
        .unwrap();
    Fixture {
        session,
        client,
        _directory: directory,
    }
}

#[tokio::test]
async fn power_is_switched_measured_and_logged() {
    let fixture = fixture(group(vec![("power", driver(MOCK_POWER))])).await;
    let power: PowerClient = fixture.client.device("power").unwrap().client().unwrap();
    power.on().await.unwrap();
    let readings: Vec<_> = power
        .read()
        .await
        .unwrap()
        .map(Result::unwrap)
        .collect()
        .await;
    assert_eq!(readings[1].apparent_power(), 10.0);
    let line = fixture
        .client
        .logs()
        .await
        .unwrap()
        .next()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (line.message.as_str(), line.severity.as_str(), line.source),
        ("[driver.MockPower] power on", "INFO", "driver")
    );
    fixture.session.close().await;
    assert!(power.on().await.is_err());
}

#[tokio::test]
async fn status_and_session_end_in_local_mode() {
    let fixture = fixture(group(vec![])).await;
    let status = fixture.client.status().await.unwrap().unwrap();
    assert_eq!((status.name.as_str(), status.version), ("LEASE_READY", 1));
    let (success, message) = fixture.client.end_session().await.unwrap().unwrap();
    assert!(!success);
    assert_eq!(message, "No active lease context");
}

#[tokio::test]
async fn references_repeat_their_target() {
    let inner = group(vec![("again", reference("power"))]);
    let root = group(vec![("nested", inner), ("power", driver(MOCK_POWER))]);
    let fixture = fixture(root).await;
    let power = fixture.client.device("power").unwrap();
    let again = fixture.client.device("nested.again").unwrap();
    assert_eq!(power.uuid(), again.uuid());
    let power: PowerClient = again.client().unwrap();
    power.off().await.unwrap();
}

#[tokio::test]
async fn wrong_calls_get_the_texts_that_shipped_clients_know() {
    let fixture = fixture(group(vec![("power", driver(MOCK_POWER))])).await;
    let handle = fixture.client.device("power").unwrap().handle().unwrap();
    for (method, text) in [
        ("nosuch", "method nosuch not found on driver"),
        ("read", "method read missing marker marker_drivercall"),
    ] {
        let error = handle.call::<()>(method, ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MethodNotFound);
        assert_eq!(error.message(), text);
    }
    let error = handle.call::<()>("on", (1,)).await.unwrap_err();
    assert_eq!(error.message(), "one argument too many");
    let error = fixture.client.device("pwer").unwrap_err();
    assert!(error.to_string().contains("the exporter has power"));
    let methods = fixture.client.describe().await.unwrap().unwrap();
    let power = &methods[&fixture.client.device("power").unwrap().uuid()];
    assert_eq!(power[0].documentation, "Switch the device on.");
}

#[tokio::test]
async fn the_allow_list_is_honoured() {
    let fixture = fixture(group(vec![("power", driver(MOCK_POWER))])).await;
    let device = fixture.client.device("power").unwrap();
    assert!(device.is_allowed());
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    fixture.session.serve_unix(&socket, Origin::Client).unwrap();
    let client = Client::connect_with(Dialer::unix(&socket), &AllowList::parse("other.*"))
        .await
        .unwrap();
    let refused = client.device("power").unwrap().handle().unwrap_err();
    assert!(matches!(refused, Error::NotAllowed { .. }));
}

#[tokio::test]
async fn trees_that_cannot_be_built_say_why() {
    let registry = driver_all::registry();
    for (root, text) in [
        (
            group(vec![(
                "a",
                driver("jumpstarter_driver_power.driver.MockPowr"),
            )]),
            "driver `a`: driver type `jumpstarter_driver_power.driver.MockPowr` is not known; \
             did you mean `jumpstarter_driver_power.driver.MockPower",
        ),
        (
            group(vec![("a", reference("b.c")), ("b", group(vec![]))]),
            "driver `a`: reference `b.c` leads to a driver that does not exist: there is no `c`",
        ),
        (
            group(vec![("a", reference("b")), ("b", reference("a"))]),
            "driver `a`: reference `b` leads in a circle",
        ),
        (
            group(vec![("a", group(vec![("b", reference("a"))]))]),
            "driver `a.b`: the reference leads to a driver that contains it",
        ),
    ] {
        let error = match Session::open(&registry, &root, SessionOptions::default()).await {
            Err(error) => error.to_string(),
            Ok(_) => panic!("the tree was built"),
        };
        assert!(error.starts_with(text), "{error}");
    }
}
