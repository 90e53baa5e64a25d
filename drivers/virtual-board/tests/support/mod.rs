//! A session with one virtual board, served on a unix socket, and a client connected to it.

use std::time::Duration;

use driver_virtual_board::board::{ImageOptions, build_image};
use futures::{SinkExt, StreamExt};
use jmp_client::{AllowList, ByteStream, Client, Dialer};
use jmp_driver::{NodeSpec, Origin, Registry, Result};
use jmp_exporter::{Session, SessionOptions};
use jmp_interfaces::power::PowerClient;
use jmp_interfaces::serial::SerialClient;
use jmp_interfaces::storage_mux::StorageMuxClient;
use serde_json::Value as Json;

/// No wait in these tests may take longer.
pub const LIMIT: Duration = Duration::from_secs(20);

pub struct Lab {
    pub session: Session,
    pub client: Client,
    _directory: tempfile::TempDir,
}

/// The console as a script sees it.
pub struct Console {
    stream: ByteStream,
    /// What came and was not matched yet.
    rest: String,
}

pub fn board(config: Json) -> NodeSpec {
    let board = NodeSpec::Driver {
        type_name: "jumpstarter_driver_virtual_board.driver.VirtualBoard".into(),
        config,
        description: None,
        methods_description: Default::default(),
        children: Vec::new(),
    };
    NodeSpec::Group {
        description: None,
        children: vec![("board".into(), board)],
    }
}

pub fn registry() -> Registry {
    let mut registry = Registry::new();
    driver_composite::register(&mut registry);
    driver_virtual_board::register(&mut registry);
    registry
}

/// An image of about the given length that says it is version 4.2.
pub fn image(length: u64) -> Vec<u8> {
    build_image(&ImageOptions {
        version: "4.2".into(),
        hostname: "demo".into(),
        length,
        ..ImageOptions::default()
    })
    .unwrap()
}

impl Lab {
    pub async fn new(config: Json) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let session = Session::open(&registry(), &board(config), SessionOptions::default())
            .await
            .unwrap();
        session.serve_unix(&socket, Origin::Client).unwrap();
        session.start_local();
        let client = Client::connect_with(Dialer::unix(&socket), &AllowList::Unsafe)
            .await
            .unwrap();
        Self {
            session,
            client,
            _directory: directory,
        }
    }

    pub fn power(&self) -> PowerClient {
        self.client.device("board.power").unwrap().client().unwrap()
    }

    pub fn storage(&self) -> StorageMuxClient {
        let storage = self.client.device("board.storage").unwrap();
        storage.client().unwrap()
    }

    pub async fn console(&self) -> Console {
        let serial: SerialClient = self
            .client
            .device("board.serial")
            .unwrap()
            .client()
            .unwrap();
        Console {
            stream: serial.connect().await.unwrap(),
            rest: String::new(),
        }
    }

    /// Writes `image` to the storage.
    pub async fn write(&self, image: &[u8]) -> Result<()> {
        let storage = self.storage();
        let (handle, mut stream) = storage.handle().open_resource(None).await?;
        let image = image.to_vec();
        let upload = async {
            for chunk in image.chunks(256 << 10) {
                // The driver may refuse early; then its answer says why.
                if stream.writer.send(chunk.to_vec().into()).await.is_err() {
                    return;
                }
            }
            let _ = stream.writer.close().await;
        };
        let written = async {
            tokio::select! {
                written = storage.write(handle) => written,
                // Once everything is sent only the answer is left to wait for.
                () = async { upload.await; std::future::pending().await } => unreachable!(),
            }
        };
        limited(written).await
    }

    /// Reads the whole storage.
    pub async fn read(&self) -> Result<Vec<u8>> {
        let storage = self.storage();
        let (handle, stream) = storage.handle().open_resource(None).await?;
        let download = async {
            let mut all = Vec::new();
            let mut reader = stream.reader;
            while let Some(chunk) = reader.next().await {
                all.extend_from_slice(&chunk?);
            }
            Ok(all)
        };
        let (all, answer) = limited(futures::future::join(download, storage.read(handle))).await;
        answer.and(all)
    }

    /// Image written, storage at the board, switched on.
    pub async fn boot(&self, image: &[u8]) -> Console {
        self.write(image).await.unwrap();
        self.storage().dut().await.unwrap();
        let console = self.console().await;
        self.power().on().await.unwrap();
        console
    }

    pub async fn measure(&self) -> (f64, f64) {
        let power = self.power();
        let mut readings = power.read().await.unwrap();
        let reading = readings.next().await.unwrap().unwrap();
        (reading.voltage, reading.current)
    }
}

impl Console {
    pub async fn send(&mut self, text: &str) -> &mut Self {
        let bytes = text.as_bytes().to_vec().into();
        self.stream.writer.send(bytes).await.unwrap();
        self
    }

    /// Waits until the console says `text` and returns what came before it.
    pub async fn expect(&mut self, text: &str) -> String {
        let waiting = async {
            loop {
                if let Some(position) = self.rest.find(text) {
                    let before = self.rest[..position].to_owned();
                    self.rest.drain(..position + text.len());
                    return Some(before);
                }
                let chunk = self.stream.reader.next().await?.unwrap();
                self.rest.push_str(&String::from_utf8_lossy(&chunk));
            }
        };
        match tokio::time::timeout(LIMIT, waiting).await {
            Ok(Some(before)) => before,
            Ok(None) => panic!("console ended before {text:?}: {}", self.rest),
            Err(_) => panic!("no {text:?} in time: {}", self.rest),
        }
    }

    /// Everything that comes within `time`, and what was not matched before.
    pub async fn everything(&mut self, time: Duration) -> String {
        let reading = async {
            while let Some(chunk) = self.stream.reader.next().await {
                let chunk = chunk.unwrap();
                self.rest.push_str(&String::from_utf8_lossy(&chunk));
            }
        };
        // Either the time is over or the stream.
        let _ = tokio::time::timeout(time, reading).await;
        std::mem::take(&mut self.rest)
    }
}

pub async fn limited<T>(future: impl Future<Output = T>) -> T {
    let limited = tokio::time::timeout(LIMIT, future).await;
    limited.expect("took too long")
}
