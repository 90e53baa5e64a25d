//! Effects of one step, gathered: saves come before notices, notices before the rest.

use std::collections::{BTreeMap, BTreeSet};

use jmp_types::resource::{Exporter, Key, Kind, Lease};

use super::api::{Effect, Notice, Now, Record, Settings};

/// What a step works with.
pub(super) struct Context<'a> {
    pub(super) settings: &'a Settings,
    pub(super) now: Now,
    pub(super) out: &'a mut Outbox,
}

/// Effects that were not handed out yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    leases: Vec<Lease>,
    exporters: BTreeMap<Key, Exporter>,
    notices: BTreeMap<Key, Notice>,
    gone: BTreeSet<Key>,
    rest: Vec<Effect>,
}

// === impl Outbox ===

impl Outbox {
    /// Saves stay in the order of the changes: whoever crashes between two of them must find a
    /// reservation given up before its exporter is taken. Only changes in a row are written as one.
    pub(super) fn save_lease(&mut self, lease: &Lease) {
        match self.leases.last_mut() {
            Some(last) if last.key() == lease.key() => *last = lease.clone(),
            _ => self.leases.push(lease.clone()),
        }
    }

    /// The lease as it will be written, if it is to be.
    pub(super) fn saved_lease(&self, key: &Key) -> Option<&Lease> {
        self.leases.iter().rev().find(|lease| lease.key() == *key)
    }

    /// Who holds an exporter is derived from the leases; writing it down a second time would only
    /// be another thing that can be wrong.
    pub(super) fn save_exporter(&mut self, exporter: &Exporter) {
        let mut exporter = exporter.clone();
        exporter.status.lease_ref = None;
        self.exporters.insert(exporter.key(), exporter);
    }

    pub(super) fn forget_exporter(&mut self, key: &Key) {
        self.exporters.remove(key);
        self.gone.insert(key.clone());
    }

    pub(super) fn notify(&mut self, exporter: Key, notice: Notice) {
        self.notices.insert(exporter, notice);
    }

    pub(super) fn then(&mut self, effect: Effect) {
        self.rest.push(effect);
    }

    pub(super) fn record(
        &mut self,
        (kind, key): (Kind, Key),
        reason: &'static str,
        message: impl Into<String>,
        warning: bool,
    ) {
        self.rest.push(Effect::Record(Record {
            kind,
            key,
            reason,
            message: message.into(),
            warning,
        }));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.leases.is_empty()
            && self.exporters.is_empty()
            && self.notices.is_empty()
            && self.rest.is_empty()
    }

    /// Everything so far, in the order in which it is to be carried out.
    pub(super) fn take(&mut self) -> Vec<Effect> {
        let all = std::mem::take(self);
        let leases = all.leases.into_iter();
        let exporters = all.exporters.into_values();
        leases
            .map(|lease| Effect::SaveLease(Box::new(lease)))
            .chain(exporters.map(|exporter| Effect::SaveExporter(Box::new(exporter))))
            .chain(
                all.notices
                    .into_iter()
                    .filter(|(exporter, _)| !all.gone.contains(exporter))
                    .map(|(exporter, notice)| Effect::Notify { exporter, notice }),
            )
            .chain(all.rest)
            .collect()
    }
}
