//! What clients, exporters and administrators want.

use jmp_types::Timestamp;
use jmp_types::resource::{Kind, Lease, Reference};

use super::access::Access;
use super::api::{Actor, Effect, LeaseUpdate, NewLease, Refusal, RefusalKind};
use super::condition;
use super::leases::Ending;
use super::outbox::Context;
use super::space::{Entry, Phase, Space};
use super::time::{self, Times, shown, shown_duration};
use super::validate;

fn failed(text: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::FailedPrecondition, text)
}

// === impl Space ===

impl Space {
    pub(super) fn create(
        &mut self,
        wanted: &NewLease,
        context: &mut Context<'_>,
    ) -> Result<Lease, Refusal> {
        let (lease, client) = validate::new_lease(wanted, context.settings, context.now)?;
        let name = lease.metadata.name.clone();
        if !self.clients.contains_key(&client.name) {
            let text = format!("there is no client {}", client.name);
            return Err(Refusal::new(RefusalKind::NotFound, text));
        }
        if self.leases.contains_key(&name) {
            let text = format!("lease {name} already exists");
            return Err(Refusal::new(RefusalKind::AlreadyExists, text));
        }
        self.has_room(&client.name, context)?;
        let mut entry = Entry::new(lease, context.now.wall);
        if entry.phase == Phase::Scheduled && self.verdict(&entry).is_none() {
            let chosen = self.choose(&entry, context.now.wall)?;
            entry.lease.status.reserved_exporter_ref = chosen.map(Reference::new);
        }
        context.out.save_lease(&entry.lease);
        let key = (Kind::Lease, entry.lease.key());
        let message = created_message(&entry);
        context.out.record(key, "Created", message, false);
        self.insert_lease(entry, context);
        self.schedule(context);
        Ok(self.outcome(&name, context))
    }

    /// The lease as it is after a command, which may have ended it.
    fn outcome(&self, name: &str, context: &Context<'_>) -> Lease {
        let live = self.leases.get(name).map(|entry| entry.lease.clone());
        live.or_else(|| context.out.saved_lease(&self.key(name)).cloned())
            .unwrap_or_default()
    }

    fn has_room(&self, client: &str, context: &Context<'_>) -> Result<(), Refusal> {
        let live = self.of_client.get(client).map_or(0, |names| names.len());
        let most = context.settings.max_live_leases;
        if live >= most {
            return Err(Refusal::new(
                RefusalKind::ResourceExhausted,
                format!(
                    "client {client} has {live} leases, at most {most} at a time: release some"
                ),
            ));
        }
        Ok(())
    }

    pub(super) fn release(
        &mut self,
        actor: &Actor,
        name: &str,
        method: &str,
        context: &mut Context<'_>,
    ) -> Result<Lease, Refusal> {
        let entry = self.live(name)?;
        let message = match actor {
            Actor::Client(client) => {
                if client.namespace != self.name || client.name != entry.client() {
                    return Err(denied(method));
                }
                format!("released by client {}", client.name)
            }
            Actor::Exporter(exporter) => {
                let own = entry.exporter() == Some(exporter.name.as_str());
                if exporter.namespace != self.name || !own {
                    return Err(failed(format!(
                        "lease {name} is not held by exporter {}",
                        exporter.name
                    )));
                }
                match self.failure(&exporter.name) {
                    Some(cause) => format!("released by exporter {}: {cause}", exporter.name),
                    None => format!("released by exporter {}", exporter.name),
                }
            }
            Actor::Administrator => "released by an administrator".to_owned(),
        };
        if let Some(entry) = self.leases.get_mut(name) {
            entry.lease.spec.release = true;
            entry.lease.metadata.generation += 1;
        }
        self.end_lease(name, Ending::Released(message), context);
        self.schedule(context);
        Ok(self.outcome(name, context))
    }

    /// What the exporter said about the hook that failed in its present lease.
    fn failure(&self, exporter: &str) -> Option<&str> {
        match &self.stations.get(exporter)?.turn {
            super::station::Turn::Held { failed, .. } => {
                failed.as_ref().map(|(_, cause)| cause.as_str())
            }
            super::station::Turn::Idle(_) => None,
        }
    }

    fn live(&self, name: &str) -> Result<&Entry, Refusal> {
        self.leases.get(name).ok_or_else(|| {
            let text = format!("lease {name} has ended, or never was");
            Refusal::new(RefusalKind::NotFound, text)
        })
    }

