//! Files that must not be used: the error names them and says what to do, and they stay as they are.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use jmp_store::{FileError, SCHEMA_VERSION, SqliteStore, StoreExt, restore};
use jmp_types::resource::Exporter;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::content::{exporter, key, open, options};

/// A store with some pages, closed, and a backup of it.
async fn prepared() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, backup) = (
        folder.path().join("store.db"),
        folder.path().join("backup.db"),
    );
    let store = open(&path);
    for number in 0..50 {
        let mut exporter = exporter(&format!("exporter-{number}"));
        exporter.status.endpoint = "x".repeat(1000);
        store.create(&exporter).await.expect("is made");
    }
    store.backup(&backup).await.expect("is copied");
    store.close().await;
    (folder, path, backup)
}

/// Opening fails and changes nothing; returns the message.
fn refused(path: &Path) -> String {
    let before = fs::read(path).ok();
    let error = SqliteStore::open(path, &options()).expect_err("is refused");
    assert_eq!(fs::read(path).ok(), before);
    let text = error.to_string();
    assert!(text.contains(&*path.display().to_string()), "{text}");
    text
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_a_backup_helps() {
    let (_folder, path, backup) = prepared().await;
    let mut bytes = fs::read(&path).expect("is there");
    let pages = bytes.len() / 4096;
    for page in [pages / 2, pages - 2] {
        bytes[page * 4096..][..600].fill(0xA5);
    }
    fs::write(&path, &bytes).expect("is written");
    let text = refused(&path);
    assert!(
        text.contains("damaged") && text.contains("jmp controller restore BACKUP"),
        "{text}"
    );
    assert!(!text.contains('\n'), "{text}");

    let report = restore(&backup, &path).expect("is put back");
    assert_eq!(
        fs::read(report.kept.expect("there was one")).expect("is kept"),
        bytes
    );
    let store = open(&path);
    assert!(
        store
            .get::<Exporter>(&key("exporter-49"))
            .await
            .expect("is read")
            .is_some()
    );
}

#[tokio::test]
async fn a_truncated_file_is_refused() {
    let (_folder, path, _backup) = prepared().await;
    let bytes = fs::read(&path).expect("is there");
    for length in [bytes.len() - 4096, bytes.len() / 2, 5000, 4096, 600] {
        fs::write(&path, &bytes[..length]).expect("is written");
        let text = refused(&path);
        assert!(
            text.contains("restore BACKUP") || text.contains("not a store"),
            "{length}: {text}"
        );
    }
}

#[tokio::test]
async fn a_lost_file_is_not_replaced_by_an_empty_one() {
    let (folder, path, _backup) = prepared().await;
    let store = open(&path);
    store.create(&exporter("one")).await.expect("is made");
    let log = fs::read(folder.path().join("store.db-wal")).expect("is there");
    store.close().await;
    fs::write(folder.path().join("store.db-wal"), log).expect("is written");
    fs::remove_file(&path).expect("goes");
    let text = refused(&path);
    assert!(text.contains("damaged") && text.contains("-wal"), "{text}");
    fs::write(&path, "").expect("is written");
    assert!(refused(&path).contains("restore BACKUP"));
}

#[tokio::test]
async fn foreign_files_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let letter = folder.path().join("letter.txt");
    fs::write(&letter, "dear diary, ".repeat(100)).expect("is written");
    let text = refused(&letter);
    assert!(
        text.contains("not a store of jmp") && text.contains("jmp controller restore BACKUP"),
        "{text}"
    );
    let foreign = folder.path().join("foreign.db");
    let other = Connection::open(&foreign).expect("opens");
    other.execute_batch("CREATE TABLE t (x)").expect("is made");
    drop(other);
    assert!(refused(&foreign).contains("another program"));
    let error = SqliteStore::open(folder.path(), &options()).expect_err("is a folder");
    assert!(matches!(error, FileError::Foreign { .. }), "{error}");
    let error = SqliteStore::open(folder.path().join("absent/store.db"), &options());
    assert!(error.expect_err("no folder").to_string().contains("absent"));
}

#[tokio::test]
async fn a_newer_file_is_refused() {
    let (_folder, path, _backup) = prepared().await;
    let newer = Connection::open(&path).expect("opens");
    newer
        .pragma_update(None, "user_version", SCHEMA_VERSION + 1)
        .expect("is set");
    drop(newer);
    let text = refused(&path);
    assert!(
        text.contains(&format!("version {}", SCHEMA_VERSION + 1)) && text.contains("newer"),
        "{text}"
    );
}

#[tokio::test]
async fn a_start_that_ended_before_the_first_table_is_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let begun = Connection::open(&path).expect("opens");
    begun
        .query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
        .expect("is set");
    drop(begun);
    assert!(fs::metadata(&path).expect("is there").len() > 0);
    let store = open(&path);
    store.create(&exporter("one")).await.expect("is made");
}

/// Tells the child which file is meant.
const FILE: &str = "JMP_STORE_TEST_READ_ONLY";

/// The superuser may write everywhere, so this becomes another user where it is run by that one.
#[tokio::test]
async fn a_file_that_cannot_be_written_to_is_refused() {
    let (folder, path, _backup) = prepared().await;
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("is set");
    };
    for (folder_mode, file_mode) in [(0o777, 0o444), (0o555, 0o666), (0o777, 0o000)] {
        fs::remove_file(folder.path().join("store.db.lock")).ok();
        mode(&path, file_mode);
        mode(folder.path(), folder_mode);
        let mut child = Command::new(env::current_exe().expect("the test itself"));
        child
            .args([
                "--exact",
                "damage::as_another_user",
                "--ignored",
                "--nocapture",
            ])
            .env(FILE, &path);
        if fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0) {
            child.uid(65534).gid(65534);
        }
        let output = child.output();
        mode(folder.path(), 0o755);
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                eprintln!("skipped, another user cannot run this test: {error}");
                return;
            }
        };
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{folder_mode:o} {file_mode:o}: {text}"
        );
    }
}

#[test]
#[ignore = "started by a_file_that_cannot_be_written_to_is_refused"]
fn as_another_user() {
    let Some(path) = env::var_os(FILE) else {
        return;
    };
    let error = SqliteStore::open(path, &options()).expect_err("is refused");
    assert!(matches!(error, FileError::ReadOnly { .. }), "{error}");
    assert!(
        error.to_string().contains("store.db cannot be written to"),
        "{error}"
    );
}
