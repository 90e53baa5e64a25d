//! Devices that do nothing as fast as possible, and the session that serves them.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use jmp_driver::{
    ByteStream, Driver, Interface, NodeSpec, OpenContext, Origin, Registry, Result,
};
use jmp_exporter::{Session, SessionOptions};
use jmp_interfaces::network::{Network, network_interface};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::Outcome;

/// Size of the chunks of the source.
pub const CHUNK: usize = 256 * 1024;

/// Nothing to configure.
#[derive(Debug, Deserialize, JsonSchema)]
struct NoConfig {}

macro_rules! device {
    ($name:ident, $type_name:literal, $open:expr) => {
        struct $name;

        impl Network for $name {
            async fn connect(&self) -> Result<ByteStream> {
                Ok($open)
            }
        }

        impl Driver for $name {
            const TYPES: &'static [&'static str] = &[$type_name];
            const SUMMARY: &'static str = "for measurements";
            type Config = NoConfig;

            async fn open(_: NoConfig, _: OpenContext) -> Result<Self> {
                Ok(Self)
            }

            fn interfaces() -> Vec<Interface<Self>> {
                vec![network_interface()]
            }
        }
    };
}

device!(Echo, "bench.Echo", ByteStream::echo(32));
device!(Sink, "bench.Sink", sink());
device!(Source, "bench.Source", source());

/// Swallows everything; answers one byte at the end.
fn sink() -> ByteStream {
    let (near, far) = ByteStream::pair(4);
    let ByteStream {
        mut reader,
        mut writer,
    } = far;
    let swallow = async move {
        while let Some(Ok(chunk)) = reader.next().await {
            drop(chunk);
        }
        let _ = writer.send(Bytes::from_static(b".")).await;
    };
    // The task ends with the stream: both its halves belong to it.
    tokio::spawn(swallow);
    near
}

/// Sends zeros until nobody listens.
fn source() -> ByteStream {
    let zeros = Bytes::from(vec![0; CHUNK]);
    let (writer, _) = jmp_wire_channel();
    ByteStream {
        reader: Box::pin(futures::stream::repeat_with(move || Ok(zeros.clone()))),
        writer,
    }
}

fn jmp_wire_channel() -> (jmp_driver::ByteWriter, jmp_driver::ByteReader) {
    let ByteStream { reader, writer } = ByteStream::echo(1);
    (writer, reader)
}

fn registry() -> Registry {
    let mut registry = driver_all::registry();
    registry.add::<Echo>().add::<Sink>().add::<Source>();
    registry
}

fn driver(type_name: &str) -> NodeSpec {
    NodeSpec::Driver {
        type_name: type_name.into(),
        config: Json::Null,
        description: None,
        methods_description: BTreeMap::new(),
        children: Vec::new(),
    }
}

fn root() -> NodeSpec {
    let devices = [
        ("power", "jumpstarter_driver_power.driver.MockPower"),
        ("echo", "bench.Echo"),
        ("sink", "bench.Sink"),
        ("source", "bench.Source"),
    ];
    NodeSpec::Group {
        description: None,
        children: devices
            .into_iter()
            .map(|(name, type_name)| (name.to_owned(), driver(type_name)))
            .collect(),
    }
}

/// Serves until standard input closes.
pub async fn serve(socket: &Path) -> Outcome {
    let session = Session::open(&registry(), &root(), SessionOptions::default()).await?;
    session.serve_unix(socket, Origin::Client)?;
    session.start_local();
    println!("ready");
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    session.close().await;
    Ok(())
}

/// Opens and closes many sessions and prints this process's memory after a tenth and at the end.
pub async fn sessions(count: &str) -> Outcome {
    let count: usize = count.parse()?;
    let registry = registry();
    let root = root();
    let mut early = 0;
    for number in 0..count {
        let session = Session::open(&registry, &root, SessionOptions::default()).await?;
        session.start_local();
        session.close().await;
        if number == count / 10 {
            early = crate::measure::resident_memory()?;
        }
    }
    let late = crate::measure::resident_memory()?;
    println!("{}", serde_json::json!({ "early_bytes": early, "late_bytes": late }));
    Ok(())
}
