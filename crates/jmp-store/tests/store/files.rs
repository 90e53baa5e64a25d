//! The file: who may use it, and copies of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jmp_store::{
    AuditSink, EventSink, FileError, Query, SCHEMA_VERSION, SqliteStore, Store, StoreError,
    StoreExt, dump, inspect, restore,
};
use jmp_types::resource::{Exporter, Kind};
use rusqlite::Connection;
use serde_json::Value;

use crate::content::{audit, ended, event, exporter, key, lease, open, options};

#[tokio::test]
async fn it_is_for_its_owner_only_and_survives_losses_of_power() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let store = open(&path);
    store.create(&exporter("one")).await.expect("is made");
    let mut files = 0;
    for file in fs::read_dir(folder.path()).expect("a folder") {
        let file = file.expect("a file");
        let mode = file.metadata().expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.path().display());
        files += 1;
    }
    assert_eq!(files, 4, "the file, its log, the log's index and the lock");
    store.close().await;
    assert!(
        !folder.path().join("store.db-wal").exists(),
        "the log is folded in at the end"
    );
    let error = store.create(&exporter("two")).await.expect_err("is closed");
    assert!(matches!(error, StoreError::Closed), "{error}");
    let error = store
        .get::<Exporter>(&key("one"))
        .await
        .expect_err("is closed");
    assert!(matches!(error, StoreError::Closed), "{error}");
}

#[tokio::test]
async fn one_process_has_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let first = open(&path);
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    for name in [&path, &link] {
        let error = SqliteStore::open(name, &options()).expect_err("is in use");
        let text = error.to_string();
        assert!(
            text.contains("store.db") && text.contains(&format!("process {}", std::process::id())),
            "{text}"
        );
    }
    first.close().await;
    open(&path).close().await;
}

#[tokio::test]
async fn everything_is_there_after_opening_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let store = open(&path);
    fill(&store).await;
    let before = store
        .list_objects(Query::new(Kind::Lease))
        .await
        .expect("a list");
    drop(store);
    let store = open(&path);
    let after = store
        .list_objects(Query::new(Kind::Lease))
        .await
        .expect("a list");
    assert_eq!(after.objects, before.objects);
    assert_eq!(after.revision, before.revision);
    assert_eq!(
        store
            .list_events(Kind::Exporter, &key("bench"))
            .await
            .expect("are read")
            .len(),
        1
    );
}

#[tokio::test]
async fn events_leave_the_file_with_their_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path().join("store.db"));
    fill(&store).await;
    assert_eq!(inspect(store.path()).expect("is whole").events, 1);
    store
        .delete::<Exporter>(&key("bench"), None)
        .await
        .expect("goes");
    assert_eq!(inspect(store.path()).expect("is whole").events, 0);
}

#[tokio::test]
async fn a_backup_is_one_whole_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path().join("store.db"));
    fill(&store).await;
    let target = folder.path().join("backup.db");
    let report = store.backup(&target).await.expect("is copied");
    assert_eq!(
        report.content.objects,
        BTreeMap::from([(Kind::Exporter, 1), (Kind::Lease, 2)])
    );
    store.create(&exporter("later")).await.expect("is made");

    let found = inspect(&target).expect("is a store");
    assert_eq!(
        (found.live_leases, found.events, found.audit_records),
        (1, 1, 1)
    );
    assert_eq!(found.schema_version, SCHEMA_VERSION);
    assert_eq!(found.objects, report.content.objects);
    let mode = fs::metadata(&target)
        .expect("is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let names: Vec<String> = names(folder.path());
    assert!(
        !names
            .iter()
            .any(|name| name.contains("partial") || name.starts_with("backup.db-")),
        "{names:?}"
    );

    // The next one takes its place; inspecting a store in use is fine too.
    let report = store.backup(&target).await.expect("is copied again");
    assert_eq!(report.content.objects[&Kind::Exporter], 2);
    assert_eq!(
        inspect(store.path()).expect("is a store").objects,
        report.content.objects
    );
}

#[tokio::test]
async fn a_backup_replaces_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let store = open(&path);
    let letter = folder.path().join("letter.txt");
    fs::write(&letter, "dear diary").expect("is written");
    for target in [
        &letter,
        &path,
        &folder.path().join("store.db-wal"),
        &folder.path().join("absent/backup.db"),
    ] {
        let error = store.backup(target).await.expect_err("is refused");
        assert!(
            error.to_string().contains(&*target.display().to_string()),
            "{error}"
        );
    }
    assert_eq!(fs::read_to_string(&letter).expect("is there"), "dear diary");
    let other = folder.path().join("other.db");
    let used = open(&other);
    let error = store.backup(&other).await.expect_err("is in use");
    assert!(matches!(error, FileError::InUse { .. }), "{error}");
    used.close().await;
    assert!(
        !names(folder.path())
            .iter()
            .any(|name| name.contains("partial"))
    );
}

#[tokio::test]
async fn a_backup_while_it_is_written_to_is_of_one_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path().join("store.db"));
    let first = store.create(&exporter("a")).await.expect("is made");
    store.create(&exporter("b")).await.expect("is made");
    let writing = async {
        let (mut a, mut b) = (
            first,
            store
                .get::<Exporter>(&key("b"))
                .await
                .expect("is read")
                .expect("is there"),
        );
        for count in 1..100 {
            a.metadata.generation = count;
            a = store
                .update::<Exporter>(&a)
                .await
                .expect("has the revision");
            b.metadata.generation = count;
            b = store
                .update::<Exporter>(&b)
                .await
                .expect("has the revision");
        }
    };
    let copying = async {
        for number in 0..5 {
            let target = folder.path().join(format!("backup-{number}.db"));
            store.backup(&target).await.expect("is copied");
            let copy = open(&target);
            let generation = async |name: &str| {
                let found: Option<Exporter> = copy.get(&key(name)).await.expect("is read");
                found.expect("is there").metadata.generation
            };
            let (a, b) = (generation("a").await, generation("b").await);
            assert!(a == b || a == b + 1, "a was at {a}, b at {b}");
        }
    };
    tokio::join!(writing, copying);
}

