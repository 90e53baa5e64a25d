//! Everything around the pool: store, network, exporters, clients, time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jmp_types::Timestamp;
use jmp_types::resource::{
    AccessPolicy, Client, ClientMatch, Device, Exporter, GoDuration, Key, Lease, PolicyRule,
};

use super::super::api::{
    Actor, Command, Effect, Event, GivenDuration, LeaseUpdate, NewLease, Notice, Now, Settings,
};
use super::super::fault::Fault;
use super::super::{Phase, Pool};
use super::Dice;
use super::exporter::{Act, Age, Process};
use super::oracle::{self, Oracle, Store};
use crate::status::ExporterStatus;
use crate::time::Moment;

const NAMESPACE: &str = "default";
/// Until then things go wrong, in milliseconds.
const TROUBLE: u64 = 120_000;
/// Then everything must be well again: longer than the longest lease, wait, hook limit and jump.
const WELL: u64 = TROUBLE + 3 * 3600 * 1000;
/// 2026-01-01.
const START: i64 = 1_767_225_600;

/// Something that is going to happen.
#[derive(Clone, Debug)]
enum Action {
    /// A process acts, if it is still that run of it.
    Act(String, u64, Act),
    /// A message arrives at the controller.
    Arrive(Box<Event>),
    /// The transport takes the latest notice of a stream.
    Send(String, u64),
    /// A process hears a notice.
    Hear(String, u64, Notice),
    /// Somebody does something.
    Somebody,
    StartController,
    StartExporter(String),
    Peace,
}

/// What a schedule came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Played {
    pub(super) acquired: u64,
    /// Digest of all effects.
    pub(super) trace: u64,
}

/// A simulated lab.
pub(super) struct World {
    dice: Dice,
    settings: Settings,
    pool: Option<Pool>,
    store: Store,
    processes: BTreeMap<String, Process>,
    queue: BTreeMap<(u64, u64), Action>,
    pending: BTreeMap<u64, Notice>,
    oracle: Oracle,
    clock: u64,
    /// Of the wall clock, in milliseconds.
    offset: i64,
    counter: u64,
    peace: bool,
    compare: bool,
    /// Print what happens, because one seed is repeated.
    print: bool,
    /// A reservation went away in this step, perhaps after an assignment that it was in the way of.
    freed: bool,
    played: Played,
}

type Verdict = Result<(), String>;

fn key(name: &str) -> Key {
    Key::new(NAMESPACE, name)
}

// === impl World ===

