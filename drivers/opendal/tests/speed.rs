//! Throughput of bulk transfers, beside `cp`. Run it in release on an idle machine:
//! `cargo test --release -p driver-opendal --test speed -- --ignored --nocapture`.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use jmp_interfaces::resource::TransferOptions;
use jmp_interfaces::storage_mux::StorageMuxClient;
use serde_json::json;
use support::Fixture;

const SIZE: usize = 1 << 30;
const ROUNDS: usize = 3;

fn report(what: &str, best: Duration) {
    let rate = SIZE as f64 / best.as_secs_f64() / 1e6;
    println!("{what:32} {rate:8.0} MB/s");
}

async fn best_of(mut run: impl AsyncFnMut()) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        run().await;
        best = best.min(start.elapsed());
    }
    best
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .arg("--reflink=never")
        .args([from, to])
        .status()
        .unwrap();
    assert!(status.success());
}

#[ignore = "measures; see the head of the file"]
#[tokio::test(flavor = "multi_thread")]
async fn one_gibibyte() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (image, other) = (path.join("image"), path.join("copy"));
    std::fs::write(&image, support::pattern(SIZE)).unwrap();
    report(
        "cp --reflink=never",
        best_of(async || copy(&image, &other)).await,
    );
    let fixture = Fixture::new("MockStorageMux", json!({})).await;
    let storage = StorageMuxClient::new(fixture.handle());
    let written = best_of(async || storage.write_local_file(&image).await.unwrap()).await;
    report("storage mux, write local file", written);
    let read = best_of(async || storage.read_local_file(&other).await.unwrap()).await;
    report("storage mux, read local file", read);
    let fixture = Fixture::files(&path.join("root")).await;
    let files = fixture.opendal();
    let options = TransferOptions::default();
    let written = best_of(async || {
        files
            .write_from_path("image", image.as_path(), &options)
            .await
            .unwrap();
    });
    report("opendal fs, write (with fsync)", written.await);
    let read = best_of(async || {
        files
            .read_into_path("image", other.as_path(), &options)
            .await
            .unwrap();
    });
    report("opendal fs, read", read.await);
}
