//! The one task that decides: it owns the pool of leases and exporters, and writes every object.
//!
//! What waits in the mailbox is taken as one batch, goes through the pool, is written, and only then seen
//! by readers and answered: acknowledged means on disk. When a write fails the callers are told, and the
//! pool is made again from what the store has.

mod batch;
mod change;
mod handle;
mod restore;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jmp_lease::pool::{Event, Now, Pool};
use jmp_store::{EventSink, Store};
use jmp_types::resource::Key;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use handle::{EngineHandle, Stored, refusal, store_failure};
pub(crate) use handle::{Message, Question};

use crate::clock::Time;
use crate::exporter_sessions::ExporterSessions;
use crate::metrics::Metrics;
use crate::routers::Routers;
use crate::settings::Settings;
use crate::view::View;

/// Messages that are taken into one batch.
const BATCH: usize = 512;
/// How long the wall clock is trusted to go on as it does.
const WALL_CHECK: Duration = Duration::from_secs(3);
/// Pause after the store refused to be read.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How long events of objects wait for others, to be written with them: the disk is asked for what
/// somebody waits for.
const GATHERED: Duration = Duration::from_millis(100);

/// What the engine works on.
pub(crate) struct Parts {
    pub store: Arc<dyn Store>,
    pub events: Arc<dyn EventSink>,
    pub view: Arc<View>,
    pub sessions: Arc<ExporterSessions>,
    pub routers: Arc<Routers>,
    pub metrics: Arc<Metrics>,
    pub settings: Arc<Settings>,
    pub pool_settings: jmp_lease::pool::Settings,
    pub time: Time,
    pub tasks: TaskTracker,
}

pub(crate) struct Engine {
    parts: Parts,
    pool: Pool,
    mailbox: mpsc::Receiver<Message>,
    healthy: watch::Sender<bool>,
    /// Status streams that are open, by their numbers: told again to a pool that was made anew.
    connected: BTreeMap<Key, u64>,
    history: mpsc::Sender<Vec<jmp_store::EventRecord>>,
}

/// Reads the store and makes the engine. The first is the task to run; it ends when `stop` is
/// cancelled, after what was in the mailbox.
///
/// # Errors
///
/// When the store cannot be read.
pub(crate) async fn start(
    parts: Parts,
    stop: CancellationToken,
) -> Result<(impl Future<Output = ()> + Send, EngineHandle), jmp_store::StoreError> {
    let (sender, mailbox) = mpsc::channel(parts.settings.limits.mailbox);
    let (healthy, health) = watch::channel(true);
    let (history, written) = mpsc::channel(256);
    let events = Arc::clone(&parts.events);
    let pool = restore::first(&parts).await?;
    let tasks = parts.tasks.clone();
    let mut engine = Engine {
        parts,
        pool: pool.0,
        mailbox,
        healthy,
        connected: BTreeMap::new(),
        history,
    };
    // What the restart made necessary, such as leases that ended meanwhile.
    engine.try_effects(pool.1).await?;
    let task = async move {
        let writer = write_history(events, written);
        let run = async move {
            engine.run(stop).await;
        };
        futures::join!(run, writer);
    };
    Ok((task, EngineHandle::new(sender, health, tasks)))
}

/// Events of objects are written behind: nobody waits for them.
async fn write_history(
    sink: Arc<dyn EventSink>,
    mut records: mpsc::Receiver<Vec<jmp_store::EventRecord>>,
) {
    while let Some(mut batch) = records.recv().await {
        if !records.is_closed() {
            tokio::time::sleep(GATHERED).await;
        }
        while let Ok(more) = records.try_recv() {
            batch.extend(more);
        }
        if let Err(error) = sink.append_events(batch).await {
            tracing::warn!(%error, "events of objects were not kept");
        }
    }
}

// === impl Engine ===

impl Engine {
    async fn run(mut self, stop: CancellationToken) {
        let mut messages = Vec::new();
        loop {
            let wake = self.wake();
            let mut closing = false;
            tokio::select! {
                taken = self.mailbox.recv_many(&mut messages, BATCH) => {
                    if taken == 0 {
                        return;
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
                () = stop.cancelled() => closing = true,
            }
            if closing {
                // What came before the end is still done.
                self.mailbox.close();
                while let Ok(message) = self.mailbox.try_recv() {
                    messages.push(message);
                }
            }
            self.batch(std::mem::take(&mut messages)).await;
            if closing {
                return;
            }
        }
    }

    fn now(&self) -> Now {
        Now {
            wall: self.parts.time.wall(),
            monotonic: self.parts.time.moment(),
        }
    }

    /// When the pool has something to do at the latest.
    fn wake(&self) -> Instant {
        if !*self.healthy.borrow() {
            return Instant::now() + STORE_PAUSE;
        }
        let deadline = self.pool.deadline();
        let now = self.now();
        let wall = deadline.wall.map(|wall| {
            let left = wall.duration_since(now.wall);
            let left = Duration::try_from(left).unwrap_or_default();
            // A little later rather than a little earlier, which would be for nothing.
            Instant::now() + (left + Duration::from_millis(1)).min(WALL_CHECK)
        });
        let monotonic = deadline
            .monotonic
            .map(|moment| self.parts.time.instant(moment));
        let latest = Instant::now() + Duration::from_secs(3600);
        [wall, monotonic]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(latest)
    }

    /// Tells a pool that was made anew what no store knows.
    fn reconnect(&mut self) -> Vec<jmp_lease::pool::Effect> {
        let now = self.now();
        let mut effects = Vec::new();
        for (exporter, connection) in &self.connected {
            let event = Event::Connected {
                exporter: exporter.clone(),
                connection: *connection,
            };
            effects.extend(self.pool.step(event, now));
        }
        effects
    }
}