impl World {
    pub(super) fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut dice = Dice::new(seed);
        dice.next();
        let settings = Settings {
            hook_limit: Duration::from_secs(300),
            pending_limit: Duration::from_secs(600),
            fault,
            ..Settings::default()
        };
        let mut world = Self {
            settings,
            pool: None,
            store: Store::default(),
            processes: BTreeMap::new(),
            queue: BTreeMap::new(),
            pending: BTreeMap::new(),
            oracle: Oracle::default(),
            clock: 0,
            offset: 0,
            counter: 0,
            peace: false,
            compare: seed.is_multiple_of(16),
            print: std::env::var_os("JMP_SIM_SEED").is_some(),
            freed: false,
            played: Played {
                acquired: 0,
                trace: 0,
            },
            dice,
        };
        world.furnish();
        world
    }

    fn furnish(&mut self) {
        for index in 0..self.dice.between(1, 3) {
            let mut exporter = Exporter::default();
            exporter.metadata.namespace = NAMESPACE.to_owned();
            exporter.metadata.name = format!("x{index}");
            exporter.metadata.uid = "u".to_owned();
            let b = if index == 0 { "1" } else { "2" };
            exporter.metadata.labels = [("a", "1"), ("b", b)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
            let name = exporter.metadata.name.clone();
            self.store.exporters.insert(name.clone(), exporter);
            let age = [Age::Silent, Age::Plain, Age::Hooks][self.dice.below(3) as usize];
            self.processes.insert(name.clone(), Process::new(age));
            let at = self.dice.below(2000);
            self.later(at, Action::StartExporter(name));
        }
        for (name, team) in [("alice", "red"), ("bob", "blue")] {
            let mut client = Client::default();
            client.metadata.namespace = NAMESPACE.to_owned();
            client.metadata.name = name.to_owned();
            let label = ("team".to_owned(), team.to_owned());
            client.metadata.labels = [label].into();
            self.store.clients.insert(name.to_owned(), client);
        }
        if self.dice.percent(50) {
            let policy = self.policy();
            let name = policy.metadata.name.clone();
            self.store.policies.insert(name, policy);
        }
        self.later(0, Action::StartController);
        for _ in 0..self.dice.between(6, 20) {
            let at = self.dice.below(TROUBLE);
            self.later(at, Action::Somebody);
        }
        self.later(TROUBLE, Action::Peace);
    }

    fn policy(&mut self) -> AccessPolicy {
        let mut policy = AccessPolicy::default();
        policy.metadata.namespace = NAMESPACE.to_owned();
        policy.metadata.name = format!("p{}", self.dice.below(2));
        if self.dice.percent(30) {
            let label = ("b".to_owned(), "1".to_owned());
            policy.spec.exporter_selector.match_labels = [label].into();
        }
        for team in ["red", "blue"] {
            if self.dice.percent(20) {
                continue;
            }
            let mut from = ClientMatch::default();
            let label = ("team".to_owned(), team.to_owned());
            from.client_selector.match_labels = [label].into();
            let most = Duration::from_secs(self.dice.between(60, 400));
            policy.spec.policies.push(PolicyRule {
                description: format!("for {team}"),
                priority: self.dice.below(3) as i64,
                from: vec![from],
                maximum_duration: self.dice.percent(30).then_some(GoDuration(most)),
                spot_access: self.dice.percent(15),
            });
        }
        policy
    }

    fn now(&self) -> Now {
        let wall = START * 1000 + self.clock as i64 + self.offset;
        Now {
            wall: Timestamp::from_millisecond(wall).unwrap_or_default(),
            monotonic: Moment::since_start(Duration::from_millis(self.clock)),
        }
    }

    fn later(&mut self, after: u64, action: Action) {
        self.counter += 1;
        self.queue
            .insert((self.clock + after, self.counter), action);
    }

    /// Milliseconds on the way.
    fn delay(&mut self) -> u64 {
        match self.dice.below(20) {
            _ if self.peace => 1,
            0 => self.dice.between(100, 4000),
            _ => self.dice.between(1, 20),
        }
    }

    pub(super) fn play(mut self) -> Result<Played, String> {
        loop {
            let action = self.queue.first_key_value().map(|(at, _)| at.0);
            let deadline = self.pool_deadline();
            let at = match (action, deadline) {
                (Some(action), Some(deadline)) => action.min(deadline),
                (Some(at), None) | (None, Some(at)) => at,
                (None, None) => break,
            };
            if at > WELL {
                break;
            }
            self.clock = self.clock.max(at);
            let outcome = match self.queue.first_entry() {
                Some(entry) if entry.key().0 <= self.clock => {
                    let action = entry.remove();
                    self.perform(action)
                }
                _ => self.step(Event::Tick),
            };
            outcome.map_err(|problem| format!("at {} ms: {problem}", self.clock))?;
        }
        self.all_is_well()?;
        Ok(self.played)
    }

    fn pool_deadline(&self) -> Option<u64> {
        let deadline = self.pool.as_ref()?.deadline();
        let now = self.now();
        let wall = deadline.wall.map(|at| {
            let wait = at.as_millisecond() - now.wall.as_millisecond() + 1;
            self.clock + u64::try_from(wait).unwrap_or(0)
        });
        let monotonic = deadline
            .monotonic
            .map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX) + 1);
        wall.into_iter().chain(monotonic).min()
    }

    fn perform(&mut self, action: Action) -> Verdict {
        match action {
            Action::Act(name, run, act) => self.act(&name, run, act)?,
            Action::Arrive(event) => {
                if self.pool.is_some() {
                    self.step((*event).clone())?;
                }
                if self.pool.is_some() {
                    return Ok(());
                }
                // Not answered: reports are repeated, a failed Register ends the process.
                if let Event::Registered { exporter, .. } = &*event {
                    self.stop_exporter(&exporter.name, 1000);
                    return Ok(());
                }
                if matches!(*event, Event::StatusReported { .. }) {
                    self.later(1000, Action::Arrive(event));
                }
            }
            Action::Send(name, connection) => {
                if let Some(notice) = self.pending.remove(&connection) {
                    self.oracle.says(connection, &notice)?;
                    let delivered = Event::NoticeDelivered {
                        exporter: key(&name),
                        connection,
                        notice: notice.clone(),
                    };
                    self.later(1, Action::Arrive(Box::new(delivered)));
                    self.later(2, Action::Hear(name, connection, notice));
                }
            }
            Action::Hear(name, connection, notice) => {
                let process = self.processes.get_mut(&name);
                if let Some(process) = process.filter(|one| one.connection == Some(connection)) {
                    let acts = process.hear(&notice, &mut self.dice);
                    self.plan(&name, acts);
                }
            }
            Action::Somebody => return self.somebody(),
            Action::StartController => return self.start_controller(),
            Action::StartExporter(name) => self.start_exporter(&name),
            Action::Peace => {
                self.peace = true;
                if self.pool.is_none() {
                    self.start_controller()?;
                }
                for name in self.names() {
                    self.start_exporter(&name);
                }
            }
        }
        Ok(())
    }

    fn names(&self) -> Vec<String> {
        self.processes.keys().cloned().collect()
    }

    fn start_exporter(&mut self, name: &str) {
        let process = self.processes.get_mut(name).filter(|one| !one.up);
        if let Some(process) = process {
            let acts = process.start();
            self.plan(name, acts);
        }
    }

    fn plan(&mut self, name: &str, acts: Vec<(u64, Act)>) {
        let run = self.processes.get(name).map_or(0, |process| process.run);
        for (after, act) in acts {
            self.later(after, Action::Act(name.to_owned(), run, act));
        }
    }

    fn act(&mut self, name: &str, run: u64, act: Act) -> Verdict {
        let Some(process) = self.processes.get_mut(name) else {
            return Ok(());
        };
        if !process.up || process.run != run {
            return Ok(());
        }
        let listening = self.pool.is_some();
        match act {
            Act::Idle => process.session = None,
            Act::Exit => self.stop_exporter(name, 1000),
            _ if !listening => self.later(1000, Action::Act(name.to_owned(), run, act)),
            Act::Register => {
                let event = Event::Registered {
                    exporter: key(name),
                    labels: BTreeMap::new(),
                    devices: vec![Device::default()],
                };
                self.later(1, Action::Arrive(Box::new(event)));
            }
            Act::Connect => {
                self.counter += 1;
                let connection = self.counter;
                process.connection = Some(connection);
                let event = Event::Connected {
                    exporter: key(name),
                    connection,
                };
                self.later(1, Action::Arrive(Box::new(event)));
            }
            Act::Report(status, message) => self.report(name, status, message),
            Act::Release(lease) => {
                return self.command(Command::Release {
                    actor: Actor::Exporter(key(name)),
                    lease: key(&lease),
                    method: "ReleaseLease",
                });
            }
        }
        Ok(())
    }

    /// Reports are lost, repeated, and overtake each other.
    fn report(&mut self, name: &str, status: ExporterStatus, message: &str) {
        let event = Event::StatusReported {
            exporter: key(name),
            status,
            message: message.to_owned(),
        };
        if !self.peace && self.dice.percent(4) {
            return;
        }
        for _ in 0..=u64::from(!self.peace && self.dice.percent(5)) {
            let delay = self.delay();
            self.later(delay, Action::Arrive(Box::new(event.clone())));
        }
    }

    fn close_stream(&mut self, name: &str) {
        let process = self.processes.get_mut(name);
        if let Some(connection) = process.and_then(|process| process.connection.take()) {
            let event = Event::Disconnected {
                exporter: key(name),
                connection,
            };
            // A dead peer is noticed late, perhaps after its successor.
            let delay = match self.peace {
                false if self.dice.percent(30) => self.dice.between(1000, 20_000),
                _ => 5,
            };
            self.later(delay, Action::Arrive(Box::new(event)));
        }
    }

    fn stop_exporter(&mut self, name: &str, restart: u64) {
        self.close_stream(name);
        if let Some(process) = self.processes.get_mut(name) {
            process.up = false;
        }
        self.later(restart, Action::StartExporter(name.to_owned()));
    }

    /// One random deed of a client, an administrator, or fate.
    fn somebody(&mut self) -> Verdict {
        let exporters = self.names();
        let exporter = exporters[self.dice.below(exporters.len() as u64) as usize].clone();
        match self.dice.below(24) {
            0..=10 => self.create(&exporter),
            11..=12 => self.change(),
            13 => self.release(),
            14 => {
                let lease = self.processes[&exporter].session.clone();
                let acts = lease.map(|lease| self.processes[&exporter].end_session(&lease));
                self.plan(&exporter, acts.unwrap_or_default());
                Ok(())
            }
            15 => {
                let restart = self.dice.between(100, 90_000);
                self.stop_exporter(&exporter, restart);
                Ok(())
            }
            16..=17 => {
                self.close_stream(&exporter);
                let back = [600, 90_000][usize::from(self.dice.percent(20))];
                self.plan(&exporter, vec![(back, Act::Connect)]);
                Ok(())
            }
            18..=19 => {
                self.crash_controller();
                Ok(())
            }
            20 => {
                let jump = [3_600_000, -3_600_000, 60_000, -60_000][self.dice.below(4) as usize];
                self.offset = (self.offset + jump).clamp(-3_600_000, 3_600_000);
                self.step(Event::Tick)
            }
            21 => self.administer_exporter(&exporter),
            _ => self.administer_policy(),
        }
    }

    fn administer_exporter(&mut self, name: &str) -> Verdict {
        let enabled = self.dice.percent(70);
        // What is due by now is judged by what was known until now.
        self.step(Event::Tick)?;
        let Some(exporter) = self.store.exporters.get_mut(name) else {
            return Ok(());
        };
        exporter.spec.enabled = Some(enabled);
        let event = Event::ExporterPut(Box::new(exporter.clone()));
        self.step(event)
    }

    fn administer_policy(&mut self) -> Verdict {
        let policy = self.policy();
        let name = policy.metadata.name.clone();
        let put = self.dice.percent(60);
        self.step(Event::Tick)?;
        if put {
            self.store.policies.insert(name, policy.clone());
            return self.step(Event::PolicyPut(Box::new(policy)));
        }
        self.store.policies.remove(&name);
        self.step(Event::PolicyDeleted(key(&name)))
    }

    fn client(&mut self) -> Key {
        key(["alice", "bob"][self.dice.below(2) as usize])
    }

    fn seconds(&mut self, least: u64, most: u64) -> GivenDuration {
        GivenDuration {
            seconds: self.dice.between(least, most) as i64,
            nanoseconds: 0,
        }
    }

    fn create(&mut self, exporter: &str) -> Verdict {
        self.counter += 1;
        let now = self.now().wall;
        let begin = Duration::from_secs(self.dice.between(1, 90));
        let new = NewLease {
            name: format!("l{:x}-{}", self.dice.below(16), self.counter),
            uid: "u".to_owned(),
            client: Some(self.client()),
            selector: ["a=1", "b=1", "a=1,b!=1", "a"][self.dice.below(4) as usize].to_owned(),
            exporter_name: self.dice.percent(20).then(|| exporter.to_owned()),
            duration: Some(self.seconds(1, 300)),
            begin_time: self.dice.percent(25).then(|| now + begin),
            allow_disabled: false,
            ..NewLease::default()
        };
        self.command(Command::Create(Box::new(new)))
    }

    fn some_lease(&mut self) -> Option<Lease> {
        let live: Vec<&Lease> = self
            .store
            .leases
            .values()
            .filter(|one| !one.status.ended)
            .collect();
        let index = self.dice.below(live.len() as u64) as usize;
        live.get(index).map(|lease| (*lease).clone())
    }

    fn release(&mut self) -> Verdict {
        let Some(lease) = self.some_lease() else {
            return Ok(());
        };
        self.command(Command::Release {
            actor: Actor::Client(lease.client()),
            lease: lease.key(),
            method: "DeleteLease",
        })
    }

    fn change(&mut self) -> Verdict {
        let Some(lease) = self.some_lease() else {
            return Ok(());
        };
        let begin = Duration::from_secs(self.dice.between(1, 90));
        let update = LeaseUpdate {
            actor: Actor::Client(lease.client()),
            lease: lease.key(),
            begin_time: self.dice.percent(20).then(|| self.now().wall + begin),
            end_time: None,
            duration: Some(self.seconds(1, 400)),
            client: self.dice.percent(30).then(|| self.client()),
            tags: None,
            context: None,
        };
        self.command(Command::Update(Box::new(update)))
    }

    fn crash_controller(&mut self) {
        if self.pool.take().is_none() {
            return;
        }
        self.pending.clear();
        let down = self.dice.between(10, 20_000);
        self.later(down, Action::StartController);
        for name in self.names() {
            self.close_stream(&name);
            let back = down + self.dice.between(0, 1500);
            self.plan(&name, vec![(back, Act::Connect)]);
        }
    }

    fn start_controller(&mut self) -> Verdict {
        if self.pool.is_some() {
            return Ok(());
        }
        self.oracle.restarted();
        let (pool, effects) = Pool::restore(
            self.settings.clone(),
            self.store.exporters.values().cloned().collect(),
            self.store.clients.values().cloned().collect(),
            self.store.policies.values().cloned().collect(),
            self.store.leases.values().cloned().collect(),
            self.now(),
        );
        self.pool = Some(pool);
        self.carry_out(effects)?;
        self.check(&BTreeSet::new())
    }

    fn command(&mut self, command: Command) -> Verdict {
        if self.pool.is_none() {
            return Ok(());
        }
        self.step(Event::Tick)?;
        let now = self.now();
        let Some(pool) = &mut self.pool else {
            return Ok(());
        };
        let Ok((lease, effects)) = pool.command(command, now) else {
            return Ok(());
        };
        let assigned = acquired(&effects);
        if !self.carry_out(effects)? {
            return Ok(());
        }
        let exporter = lease.status.exporter_ref.map(|reference| reference.name);
        self.oracle
            .acknowledged
            .insert(lease.metadata.name, exporter);
        self.check(&assigned)
    }

    /// The time first, so that what is judged has one cause.
    fn step(&mut self, event: Event) -> Verdict {
        if event != Event::Tick {
            self.step(Event::Tick)?;
        }
        let now = self.now();
        let Some(pool) = &mut self.pool else {
            return Ok(());
        };
        self.oracle.hears(&event, self.clock);
        let whole = self.compare.then(|| {
            let mut pool = pool.clone();
            for space in pool.spaces.values_mut() {
                space.dirty_waiting();
                space.dirty_stations = space.stations.keys().cloned().collect();
            }
            acquired(&pool.step(event.clone(), now))
        });
        let idle = event == Event::Tick;
        let effects = pool.step(event, now);
        let assigned = acquired(&effects);
        if let Some(whole) = whole
            && whole != assigned
        {
            return Err(format!(
                "all pairs give {whole:?}, the changed ones {assigned:?}"
            ));
        }
        let idle = idle && effects.is_empty();
        if !self.carry_out(effects)? || idle {
            return Ok(());
        }
        self.check(&assigned)
    }

    /// Whether the controller survived that.
    fn carry_out(&mut self, effects: Vec<Effect>) -> Result<bool, String> {
        let trouble = !self.peace && !effects.is_empty() && self.dice.percent(1);
        let last = trouble.then(|| self.dice.below(effects.len() as u64 + 1));
        let now = (self.clock, self.now().wall);
        self.freed = false;
        for (index, effect) in (0..).zip(effects) {
            if Some(index) == last {
                break;
            }
            self.digest(&effect);
            if self.print {
                println!("{} {} {effect:?}", self.clock, self.now().wall);
            }
            match effect {
                Effect::SaveLease(lease) => {
                    self.oracle.writes(&self.store, &lease, now)?;
                    let kept = lease.status.reserved_exporter_ref.clone();
                    let name = lease.metadata.name.clone();
                    let old = self.store.leases.insert(name, *lease);
                    let before = old.and_then(|old| old.status.reserved_exporter_ref);
                    self.freed |= before.is_some() && before != kept;
                }
                Effect::SaveExporter(exporter) => {
                    let name = exporter.metadata.name.clone();
                    self.store.exporters.insert(name, *exporter);
                }
                Effect::Notify { exporter, notice } => {
                    let Some(connection) = self.oracle.connection(&exporter.name) else {
                        continue;
                    };
                    if self.pending.insert(connection, notice).is_none() {
                        let delay = if self.peace {
                            1
                        } else {
                            self.dice.between(1, 30)
                        };
                        self.later(delay, Action::Send(exporter.name, connection));
                    }
                }
                Effect::Acquired { .. } => self.played.acquired += 1,
                _ => {}
            }
        }
        if last.is_some() {
            self.crash_controller();
        }
        Ok(last.is_none())
    }

    fn digest(&mut self, effect: &Effect) {
        use std::hash::{Hash, Hasher};
        let text = match effect {
            Effect::SaveLease(lease) => format!("{} {:?}", lease.metadata.name, lease.status.ended),
            Effect::Notify { exporter, notice } => format!("{exporter} {:?}", notice.lease),
            _ => return,
        };
        let mut hasher = std::hash::DefaultHasher::new();
        (self.played.trace, text).hash(&mut hasher);
        self.played.trace = hasher.finish();
    }

    /// What holds after every step.
    fn check(&self, assigned: &BTreeSet<String>) -> Verdict {
        let Some(pool) = &self.pool else {
            return Ok(());
        };
        let now = self.now();
        let live = self
            .store
            .leases
            .values()
            .filter(|lease| !lease.status.ended);
        if !pool.leases().eq(live) {
            return Err("pool and store differ about the leases".to_owned());
        }
        self.oracle.acknowledged(&self.store)?;
        if !self.freed {
            oracle::order(&self.store, assigned, now.wall)?;
        }
        oracle::in_time(&self.store, now.wall)?;
        for name in self.processes.keys() {
            if pool.connection(&key(name)) != self.oracle.connection(name) {
                return Err(format!("{name}: the pool is wrong about its stream"));
            }
        }
        self.no_pair_left(pool, now)
    }

    fn no_pair_left(&self, pool: &Pool, now: Now) -> Verdict {
        let mut out = super::super::outbox::Outbox::default();
        let context = super::super::outbox::Context {
            settings: &self.settings,
            now,
            out: &mut out,
        };
        for space in pool.spaces.values() {
            for entry in space.leases.values() {
                if entry.phase == Phase::Waiting && pool.deadline().monotonic.is_none() {
                    return Err(format!("{} waits without a deadline", entry.name()));
                }
                for exporter in space.stations.keys() {
                    if space.pair(entry.name(), exporter, &context).is_some() {
                        let lease = entry.name();
                        return Err(format!("{lease} waits, though {exporter} is free"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Long after the last fault.
    fn all_is_well(&self) -> Verdict {
        let Some(pool) = &self.pool else {
            return Err("no controller".to_owned());
        };
        if let Some(lease) = pool.leases().next() {
            return Err(format!("lease {} never ended", lease.metadata.name));
        }
        for (name, process) in &self.processes {
            let exporter = key(name);
            let waiting = pool.waiting(&exporter, self.now());
            let enabled = pool.exporter(&exporter).is_some_and(Exporter::is_enabled);
            let flagged = waiting.as_ref().is_some_and(|one| one.at_most.is_none());
            if !pool.is_available(&exporter) && !flagged {
                return Err(format!(
                    "{name} is neither available nor flagged: {waiting:?}"
                ));
            }
            let healthy = process.age != Age::Hooks;
            if healthy && enabled && !pool.is_available(&exporter) {
                return Err(format!("{name} is healthy, but not available: {waiting:?}"));
            }
        }
        Ok(())
    }
}

fn acquired(effects: &[Effect]) -> BTreeSet<String> {
    let acquired = effects.iter().filter_map(|effect| match effect {
        Effect::Acquired { lease, .. } => Some(lease.name.clone()),
        _ => None,
    });
    acquired.collect()
}
