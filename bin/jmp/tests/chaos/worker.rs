//! Clients that use the library: they lease, call, watch a console, extend, hand over, release, vanish.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jmp_client::lease::{self, Standing, short_name, standing};
use jmp_client::{AllowList, Client, Controller, Dialer, LeaseChange, LeaseDial, LeaseRequest};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::console::{End, console};
use crate::lab::{EXPORTERS, Lab, WORKERS};
use crate::ledger::{Break, Ledger, Outcome, Stream, Time, Wanted, now, outcome_of};
use crate::random::Random;

/// How long a lease may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(15);
/// How long the way to a leased exporter may take.
const DIAL_PATIENCE: Duration = Duration::from_secs(20);
/// How long one driver call may take, stopped processes and cut cables included.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// Ways to one exporter in one lease.
const WAYS: u32 = 4;

/// A lease on its way from one client to another.
#[derive(Debug)]
struct HandedOver {
    lease: String,
    exporter: String,
}

/// All workers of a round.
pub struct Crew {
    slots: Mutex<Vec<Slot>>,
    lab: Arc<Lab>,
    ledger: Arc<Ledger>,
    stop: CancellationToken,
    senders: Vec<mpsc::UnboundedSender<HandedOver>>,
}

struct Slot {
    task: JoinHandle<()>,
    random: Random,
    lives: u32,
    inbox: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<HandedOver>>>,
}

/// One client.
struct Worker {
    /// Who it is to the controller.
    client: String,
    /// Unique for each life, in names of leases and calls.
    name: String,
    controller: Controller,
    ledger: Arc<Ledger>,
    random: Random,
    stop: CancellationToken,
    inbox: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<HandedOver>>>,
    senders: Vec<mpsc::UnboundedSender<HandedOver>>,
    leases: u32,
    calls: u32,
}

/// A lease that this worker uses.
struct Held {
    lease: String,
    exporter: String,
}

// === impl Crew ===

impl Crew {
    pub fn start(
        lab: &Arc<Lab>,
        ledger: &Arc<Ledger>,
        random: &mut Random,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        let channels = (0..WORKERS).map(|_| mpsc::unbounded_channel());
        let (senders, receivers): (Vec<_>, Vec<_>) = channels.unzip();
        let crew = Self {
            slots: Mutex::new(Vec::new()),
            lab: Arc::clone(lab),
            ledger: Arc::clone(ledger),
            stop: stop.clone(),
            senders,
        };
        for (number, receiver) in receivers.into_iter().enumerate() {
            let mut slot = Slot {
                task: tokio::spawn(async {}),
                random: random.fork(),
                lives: 0,
                inbox: Arc::new(tokio::sync::Mutex::new(receiver)),
            };
            crew.begin(number, &mut slot);
            crew.slots.lock().unwrap().push(slot);
        }
        Arc::new(crew)
    }

    fn begin(&self, number: usize, slot: &mut Slot) {
        slot.lives += 1;
        let client = format!("w{number}");
        let worker = Worker {
            name: format!("{client}-{}", slot.lives),
            controller: self.lab.client(&client),
            client,
            ledger: Arc::clone(&self.ledger),
            random: slot.random.fork(),
            stop: self.stop.clone(),
            inbox: Arc::clone(&slot.inbox),
            senders: self.senders.clone(),
            leases: 0,
            calls: 0,
        };
        slot.task = tokio::spawn(worker.work());
    }

    /// The worker is gone from one moment to the next; another one takes its place.
    pub fn crash(&self, number: usize) -> bool {
        let mut slots = self.slots.lock().unwrap();
        slots[number].task.abort();
        self.begin(number, &mut slots[number]);
        true
    }

    /// Waits until all have done their last step.
    pub async fn finished(&self, limit: Duration) {
        let tasks: Vec<JoinHandle<()>> = {
            let mut slots = self.slots.lock().unwrap();
            let slots = slots.iter_mut();
            slots
                .map(|slot| std::mem::replace(&mut slot.task, tokio::spawn(async {})))
                .collect()
        };
        for (number, task) in tasks.into_iter().enumerate() {
            let task = AbortOnDropHandle::new(task);
            match tokio::time::timeout(limit, task).await {
                Ok(done) => done.unwrap(),
                Err(_) => self.ledger.violation(format!(
                    "client w{number} still waited for an answer {limit:?} after the last fault"
                )),
            }
        }
    }
}

// === impl Worker ===

impl Worker {
    async fn work(mut self) {
        while !self.stop.is_cancelled() {
            let handed = self.inbox.lock().await.try_recv().ok();
            match handed {
                Some(HandedOver { lease, exporter }) => self.hold(Held { lease, exporter }).await,
                None => self.acquire().await,
            }
            let pause = self.random.milliseconds(10..200);
            tokio::time::sleep(pause).await;
        }
    }

