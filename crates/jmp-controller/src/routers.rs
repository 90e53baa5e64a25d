//! The routers that are connected: which one a tunnel goes through, what is closed, what is counted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jmp_auth::Subject;
use jmp_proto::jmp::v1 as proto;
use jmp_proto::jmp::v1::router_instruction::Instruction;
use jmp_types::resource::Key;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::authentication::Caller;
use crate::metrics::Metrics;

/// How old the last word of a router may be before it is left out.
const FRESH: Duration = Duration::from_secs(15);
/// How long the last figures of a tunnel are waited for after its lease has ended.
const LAST_WORD: Duration = Duration::from_secs(60);
/// Tunnels that are remembered at most.
const TUNNELS: usize = 100_000;
/// Closed leases that are remembered at most; 200 bytes each.
const CLOSED: usize = 100_000;
/// Instructions that may wait for a router.
const OUTBOX: usize = 1024;
/// How long a closed lease is remembered for routers that come back: tokens of tunnels live half
/// an hour, and their clocks may be off by a minute.
const REMEMBERED: Duration = Duration::from_secs(32 * 60);

/// Why a tunnel ends that its lease has left behind.
pub(crate) const OVER: &str = "the lease has ended";
/// Why a tunnel ends whose client or exporter may not be there any more.
pub(crate) const REVOKED: &str = "permission denied: the token of one of its ends was revoked";

/// Between whom a tunnel is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Namespace of both and of the lease.
    pub namespace: String,
    /// Name of the client.
    pub client: String,
    /// Name of the exporter.
    pub exporter: String,
}

/// A router that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its name.
    pub name: String,
    /// Its public address.
    pub endpoint: String,
}

/// What is known of a router, for people.
#[derive(Clone, Debug)]
pub struct RouterState {
    /// Its name.
    pub name: String,
    /// Its public address.
    pub endpoint: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether new tunnels may go through it.
    pub usable: bool,
    /// Tunnels that are open.
    pub tunnels: u32,
    /// Bytes since it was started.
    pub bytes_forwarded: u64,
}

/// The routers that are connected.
#[derive(Debug)]
pub struct Routers {
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    routers: HashMap<u64, Router>,
    tunnels: HashMap<String, Tunnel>,
    /// What was closed lately and until when that is remembered, oldest first.
    closed: VecDeque<(proto::CloseTunnels, Instant)>,
}

#[derive(Debug)]
struct Router {
    name: String,
    key: Key,
    uid: String,
    generation: u64,
    endpoint: String,
    labels: BTreeMap<String, String>,
    instance: String,
    outbox: mpsc::Sender<proto::RouterInstruction>,
    stop: CancellationToken,
    heard: Instant,
    load: proto::RouterLoad,
    /// Tunnels given to it since its last word.
    given: u32,
}

#[derive(Debug)]
struct Tunnel {
    lease: Key,
    ends: Ends,
    /// Made by an earlier life of this controller, which counted its bytes so far.
    inherited: bool,
    to_exporter: u64,
    to_client: u64,
    heard: Instant,
    /// Its lease has ended.
    over: bool,
}

/// The controller's end of a router's stream.
pub(crate) struct Joined {
    pub number: u64,
    /// What was closed while the router was away; comes first.
    pub backlog: Vec<proto::RouterInstruction>,
    pub instructions: mpsc::Receiver<proto::RouterInstruction>,
    pub stop: CancellationToken,
}

// === impl Routers ===