    pub(super) fn update(
        &mut self,
        update: &LeaseUpdate,
        context: &mut Context<'_>,
    ) -> Result<Lease, Refusal> {
        let name = &update.lease.name;
        let old = self.live(name)?;
        match &update.actor {
            Actor::Administrator => {}
            Actor::Client(client)
                if client.namespace == self.name && client.name == old.client() => {}
            Actor::Client(_) | Actor::Exporter(_) => return Err(denied("UpdateLease")),
        }
        let mut new = old.clone();
        write_words(&mut new.lease, update, context)?;
        self.write_times(&mut new, update, context)?;
        self.write_client(&mut new, update, context)?;
        if new.lease == old.lease {
            return Ok(new.lease);
        }
        new.lease.metadata.generation += 1;
        if new.phase == Phase::Held
            && let Some(exporter) = new.exporter().map(ToOwned::to_owned)
        {
            let now = context.now.wall;
            let end = time::expiry(&new.lease, now);
            condition::assigned(&mut new.lease, &exporter, end, now);
        }
        self.commit(new, context);
        self.schedule(context);
        Ok(self.outcome(name, context))
    }

    /// Changes the times, if the policies and the calendar allow it.
    fn write_times(
        &self,
        new: &mut Entry,
        update: &LeaseUpdate,
        context: &Context<'_>,
    ) -> Result<(), Refusal> {
        let (now, most) = (context.now.wall, context.settings.max_duration);
        let given = Times {
            begin: update.begin_time,
            end: update.end_time,
            duration: update
                .duration
                .map(|given| time::read(given, most))
                .transpose()?,
        };
        if given.is_empty() {
            return Ok(());
        }
        let started = new.lease.status.begin_time;
        let stored = Times::of(&new.lease.spec);
        let before = time::expiry(&new.lease, now);
        let times = given.merged(stored, started, now, most)?;
        times.write(&mut new.lease.spec);
        if new.phase == Phase::Held {
            return self.extension(new, before, now);
        }
        new.phase = match times.begin {
            Some(begin) if begin > now => Phase::Scheduled,
            _ => Phase::Waiting,
        };
        if let Some(Ending::Unsatisfiable(_, text) | Ending::Invalid(_, text)) = self.verdict(new) {
            return Err(failed(text));
        }
        // A reservation that has begun must not grow into another's either.
        let chosen = match new.phase == Phase::Scheduled || new.reserved().is_some() {
            true => self.rechoose(new, now)?,
            false => None,
        };
        new.lease.status.reserved_exporter_ref = chosen.map(Reference::new);
        Ok(())
    }

    /// The exporter that is kept stays, if it is free in the new window.
    fn rechoose(&self, new: &Entry, now: Timestamp) -> Result<Option<String>, Refusal> {
        let Some(present) = new.reserved() else {
            return self.choose(new, now);
        };
        let mut pinned = new.clone();
        pinned.lease.spec.exporter_ref = Some(Reference::new(present));
        if let Ok(Some(same)) = self.choose(&pinned, now) {
            return Ok(Some(same));
        }
        self.choose(new, now)
    }

    /// A running lease may go on for longer if the policies allow it that much in all, and nobody has
    /// reserved its exporter.
    fn extension(&self, new: &Entry, before: Timestamp, now: Timestamp) -> Result<(), Refusal> {
        let after = time::expiry(&new.lease, now);
        let Some(station) = new.exporter().and_then(|name| self.stations.get(name)) else {
            return Ok(());
        };
        if after <= before {
            return Ok(());
        }
        self.allowed(station, new, new.client(), now)?;
        if let Some(blocker) = self.blocker(station, new, now, after) {
            let client = self.leases.get(&blocker.lease).map_or("-", Entry::client);
            return Err(failed(format!(
                "cannot extend to {}: exporter {} is reserved for client {client} (lease {}) from {} to {}",
                shown(after),
                station.name(),
                blocker.lease,
                shown(blocker.begin),
                shown(blocker.end)
            )));
        }
        Ok(())
    }

    /// Whether a client may have the exporter for as long as the lease lasts in all.
    fn allowed(
        &self,
        station: &super::station::Station,
        entry: &Entry,
        client: &str,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let begin = entry.lease.status.begin_time.unwrap_or(now);
        let whole = time::between(begin, time::expiry(&entry.lease, now));
        let wanted = whole.max(time::requested(&entry.lease));
        match self.access(station, client, wanted) {
            Access::Granted(_) => Ok(()),
            Access::TooLong(most) => Err(failed(format!(
                "a lease of {} is too long: the policies allow client {client} {} at most on exporter {}",
                shown_duration(wanted),
                shown_duration(most),
                station.name()
            ))),
            Access::Denied => Err(failed(format!(
                "the policies do not let client {client} lease exporter {}",
                station.name()
            ))),
        }
    }

