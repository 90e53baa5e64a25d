//! Exporters: a crowd of idle ones, and real ones that can be leased.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use jmp_driver::{ByteStream, Driver, Interface, NodeSpec, OpenContext, Registry, UnknownKeys};
use jmp_exporter::{
    ControllerOptions, HookScripts, LeasedExporter, LeasedOptions, LeasedProgress, Session,
    SessionOptions,
};
use jmp_interfaces::network::{Network, network_interface};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::idle::{Idle, starting};
use crate::lab::{Outcome, Place, line};

/// Chunk of [`Source`]: what drivers read from sockets and files at once.
const CHUNK: usize = 256 * 1024;

/// Runs them until standard input ends; says `online SECONDS` whenever all are connected.
pub async fn run(place: &Place, first: usize, playing: usize, idle: usize) -> Outcome<()> {
    let begin = Instant::now();
    let directory = tempfile::tempdir()?;
    let mut players = Vec::new();
    for number in first..first + playing {
        players.push(player(place, number, &directory.path().join(number.to_string())).await?);
    }
    for player in &players {
        let mut progress = player.progress();
        progress
            .wait_for(|progress| *progress == LeasedProgress::Registered)
            .await?;
    }
    let online = watch::Sender::new(0);
    let mut news = online.subscribe();
    let mut crowd = JoinSet::new();
    let starting = starting();
    for number in first + playing..first + playing + idle {
        let idle = Idle {
            connector: place.connector.clone(),
            endpoint: place.endpoint.clone(),
            credentials: place.exporter(number)?,
            starting: starting.clone(),
            online: online.clone(),
        };
        crowd.spawn(idle.run());
    }
    let watching = async {
        let mut begin = begin;
        loop {
            let _ = news.wait_for(|online| *online == idle).await;
            println!("online {}", begin.elapsed().as_secs_f64());
            let _ = news.wait_for(|online| *online < idle).await;
            begin = Instant::now();
            println!("lost 0");
        }
    };
    tokio::select! {
        () = watching => {}
        () = async { while line().await {} } => {}
    }
    Ok(())
}

async fn player(place: &Place, number: usize, directory: &Path) -> Outcome<LeasedExporter> {
    std::fs::create_dir_all(directory)?;
    let (registry, root) = devices();
    let session = Session::open(&registry, &root, SessionOptions::default()).await?;
    let reports = session.reports();
    session.close().await;
    Ok(LeasedExporter::start(LeasedOptions {
        controller: ControllerOptions {
            endpoint: place.endpoint.clone(),
            credentials: place.exporter(number)?,
            connector: place.connector.clone(),
        },
        registry,
        root,
        reports,
        motd: String::new(),
        hooks: HookScripts::default(),
        programs: None,
        directory: directory.to_owned(),
        exit_on_lease_end: false,
    })?)
}

/// Ten nodes: group, power, echo, source, sink, and more power.
fn devices() -> (Registry, NodeSpec) {
    let mut registry = driver_all::registry();
    registry.add::<Source>();
    let driver = |name: &str, type_name: &str| {
        let spec = NodeSpec::Driver {
            type_name: type_name.to_owned(),
            config: serde_json::Value::Object(serde_json::Map::new()),
            description: None,
            methods_description: BTreeMap::new(),
            children: Vec::new(),
        };
        (name.to_owned(), spec)
    };
    let mut children = vec![
        driver("power", "jumpstarter_driver_power.driver.MockPower"),
        driver("echo", "jumpstarter_driver_network.driver.EchoNetwork"),
        driver("source", "jmp_bench.Source"),
    ];
    for number in 0..6 {
        let type_name = "jumpstarter_driver_power.driver.MockPower";
        children.push(driver(&format!("power{number}"), type_name));
    }
    let root = NodeSpec::Group {
        description: None,
        children,
    };
    (registry, root)
}

/// Nothing to configure.
#[derive(Debug, Deserialize, JsonSchema)]
struct SourceConfig {}

/// The far end of bulk transfers, without a socket or disk of its own: sends as many bytes as the first
/// eight it is sent say (little endian); with the highest bit set it takes so many and answers with one.
struct Source;

// === impl Source ===

impl Network for Source {
    async fn connect(&self) -> jmp_driver::Result<ByteStream> {
        let (client, driver) = ByteStream::pair(4);
        tokio::spawn(async move {
            // A client that leaves early ends only its own transfer.
            let _ = transfer(driver).await;
        });
        Ok(client)
    }
}

async fn transfer(stream: ByteStream) -> Outcome<()> {
    use futures::SinkExt;
    let ByteStream {
        mut reader,
        mut writer,
    } = stream;
    let first = reader.next().await.ok_or("nothing came")??;
    let wanted = u64::from_le_bytes(first.get(..8).ok_or("too short")?.try_into()?);
    let mut left = wanted & (u64::MAX >> 1);
    if wanted == left {
        let chunk = Bytes::from(vec![0x5a; CHUNK]);
        while left > 0 {
            let size = left.min(CHUNK as u64);
            writer.send(chunk.slice(..size as usize)).await?;
            left -= size;
        }
    } else {
        while left > 0 {
            let chunk = reader.next().await.ok_or("it ended early")??;
            left = left.saturating_sub(chunk.len() as u64);
        }
        writer.send(Bytes::from_static(b"!")).await?;
    }
    writer.close().await?;
    Ok(())
}

impl Driver for Source {
    const TYPES: &'static [&'static str] = &["jmp_bench.Source"];
    const SUMMARY: &'static str = "Sends or takes bytes";
    const UNKNOWN_KEYS: UnknownKeys = UnknownKeys::Warn;
    type Config = SourceConfig;

    async fn open(_: SourceConfig, _: OpenContext) -> jmp_driver::Result<Self> {
        Ok(Self)
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![network_interface()]
    }
}
