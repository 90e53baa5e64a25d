//! Exporters that only register and listen for leases, as cheap as they can be.

use std::sync::Arc;
use std::time::Duration;

use jmp_proto::v1::controller_service_client::ControllerServiceClient;
use jmp_proto::v1::{DriverInstanceReport, RegisterRequest, StatusRequest};
use jmp_wire::backoff::Backoff;
use jmp_wire::endpoint::{CONTROLLER_KEEP_ALIVE, Connector, Credentials, Endpoint};
use tokio::sync::{Semaphore, watch};

use crate::lab::Outcome;

/// Nodes of the device tree.
const NODES: usize = 10;
/// Handshakes under way at one time: a host has no more to begin with than its cores can do.
const AT_ONCE: usize = 64;

/// One exporter.
pub struct Idle {
    pub connector: Connector,
    pub endpoint: Endpoint,
    pub credentials: Credentials,
    pub starting: Arc<Semaphore>,
    /// How many are online.
    pub online: watch::Sender<usize>,
}

/// Counts as online while it lives.
struct Online(watch::Sender<usize>);

// === impl Online ===

impl Online {
    fn new(counter: &watch::Sender<usize>) -> Self {
        counter.send_modify(|online| *online += 1);
        Self(counter.clone())
    }
}

impl Drop for Online {
    fn drop(&mut self) {
        self.0.send_modify(|online| *online -= 1);
    }
}

/// Bounds how many handshakes run at one time.
pub fn starting() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(AT_ONCE))
}

// === impl Idle ===

impl Idle {
    pub async fn run(self) {
        let mut backoff = Backoff::reconnect();
        loop {
            if let Err(error) = self.stay(&mut backoff).await
                && std::env::var_os("BENCH_VERBOSE").is_some()
            {
                eprintln!("{}: {error}", self.credentials.name);
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    async fn stay(&self, backoff: &mut Backoff) -> Outcome<()> {
        let place = self.starting.acquire().await?;
        let metadata = self.credentials.metadata()?;
        let connecting = self
            .connector
            .connect(&self.endpoint, metadata, CONTROLLER_KEEP_ALIVE);
        let connection = connecting.await?;
        let origin = connection.origin();
        let mut api = ControllerServiceClient::with_origin(connection, origin);
        let request = RegisterRequest {
            reports: reports(),
            ..RegisterRequest::default()
        };
        let call = api.register(request);
        tokio::time::timeout(Duration::from_secs(30), call).await??;
        let mut status = api.status(StatusRequest {}).await?.into_inner();
        status.message().await?.ok_or("the stream ended at once")?;
        drop(place);
        backoff.reset();
        let _online = Online::new(&self.online);
        while status.message().await?.is_some() {}
        Ok(())
    }
}

fn reports() -> Vec<DriverInstanceReport> {
    (0..NODES)
        .map(|number| DriverInstanceReport {
            uuid: format!("10000000-0000-4000-8000-{number:012}"),
            parent_uuid: (number > 0).then(|| format!("10000000-0000-4000-8000-{:012}", 0)),
            labels: [
                (
                    "jumpstarter.dev/name".to_owned(),
                    format!("device-{number}"),
                ),
                (
                    "jumpstarter.dev/client".to_owned(),
                    "jumpstarter_driver_power.client.PowerClient".to_owned(),
                ),
            ]
            .into(),
            ..DriverInstanceReport::default()
        })
        .collect()
}
