//! The mocks through the suites of their interfaces, and what those do not cover.

mod support;

use std::sync::{Arc, Mutex};

use jmp_driver::{DriverHandle, Encoding};
use jmp_interfaces::flasher::FlasherClient;
use jmp_interfaces::resource::{Source, Target, TransferOptions};
use jmp_interfaces::storage_mux::{StorageMuxClient, StorageMuxFlasherClient};
use serde_json::json;
use support::{Fixture, pattern};

use jmp_interfaces::{flasher, storage_mux};

#[tokio::test]
async fn storage_mux_behaves() {
    for class in ["MockStorageMux", "MockStorageMuxFlasher"] {
        let fixture = Fixture::new(class, json!({})).await;
        storage_mux::behaviour::check(fixture.handle(), Default::default()).await;
    }
}

#[tokio::test]
async fn flasher_behaves() {
    let fixture = Fixture::new("MockFlasher", json!({})).await;
    flasher::behaviour::check(fixture.handle(), None).await;
    flasher::behaviour::check(fixture.handle(), Some("boot")).await;
    let flasher = FlasherClient::new(fixture.handle());
    let options = TransferOptions::default();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dump");
    let error = flasher
        .dump_into(path.as_path(), Some("nosuch"), &options)
        .await
        .unwrap_err();
    assert_eq!(error.code_name(), "UNKNOWN");
    assert!(error.message().contains("No such file"), "{error}");
    assert!(!path.exists(), "a failed dump left a file");
    for name in ["../escape", "", ".hidden"] {
        let error = flasher
            .flash_from(pattern(10), Some(name), &options)
            .await
            .unwrap_err();
        assert_eq!(error.code_name(), "INVALID_ARGUMENT", "{name}");
    }
}

#[tokio::test]
async fn client_classes_are_those_of_shipped_clients() {
    for (class, client) in [
        ("MockStorageMux", "StorageMuxClient"),
        ("MockStorageMuxFlasher", "StorageMuxFlasherClient"),
        ("MockFlasher", "FlasherClient"),
    ] {
        let fixture = Fixture::new(class, json!({})).await;
        assert_eq!(
            fixture.client.root().class(),
            format!("jumpstarter_driver_opendal.client.{client}")
        );
    }
}

#[tokio::test]
async fn a_storage_mux_flasher_switches_around_a_transfer() {
    let fixture = Fixture::new("MockStorageMuxFlasher", json!({})).await;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let spy = DriverHandle::new(Spy {
        inner: fixture.handle(),
        calls: Arc::clone(&calls),
    });
    let flasher = StorageMuxFlasherClient::new(spy);
    let options = TransferOptions::default();
    flasher.flash_from(pattern(1000), &options).await.unwrap();
    flasher
        .flash_from(std::path::Path::new("/nonexistent/image"), &options)
        .await
        .unwrap_err();
    let calls = std::mem::take(&mut *calls.lock().unwrap());
    assert_eq!(calls, ["host", "write", "dut", "host", "dut"]);
}

struct Spy {
    inner: DriverHandle,
    calls: Arc<Mutex<Vec<String>>>,
}

#[async_trait::async_trait]
impl jmp_driver::handle::Target for Spy {
    async fn call(
        &self,
        method: &str,
        arguments: Vec<prost_types::Value>,
    ) -> jmp_driver::Result<prost_types::Value> {
        self.calls.lock().unwrap().push(method.to_owned());
        self.inner.call_raw(method, arguments).await
    }

    async fn streaming_call(
        &self,
        method: &str,
        arguments: Vec<prost_types::Value>,
    ) -> jmp_driver::Result<jmp_driver::ValueStream> {
        self.inner.streaming_call(method, arguments).await
    }

    async fn open_stream(&self, method: &str) -> jmp_driver::Result<jmp_driver::ByteStream> {
        self.inner.open_stream(method).await
    }

    async fn open_resource(
        &self,
        encoding: Option<&str>,
    ) -> jmp_driver::Result<(jmp_driver::ResourceHandle, jmp_driver::ByteStream)> {
        self.inner.open_resource(encoding).await
    }
}

#[tokio::test]
async fn local_files_make_the_round_trip_with_progress() {
    let fixture = Fixture::new("MockStorageMux", json!({})).await;
    let storage = StorageMuxClient::new(fixture.handle());
    let directory = tempfile::tempdir().unwrap();
    let (image, copy) = (
        directory.path().join("image"),
        directory.path().join("copy"),
    );
    let data = pattern(10 << 20);
    std::fs::write(&image, &data).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let options = TransferOptions {
        compression: None,
        progress: Some(Arc::new(move |progress| {
            sink.lock().unwrap().push(progress)
        })),
    };
    storage.write_from(image.as_path(), &options).await.unwrap();
    storage.read_local_file(&copy).await.unwrap();
    assert!(std::fs::read(&copy).unwrap() == data);
    let seen = seen.lock().unwrap();
    assert!(seen.windows(2).all(|pair| pair[0].done < pair[1].done));
    let last = seen.last().unwrap();
    assert_eq!((last.done, last.total), (10 << 20, Some(10 << 20)));
}

#[tokio::test]
async fn several_members_are_read_to_their_end() {
    let fixture = Fixture::new("MockStorageMux", json!({})).await;
    let storage = StorageMuxClient::new(fixture.handle());
    let (first, second) = (pattern(200_000), pattern(100_001));
    for encoding in Encoding::ALL {
        let mut image = Vec::new();
        for part in [&first, &second] {
            let member = storage_mux::behaviour::compressed(part.clone(), encoding).await;
            image.extend_from_slice(&member);
        }
        let options = TransferOptions {
            compression: Some(encoding),
            ..Default::default()
        };
        storage
            .write_from(Source::Bytes(image.into()), &options)
            .await
            .unwrap();
        let (target, data) = Target::memory();
        let options = TransferOptions::default();
        let (read, data) = futures::join!(storage.read_into(target, &options), data);
        read.unwrap();
        assert!(data == [&first[..], &second[..]].concat(), "{encoding}");
    }
}

#[tokio::test]
async fn http_addresses_go_out_verbatim_and_without_compression() {
    let options = TransferOptions {
        compression: Some(Encoding::Xz),
        ..Default::default()
    };
    let fixture = Fixture::new("MockStorageMux", json!({})).await;
    let storage = StorageMuxClient::new(fixture.handle());
    let url = "http://127.0.0.1:1/a%40b?signature=secret";
    let error = storage
        .write_from(Source::parse(url), &options)
        .await
        .unwrap_err();
    assert_eq!(error.code_name(), "INVALID_ARGUMENT");
    let error = storage
        .write_from(Source::parse(url), &TransferOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.code_name(), "UNKNOWN");
    let text = error.message();
    assert!(
        text.starts_with("Presigned HTTP GET stream failed"),
        "{text}"
    );
    assert!(text.contains("/a%40b?[REDACTED]"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}
