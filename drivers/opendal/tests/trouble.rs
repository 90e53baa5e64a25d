//! What goes wrong stays small: one transfer fails, with the reason, and everything else goes on.

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use jmp_interfaces::opendal::{OpenMode, OpendalClient};
use jmp_interfaces::resource::{Progress, Source, TransferOptions};
use serde_json::json;
use support::{Fixture, pattern};
use tokio::sync::watch;
use tokio::time::timeout;

/// No single step takes longer.
const LIMIT: Duration = Duration::from_secs(20);

/// Data that never ends, or stops flowing without ending after `count` chunks.
fn flowing(count: usize) -> Source {
    let chunk = Bytes::from(vec![7; 64 * 1024]);
    let chunks = futures::stream::repeat_with(move || Ok(chunk.clone())).take(count);
    Source::Stream(Box::pin(chunks.chain(futures::stream::pending())), None)
}

/// Options that make the progress known.
fn watched() -> (TransferOptions, watch::Receiver<u64>) {
    let (sender, receiver) = watch::channel(0);
    let options = TransferOptions {
        compression: None,
        progress: Some(std::sync::Arc::new(move |progress: Progress| {
            sender.send_replace(progress.done);
        })),
    };
    (options, receiver)
}

/// Waits until a file is there, or is gone; the file system offers no event that fits.
async fn becomes(path: &std::path::Path, there: bool) {
    let waiting = async {
        while path.exists() != there {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let became = timeout(LIMIT, waiting).await;
    assert!(became.is_ok(), "the torn file is there: {}", !there);
}

#[tokio::test]
async fn a_full_disk_is_reported_and_ends_the_transfer() {
    // The kernel's own full disk.
    let fixture = Fixture::files(std::path::Path::new("/dev")).await;
    let files = fixture.opendal();
    for source in [
        Source::Bytes(pattern(10)),
        Source::Bytes(pattern(32 << 20)),
        flowing(usize::MAX),
    ] {
        let options = TransferOptions::default();
        let writing = files.write_from_path("full", source, &options);
        let error = timeout(LIMIT, writing).await.expect("in time").unwrap_err();
        assert!(
            error.message().contains("No space left on device"),
            "{error}"
        );
    }
    // Only plain files are removed when they are torn.
    assert!(files.exists("full".into()).await.unwrap());
    files.stat("null".into()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_dies_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::files(root.path()).await;
    let dying = fixture.second().await;
    let files = OpendalClient::new(dying.root().handle().unwrap());
    let (options, mut progress) = watched();
    let upload =
        tokio::spawn(async move { files.write_from_path("image", flowing(64), &options).await });
    let started = progress.wait_for(|done| *done >= 4 << 20);
    timeout(LIMIT, started).await.expect("in time").unwrap();
    // What was sent is on its way, and the file is made when it arrives.
    becomes(&root.path().join("image"), true).await;
    upload.abort();
    drop((upload.await, dying));
    becomes(&root.path().join("image"), false).await;
    let files = fixture.opendal();
    files.write_bytes("image", "whole").await.unwrap();
    assert_eq!(files.read_bytes("image").await.unwrap(), b"whole");
}

#[tokio::test]
async fn a_session_that_closes_does_not_complete_a_torn_file() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::files(root.path()).await;
    let files = fixture.opendal();
    let (options, mut progress) = watched();
    let upload =
        tokio::spawn(async move { files.write_from_path("image", flowing(64), &options).await });
    let started = progress.wait_for(|done| *done >= 4 << 20);
    timeout(LIMIT, started).await.expect("in time").unwrap();
    timeout(LIMIT, fixture.session.close())
        .await
        .expect("in time");
    timeout(LIMIT, upload)
        .await
        .expect("in time")
        .unwrap()
        .unwrap_err();
    assert!(!root.path().join("image").exists());
}

#[tokio::test]
async fn a_source_that_breaks_breaks_the_transfer() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::files(root.path()).await;
    let files = fixture.opendal();
    let broken = || Err(std::io::Error::other("the stick was pulled"));
    let chunks = futures::stream::iter([Ok(pattern(3 << 20)), broken()]);
    let source = Source::Stream(Box::pin(chunks), None);
    let error = files
        .write_from_path("image", source, &TransferOptions::default())
        .await
        .unwrap_err();
    assert!(error.message().contains("the stick was pulled"), "{error}");
    becomes(&root.path().join("image"), false).await;
    let missing = std::path::Path::new("/nonexistent/image");
    let error = files
        .write_from_path("other", missing, &TransferOptions::default())
        .await
        .unwrap_err();
    assert!(
        error.message().contains("opening /nonexistent/image"),
        "{error}"
    );
}

#[tokio::test]
async fn a_broken_file_says_so() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::files(root.path()).await;
    let file = fixture
        .opendal()
        .open_file("x", OpenMode::Write)
        .await
        .unwrap();
    file.write_bytes("begun").await.unwrap();
    let options = TransferOptions {
        compression: Some(jmp_driver::Encoding::Gzip),
        ..Default::default()
    };
    let torn = Source::Bytes(Bytes::from_static(b"no gzip at all"));
    file.write_from(torn, &options).await.unwrap_err();
    let error = file.write_bytes("more").await.unwrap_err();
    assert!(error.message().contains("broken"), "{error}");
    file.close().await.unwrap();
    becomes(&root.path().join("x"), false).await;
}

#[tokio::test]
async fn resources_that_nobody_uses_are_forgotten() {
    let fixture = Fixture::new("MockStorageMux", json!({})).await;
    let handle = fixture.handle();
    // More than the exporter would keep.
    for _ in 0..1500 {
        drop(handle.open_resource(None).await.unwrap());
    }
    let mut kept = Vec::new();
    for _ in 0..500 {
        kept.push(handle.open_resource(None).await.unwrap());
    }
    let (resource, stream) = handle.open_resource(None).await.unwrap();
    drop(stream);
    let error = handle.call::<()>("write", (resource,)).await.unwrap_err();
    assert!(error.message().contains("is unknown"), "{error}");
}

#[tokio::test]
async fn two_hundred_transfers_run_side_by_side() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::files(root.path()).await;
    let files = fixture.opendal();
    let transfers = (0..200).map(|number| {
        let files = &files;
        async move {
            let (path, data) = (format!("file{number}"), pattern(100_000 + number));
            files.write_bytes(&path, data.clone()).await.unwrap();
            assert!(files.read_bytes(&path).await.unwrap() == data);
        }
    });
    let all = futures::future::join_all(transfers);
    timeout(2 * LIMIT, all).await.expect("in time");
}