    /// Hands the lease to another client, if the policies let that one have the exporter.
    fn write_client(
        &self,
        new: &mut Entry,
        update: &LeaseUpdate,
        context: &Context<'_>,
    ) -> Result<(), Refusal> {
        let Some(target) = &update.client else {
            return Ok(());
        };
        if target.namespace != self.name {
            return Err(Refusal::new(
                RefusalKind::InvalidArgument,
                "a lease cannot be transferred to a client of another namespace",
            ));
        }
        if target.name == new.client() {
            return Ok(());
        }
        if !self.clients.contains_key(&target.name) {
            let text = format!("there is no client {} to transfer to", target.name);
            return Err(Refusal::new(RefusalKind::NotFound, text));
        }
        let station = new.exporter().and_then(|name| self.stations.get(name));
        let Some(station) = station.filter(|_| new.phase == Phase::Held) else {
            return Err(failed(
                "only a lease that has its exporter can be transferred",
            ));
        };
        self.allowed(station, new, &target.name, context.now.wall)?;
        self.has_room(&target.name, context)?;
        new.lease.spec.client_ref = Reference::new(&target.name);
        Ok(())
    }

    /// Replaces a lease by its changed self.
    fn commit(&mut self, new: Entry, context: &mut Context<'_>) {
        let name = new.name().to_owned();
        let Some(old) = self.remove_lease(&name) else {
            return;
        };
        let key = new.lease.key();
        context.out.save_lease(&new.lease);
        let moved = old.client() != new.client();
        if moved {
            let reason = format!("the lease was transferred to client {}", new.client());
            let record = (Kind::Lease, key.clone());
            context.out.record(record, "Transferred", &reason, false);
            context
                .out
                .then(Effect::CloseTunnels { lease: key, reason });
        } else {
            let times = Times::of(&new.lease.spec);
            let end = shown(time::expiry(&new.lease, context.now.wall));
            let message = match (new.phase, times.begin) {
                (Phase::Held, _) => format!("the lease was changed: it ends at {end}"),
                (Phase::Scheduled, Some(begin)) => {
                    format!("the lease was changed: from {} to {end}", shown(begin))
                }
                _ => "the lease was changed".to_owned(),
            };
            context
                .out
                .record((Kind::Lease, key), "Updated", message, false);
        }
        let exporter = new.exporter().map(ToOwned::to_owned);
        self.insert_lease(new, context);
        if let Some(exporter) = exporter {
            self.announce(&exporter, context);
        }
    }
}

/// Tags and context, which can be added, but not changed.
fn write_words(
    lease: &mut Lease,
    update: &LeaseUpdate,
    context: &Context<'_>,
) -> Result<(), Refusal> {
    let fixed = |what: &str| {
        Refusal::new(
            RefusalKind::InvalidArgument,
            format!("the {what} of a lease cannot be changed once set"),
        )
    };
    if let Some(tags) = &update.tags
        && *tags != lease.spec.tags
    {
        if !lease.spec.tags.is_empty() {
            return Err(fixed("tags"));
        }
        validate::tags(tags, context.settings.max_tags)?;
        let added = validate::labels(&jmp_types::resource::LabelSelector::default(), tags);
        lease.metadata.labels.extend(added);
        lease.spec.tags.clone_from(tags);
    }
    if let Some(words) = &update.context
        && *words != lease.spec.context
    {
        if !lease.spec.context.is_empty() {
            return Err(fixed("context"));
        }
        validate::context(words)?;
        lease.spec.context.clone_from(words);
    }
    Ok(())
}

fn denied(method: &str) -> Refusal {
    Refusal::new(
        RefusalKind::PermissionDenied,
        format!("{method} permission denied"),
    )
}

fn created_message(entry: &Entry) -> String {
    let client = entry.client();
    match (entry.phase, entry.reserved(), entry.lease.spec.begin_time) {
        (Phase::Scheduled, Some(exporter), Some(begin)) => format!(
            "client {client} reserved exporter {exporter} from {}",
            shown(begin)
        ),
        _ => format!("client {client} asked for a lease"),
    }
}
