//! One schedule: everything is started, things go wrong for a while, then nothing does any more and
//! everything has to be well within a stated time.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jmp_auth::{IdentityKeys, Secret, TunnelKeys};
use jmp_client::controller::LeaseRequest;
use jmp_client::lease::wait_until_ready;
use jmp_controller::clock::{Clock, VirtualClock};
use jmp_controller::settings::Settings;
use jmp_controller::{Controller, Parts};
use jmp_router::{
    ControlOptions, Dialling, Keys, Listener, Router, RouterHandle, RouterOptions, Tls,
};
use jmp_store::{StoreError, Unanswered};
use jmp_types::Timestamp;
use jmp_types::resource::Key;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Person, Surroundings};
use super::dice::Dice;
use super::exporter::{self, Age, Device};
use super::ledger::{Counts, Judge, Ledger};
use super::network::{BUFFER, CONTROLLER, Network, Place};
use super::template::{PEOPLE, START, Template};

/// After the last fault everything is well within this time: the longest leases that wait for each
/// other have had their turns, every deadline of the controller has passed.
const WELL: Duration = Duration::from_secs(600);
/// A router that was told the time while a clock jumped is told again within this time.
const CLOCKS: Duration = Duration::from_secs(65);
/// How often somebody looks whether a process has exited.
const LOOK: Duration = Duration::from_secs(2);
/// A lease of an exporter that is free is ready, and reachable, within this time.
const SERVED: Duration = Duration::from_secs(120);

/// What is planted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Planted {
    pub pool: Option<jmp_lease::pool::Fault>,
    /// The controller answers before it has stored.
    pub answer_before_save: bool,
    /// The store says that it has what it does not have.
    pub lying_store: bool,
}

/// What became of a schedule.
#[derive(Debug, PartialEq, Eq)]
pub struct Played {
    pub counts: Counts,
    pub trace: u64,
}

/// A broken promise, and what led to it.
#[derive(Debug)]
pub struct Failed {
    pub problem: String,
    pub story: String,
}

pub struct World {
    seed: u64,
    dice: Dice,
    planted: Planted,
    network: Arc<Network>,
    ledger: Arc<Ledger>,
    clock: Arc<VirtualClock>,
    judge: watch::Sender<Arc<Judge>>,
    router: Option<RouterHandle>,
    routers: watch::Sender<u64>,
    devices: BTreeMap<String, Unit>,
    /// What comes back, and when.
    due: Vec<(Instant, Return)>,
    /// How far the clock is off, and has been at most, seconds.
    offset: i64,
    ahead: i64,
}

struct Unit {
    device: Device,
    life: u64,
    task: Option<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
enum Return {
    Controller,
    Router,
    Exporter(String),
}

/// The router's clock is its own.
struct RouterClock(Arc<VirtualClock>, i64);

impl jmp_router::Clock for RouterClock {
    fn now(&self) -> Timestamp {
        let now = self.0.wall();
        now.checked_add(jmp_types::SignedDuration::from_secs(self.1))
            .unwrap_or(now)
    }
}

pub fn keys() -> &'static (Arc<IdentityKeys>, Arc<TunnelKeys>) {
    static KEYS: OnceLock<(Arc<IdentityKeys>, Arc<TunnelKeys>)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let identity = IdentityKeys::generate().unwrap();
        (
            Arc::new(identity),
            Arc::new(TunnelKeys::generate().unwrap()),
        )
    })
}

