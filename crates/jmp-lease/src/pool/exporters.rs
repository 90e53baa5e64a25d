//! What happens to exporters.

use std::collections::BTreeMap;

use jmp_types::resource::{Device, Exporter, Key, Kind, PROCESS_LABEL_PREFIX, Reference};

use super::api::Notice;
use super::condition::{self, Said};
use super::leases::Ending;
use super::outbox::Context;
use super::space::Space;
use super::station::{Idle, Overdue, Station, Turn};
use super::time::shown_duration;
use crate::status::ExporterStatus;

/// Whether the stored conditions say that it is online.
pub(super) fn says_online(exporter: &Exporter) -> bool {
    let conditions = &exporter.status.conditions;
    conditions
        .iter()
        .any(|one| one.kind == "Online" && one.is_true())
}

/// What the controller thinks of the presence of an exporter; whether that is news.
fn set_online(
    station: &mut Station,
    online: bool,
    (reason, message): (&str, &str),
    context: &Context<'_>,
) -> bool {
    station.online = online;
    let said = Said {
        kind: "Online",
        status: online,
        reason,
        message: message.to_owned(),
    };
    let before = says_online(&station.object);
    condition::set_on_exporter(&mut station.object, said, context.now.wall);
    before != online
}

fn set_registered(station: &mut Station, reason: &str, context: &Context<'_>) {
    let said = Said {
        kind: "Registered",
        status: station.is_registered(),
        reason,
        message: String::new(),
    };
    condition::set_on_exporter(&mut station.object, said, context.now.wall);
}

