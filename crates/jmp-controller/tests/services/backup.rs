//! Copies of the store.

use std::sync::Arc;

use jmp_auth::{IdentityKeys, TunnelKeys};
use jmp_controller::clock::SystemClock;
use jmp_controller::credentials::bootstrap_administrator;
use jmp_controller::settings::Settings;
use jmp_controller::{Controller, Parts};
use jmp_proto::jmp::v1::BackupRequest;
use jmp_store::{Options, SqliteStore, StoreExt};
use jmp_types::resource::{Administrator, Key};
use tonic::Code;

use crate::lab::{Lab, refused};

#[tokio::test]
async fn a_backup_is_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = Arc::new(SqliteStore::open(&path, &Options::default()).unwrap());
    let controller = Controller::start(Parts {
        store: Arc::clone(&store),
        identity_keys: Arc::new(IdentityKeys::generate().unwrap()),
        tunnel_keys: Arc::new(TunnelKeys::generate().unwrap()),
        authority: String::new(),
        signer: None,
        settings: Settings::default(),
        pool: jmp_lease::pool::Settings::default(),
        clock: Arc::new(SystemClock),
    })
    .await
    .unwrap();
    let root = bootstrap_administrator(controller.context())
        .await
        .unwrap()
        .unwrap();
    let lab = Lab {
        controller,
        clock: Arc::new(jmp_controller::clock::VirtualClock::new(
            jmp_types::Timestamp::UNIX_EPOCH,
        )),
        root: root.token.expose().to_owned(),
    };
    let mut stream = lab
        .admin()
        .await
        .backup(BackupRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut copy = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        copy.extend(chunk.data);
    }
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with("backup-")
        })
        .collect();
    assert!(left.is_empty(), "nothing is left behind");
    let elsewhere = tempfile::tempdir().unwrap();
    let second = elsewhere.path().join("copy.db");
    std::fs::write(&second, copy).unwrap();
    let copied = SqliteStore::open(&second, &Options::default()).unwrap();
    let found: Option<Administrator> = copied.get(&Key::new("default", "root")).await.unwrap();
    assert!(found.is_some());
    copied.close().await;
    lab.stop().await;
    store.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_in_memory_makes_none() {
    let lab = Lab::new().await;
    refused(
        lab.admin().await.backup(BackupRequest {}).await,
        Code::Unimplemented,
        "makes no backups",
    );
    lab.stop().await;
}