    async fn acquire(&mut self) {
        self.leases += 1;
        let name = format!("{}-{}", self.name, self.leases);
        let seconds = match self.random.chance(20) {
            true => self.random.within(2..6),
            false => self.random.within(60..120),
        };
        let mut request = LeaseRequest {
            duration: Some(Duration::from_secs(seconds)),
            name: Some(name.clone()),
            ..LeaseRequest::default()
        };
        if self.random.chance(30) {
            let number = self.random.within(0..EXPORTERS as u64);
            request.exporter = Some(format!("e{number}"));
        } else {
            request.selector = "lab=chaos".to_owned();
        }
        self.ledger.creating(&name, &self.client, seconds);
        match self.controller.create_lease(&request).await {
            Ok(_) => self
                .ledger
                .lease(&name, |entry| entry.created = Outcome::Acknowledged),
            Err(error) => {
                let outcome = outcome_of(&error);
                self.ledger.lease(&name, |entry| entry.created = outcome);
                if outcome == Outcome::Refused {
                    self.ledger
                        .violation(format!("lease {name} was refused: {error}"));
                    return;
                }
                if !self.is_there(&name).await {
                    return;
                }
            }
        }
        let waiting = lease::wait_until_ready(&self.controller, &name, READY_LIMIT, |_, _| {});
        let ready = tokio::select! {
            ready = waiting => ready,
            () = self.stop.cancelled() => return self.release(&name).await,
        };
        match ready {
            Ok(lease) => {
                let exporter = lease.exporter.as_deref().unwrap_or_default();
                let exporter = short_name(exporter).to_owned();
                self.hold(Held {
                    lease: name,
                    exporter,
                })
                .await;
            }
            Err(_) => self.release(&name).await,
        }
    }