/// The labels of the process.
fn of_process(labels: &BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> {
    let labels = labels.iter();
    labels
        .filter(|(key, _)| key.starts_with(PROCESS_LABEL_PREFIX))
        .map(|(key, value)| (key.clone(), value.clone()))
}

// === impl Space ===

impl Space {
    pub(super) fn put_exporter(&mut self, put: Exporter, sequence: u64, context: &mut Context<'_>) {
        let name = put.metadata.name.clone();
        let replaced = self.stations.get(&name).map(|station| &station.object);
        if replaced.is_some_and(|old| old.metadata.uid != put.metadata.uid) {
            self.delete_exporter(&name, context);
        }
        let Some(station) = self.stations.get(&name) else {
            let station = Station::new(put, context.now.monotonic, sequence);
            self.stations.insert(name.clone(), station);
            self.relabel(&name, &BTreeMap::new(), context);
            return;
        };
        let before = station.object.clone();
        let mut object = put;
        let labels = &mut object.metadata.labels;
        labels.retain(|key, _| !key.starts_with(PROCESS_LABEL_PREFIX));
        labels.extend(of_process(&before.metadata.labels));
        let mut status = before.status.clone();
        status.credential = object.status.credential;
        status.endpoint = object.status.endpoint;
        object.status = status;
        let same = object.metadata.labels == before.metadata.labels
            && object.is_enabled() == before.is_enabled();
        if !same {
            self.doubt_suitors(&name);
        }
        if let Some(station) = self.stations.get_mut(&name) {
            station.object = object;
        }
        if same {
            return;
        }
        self.relabel(&name, &before.metadata.labels, context);
    }

    /// Those who were after this exporter have to be looked at again.
    fn doubt_suitors(&mut self, name: &str) {
        let Some(station) = self.stations.get(name) else {
            return;
        };
        let suitors = self.suitors(&station.object).flatten();
        let mut names: Vec<String> = suitors.map(|(_, lease)| lease.clone()).collect();
        names.extend(station.calendar.iter().map(|slot| slot.2.clone()));
        self.dirty_leases.extend(names);
    }

    /// Brings the indices up to date with labels that were `before`, and with the policies.
    pub(super) fn relabel(
        &mut self,
        name: &str,
        before: &BTreeMap<String, String>,
        context: &Context<'_>,
    ) {
        for (key, value) in before {
            let pair = (key.clone(), value.clone());
            if let Some(names) = self.labelled.get_mut(&pair) {
                names.remove(name);
                if names.is_empty() {
                    self.labelled.remove(&pair);
                }
            }
        }
        let Some(station) = self.stations.get_mut(name) else {
            return;
        };
        for (key, value) in &station.object.metadata.labels {
            let names = self.labelled.entry((key.clone(), value.clone()));
            names.or_default().insert(name.to_owned());
        }
        let about = self.policies.iter().filter(|(_, policy)| {
            let selector = &policy.spec.exporter_selector;
            selector.matches(&station.object.metadata.labels)
        });
        let policies: Vec<String> = about.map(|(policy, _)| policy.clone()).collect();
        if policies != station.policies {
            if std::mem::take(&mut station.indexed)
                && let Some(group) = self.ready.get_mut(&station.policies)
            {
                group.remove(name);
                if group.is_empty() {
                    self.ready.remove(&station.policies);
                }
            }
            station.policies = policies;
        }
        self.touch_station(name, context);
    }

    pub(super) fn delete_exporter(&mut self, name: &str, context: &mut Context<'_>) {
        self.doubt_suitors(name);
        let Some(station) = self.stations.get_mut(name) else {
            return;
        };
        let labels = std::mem::take(&mut station.object.metadata.labels);
        station.connection = None;
        let holder = station.holder().map(ToOwned::to_owned);
        self.relabel(name, &labels, context);
        if let Some(station) = self.stations.remove(name) {
            let owner = super::space::Owner::Station(name.to_owned());
            self.set_timer(station.timer, None, owner);
        }
        self.dirty_stations.remove(name);
        context.out.forget_exporter(&self.key(name));
        if let Some(lease) = holder {
            let message = format!("exporter {name} was deleted");
            self.end_lease(&lease, Ending::Released(message), context);
        }
    }

    pub(super) fn registered(
        &mut self,
        name: &str,
        labels: &BTreeMap<String, String>,
        devices: Vec<Device>,
        context: &mut Context<'_>,
    ) {
        let now = context.now;
        let Some(station) = self.stations.get_mut(name) else {
            return;
        };
        let before = station.object.metadata.labels.clone();
        let mut fresh = before.clone();
        fresh.retain(|key, _| !key.starts_with(PROCESS_LABEL_PREFIX));
        fresh.extend(of_process(labels));
        let relabelled = fresh != before;
        station.object.status.devices = devices;
        station.object.status.last_seen = Some(now.wall);
        // A new process: what the old one said, or left undone, is over.
        station.set_word(None, "", now.monotonic);
        if let Some(idle) = station.idle_mut() {
            idle.settled = true;
            idle.flagged = None;
        }
        set_registered(station, "Register", context);
        set_online(station, true, ("Seen", ""), context);
        station.silent_since = now.monotonic;
        let key = (Kind::Exporter, station.object.key());
        let devices = station.object.status.devices.len();
        let message = match devices {
            0 => "the exporter registered without any device, so it cannot be leased".to_owned(),
            count => format!("the exporter registered {count} devices"),
        };
        context
            .out
            .record(key, "ExporterRegistered", message, devices == 0);
        if relabelled {
            self.doubt_suitors(name);
        }
        if let Some(station) = self.stations.get_mut(name) {
            station.object.metadata.labels = fresh;
            context.out.save_exporter(&station.object);
        }
        if relabelled {
            self.relabel(name, &before, context);
        }
        self.touch_station(name, context);
    }

    pub(super) fn unregistered(&mut self, name: &str, reason: &str, context: &mut Context<'_>) {
        let now = context.now;
        let Some(station) = self.stations.get_mut(name) else {
            return;
        };
        let reason = if reason.is_empty() {
            "the exporter unregistered"
        } else {
            reason
        };
        station.object.status.devices.clear();
        station.set_word(Some(ExporterStatus::Offline), reason, now.monotonic);
        set_registered(station, "Unregister", context);
        set_online(station, false, ("Offline", reason), context);
        let key = (Kind::Exporter, station.object.key());
        context.out.save_exporter(&station.object);
        context
            .out
            .record(key, "ExporterUnregistered", reason, true);
        self.touch_station(name, context);
    }

    pub(super) fn reported(
        &mut self,
        name: &str,
        status: ExporterStatus,
        message: &str,
        context: &mut Context<'_>,
    ) {
        let now = context.now;
        let limit = context.settings.failed_lease_limit;
        let Some(station) = self.stations.get_mut(name) else {
            return;
        };
        let word = Some(status).filter(|status| *status != ExporterStatus::Unspecified);
        let changed = word != station.word || message != station.object.status.status_message;
        let flip = word != station.word;
        station.set_word(word, message, now.monotonic);
        station.object.status.last_seen = Some(now.wall);
        if station.connection.is_none() {
            station.silent_since = now.monotonic;
        }
        match &mut station.turn {
            Turn::Held { failed, .. } => match status {
                ExporterStatus::BeforeLeaseHookFailed | ExporterStatus::AfterLeaseHookFailed
                    if failed.is_none() =>
                {
                    *failed = Some((now.monotonic + limit, said(status, message)));
                }
                ExporterStatus::BeforeLeaseHook | ExporterStatus::LeaseReady => *failed = None,
                _ => {}
            },
            Turn::Idle(idle) => {
                if flip {
                    idle.flagged = None;
                }
                let stale = planted!(context.settings, StaleReport);
                let never = planted!(context.settings, NeverClean);
                let told = idle.told.is_some() || stale;
                if status == ExporterStatus::Available && told && !never {
                    idle.settled = true;
                }
            }
        }
        let online = status != ExporterStatus::Offline;
        let reason = if online { "StatusReported" } else { "Offline" };
        let turned = set_online(station, online, (reason, message), context);
        if changed || turned {
            context.out.save_exporter(&station.object);
            self.record_report(name, status, message, context);
        }
        self.touch_station(name, context);
    }

    /// What people look for afterwards: failures and departures.
    fn record_report(
        &self,
        name: &str,
        status: ExporterStatus,
        message: &str,
        context: &mut Context<'_>,
    ) {
        let key = (Kind::Exporter, self.key(name));
        let out = &mut *context.out;
        match status {
            ExporterStatus::Offline => out.record(key, "ExporterOffline", message, true),
            ExporterStatus::BeforeLeaseHookFailed | ExporterStatus::AfterLeaseHookFailed => {
                out.record(key, "HookFailed", said(status, message), true);
                let station = self.stations.get(name);
                if let Some(lease) = station.and_then(Station::holder) {
                    let key = (Kind::Lease, self.key(lease));
                    out.record(key, "HookFailed", said(status, message), true);
                }
            }
            _ if message.starts_with(crate::hook::HOOK_WARNING_PREFIX) => {
                out.record(key, "HookWarning", message, true);
            }
            _ => {}
        }
    }

    pub(super) fn connected(&mut self, name: &str, connection: u64, context: &mut Context<'_>) {
        let now = context.now;
        let Some(station) = self.stations.get_mut(name) else {
            return;
        };
        if station.newest.is_some_and(|newest| newest >= connection) {
            return;
        }
        station.newest = Some(connection);
        station.connection = Some(connection);
        station.silent_since = now.monotonic;
        station.object.status.last_seen = Some(now.wall);
        let mut save = false;
        if station.word == Some(ExporterStatus::Offline) {
            // Stale: it is here. Old exporters would never say otherwise (facts: controller 4.3).
            station.set_word(None, "", now.monotonic);
            save = true;
        }
        if let Some(idle) = station.idle_mut() {
            idle.told = None;
            idle.flagged = None;
        }
        if set_online(station, true, ("Seen", ""), context) {
            save = true;
            let key = (Kind::Exporter, station.object.key());
            let message = "the exporter is connected";
            context.out.record(key, "ExporterOnline", message, false);
        }
        if save {
            context.out.save_exporter(&station.object);
        }
        let notice = station.notice.clone();
        context.out.notify(self.key(name), notice);
        self.touch_station(name, context);
    }

    pub(super) fn disconnected(&mut self, name: &str, connection: u64, context: &Context<'_>) {
        let Some(station) = self.stations.get_mut(name) else {
            return;
        };
        if station.connection != Some(connection) && !planted!(context.settings, CloseOfOldStream) {
            return;
        }
        station.connection = None;
        station.silent_since = context.now.monotonic;
        if let Some(idle) = station.idle_mut() {
            idle.told = None;
        }
        self.touch_station(name, context);
    }

    pub(super) fn delivered(
        &mut self,
        name: &str,
        connection: u64,
        notice: &Notice,
        context: &Context<'_>,
    ) {
        let Some(station) = self.stations.get_mut(name) else {
            return;
        };
        if station.connection != Some(connection) || station.notice.sequence != notice.sequence {
            return;
        }
        if let Some(idle) = station.idle_mut()
            && idle.told.is_none()
        {
            idle.told = Some(context.now.monotonic);
            idle.flagged = None;
        }
        self.touch_station(name, context);
    }

    pub(super) fn station_overdue(&mut self, name: &str, context: &mut Context<'_>) {
        let now = context.now;
        let Some(station) = self.stations.get_mut(name) else {
            return;
        };
        let Some((_, overdue)) = station
            .overdue(context.settings)
            .filter(|(at, _)| *at <= now.monotonic)
        else {
            self.touch_station(name, context);
            return;
        };
        match overdue {
            Overdue::Settled => {
                if let Some(idle) = station.idle_mut() {
                    idle.settled = true;
                    if planted!(context.settings, NeverClean) {
                        idle.settled = false;
                        idle.told = Some(now.monotonic);
                    }
                }
            }
            Overdue::Offline => self.went_silent(name, context),
            Overdue::Presumed => self.presumed(name, context),
            Overdue::HookTooLong | Overdue::NotTold => self.flag(name, overdue, context),
            Overdue::FailedLease => {
                let Turn::Held { lease, failed } = &mut station.turn else {
                    return;
                };
                let cause = failed.take().map(|(_, cause)| cause).unwrap_or_default();
                let lease = lease.clone();
                let message = format!("exporter {name} did not release the lease: {cause}");
                self.end_lease(&lease, Ending::Released(message), context);
            }
        }
        self.touch_station(name, context);
    }

    fn went_silent(&mut self, name: &str, context: &mut Context<'_>) {
        let Some(station) = self.stations.get_mut(name) else {
            return;
        };
        let silence = shown_duration(context.now.monotonic - station.silent_since);
        let message = format!("connection lost: no Status stream for {silence}");
        if station.word != Some(ExporterStatus::Offline) {
            let word = Some(ExporterStatus::Offline);
            station.set_word(word, &message, context.now.monotonic);
        }
        set_online(station, false, ("Seen", &message), context);
        let key = (Kind::Exporter, station.object.key());
        context.out.save_exporter(&station.object);
        context.out.record(key, "ExporterOffline", message, true);
    }

    /// A word that stayed, though there is no lease: it would take one all the same.
    fn presumed(&mut self, name: &str, context: &mut Context<'_>) {
        let Some(station) = self.stations.get_mut(name) else {
            return;
        };
        let left = station.word.map_or("nothing", ExporterStatus::name);
        let before = &station.object.status.status_message;
        let message = format!("back in the pool, although it still reports {left}: {before}");
        let word = Some(ExporterStatus::Available);
        station.set_word(word, &message, context.now.monotonic);
        if let Some(idle) = station.idle_mut() {
            idle.settled = true;
        }
        let key = (Kind::Exporter, station.object.key());
        context.out.save_exporter(&station.object);
        context.out.record(key, "PresumedAvailable", message, true);
    }

    fn flag(&mut self, name: &str, overdue: Overdue, context: &mut Context<'_>) {
        let limits = context.settings;
        let Some(station) = self.stations.get_mut(name) else {
            return;
        };
        let word = station.word.map_or("nothing", ExporterStatus::name);
        let message = match overdue {
            Overdue::NotTold => format!(
                "the Status stream took no message for {}: restart the exporter",
                shown_duration(limits.cleaning_limit)
            ),
            _ => format!(
                "a hook runs since more than {} without a lease ({word}): look at the exporter's log, restart it if the hook hangs",
                shown_duration(limits.hook_limit)
            ),
        };
        if let Some(idle) = station.idle_mut() {
            idle.flagged = Some(message.clone());
        }
        let key = (Kind::Exporter, station.object.key());
        context.out.record(key, "Flagged", message, true);
    }

    /// Gives an exporter to a lease, or to nobody, and says so on its stream. `told` is whether it
    /// matters to it: the end of a lease always does.
    pub(super) fn set_turn(&mut self, name: &str, lease: Option<&str>, context: &mut Context<'_>) {
        let Some(station) = self.stations.get_mut(name) else {
            return;
        };
        station.object.status.lease_ref = lease.map(Reference::new);
        station.turn = match lease {
            Some(lease) => Turn::Held {
                lease: lease.to_owned(),
                failed: None,
            },
            None => {
                let after = station.holder().map(ToOwned::to_owned);
                let mut idle = Idle::new(context.now.monotonic, after);
                if planted!(context.settings, SkipDelivery) {
                    idle.told = Some(context.now.monotonic);
                    idle.settled = true;
                    let word = Some(ExporterStatus::Available);
                    station.set_word(word, "", context.now.monotonic);
                }
                Turn::Idle(idle)
            }
        };
        self.announce(name, context);
        self.touch_station(name, context);
    }

    /// Says on the stream of an exporter what holds, if that is news.
    pub(super) fn announce(&mut self, name: &str, context: &mut Context<'_>) {
        let Some(station) = self.stations.get(name) else {
            return;
        };
        let lease = station.holder().and_then(|lease| self.leases.get(lease));
        let mut notice = Notice {
            leased: lease.is_some(),
            lease: lease.map(|entry| entry.name().to_owned()),
            client: lease.map(|entry| entry.client().to_owned()),
            context: lease.map_or_else(BTreeMap::new, |entry| entry.lease.spec.context.clone()),
            sequence: station.notice.sequence,
        };
        if notice == station.notice || (planted!(context.settings, DropNotice) && !notice.leased) {
            return;
        }
        notice.sequence += 1;
        let key: Key = self.key(name);
        if let Some(station) = self.stations.get_mut(name) {
            station.notice = notice.clone();
            if station.connection.is_some() {
                context.out.notify(key, notice);
            }
        }
    }
}

/// A failed status with its message.
fn said(status: ExporterStatus, message: &str) -> String {
    let hook = match status {
        ExporterStatus::BeforeLeaseHookFailed => "beforeLease hook failed",
        _ => "afterLease hook failed",
    };
    if message.is_empty() {
        return hook.to_owned();
    }
    format!("{hook}: {message}")
}
