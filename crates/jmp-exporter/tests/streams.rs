//! Byte streams and resources of a session, seen by our client and by raw requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue};
use jmp_client::{AllowList, Client, Dialer, DriverHandle};
use jmp_driver::{
    ByteStream, Driver, Error, Interface, NodeSpec, OpenContext, Origin, Registry, Resource,
    Result, interface,
};
use jmp_exporter::{Session, SessionOptions};
use jmp_wire::rpc;
use schemars::JsonSchema;
use serde::Deserialize;
use tonic::Code;

/// Things that go wrong in interesting ways.
#[interface(client = "example.client.LabClient")]
trait Lab: Send + Sync + 'static {
    /// Send back what comes in.
    #[stream]
    async fn echo(&self) -> Result<ByteStream>;

    /// A stream that only ever ends from outside.
    #[stream]
    async fn silent(&self) -> Result<ByteStream>;

    /// A stream that cannot be opened.
    #[stream]
    async fn refused(&self) -> Result<ByteStream>;

    /// Count the bytes of a resource.
    async fn count(&self, source: Resource) -> Result<u64>;

    /// Fail without reading.
    async fn fail(&self, source: Resource) -> Result<()>;

    /// Write this many bytes.
    async fn produce(&self, target: Resource, length: u64) -> Result<()>;

    /// Take for ever.
    async fn hang(&self) -> Result<()>;
}

/// Nothing to configure.
#[derive(Debug, Deserialize, JsonSchema)]
struct NoConfig {}

static OPEN: AtomicU64 = AtomicU64::new(0);

/// Counts streams that are alive.
struct Alive;

impl Alive {
    fn new() -> Self {
        OPEN.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::SeqCst);
    }
}

struct TestLab;

impl Lab for TestLab {
    async fn echo(&self) -> Result<ByteStream> {
        Ok(ByteStream::echo(32))
    }

    async fn silent(&self) -> Result<ByteStream> {
        let (near, far) = ByteStream::pair(1);
        let reader = near.reader;
        let kept = Arc::new((Alive::new(), std::sync::Mutex::new(far.writer)));
        Ok(ByteStream {
            reader: Box::pin(reader.inspect(move |_| {
                let _ = &kept;
            })),
            writer: near.writer,
        })
    }

    async fn refused(&self) -> Result<ByteStream> {
        Err(Error::new(
            jmp_driver::ErrorKind::Connection,
            "nobody is there",
        ))
    }

    async fn count(&self, source: Resource) -> Result<u64> {
        let mut reader = source.into_reader().await?;
        let mut count = 0;
        while let Some(chunk) = reader.next().await {
            count += chunk?.len() as u64;
        }
        Ok(count)
    }

    async fn fail(&self, source: Resource) -> Result<()> {
        drop(source);
        Err(Error::device("the card is broken"))
    }

    async fn produce(&self, target: Resource, length: u64) -> Result<()> {
        let chunk = Bytes::from(vec![7; 1000]);
        let chunks = futures::stream::iter((0..length / 1000).map(move |_| Ok(chunk.clone())));
        target.write_from(Box::pin(chunks)).await?;
        Ok(())
    }

    async fn hang(&self) -> Result<()> {
        let _alive = Alive::new();
        std::future::pending().await
    }
}

impl Driver for TestLab {
    const TYPES: &'static [&'static str] = &["example.driver.TestLab"];
    const SUMMARY: &'static str = "for tests";
    type Config = NoConfig;

    async fn open(_: NoConfig, _: OpenContext) -> Result<Self> {
        Ok(Self)
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![lab_interface()]
    }
}

struct Fixture {
    session: Session,
    client: Client,
    lab: DriverHandle,
    _directory: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let mut registry = Registry::new();
    registry.add::<TestLab>();
    let root = NodeSpec::Driver {
        type_name: "example.driver.TestLab".into(),
        config: serde_json::Value::Null,
        description: None,
        methods_description: Default::default(),
        children: Vec::new(),
    };
    let session = Session::open(&registry, &root, SessionOptions::default())
        .await
        .unwrap();
    session.serve_unix(&socket, Origin::Client).unwrap();
    session.start_local();
    let client = Client::connect_with(Dialer::unix(&socket), &AllowList::Unsafe)
        .await
        .unwrap();
    let lab = client.root().handle().unwrap();
    Fixture {
        session,
        client,
        lab,
        _directory: directory,
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work)
        .await
        .expect("it takes too long")
}

