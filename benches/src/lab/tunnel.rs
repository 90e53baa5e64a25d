//! One tunnel: how fast it is, and how fast over a slow network.

use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::HeaderMap;
use jmp_client::{AllowList, Client, Dial, Dialer, Io};
use jmp_proto::v1::DialRequest;
use jmp_proto::v1::controller_service_client::ControllerServiceClient;
use jmp_wire::connection::Connection;
use jmp_wire::endpoint::{CONTROLLER_KEEP_ALIVE, Connector, Endpoint, bearer};
use jmp_wire::rpc;

use crate::delay::Proxy;
use crate::lab::{Outcome, Place, percentile};
use crate::leases::{acquire, connect};

/// Bytes before the clock starts: windows and buffers grow with use.
const WARM_UP: u64 = 32 << 20;
const CHUNK: usize = 256 * 1024;

/// Prints `value N`: the median time of a call in ms, or 10^6 bytes a second.
pub async fn run(place: &Place, rtt: Duration, measure: &str, count: u64) -> Outcome<()> {
    let controller = place.controller()?;
    let (lease, _) = acquire(&controller).await?;
    let client = if rtt.is_zero() {
        connect(&controller, &lease).await?
    } else {
        let dial = Detour {
            controller: controller.connection().await?,
            connector: place.connector.clone(),
            lease: lease.clone(),
            delay: rtt / 2,
        };
        Client::connect_with(Dialer::new(dial), &AllowList::parse("UNSAFE")).await?
    };
    let value = match measure {
        "call" => calls(&client, count).await?,
        "receive" | "send" => transfer(&client, measure, count).await?,
        other => return Err(format!("unknown measure `{other}`").into()),
    };
    println!("value {value}");
    drop(client);
    controller.delete_lease(&lease).await?;
    Ok(())
}

async fn calls(client: &Client, count: u64) -> Outcome<f64> {
    let power = client.device("power")?.handle()?;
    let mut times = Vec::new();
    for _ in 0..count {
        let begin = Instant::now();
        power.call::<()>("on", ()).await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(percentile(&mut times, 0.5))
}

async fn transfer(client: &Client, measure: &str, bytes: u64) -> Outcome<f64> {
    let source = client.device("source")?.handle()?;
    let mut stream = source.open_stream("connect").await?;
    let total = WARM_UP + bytes;
    let sending = measure == "send";
    let order = total | if sending { 1 << 63 } else { 0 };
    let order = Bytes::copy_from_slice(&order.to_le_bytes());
    stream.writer.send(order).await?;
    let mut begin = Instant::now();
    let (mut left, chunk) = (total, Bytes::from(vec![0x5a; CHUNK]));
    let mut warm = false;
    while left > 0 {
        if sending {
            let size = left.min(CHUNK as u64);
            stream.writer.send(chunk.slice(..size as usize)).await?;
            left -= size;
        } else {
            let chunk = stream
                .reader
                .next()
                .await
                .ok_or("the stream ended early")??;
            left = left.saturating_sub(chunk.len() as u64);
        }
        if !warm && left <= bytes {
            warm = true;
            begin = Instant::now();
        }
    }
    if sending {
        // The far end answers when it has got everything.
        stream.reader.next().await.ok_or("no answer")??;
    }
    Ok(bytes as f64 / begin.elapsed().as_secs_f64() / 1e6)
}

/// As `jmp_client::LeaseDial`, but through a slow network between client and router.
struct Detour {
    controller: Connection,
    connector: Connector,
    lease: String,
    delay: Duration,
}

// === impl Detour ===

impl Detour {
    async fn open(&self) -> Outcome<Pin<Box<dyn Io>>> {
        let origin = self.controller.origin();
        let mut api = ControllerServiceClient::with_origin(self.controller.clone(), origin);
        let request = DialRequest {
            lease_name: self.lease.clone(),
        };
        let answer = api.dial(request).await?.into_inner();
        let router: Endpoint = answer.router_endpoint.parse()?;
        let address = format!("{}:{}", router.host(), router.port());
        let proxy = Proxy::start(address, self.delay).await?;
        let endpoint: Endpoint = format!("127.0.0.1:{}", proxy.port()).parse()?;
        let metadata = bearer(&answer.router_token)?;
        let connection = self
            .connector
            .connect(&endpoint, metadata, CONTROLLER_KEEP_ALIVE)
            .await?;
        let opened = rpc::open_stream(&connection, HeaderMap::new()).await?;
        Ok(Box::pin(
            opened.stream.guarded((connection, proxy)).into_io(),
        ))
    }
}

#[async_trait]
impl Dial for Detour {
    async fn dial(&self) -> io::Result<Pin<Box<dyn Io>>> {
        self.open().await.map_err(io::Error::other)
    }

    fn target(&self) -> String {
        "the exporter, far away".to_owned()
    }
}
