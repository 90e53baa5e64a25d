//! A store with everybody in it, made once by a real controller.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderValue};
use jmp_controller::clock::VirtualClock;
use jmp_controller::credentials::bootstrap_administrator;
use jmp_controller::settings::Settings;
use jmp_controller::{Controller, Parts};
use jmp_proto::jmp::v1::admin_service_client::AdminServiceClient;
use jmp_proto::jmp::v1::{CreateResourceRequest, Resource};
use jmp_store::MemoryStore;
use jmp_types::Timestamp;
use jmp_wire::connection::Connection;
use serde_json::json;

use super::world::keys;

/// When virtual time begins.
pub const START: i64 = 1_800_000_000;
/// Clients.
pub const PEOPLE: [&str; 3] = ["ann", "bea", "cat"];
/// So long ago everybody got their tokens: further than clocks jump back.
const BEFORE: i64 = 7 * 24 * 3600;

/// Everybody's tokens, by name.
pub struct Template {
    pub store: MemoryStore,
    pub exporters: BTreeMap<String, String>,
    pub people: BTreeMap<String, String>,
    pub router: String,
}

// === impl Template ===

impl Template {
    pub fn get() -> &'static Self {
        static TEMPLATE: OnceLock<Template> = OnceLock::new();
        TEMPLATE.get_or_init(|| {
            let make = || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .start_paused(true)
                    .build()
                    .unwrap();
                runtime.block_on(Self::make())
            };
            // Schedules ask for it from within their own runtimes.
            std::thread::scope(|scope| scope.spawn(make).join().unwrap())
        })
    }

    async fn make() -> Self {
        let store = MemoryStore::new();
        let time = Timestamp::from_second(START - BEFORE).unwrap();
        let (identity_keys, tunnel_keys) = keys().clone();
        let parts = Parts {
            store: Arc::new(store.clone()),
            identity_keys,
            tunnel_keys,
            authority: String::new(),
            signer: None,
            settings: Settings::default(),
            pool: jmp_lease::pool::Settings::default(),
            clock: Arc::new(VirtualClock::new(time)),
        };
        let controller = Controller::start(parts).await.unwrap();
        let root = bootstrap_administrator(controller.context()).await;
        let root = root.unwrap().expect("the first");
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        controller.accept_io(theirs, None);
        let mut words = HeaderMap::new();
        for (key, value) in [
            ("authorization", format!("Bearer {}", root.token.expose())),
            ("jumpstarter-kind", "Admin".into()),
            ("jumpstarter-namespace", "default".into()),
            ("jumpstarter-name", "root".into()),
        ] {
            words.insert(key, HeaderValue::from_str(&value).unwrap());
        }
        let connection = Connection::handshake(ours, "controller", words, None)
            .await
            .unwrap();
        let origin = connection.origin();
        let mut admin = AdminServiceClient::with_origin(connection, origin);
        let mut exporters = BTreeMap::new();
        for (name, labels) in [
            ("x1", json!({"a": "1"})),
            ("x2", json!({"a": "1", "b": "1"})),
            ("x3", json!({"a": "2", "b": "1"})),
            ("x4", json!({"a": "1"})),
        ] {
            let token = create(&mut admin, "Exporter", name, labels).await;
            exporters.insert(name.to_owned(), token);
        }
        let mut people = BTreeMap::new();
        for name in PEOPLE {
            let token = create(&mut admin, "Client", name, json!({})).await;
            people.insert(name.to_owned(), token);
        }
        let router = create(&mut admin, "Router", "r1", json!({})).await;
        drop(admin);
        controller.stop().await;
        Self {
            store,
            exporters,
            people,
            router,
        }
    }
}

async fn create(
    admin: &mut AdminServiceClient<Connection>,
    kind: &str,
    name: &str,
    labels: serde_json::Value,
) -> String {
    let manifest = json!({
        "apiVersion": "jumpstarter.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
    });
    let request = CreateResourceRequest {
        resource: Some(Resource {
            manifest: manifest.to_string(),
        }),
    };
    let created = admin.create_resource(request).await.unwrap().into_inner();
    created.credential.unwrap().token
}