/// Waits until no stream or call of the lab is alive.
async fn nothing_left() {
    within(async {
        while OPEN.load(Ordering::SeqCst) != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_half_close_travels_and_the_rest_still_arrives() {
    let fixture = fixture().await;
    let mut stream = fixture.lab.open_stream("echo").await.unwrap();
    for size in [1usize, 1000, 70_000, 3_000_000] {
        stream
            .writer
            .send(Bytes::from(vec![1; size]))
            .await
            .unwrap();
        let mut back = 0;
        while back < size {
            back += within(stream.reader.next()).await.unwrap().unwrap().len();
        }
    }
    stream
        .writer
        .send(Bytes::from_static(b"last"))
        .await
        .unwrap();
    stream.writer.close().await.unwrap();
    assert_eq!(within(stream.reader.next()).await.unwrap().unwrap(), "last");
    assert!(within(stream.reader.next()).await.is_none());
}

#[tokio::test]
async fn dropping_a_stream_or_call_reaches_the_driver() {
    let fixture = fixture().await;
    let stream = fixture.lab.open_stream("silent").await.unwrap();
    assert_eq!(OPEN.load(Ordering::SeqCst), 1);
    drop(stream);
    nothing_left().await;
    let call = fixture.lab.call::<()>("hang", ());
    assert!(
        tokio::time::timeout(Duration::from_millis(100), call)
            .await
            .is_err()
    );
    nothing_left().await;
    // Closing the session ends what still runs.
    let mut stream = fixture.lab.open_stream("silent").await.unwrap();
    within(fixture.session.close()).await;
    assert!(!matches!(within(stream.reader.next()).await, Some(Ok(_))));
    nothing_left().await;
}

#[tokio::test]
async fn refusals_come_at_once() {
    let fixture = fixture().await;
    for (method, text) in [
        ("refused", "nobody is there"),
        ("nosuch", "method nosuch not found on driver"),
        ("count", "method count missing marker marker_streamcall"),
    ] {
        let error = within(fixture.lab.open_stream(method)).await.err().unwrap();
        assert_eq!(error.message(), text);
    }
}

#[tokio::test]
async fn malformed_requests_get_a_status() {
    let fixture = fixture().await;
    let uuid = fixture.client.root().uuid();
    let unknown =
        r#"{"kind":"driver","uuid":"00000000-0000-0000-0000-000000000000","method":"echo"}"#;
    let bad_kind = format!(r#"{{"kind":"nope","uuid":"{uuid}"}}"#);
    for (request, code) in [
        (None, Code::InvalidArgument),
        (Some("{"), Code::InvalidArgument),
        (Some(bad_kind.as_str()), Code::InvalidArgument),
        (Some(unknown), Code::Unknown),
    ] {
        let mut metadata = HeaderMap::new();
        if let Some(request) = request {
            metadata.insert("request", HeaderValue::from_str(request).unwrap());
        }
        let opened = within(rpc::open_stream(fixture.client.connection(), metadata)).await;
        assert_eq!(opened.err().unwrap().code(), code, "{request:?}");
    }
}

#[tokio::test]
async fn a_resource_is_read_written_and_used_once() {
    let fixture = fixture().await;
    let (handle, mut stream) = fixture.lab.open_resource(None).await.unwrap();
    let feed = async {
        for _ in 0..100 {
            stream
                .writer
                .send(Bytes::from(vec![1; 50_000]))
                .await
                .unwrap();
        }
        stream.writer.close().await.unwrap();
    };
    let (count, ()) = within(futures::future::join(
        fixture.lab.call::<u64>("count", (&handle,)),
        feed,
    ))
    .await;
    assert_eq!(count.unwrap(), 5_000_000);
    let again = fixture.lab.call::<u64>("count", (&handle,)).await;
    assert!(again.unwrap_err().message().contains("was used already"));

    let (handle, mut stream) = fixture.lab.open_resource(None).await.unwrap();
    let collect = async {
        let mut count = 0;
        while let Some(chunk) = stream.reader.next().await {
            count += chunk.unwrap().len();
        }
        count
    };
    let (done, count) = within(futures::future::join(
        fixture.lab.call::<()>("produce", (&handle, 2_000_000)),
        collect,
    ))
    .await;
    done.unwrap();
    assert_eq!(count, 2_000_000);
}

#[tokio::test]
async fn a_driver_that_gives_up_early_is_heard() {
    let fixture = fixture().await;
    let (handle, mut stream) = fixture.lab.open_resource(None).await.unwrap();
    let error = within(fixture.lab.call::<()>("fail", (&handle,)))
        .await
        .unwrap_err();
    assert_eq!(error.message(), "the card is broken");
    // The stream ends instead of filling up for ever.
    let pumping = async {
        while stream
            .writer
            .send(Bytes::from(vec![0; 100_000]))
            .await
            .is_ok()
        {}
    };
    within(pumping).await;
}

#[tokio::test]
async fn an_abandoned_resource_is_forgotten() {
    let fixture = fixture().await;
    let (handle, stream) = fixture.lab.open_resource(None).await.unwrap();
    drop(stream);
    within(async {
        loop {
            let error = fixture.lab.call::<u64>("count", (&handle,)).await.err();
            if error.is_some_and(|error| error.message().contains("is unknown")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_oversized_call_is_refused() {
    let fixture = fixture().await;
    let text = "x".repeat(5 * 1024 * 1024);
    let error = fixture.lab.call::<()>("count", (text,)).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    // The connection is still good.
    assert!(fixture.client.status().await.is_ok());
}
