//! A session with one driver, and a client of it over a real unix socket.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;

use bytes::Bytes;
use jmp_client::{AllowList, Client, Dialer};
use jmp_driver::{DriverHandle, NodeSpec, Origin, Registry};
use jmp_exporter::{Session, SessionOptions};
use jmp_interfaces::opendal::OpendalClient;
use serde_json::{Value as Json, json};

pub struct Fixture {
    pub session: Session,
    pub client: Client,
    directory: tempfile::TempDir,
}

impl Fixture {
    pub async fn new(class: &str, config: Json) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let session = session(class, config).await.unwrap();
        session.serve_unix(&socket, Origin::Client).unwrap();
        session.start_local();
        let client = connect(&socket).await;
        Self {
            session,
            client,
            directory,
        }
    }

    pub async fn files(root: &std::path::Path) -> Self {
        Self::new(
            "Opendal",
            json!({ "scheme": "fs", "kwargs": { "root": root } }),
        )
        .await
    }

    pub fn handle(&self) -> DriverHandle {
        self.client.root().handle().unwrap()
    }

    pub fn opendal(&self) -> OpendalClient {
        OpendalClient::new(self.handle())
    }

    /// A second client, on a connection of its own.
    pub async fn second(&self) -> Client {
        connect(&self.directory.path().join("socket")).await
    }
}

async fn connect(socket: &std::path::Path) -> Client {
    Client::connect_with(Dialer::unix(socket), &AllowList::Unsafe)
        .await
        .unwrap()
}

pub async fn session(class: &str, config: Json) -> Result<Session, String> {
    let mut registry = Registry::new();
    driver_opendal::register(&mut registry);
    let root = NodeSpec::Driver {
        type_name: format!("jumpstarter_driver_opendal.driver.{class}"),
        config,
        description: None,
        methods_description: BTreeMap::new(),
        children: Vec::new(),
    };
    Session::open(&registry, &root, SessionOptions::default())
        .await
        .map_err(|error| error.to_string())
}

/// Test data that does not repeat at any power of two.
pub fn pattern(length: usize) -> Bytes {
    jmp_interfaces::storage_mux::behaviour::pattern(length, 7)
}
