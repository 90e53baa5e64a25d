//! No room: a write fails and says so, nothing answered is lost, and it works again once there is room.

use std::env;
use std::path::Path;
use std::process::Command;

use jmp_store::{
    AuditSink, FileError, Options, Query, SqliteStore, Store, StoreError, StoreExt, Write, inspect,
};
use jmp_types::resource::{Exporter, Kind};

use crate::content::{audit, exporter, key, open, options};

fn large(name: &str) -> Exporter {
    let mut exporter = exporter(name);
    exporter.status.endpoint = "x".repeat(20_000);
    exporter
}

#[tokio::test]
async fn a_full_store_stays_usable() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let small = Options {
        maximum_pages: Some(60),
        ..options()
    };
    let store = SqliteStore::open(&path, &small).expect("opens");
    let mut made = Vec::new();
    let error = loop {
        let name = format!("exporter-{:02}", made.len());
        match store.create(&large(&name)).await {
            Ok(_) => made.push(name),
            Err(error) => break error,
        }
        assert!(made.len() < 60, "never full");
    };
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert!(error.to_string().contains("store.db"), "{error}");

    let found = store
        .list::<Exporter>(Query::new(Kind::Exporter))
        .await
        .expect("a list")
        .items;
    let names: Vec<&str> = found
        .iter()
        .map(|found| found.metadata.name.as_str())
        .collect();
    assert_eq!(names, made);
    let error = store
        .create(&large("another"))
        .await
        .expect_err("still full");
    assert!(matches!(error, StoreError::Full(_)), "{error}");

    store
        .delete::<Exporter>(&key("exporter-00"), None)
        .await
        .expect("makes room");
    store.create(&large("another")).await.expect("has room");
    store.close().await;
    let store = open(&path);
    let found = store
        .list::<Exporter>(Query::new(Kind::Exporter))
        .await
        .expect("a list")
        .items;
    assert_eq!(found.len(), made.len());
    assert!(
        store
            .get::<Exporter>(&key("another"))
            .await
            .expect("is read")
            .is_some()
    );
}

/// What is committed together does not fail together.
#[tokio::test]
async fn a_write_without_room_takes_no_other_along() {
    let folder = tempfile::tempdir().expect("a folder");
    let small = Options {
        maximum_pages: Some(60),
        ..options()
    };
    let store = SqliteStore::open(folder.path().join("store.db"), &small).expect("opens");
    let present = store.create(&exporter("present")).await.expect("is made");
    let small = exporter("small");
    let too_many = (0..30)
        .map(|number| Write::create(&large(&number.to_string())).expect("a write"))
        .collect();
    let (before, too_many, after, audit) = tokio::join!(
        store.update(&present),
        store.apply(too_many),
        store.create(&small),
        store.append_audit(vec![audit("admin:root", "Update", 1)]),
    );
    before.expect("has room");
    after.expect("has room");
    audit.expect("has room");
    assert!(
        too_many
            .iter()
            .all(|answer| matches!(answer, Err(StoreError::Full(_))))
    );
    let page = store
        .list_objects(Query::new(Kind::Exporter))
        .await
        .expect("a list");
    assert_eq!(page.objects.len(), 2);
}

/// Tells the child that the small file system is mounted here.
const FOLDER: &str = "JMP_STORE_TEST_FOLDER";

/// A file system of 1 MiB, in a namespace of its own. Where namespaces are forbidden only the limit of pages
/// above is tested.
#[test]
fn a_full_disk_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "mount -t tmpfs -o size=1m none \"$1\" || exit 77
        exec \"$0\" --exact full::on_the_small_disk --ignored --nocapture";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(env::current_exe().expect("the test itself"))
        .arg(folder.path())
        .env(FOLDER, folder.path())
        .output();
    let output = match output {
        Ok(output) if ![Some(77), None].contains(&output.status.code()) => output,
        other => {
            eprintln!("skipped, no file system can be mounted: {other:?}");
            return;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if text.contains("unshare failed") {
        eprintln!("skipped, no namespace can be made: {text}");
        return;
    }
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[tokio::test]
#[ignore = "started by a_full_disk_loses_nothing"]
async fn on_the_small_disk() {
    let Some(folder) = env::var_os(FOLDER) else {
        return;
    };
    let path = Path::new(&folder).join("store.db");
    let store = open(&path);
    let (made, error) = fill_up(&store).await;
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert!(made.len() > 5, "{made:?}");
    let found = store
        .list::<Exporter>(Query::new(Kind::Exporter))
        .await
        .expect("a list")
        .items;
    assert_eq!(found.len(), made.len());
    let error = store
        .backup(path.with_extension("backup"))
        .await
        .expect_err("no room");
    assert!(matches!(error, FileError::Full { .. }), "{error}");
    store.close().await;

    // After a start with a full disk everything answered is there, and room makes it write again.
    let ballast = path.with_extension("ballast");
    let store = open(&path);
    std::fs::write(&ballast, vec![1; 64 * 1024]).ok();
    while std::fs::metadata(&ballast).is_ok_and(|found| found.len() > 0) {
        let (more, error) = fill_up(&store).await;
        assert!(matches!(error, StoreError::Full(_)), "{error}");
        std::fs::remove_file(&ballast).expect("goes");
        for name in made.iter().chain(&more) {
            assert!(
                store
                    .get::<Exporter>(&key(name))
                    .await
                    .expect("is read")
                    .is_some(),
                "{name}"
            );
        }
    }
    store.create(&exporter("later")).await.expect("has room");
    store.close().await;
    inspect(&path).expect("is whole");
}

/// Makes exporters until that fails: those made, and why it failed.
async fn fill_up(store: &SqliteStore) -> (Vec<String>, StoreError) {
    let mut made = Vec::new();
    loop {
        let name = uuid::Uuid::new_v4().to_string();
        match store.create(&large(&name)).await {
            Ok(_) => made.push(name),
            Err(error) => return (made, error),
        }
        assert!(made.len() < 200, "never full");
    }
}
