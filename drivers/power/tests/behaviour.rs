//! The mocks do what every power driver must do.

use jmp_client::{AllowList, Client, Dialer};
use jmp_driver::{NodeSpec, Origin, Registry};
use jmp_exporter::{Session, SessionOptions};
use jmp_interfaces::power::behaviour;

#[tokio::test]
async fn mocks_pass_the_power_suite() {
    let mut registry = Registry::new();
    driver_power::register(&mut registry);
    for type_name in [
        "jumpstarter_driver_power.driver.MockPower",
        "jumpstarter_driver_power.driver.SyncMockPower",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let root = NodeSpec::Driver {
            type_name: type_name.into(),
            config: serde_json::Value::Null,
            description: None,
            methods_description: Default::default(),
            children: Vec::new(),
        };
        let session = Session::open(&registry, &root, SessionOptions::default())
            .await
            .unwrap();
        session.serve_unix(&socket, Origin::Client).unwrap();
        session.start_local();
        let client = Client::connect_with(Dialer::unix(&socket), &AllowList::Unsafe)
            .await
            .unwrap();
        behaviour::check(client.root().client().unwrap()).await;
        session.close().await;
    }
}