/// Plays one schedule.
pub fn play(seed: u64, planted: Planted, print: bool) -> Result<Played, Failed> {
    jmp_wire::backoff::repeatable(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let result = runtime.block_on(async {
        let ledger = Ledger::new(print);
        let world = World::new(seed, planted, Arc::clone(&ledger)).await;
        world.play().await;
        // Connections say goodbye for a moment.
        tokio::time::sleep(Duration::from_secs(30)).await;
        let left = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        if left > 0 {
            ledger.problem(format!("{left} tasks are left at the end"));
        }
        ledger
    });
    match result.verdict() {
        Ok(()) => Ok(Played {
            counts: result.counts(),
            trace: result.trace(),
        }),
        Err(problem) => Err(Failed {
            problem,
            story: result.story(),
        }),
    }
}

impl World {
    async fn new(seed: u64, planted: Planted, ledger: Arc<Ledger>) -> Self {
        let template = Template::get();
        let network = Network::new(seed);
        let judge = Judge::new(
            template.store.reopen(),
            Arc::clone(&ledger),
            planted.lying_store,
        )
        .await;
        let mut dice = Dice::of(seed, "world");
        let number = dice.between(2, 4) as usize;
        let ages = [Age::Silent, Age::Plain, Age::Hooks];
        let devices = template.exporters.iter().take(number).map(|(name, token)| {
            let device = Device {
                name: name.clone(),
                age: *dice.pick(&ages),
                token: token.clone(),
                network: Arc::clone(&network),
                ledger: Arc::clone(&ledger),
            };
            let unit = Unit {
                device,
                life: 0,
                task: None,
            };
            (name.clone(), unit)
        });
        Self {
            devices: devices.collect(),
            seed,
            dice,
            planted,
            network,
            ledger,
            clock: Arc::new(VirtualClock::new(Timestamp::from_second(START).unwrap())),
            judge: watch::Sender::new(judge),
            router: None,
            routers: watch::Sender::new(0),
            due: Vec::new(),
            offset: 0,
            ahead: 0,
        }
    }

    async fn play(mut self) {
        self.start_controller().await;
        self.start_router();
        let names: Vec<String> = self.devices.keys().cloned().collect();
        for name in &names {
            self.start_exporter(name);
        }
        let template = Template::get();
        let around = Surroundings {
            network: Arc::clone(&self.network),
            ledger: Arc::clone(&self.ledger),
            judge: self.judge.subscribe(),
            router: self.routers.subscribe(),
            exporters: names,
            people: PEOPLE.map(str::to_owned).to_vec(),
        };
        let people: Vec<_> = PEOPLE
            .iter()
            .map(|name| {
                let token = &template.people[*name];
                tokio::spawn(Person::new(name, token, around.clone(), self.seed).live())
            })
            .collect();
        let faults = self.dice.between(5, 17);
        for _ in 0..faults {
            let pause = self.dice.milliseconds(0, 10_000);
            self.pass(pause).await;
            self.somebody().await;
        }
        self.ledger.note(|| "PEACE".into());
        self.network.calm();
        // Whatever time it was once, leases may last until then.
        self.clock.jump(self.ahead - self.offset);
        self.judge.borrow().store.fail_writes(0, StoreError::Closed);
        let now = Instant::now();
        self.due.iter_mut().for_each(|(at, _)| *at = now);
        let mut finished = Vec::new();
        let end = now + WELL;
        for person in people {
            // Comebacks are still due meanwhile.
            while !person.is_finished() && Instant::now() < end {
                self.pass(Duration::from_secs(1)).await;
            }
            match tokio::time::timeout_at(end, person).await {
                Ok(Ok(person)) => finished.push(person),
                Ok(Err(panic)) => self.ledger.problem(format!("somebody panicked: {panic}")),
                Err(_) => self.ledger.problem("somebody still waits"),
            }
        }
        while Instant::now() < end && !self.is_well().await {
            self.pass(Duration::from_secs(5)).await;
        }
        self.pass((now + CLOCKS).saturating_duration_since(Instant::now()))
            .await;
        self.all_is_well(finished.pop()).await;
        self.stop().await;
    }

    /// Whether there is nothing to wait for any more.
    async fn is_well(&self) -> bool {
        let Some(controller) = self.network.controller() else {
            return false;
        };
        let engine = &controller.context().engine;
        for name in self.devices.keys() {
            if !matches!(
                engine.waiting(&Key::new("default", &**name)).await,
                Ok(None)
            ) {
                return false;
            }
        }
        self.judge.borrow().live().is_empty()
    }

    async fn all_is_well(&mut self, person: Option<Person>) {
        let store = self.judge.borrow().store.clone();
        self.ledger.audit(&store, "at the end").await;
        for lease in self.judge.borrow().live() {
            let name = &lease.metadata.name;
            let conditions = &lease.status.conditions;
            let text = format!("lease {name} never ended: {conditions:?}");
            self.ledger.problem(text);
        }
        let (Some(controller), Some(mut person)) = (self.network.controller(), person) else {
            return self.ledger.problem("nobody is left to look");
        };
        let engine = controller.context().engine.clone();
        for (name, unit) in &self.devices {
            let waiting = engine.waiting(&Key::new("default", &**name)).await.unwrap();
            let flagged = waiting.as_ref().is_some_and(|one| one.at_most.is_none());
            let healthy = unit.device.age != Age::Hooks;
            self.ledger.note(|| format!("{name} waits for {waiting:?}"));
            match &waiting {
                Some(_) if flagged && !healthy => continue,
                Some(waiting) => {
                    self.ledger
                        .problem(format!("{name} is not available: {waiting:?}"));
                    continue;
                }
                None => {}
            }
            person.probe(name, SERVED).await;
        }
    }

    async fn stop(mut self) {
        for unit in self.devices.values_mut() {
            if let Some(task) = unit.task.take() {
                task.abort();
                let _ = task.await;
            }
        }
        if let Some(router) = self.router.take() {
            router.drain(Duration::from_secs(1)).await;
        }
        if let Some(controller) = self.network.controller() {
            self.network.set_controller(None);
            self.network.set_router(None);
            self.network.close().await;
            match Arc::try_unwrap(controller) {
                Ok(controller) => controller.stop().await,
                Err(_) => self.ledger.problem("somebody still has the controller"),
            }
        }
        let store = self.judge.borrow().store.clone();
        self.ledger.audit(&store, "after the stop").await;
    }

    /// Time goes by, and what is due comes back.
    async fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            self.come_back().await;
            let now = Instant::now();
            if now >= until {
                return;
            }
            let next = self.due.iter().map(|(at, _)| *at).min();
            let look = now + LOOK;
            tokio::time::sleep_until(next.unwrap_or(until).min(until).min(look)).await;
        }
    }

    async fn come_back(&mut self) {
        let now = Instant::now();
        self.due.sort_by_key(|(at, _)| *at);
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            match self.due.remove(0).1 {
                Return::Controller => self.start_controller().await,
                Return::Router => self.start_router(),
                Return::Exporter(name) => self.start_exporter(&name),
            }
        }
        // Those that exit by themselves are started again.
        let exited = self.devices.values().filter(|unit| unit.has_exited());
        let exited: Vec<String> = exited.map(|unit| unit.device.name.clone()).collect();
        for name in exited {
            self.network.harmed(&name);
            self.network.cut(|from, _| from == name);
            self.start_exporter(&name);
        }
    }

    async fn start_controller(&mut self) {
        if self.network.controller().is_some() {
            return;
        }
        let (identity_keys, tunnel_keys) = keys().clone();
        let parts = Parts {
            store: Arc::clone(&*self.judge.borrow()),
            identity_keys,
            tunnel_keys,
            authority: String::new(),
            signer: None,
            settings: Settings {
                answer_before_save: self.planted.answer_before_save,
                ..Settings::default()
            },
            pool: jmp_lease::pool::Settings {
                fault: self.planted.pool,
                hook_limit: Duration::from_secs(120),
                pending_limit: Duration::from_secs(300),
                ..jmp_lease::pool::Settings::default()
            },
            clock: Arc::clone(&self.clock) as _,
        };
        match Controller::start(parts).await {
            Ok(controller) => {
                self.ledger.note(|| "the controller starts".into());
                self.network.set_controller(Some(Arc::new(controller)));
            }
            Err(error) => {
                // Whoever started it, does so again.
                self.ledger
                    .note(|| format!("the controller does not start: {error}"));
                self.back(Duration::from_secs(1), Return::Controller);
            }
        }
    }

    /// As kill -9: what was not acknowledged may be lost, nobody is told anything.
    async fn kill_controller(&mut self) {
        let Some(controller) = self.network.controller() else {
            return;
        };
        self.ledger.note(|| "the controller is killed".into());
        self.ledger.count(|counts| counts.kills += 1);
        self.network.set_controller(None);
        self.network.cut(|_, to| to == Place::Controller);
        let judge = Arc::clone(&*self.judge.borrow());
        judge.store.close();
        drop(controller);
        let store = judge.store.reopen();
        self.ledger.audit(&store, "after a kill").await;
        let judge = Judge::new(store, Arc::clone(&self.ledger), self.planted.lying_store).await;
        self.judge.send_replace(judge);
        let down = self.dice.milliseconds(10, 20_000);
        self.back(down, Return::Controller);
    }

    fn start_router(&mut self) {
        if self.router.is_some() {
            return;
        }
        let (listener, dialer) = Listener::memory(BUFFER);
        self.routers.send_modify(|router| *router += 1);
        let life = *self.routers.borrow();
        let mut options = RouterOptions::new(listener, Tls::None, Keys::FromController);
        let network = Arc::clone(&self.network);
        let dial = move || -> Dialling {
            let network = Arc::clone(&network);
            Box::pin(async move {
                let io = network.open("router", CONTROLLER).await?;
                Ok(Box::new(io) as jmp_router::Io)
            })
        };
        options.clock = Arc::new(RouterClock(
            Arc::clone(&self.clock),
            *Dice::of(self.seed, "router clock").pick(&[0, 0, 40, -40, 3600, -3600]),
        ));
        options.control = Some(ControlOptions {
            dial: Arc::new(dial),
            controller: CONTROLLER.into(),
            credential: Secret::new(Template::get().router.clone()),
            name: "r1".into(),
            endpoint: "router:8083".into(),
            labels: std::collections::HashMap::new(),
            instance: life.to_string(),
            version: "simulated".into(),
            report_every: Duration::from_secs(7),
        });
        self.router = Some(Router::start(options, CancellationToken::new()).unwrap());
        self.network.set_router(Some(dialer));
    }

    fn kill_router(&mut self) {
        let Some(router) = self.router.take() else {
            return;
        };
        self.ledger.note(|| "the router is killed".into());
        self.ledger.count(|counts| counts.kills += 1);
        self.network.set_router(None);
        self.network
            .cut(|from, to| to == Place::Router || from == "router");
        drop(router);
        let down = self.dice.milliseconds(10, 10_000);
        self.back(down, Return::Router);
    }

    fn start_exporter(&mut self, name: &str) {
        let Some(unit) = self.devices.get_mut(name) else {
            return;
        };
        unit.life += 1;
        self.ledger
            .note(|| format!("{name} ({:?}) starts", unit.device.age));
        unit.task = Some(tokio::spawn(exporter::run(
            unit.device.clone(),
            unit.life,
            self.seed,
        )));
    }

    async fn kill_exporter(&mut self, name: &str) {
        let Some(task) = self.devices.get_mut(name).and_then(|unit| unit.task.take()) else {
            return;
        };
        self.ledger.note(|| format!("{name} is killed"));
        self.ledger.count(|counts| counts.kills += 1);
        self.network.harmed(name);
        task.abort();
        let _ = task.await;
        self.network.cut(|from, _| from == name);
        let down = self.dice.milliseconds(100, 60_000);
        self.back(down, Return::Exporter(name.to_owned()));
    }

    fn back(&mut self, after: Duration, what: Return) {
        self.due.push((Instant::now() + after, what));
    }

    /// One thing goes wrong.
    async fn somebody(&mut self) {
        let names: Vec<String> = self.devices.keys().cloned().collect();
        let exporter = self.dice.pick(&names).clone();
        match self.dice.below(20) {
            0..=4 => self.network.cut_one(&mut self.dice),
            5..=8 => self.network.stall_one(&mut self.dice),
            9..=10 => self.kill_controller().await,
            11..=12 => self.crash_while_writing().await,
            13..=14 => self.kill_router(),
            15..=16 => self.kill_exporter(&exporter).await,
            17..=18 => {
                let count = self.dice.between(1, 5);
                let error = if self.dice.percent(50) {
                    StoreError::Full("the disk".into())
                } else {
                    StoreError::Failed {
                        place: "memory".into(),
                        reason: "planned".into(),
                    }
                };
                self.judge.borrow().store.fail_writes(count, error);
            }
            _ => {
                let jump = *self.dice.pick(&[3600, -3600, 45, -45]);
                let offset = (self.offset + jump).clamp(-3600, 3600);
                let jump = offset - self.offset;
                self.ledger.note(|| format!("the clock jumps by {jump} s"));
                self.clock.jump(jump);
                self.offset = offset;
                self.ahead = self.ahead.max(offset);
            }
        }
    }

    /// The store ends in the middle of a batch; the process a moment later.
    async fn crash_while_writing(&mut self) {
        if self.network.controller().is_none() {
            return;
        }
        let unanswered = *self.dice.pick(&[Unanswered::Lost, Unanswered::Kept]);
        let writes = self.dice.below(12);
        let judge = Arc::clone(&*self.judge.borrow());
        judge.store.crash_after(writes, unanswered);
        for _ in 0..200 {
            if judge.store.is_crashed() {
                break;
            }
            self.pass(Duration::from_millis(50)).await;
        }
        self.kill_controller().await;
    }
}

// === impl Unit ===

impl Unit {
    fn has_exited(&self) -> bool {
        self.task.as_ref().is_some_and(JoinHandle::is_finished)
    }
}

// === impl Person ===

impl Person {
    /// A free exporter serves a lease.
    pub async fn probe(&mut self, exporter: &str, limit: Duration) {
        let name = format!("probe-{exporter}");
        let request = LeaseRequest {
            exporter: Some(exporter.to_owned()),
            duration: Some(Duration::from_secs(600)),
            name: Some(name.clone()),
            ..LeaseRequest::default()
        };
        if !self.create(&request).await {
            return self.report(format!("{exporter} cannot be leased in the end"));
        }
        let controller = self.controller().clone();
        if let Err(error) = wait_until_ready(&controller, &name, limit, |_, _| {}).await {
            return self.report(format!("{exporter} does not serve in the end: {error}"));
        }
        if !self.tunnel(&name, limit.as_secs()).await {
            self.report(format!("{exporter} cannot be reached in the end"));
        }
        self.release(&name).await;
    }
}