    /// Finds out what became of a lease whose creation was not answered.
    async fn is_there(&self, name: &str) -> bool {
        for _ in 0..10 {
            match self.controller.lease(name).await {
                Ok(_) => return true,
                Err(error) if outcome_of(&error) == Outcome::Refused => return false,
                Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
        false
    }

    /// Uses a lease through as many ways as it takes.
    async fn hold(&mut self, held: Held) {
        // Some stay so long that they see the controller come and go.
        let mut steps = match self.random.chance(25) {
            true => self.random.within(30..60),
            false => self.random.within(4..14),
        };
        let mut handed_over = false;
        for _ in 0..WAYS {
            let Some(client) = self.reach(&held).await else {
                break;
            };
            let stop = CancellationToken::new();
            let console = self.watch_console(&client, &held, &stop);
            let since = now();
            while steps > 0 && !self.stop.is_cancelled() {
                steps -= 1;
                if let Err(text) = self.step(&client, &held).await {
                    self.broken("a driver call", &held, since, text);
                    break;
                }
            }
            stop.cancel();
            if let Some(console) = console {
                let _ = console.await;
            }
            if steps == 0 || self.stop.is_cancelled() {
                break;
            }
            if self.is_over(&held.lease).await {
                return;
            }
        }
        if self.random.chance(15) {
            handed_over = self.hand_over(&held).await;
        }
        // Some vanish without a word.
        if !handed_over && (self.stop.is_cancelled() || self.random.chance(85)) {
            self.release(&held.lease).await;
        }
    }

    async fn reach(&self, held: &Held) -> Option<Client> {
        let since = now();
        let dial = LeaseDial::new(self.controller.clone(), &held.lease, DIAL_PATIENCE);
        let error = match reach(dial).await {
            Ok(client) => return Some(client),
            Err(error) => error,
        };
        let way = self.entry("the way to the exporter", held, since, error.to_string());
        self.ledger.note(|book| book.lost_ways.push(way));
        None
    }

    fn watch_console(
        &mut self,
        client: &Client,
        held: &Held,
        stop: &CancellationToken,
    ) -> Option<JoinHandle<()>> {
        if self.random.chance(30) {
            return None;
        }
        let device = *self.random.pick(&["echo", "serial"]);
        let handle = client.device(device).unwrap().handle().unwrap();
        let (ledger, stop) = (Arc::clone(&self.ledger), stop.clone());
        let mut entry = self.entry(&format!("the {device} console"), held, now(), String::new());
        let client = client.clone();
        Some(tokio::spawn(async move {
            let _connected = client;
            let end = console(&handle, &stop).await;
            entry.at = now();
            let lines = match end {
                End::Whole(lines) => lines,
                End::Broken(lines, text) => {
                    entry.text = text;
                    ledger.note(|book| book.breaks.push(entry.clone()));
                    lines
                }
                End::Closed(text) => {
                    entry.text = text;
                    return ledger.note(|book| book.breaks.push(entry));
                }
                End::Wrong(text) => {
                    let (what, lease) = (&entry.what, &entry.lease);
                    return ledger.violation(format!("{what} of lease {lease} lost bytes: {text}"));
                }
            };
            let stream = Stream {
                since: entry.since,
                until: entry.at,
                lines,
            };
            ledger.note(|book| book.streams.push(stream));
        }))
    }

    async fn step(&mut self, client: &Client, held: &Held) -> Result<(), String> {
        match self.random.within(0..100) {
            0..70 => {
                self.calls += 1;
                let call = format!("{}.{}", self.name, self.calls);
                self.ledger.calling(&call, &held.lease, &held.exporter);
                let handle = client.device("sh").unwrap().handle().unwrap();
                let arguments = json!(["mark", {}, call, held.lease]);
                let calling =
                    handle.call::<(String, String, i64)>("call_method", argument(&arguments));
                match tokio::time::timeout(CALL_LIMIT, calling).await {
                    Ok(Ok((_, _, 0))) => self.ledger.called(&call),
                    Ok(Ok((_, said, code))) => {
                        // The driver ends its commands with its session.
                        return Err(format!("the command ended with {code}: {said}"));
                    }
                    Ok(Err(error)) => return Err(error.to_string()),
                    Err(_) => return Err(format!("no answer within {CALL_LIMIT:?}")),
                }
            }
            70..80 => {
                let handle = client.device("power").unwrap().handle().unwrap();
                let calling = handle.call::<()>("on", ());
                match tokio::time::timeout(CALL_LIMIT, calling).await {
                    Ok(answer) => answer.map_err(|error| error.to_string())?,
                    Err(_) => return Err(format!("no answer within {CALL_LIMIT:?}")),
                }
            }
            80..90 => self.extend(&held.lease).await,
            _ => {}
        }
        let pause = self.random.milliseconds(10..300);
        tokio::time::sleep(pause).await;
        Ok(())
    }

    async fn extend(&mut self, lease: &str) {
        let seconds = self.random.within(60..600);
        let change = LeaseChange {
            duration: Some(Duration::from_secs(seconds)),
            ..LeaseChange::default()
        };
        self.ledger
            .lease(lease, |entry| entry.durations.push(Wanted::of(seconds)));
        let outcome = match self.controller.update_lease(lease, &change).await {
            Ok(_) => Outcome::Acknowledged,
            Err(error) => outcome_of(&error),
        };
        self.ledger.lease(lease, |entry| {
            entry.durations.last_mut().unwrap().outcome = outcome;
        });
    }

    /// Whether the lease is another client's now.
    async fn hand_over(&mut self, held: &Held) -> bool {
        let number = usize::try_from(self.random.within(0..WORKERS as u64)).unwrap();
        let heir = format!("w{number}");
        if heir == self.client {
            return false;
        }
        let change = LeaseChange {
            client: Some(heir.clone()),
            ..LeaseChange::default()
        };
        self.ledger
            .lease(&held.lease, |entry| entry.owners.push(Wanted::of(heir)));
        let outcome = match self.controller.update_lease(&held.lease, &change).await {
            Ok(_) => Outcome::Acknowledged,
            Err(error) => outcome_of(&error),
        };
        self.ledger.lease(&held.lease, |entry| {
            entry.owners.last_mut().unwrap().outcome = outcome;
        });
        if outcome != Outcome::Acknowledged {
            return false;
        }
        self.ledger.note(|book| book.transfers += 1);
        // The heir may have done its last step.
        let _ = self.senders[number].send(HandedOver {
            lease: held.lease.clone(),
            exporter: held.exporter.clone(),
        });
        true
    }

    async fn release(&self, lease: &str) {
        release(&self.controller, &self.ledger, lease).await;
    }

    async fn is_over(&self, lease: &str) -> bool {
        match self.controller.lease(lease).await {
            Ok(lease) => {
                let owner = short_name(lease.client.as_deref().unwrap_or_default());
                owner != self.client || matches!(standing(&lease), Standing::Over(..))
            }
            Err(_) => false,
        }
    }

    fn entry(&self, what: &str, held: &Held, since: Time, text: String) -> Break {
        Break {
            what: what.to_owned(),
            lease: held.lease.clone(),
            exporter: held.exporter.clone(),
            since,
            at: now(),
            text,
        }
    }

    fn broken(&self, what: &str, held: &Held, since: Time, text: String) {
        let entry = self.entry(what, held, since, text);
        self.ledger.note(|book| book.breaks.push(entry));
    }
}

/// Connects, and waits until the exporter has done what comes before a lease.
pub async fn reach(dial: LeaseDial) -> jmp_client::Result<Client> {
    let client = Client::connect_with(Dialer::new(dial), &AllowList::Unsafe).await?;
    loop {
        let status = client.status().await?;
        if status.is_none_or(|status| status.name != "BEFORE_LEASE_HOOK") {
            return Ok(client);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Ends a lease of the ledger and writes down what was answered.
pub async fn release(controller: &Controller, ledger: &Ledger, lease: &str) {
    ledger.lease(lease, |entry| entry.deleted = Some(Wanted::of(())));
    let outcome = match controller.delete_lease(lease).await {
        Ok(()) => Outcome::Acknowledged,
        Err(error) => outcome_of(&error),
    };
    ledger.lease(lease, |entry| {
        entry.deleted.as_mut().unwrap().outcome = outcome;
    });
}

/// The items of a JSON array are the arguments.
fn argument(arguments: &serde_json::Value) -> &Vec<serde_json::Value> {
    arguments.as_array().unwrap()
}