impl Routers {
    /// None is connected.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            state: Mutex::default(),
            metrics,
        }
    }

    /// The router for a tunnel to an exporter with these labels: the one that shares most labels with it
    /// among those that are connected, were heard of lately and do not drain; of several the one with the
    /// fewest tunnels.
    pub fn choose(&self, labels: &BTreeMap<String, String>) -> Option<Chosen> {
        let now = Instant::now();
        let mut state = self.lock();
        let best = state
            .routers
            .values_mut()
            .filter(|router| router.is_usable(now))
            .min_by_key(|router| {
                let shared = router.score(labels);
                (
                    std::cmp::Reverse(shared),
                    router.weight(),
                    router.name.clone(),
                )
            })?;
        best.given += 1;
        Some(Chosen {
            name: best.name.clone(),
            endpoint: best.endpoint.clone(),
        })
    }

    /// Why no router can be chosen, for people.
    #[must_use]
    pub fn why_none(&self) -> String {
        let state = self.lock();
        if state.routers.is_empty() {
            return "no router is connected: start one with `jmp router run`, or let \
                    `jmp controller run` start its own (without --no-router)"
                .to_owned();
        }
        let names: Vec<&str> = state
            .routers
            .values()
            .map(|router| router.name.as_str())
            .collect();
        format!(
            "no router can take the tunnel: {} drains or was not heard of lately",
            names.join(", ")
        )
    }

    /// All of them, by name.
    #[must_use]
    pub fn list(&self) -> Vec<RouterState> {
        let now = Instant::now();
        let mut found: Vec<_> = self
            .lock()
            .routers
            .values()
            .map(|router| RouterState {
                name: router.name.clone(),
                endpoint: router.endpoint.clone(),
                labels: router.labels.clone(),
                usable: router.is_usable(now),
                tunnels: router.load.tunnels,
                bytes_forwarded: router.load.bytes_forwarded,
            })
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// How many can be used.
    #[must_use]
    pub fn usable(&self) -> usize {
        let now = Instant::now();
        let state = self.lock();
        let usable = state.routers.values().filter(|r| r.is_usable(now));
        usable.count()
    }

    /// A router said hello. An older stream of the same router ends.
    pub(crate) fn join(&self, caller: &Caller, hello: proto::RouterHello) -> Joined {
        let (outbox, instructions) = mpsc::channel(OUTBOX);
        let stop = CancellationToken::new();
        let now = Instant::now();
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        state.routers.retain(|_, other| {
            let replaced = other.key == caller.key
                && (other.instance == hello.instance || other.endpoint == hello.endpoint);
            if replaced {
                other.stop.cancel();
            }
            !replaced
        });
        state.forget_closed(now);
        let closed = state.closed.iter();
        let backlog = closed.map(|(close, _)| instruction(close.clone()));
        let backlog = backlog.collect();
        let name = Some(hello.name).filter(|name| !name.is_empty());
        state.routers.insert(
            number,
            Router {
                name: name.unwrap_or_else(|| caller.key.name.clone()),
                key: caller.key.clone(),
                uid: caller.uid.clone(),
                generation: caller.generation,
                endpoint: hello.endpoint,
                labels: hello.labels.into_iter().collect(),
                instance: hello.instance,
                outbox,
                stop: stop.clone(),
                heard: now,
                load: proto::RouterLoad::default(),
                given: 0,
            },
        );
        Joined {
            number,
            backlog,
            instructions,
            stop,
        }
    }

    /// The stream of a router ended.
    pub(crate) fn leave(&self, number: u64) {
        self.lock().routers.remove(&number);
    }

    /// A router told how it is. `lookup` tells the ends of a lease that this life of the controller
    /// made no tunnel for, or why it may have none. Tunnels that should not be there are closed: an
    /// earlier life may have ended right after it had written that their lease is over, or that a token
    /// is revoked.
    pub(crate) fn loaded(
        &self,
        number: u64,
        mut load: proto::RouterLoad,
        lookup: impl Fn(&Key) -> Result<Ends, &'static str>,
    ) {
        let using = std::mem::take(&mut load.r#use);
        let mut state = self.lock();
        if let Some(router) = state.routers.get_mut(&number) {
            router.heard = Instant::now();
            router.given = 0;
            router.load = load;
        }
        for usage in using {
            let Err(reason) = self.account(&mut state, &usage, &lookup) else {
                continue;
            };
            if let Some(router) = state.routers.get(&number) {
                router.tell(proto::CloseTunnels {
                    lease: String::new(),
                    stream: usage.stream,
                    reason: reason.to_owned(),
                });
            }
        }
    }

    /// A tunnel is over.
    pub(crate) fn ended(
        &self,
        usage: &proto::TunnelUse,
        lookup: impl Fn(&Key) -> Result<Ends, &'static str>,
    ) {
        let mut state = self.lock();
        // That it should have ended does not matter any more.
        let _ = self.account(&mut state, usage, &lookup);
        state.tunnels.remove(&usage.stream);
    }

    /// Counts what went through a tunnel. An error says why it must not go on.
    fn account(
        &self,
        state: &mut State,
        usage: &proto::TunnelUse,
        lookup: &impl Fn(&Key) -> Result<Ends, &'static str>,
    ) -> Result<(), &'static str> {
        if !state.tunnels.contains_key(&usage.stream) {
            let Some(lease) = parse(&usage.lease) else {
                return Ok(());
            };
            let ends = lookup(&lease)?;
            let holder = Subject::client(&ends.namespace, &ends.client, "").identity();
            if !usage.client.is_empty() && usage.client != holder {
                return Err("permission denied: the lease was transferred");
            }
            state.remember(&usage.stream, lease, ends, true);
        }
        let Some(tunnel) = state.tunnels.get_mut(&usage.stream) else {
            // There is no room to remember it.
            return Ok(());
        };
        let to_exporter = usage.bytes_to_exporter.saturating_sub(tunnel.to_exporter);
        let to_client = usage.bytes_to_client.saturating_sub(tunnel.to_client);
        tunnel.to_exporter = usage.bytes_to_exporter;
        tunnel.to_client = usage.bytes_to_client;
        tunnel.heard = Instant::now();
        if !std::mem::take(&mut tunnel.inherited) {
            self.metrics.forwarded(&tunnel.ends, to_exporter, to_client);
        }
        if tunnel.over { Err(OVER) } else { Ok(()) }
    }

    /// A tunnel was made.
    pub(crate) fn opened(&self, stream: &str, lease: &Key, ends: Ends) {
        self.lock().remember(stream, lease.clone(), ends, false);
    }

    /// A tunnel will not come to be.
    pub(crate) fn forget(&self, stream: &str) {
        self.lock().tunnels.remove(stream);
    }

    /// Ends the tunnels of a lease that is over, and those that are still to come.
    pub(crate) fn close_lease(&self, lease: &Key, reason: &str) {
        let close = proto::CloseTunnels {
            lease: lease.to_string(),
            stream: String::new(),
            reason: reason.to_owned(),
        };
        let mut state = self.lock();
        let now = Instant::now();
        state.tunnels.retain(|_, tunnel| {
            // Their routers will tell of their last bytes.
            tunnel.over |= tunnel.lease == *lease;
            !tunnel.over || now.duration_since(tunnel.heard) < LAST_WORD
        });
        state.close(close);
    }

    /// Ends the tunnels of a lease that were made so far.
    pub(crate) fn close_streams(&self, lease: &Key, reason: &str) {
        let mut state = self.lock();
        let streams: Vec<String> = state
            .tunnels
            .iter()
            .filter(|(_, tunnel)| tunnel.lease == *lease)
            .map(|(stream, _)| stream.clone())
            .collect();
        for stream in streams {
            state.close(proto::CloseTunnels {
                lease: String::new(),
                stream,
                reason: reason.to_owned(),
            });
        }
    }

    /// Ends the streams of a router whose object is another one now, or whose token is too old.
    pub(crate) fn revoke(&self, key: &Key, good: Option<(&str, u64)>) {
        for router in self.lock().routers.values() {
            let is_good =
                good.is_some_and(|(uid, oldest)| router.uid == uid && router.generation >= oldest);
            if router.key == *key && !is_good {
                router.stop.cancel();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn remember(&mut self, stream: &str, lease: Key, ends: Ends, inherited: bool) {
        let now = Instant::now();
        if self.tunnels.len() >= TUNNELS {
            // Those that no router spoke of while their tokens were good never came to be.
            self.tunnels
                .retain(|_, tunnel| now.duration_since(tunnel.heard) < REMEMBERED);
        }
        if self.tunnels.len() < TUNNELS {
            self.tunnels.insert(
                stream.to_owned(),
                Tunnel {
                    lease,
                    ends,
                    inherited,
                    to_exporter: 0,
                    to_client: 0,
                    heard: now,
                    over: false,
                },
            );
        }
    }

    fn close(&mut self, close: proto::CloseTunnels) {
        let now = Instant::now();
        self.forget_closed(now);
        for router in self.routers.values() {
            router.tell(close.clone());
        }
        self.closed.push_back((close, now + REMEMBERED));
    }

    fn forget_closed(&mut self, now: Instant) {
        let is_old = |(_, until): &(_, Instant)| *until <= now;
        while self.closed.len() >= CLOSED || self.closed.front().is_some_and(is_old) {
            self.closed.pop_front();
        }
    }
}

// === impl Router ===

impl Router {
    fn tell(&self, close: proto::CloseTunnels) {
        if self.outbox.try_send(instruction(close)).is_err() {
            // It comes back and is told everything again.
            tracing::warn!(router = self.name, "router does not keep up");
            self.stop.cancel();
        }
    }

    fn is_usable(&self, now: Instant) -> bool {
        !self.load.draining
            && !self.outbox.is_closed()
            && !self.stop.is_cancelled()
            && now.duration_since(self.heard) < FRESH
    }

    fn score(&self, labels: &BTreeMap<String, String>) -> usize {
        self.labels
            .iter()
            .filter(|(key, value)| labels.get(*key) == Some(value))
            .count()
    }

    fn weight(&self) -> u32 {
        self.load
            .tunnels
            .saturating_add(self.load.parked)
            .saturating_add(self.given)
    }
}

/// The key of `NAMESPACE/NAME`, as leases stand in tunnel tokens.
fn parse(text: &str) -> Option<Key> {
    let (namespace, name) = text.split_once('/')?;
    Some(Key::new(namespace, name))
}

fn instruction(close: proto::CloseTunnels) -> proto::RouterInstruction {
    proto::RouterInstruction {
        instruction: Some(Instruction::Close(close)),
    }
}

#[cfg(test)]
mod tests;
