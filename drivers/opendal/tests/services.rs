//! Services behind a network: HTTP against a server of ours, S3 against moto.

#[path = "support/http.rs"]
mod http;
mod support;

use std::collections::HashMap;
use std::io::SeekFrom;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use jmp_interfaces::opendal::OpenMode;
use jmp_interfaces::resource::{Source, Target, TransferOptions};
use jmp_interfaces::storage_mux::StorageMuxClient;
use serde_json::json;
use support::{Fixture, pattern};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

#[tokio::test]
async fn http_is_read_and_presigned() {
    let image = pattern(3_000_000);
    let server = http::serve(HashMap::from([("/dir/image", image.clone())])).await;
    let endpoint = format!("http://{}", server.address);
    let config = json!({ "scheme": "http", "kwargs": { "endpoint": endpoint } });
    let fixture = Fixture::new("Opendal", config).await;
    let files = fixture.opendal();
    assert_eq!(
        files.stat("dir/image".into()).await.unwrap().content_length,
        3_000_000
    );
    assert!(files.read_bytes("dir/image").await.unwrap() == image);
    let file = files.open_file("dir/image", OpenMode::Read).await.unwrap();
    file.seek(SeekFrom::Start(2_999_990)).await.unwrap();
    assert_eq!(file.read_bytes().await.unwrap(), image[2_999_990..]);
    assert!(!files.exists("dir/none".into()).await.unwrap());
    let request = files.presign_read("dir/image".into(), 60).await.unwrap();
    assert_eq!(
        (request.method.as_str(), request.url),
        ("GET", format!("{endpoint}/dir/image"))
    );
    assert!(request.headers.is_empty());
    let request = files.presign_stat("dir/image".into(), 60).await.unwrap();
    assert_eq!(request.method, "HEAD");
    let error = files.presign_write("x".into(), 60).await.unwrap_err();
    assert!(error.message().starts_with("Unsupported"), "{error}");
    let error = files.write_bytes("x", "1").await.unwrap_err();
    assert_eq!(error.code_name(), "UNKNOWN");
}

#[tokio::test]
async fn a_local_service_that_presigns_lets_the_exporter_fetch() {
    let image = pattern(100_000);
    let server = http::serve(HashMap::from([("/image%40x", image.clone())])).await;
    let options = [("endpoint".to_owned(), format!("http://{}", server.address))];
    let operator = driver_opendal::service::open("http", &options.into()).unwrap();
    let source = driver_opendal::transfer::source(&operator, "image@x")
        .await
        .unwrap();
    assert!(matches!(source, Source::Http(_)));
    let fixture = Fixture::new("MockStorageMux", json!({})).await;
    let storage = StorageMuxClient::new(fixture.handle());
    let options = TransferOptions::default();
    storage.write_from(source, &options).await.unwrap();
    let url = format!("http://{}/image%40x?token=a%2Fb", server.address);
    storage
        .write_from(Source::parse(&url), &options)
        .await
        .unwrap();
    assert_eq!(server.seen.lock().unwrap()[1], "GET /image%40x?token=a%2Fb");
    // A service that cannot presign is a stream of ours, both ways.
    let operator = driver_opendal::service::open("memory", &Default::default()).unwrap();
    let target = driver_opendal::transfer::target(&operator, "copy")
        .await
        .unwrap();
    storage.read_into(target, &options).await.unwrap();
    let source = driver_opendal::transfer::source(&operator, "copy")
        .await
        .unwrap();
    assert!(matches!(source, Source::Stream(_, Some(100_000))));
    storage.write_from(source, &options).await.unwrap();
    let (target, data) = Target::memory();
    let (read, data) = futures::join!(storage.read_into(target, &options), data);
    read.unwrap();
    assert!(data == image);
}

/// A moto server; it ends with the guard.
struct Moto {
    _process: Child,
    endpoint: String,
}

impl Moto {
    async fn start() -> Option<Self> {
        let python = std::env::var("JMP_TEST_S3_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut process = Command::new(&python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(process.stderr.take()?).lines();
        let starting = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((_, endpoint)) = line.split_once("Running on ") {
                    return Some(endpoint.trim().to_owned());
                }
            }
            None
        };
        let endpoint = timeout(Duration::from_secs(60), starting).await.ok()??;
        // Its log must go somewhere.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Some(Self {
            _process: process,
            endpoint,
        })
    }
}

#[tokio::test]
async fn s3_makes_the_round_trip() {
    let Some(moto) = Moto::start().await else {
        assert!(
            std::env::var_os("CI").is_none(),
            "JMP_TEST_S3_PYTHON must name a Python with moto[server,s3]"
        );
        eprintln!("SKIPPED: JMP_TEST_S3_PYTHON does not name a Python with moto[server,s3]");
        return;
    };
    let kwargs = json!({
        "endpoint": moto.endpoint, "bucket": "images", "region": "us-east-1",
        "access_key_id": "test", "secret_access_key": "test", "disable_config_load": "true",
    });
    make_bucket(&moto.endpoint, "images").await;
    let config = json!({ "scheme": "s3", "kwargs": kwargs });
    let fixture = Fixture::new("Opendal", config).await;
    let files = fixture.opendal();
    // Several parts of the smallest size that S3 takes.
    let image = pattern(12 << 20);
    files.write_bytes("dir/image", image.clone()).await.unwrap();
    assert!(files.read_bytes("dir/image").await.unwrap() == image);
    let stat = files.stat("dir/image".into()).await.unwrap();
    assert_eq!(stat.content_length, 12 << 20);
    assert!(stat.etag.is_some());
    let error = files.read_bytes("dir/none").await.unwrap_err();
    assert!(error.message().starts_with("NotFound"), "{error}");
    presigned_requests_work(&fixture, &image).await;
    // Nothing appears when an upload is torn.
    let broken = Err(std::io::Error::other("pulled"));
    let chunks = futures::stream::iter([Ok(pattern(7 << 20)), broken]);
    let source = Source::Stream(Box::pin(chunks), None);
    let options = TransferOptions::default();
    files
        .write_from_path("dir/torn", source, &options)
        .await
        .unwrap_err();
    assert!(!files.exists("dir/torn".into()).await.unwrap());
    files.remove_all("dir/".into()).await.unwrap();
    assert!(!files.exists("dir/image".into()).await.unwrap());
}

/// The exporter uploads and downloads itself.
async fn presigned_requests_work(fixture: &Fixture, image: &Bytes) {
    let files = fixture.opendal();
    let options = TransferOptions::default();
    let put = files.presign_write("dir/copy".into(), 60).await.unwrap();
    assert_eq!(put.method, "PUT");
    files
        .read_into_path("dir/image", Target::Http(put.into()), &options)
        .await
        .unwrap();
    assert!(files.read_bytes("dir/copy").await.unwrap() == *image);
    let get = files.presign_read("dir/copy".into(), 60).await.unwrap();
    files
        .write_from_path("dir/third", Source::Http(get.into()), &options)
        .await
        .unwrap();
    assert!(files.read_bytes("dir/third").await.unwrap() == *image);
}

async fn make_bucket(endpoint: &str, bucket: &str) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let host = endpoint.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let request = format!(
        "PUT /{bucket} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
}