#[tokio::test]
async fn a_backup_is_put_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, backup) = (
        folder.path().join("store.db"),
        folder.path().join("backup.db"),
    );
    let store = open(&path);
    fill(&store).await;
    store.backup(&backup).await.expect("is copied");
    let later = store.create(&exporter("later")).await.expect("is made");
    let error = restore(&backup, &path).expect_err("is in use");
    assert!(matches!(error, FileError::InUse { .. }), "{error}");
    store.close().await;

    let report = restore(&backup, &path).expect("is put back");
    let kept = report.kept.expect("there was one");
    assert_eq!(
        inspect(&kept).expect("is whole").objects[&Kind::Exporter],
        2
    );
    let store = open(&path);
    assert_eq!(
        store.get::<Exporter>(&later.key()).await.expect("is read"),
        None
    );
    assert!(
        store
            .get::<Exporter>(&key("bench"))
            .await
            .expect("is read")
            .is_some()
    );
    let again = store.create(&exporter("later")).await.expect("is made");
    assert_ne!(
        again.metadata.resource_version, later.metadata.resource_version,
        "never comes again"
    );
    store.close().await;

    // A second time, and to a place where there is nothing yet.
    assert_ne!(
        restore(&backup, &path).expect("is put back").kept,
        Some(kept)
    );
    let fresh = folder.path().join("fresh.db");
    assert_eq!(restore(&backup, &fresh).expect("is put back").kept, None);
    let mode = fs::metadata(&fresh).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// The log of the old store must not be taken for one of the new.
#[tokio::test]
async fn a_backup_is_put_back_over_a_store_that_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, backup) = (
        folder.path().join("live.db"),
        folder.path().join("backup.db"),
    );
    let store = open(&path);
    fill(&store).await;
    store.backup(&backup).await.expect("is copied");
    store.create(&exporter("later")).await.expect("is made");
    let killed = folder.path().join("killed.db");
    for suffix in ["", "-wal"] {
        let name = |file: &Path| format!("{}{suffix}", file.display());
        fs::copy(name(&path), name(&killed)).expect("is copied");
    }
    let kept = restore(&backup, &killed)
        .expect("is put back")
        .kept
        .expect("there was one");
    assert_eq!(
        inspect(&kept).expect("is whole").objects[&Kind::Exporter],
        2
    );
    assert_eq!(
        inspect(&killed).expect("is whole").objects[&Kind::Exporter],
        1
    );
}

#[tokio::test]
async fn what_is_no_backup_is_not_put_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let store = open(&path);
    fill(&store).await;
    store.close().await;
    let before = fs::read(&path).expect("is there");

    let letter = folder.path().join("letter.txt");
    fs::write(&letter, "dear diary, ".repeat(100)).expect("is written");
    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign)
        .expect("opens")
        .execute_batch("CREATE TABLE t (x)")
        .expect("is made");
    let cut = folder.path().join("cut.db");
    fs::write(&cut, &before[..before.len() / 2]).expect("is written");
    let empty = folder.path().join("empty.db");
    fs::write(&empty, "").expect("is written");
    for bad in [
        letter,
        foreign,
        cut,
        empty,
        folder.path().join("absent.db"),
        path.clone(),
    ] {
        let error = restore(&bad, &path).expect_err("is no backup");
        assert!(
            error.to_string().contains(&*bad.display().to_string()),
            "{error}"
        );
        assert_eq!(fs::read(&path).expect("is there"), before);
    }
    let names = names(folder.path());
    assert!(
        !names
            .iter()
            .any(|name| name.contains("partial") || name.contains("before")),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_dump_has_everything_in_lines_of_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path().join("store.db"));
    fill(&store).await;
    let mut out = Vec::new();
    let count = dump(store.path(), &mut out).expect("is written");
    let lines: Vec<Value> = String::from_utf8(out)
        .expect("is text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("is JSON"))
        .collect();
    assert_eq!(lines.len() as u64, count);
    assert_eq!(lines[0]["store"]["schemaVersion"], SCHEMA_VERSION);
    let bench = store
        .get::<Exporter>(&key("bench"))
        .await
        .expect("is read")
        .expect("is there");
    assert!(lines.iter().any(|line| {
        line["kind"] == "Exporter"
            && line["object"]["metadata"]["resourceVersion"] == bench.metadata.resource_version
    }));
    assert_eq!(
        lines.iter().filter(|line| line["kind"] == "Lease").count(),
        2
    );
    assert!(
        lines
            .iter()
            .any(|line| line["event"]["reason"] == "Registered")
    );
    assert!(
        lines
            .iter()
            .any(|line| line["audit"]["action"] == "CreateLease")
    );
}

/// One exporter with an event, two leases, one of them over, and an audit record.
pub async fn fill(store: &SqliteStore) {
    store.create(&exporter("bench")).await.expect("is made");
    store
        .create(&lease("live", "alice"))
        .await
        .expect("is made");
    store
        .create(&ended("over", "alice", "bench", 5))
        .await
        .expect("is made");
    store
        .append_events(vec![event("bench", "Registered")])
        .await
        .expect("are kept");
    store
        .append_audit(vec![audit("client:lab:alice", "CreateLease", 5)])
        .await
        .expect("is kept");
}

fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).expect("a folder");
    files
        .map(|file| {
            file.expect("a file")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}
