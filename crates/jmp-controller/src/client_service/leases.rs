//! Leases on behalf of clients: from requests to commands of the pool.

use std::collections::BTreeMap;
use std::sync::Arc;

use jmp_lease::pool::{Actor, Command, GivenDuration, LeaseUpdate, NewLease};
use jmp_proto::jumpstarter::client::v1::{CreateLeaseRequest, UpdateLeaseRequest};
use jmp_store::{LeaseFilter, LeaseState, Query};
use jmp_types::Timestamp;
use jmp_types::resource::{Key, Kind, Lease};
use prost::Message;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::audit::{self, Entry};
use crate::authentication::Caller;
use crate::context::Context;
use crate::convert;
use crate::limits::SELECTOR_LIMIT;
use crate::names::{self, Collection, parse_namespace, shown};
use crate::page::{PAGE_LIMIT, Page};
use crate::selection::LeaseSelection;

use super::not_found;

/// Leases that are read from the store at once.
const CHUNK: usize = 100;
/// A page from the store is full beyond this many bytes: with one more chunk it still fits into a
/// message of 4 MiB.
const FULL: usize = 2 * 1024 * 1024;
/// Tags and context entries that are looked at at all; the pool has the real limits.
const ENTRIES: usize = 64;
/// The longest key or value of those, bytes.
const ENTRY_LIMIT: usize = 1024;

/// What CreateLease asks for, without who asks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NewRequest {
    pub namespace: String,
    lease: NewLease,
}

/// What UpdateLease asks for, without who asks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Update {
    pub key: Key,
    begin_time: Option<Timestamp>,
    end_time: Option<Timestamp>,
    duration: Option<GivenDuration>,
    client: Option<Key>,
    tags: Option<BTreeMap<String, String>>,
    context: Option<BTreeMap<String, String>>,
}

// === impl NewRequest ===

impl NewRequest {
    pub fn read(request: &CreateLeaseRequest) -> Result<Self, Status> {
        let namespace = parse_namespace(&request.parent)?;
        let Some(lease) = &request.lease else {
            return Err(Status::invalid_argument("lease is required"));
        };
        // Released clients send an empty name when they mean none (facts: protocol 8.1).
        let exporter = lease.exporter_name.clone().filter(|name| !name.is_empty());
        if lease.selector.trim().is_empty() && exporter.is_none() {
            return Err(Status::invalid_argument(
                "one of selector or exporter_name is required",
            ));
        }
        if lease.selector.len() > SELECTOR_LIMIT {
            return Err(Status::invalid_argument(format!(
                "selector has {} bytes, more than {SELECTOR_LIMIT}",
                lease.selector.len()
            )));
        }
        if let Some(name) = &exporter {
            names::check_name(name)?;
        }
        if !request.lease_id.is_empty() {
            names::check_name(&request.lease_id)?;
        }
        Ok(Self {
            lease: NewLease {
                name: request.lease_id.clone(),
                uid: String::new(),
                client: None,
                selector: lease.selector.clone(),
                exporter_name: exporter,
                duration: lease.duration.as_ref().map(given),
                begin_time: time("begin_time", lease.begin_time.as_ref())?,
                end_time: time("end_time", lease.end_time.as_ref())?,
                allow_disabled: lease.allow_disabled,
                tags: entries("tags", &lease.tags)?,
                context: entries("context", &lease.context)?,
            },
            namespace,
        })
    }
}

// === impl Update ===

impl Update {
    /// The mask does not count, as with shipped controllers: whatever is there is wanted.
    pub fn read(request: &UpdateLeaseRequest) -> Result<Self, Status> {
        let Some(lease) = &request.lease else {
            return Err(Status::invalid_argument("lease is required"));
        };
        let map = |name, map| -> Result<_, Status> {
            let found = entries(name, map)?;
            Ok((!found.is_empty()).then_some(found))
        };
        Ok(Self {
            key: Collection::Leases.parse(&lease.name)?,
            begin_time: time("begin_time", lease.begin_time.as_ref())?,
            end_time: time("end_time", lease.end_time.as_ref())?,
            duration: lease.duration.as_ref().map(given),
            client: lease
                .client
                .as_deref()
                .filter(|name| !name.is_empty())
                .map(|name| Collection::Clients.parse(name))
                .transpose()?,
            tags: map("tags", &lease.tags)?,
            context: map("context", &lease.context)?,
        })
    }

    /// For the audit.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        if let Some(time) = self.begin_time {
            parts.push(format!("begin {time}"));
        }
        if let Some(time) = self.end_time {
            parts.push(format!("end {time}"));
        }
        if let Some(duration) = self.duration {
            parts.push(format!("duration {} s", duration.seconds));
        }
        if let Some(client) = &self.client {
            parts.push(format!("to {}", audit::resource("client", client)));
        }
        if self.tags.is_some() {
            parts.push("tags".to_owned());
        }
        if self.context.is_some() {
            parts.push("context".to_owned());
        }
        parts.join(", ")
    }
}

fn given(wire: &prost_types::Duration) -> GivenDuration {
    GivenDuration {
        seconds: wire.seconds,
        nanoseconds: wire.nanos,
    }
}

fn time(field: &str, wire: Option<&prost_types::Timestamp>) -> Result<Option<Timestamp>, Status> {
    wire.map(|wire| {
        convert::instant(wire).ok_or_else(|| {
            Status::invalid_argument(format!(
                "{field} is no time: {} s and {} ns",
                wire.seconds, wire.nanos
            ))
        })
    })
    .transpose()
}

fn entries(
    field: &str,
    wire: &std::collections::HashMap<String, String>,
) -> Result<BTreeMap<String, String>, Status> {
    if wire.len() > ENTRIES {
        return Err(Status::invalid_argument(format!(
            "too many {field}: {}",
            wire.len()
        )));
    }
    let long = wire
        .iter()
        .find(|(key, value)| key.len() > ENTRY_LIMIT || value.len() > ENTRY_LIMIT);
    if let Some((key, _)) = long {
        return Err(Status::invalid_argument(format!(
            "{field}: the entry {} is longer than {ENTRY_LIMIT} bytes",
            shown(key)
        )));
    }
    Ok(wire.clone().into_iter().collect())
}

/// Makes the lease; tells the audit which one.
pub(super) async fn create(
    context: &Context,
    caller: &Caller,
    asked: NewRequest,
    entry: &mut Entry,
) -> Result<Arc<Lease>, Status> {
    let mut lease = asked.lease;
    let chosen = !lease.name.is_empty();
    if !chosen {
        lease.name = Uuid::now_v7().to_string();
    }
    lease.uid = Uuid::new_v4().to_string();
    lease.client = Some(caller.key.clone());
    let key = Key::new(asked.namespace, lease.name.clone());
    entry.resource = audit::resource("lease", &key);
    entry.detail = match &lease.exporter_name {
        Some(exporter) if lease.selector.is_empty() => format!("exporter {exporter}"),
        Some(exporter) => format!("exporter {exporter}, selector {}", lease.selector),
        None => format!("selector {}", lease.selector),
    };
    // The pool knows the live ones only.
    if chosen && context.lease(&key).await?.is_some() {
        return Err(Status::unknown(format!("lease {key} already exists")));
    }
    context
        .engine
        .command(Command::Create(Box::new(lease)))
        .await
}

/// Changes the lease.
pub(super) async fn update(
    context: &Context,
    caller: &Caller,
    asked: Update,
) -> Result<Arc<Lease>, Status> {
    let key = asked.key.clone();
    over(context, &caller.key, &key, "UpdateLease", |_| {
        Err(Status::failed_precondition(format!(
            "lease {} has already ended",
            key.name
        )))
    })
    .await?;
    context
        .engine
        .command(Command::Update(Box::new(LeaseUpdate {
            actor: Actor::Client(caller.key.clone()),
            lease: asked.key,
            begin_time: asked.begin_time,
            end_time: asked.end_time,
            duration: asked.duration,
            client: asked.client,
            tags: asked.tags,
            context: asked.context,
        })))
        .await
}

/// Ends the lease on behalf of the client. One that ended by itself may still be deleted; one that was
/// released before may not.
pub(super) async fn release(
    context: &Context,
    client: &Key,
    key: &Key,
    method: &'static str,
) -> Result<(), Status> {
    let ended = over(context, client, key, method, |lease| {
        if was_released(lease) {
            return Err(Status::failed_precondition(format!(
                "lease {} has already been released",
                lease.metadata.name
            )));
        }
        Ok(())
    });
    if ended.await?.is_some() {
        return Ok(());
    }
    context
        .engine
        .command(Command::Release {
            actor: Actor::Client(client.clone()),
            lease: key.clone(),
            method,
        })
        .await
        .map(drop)
}

fn was_released(lease: &Lease) -> bool {
    lease.spec.release
        || lease
            .condition("Ready")
            .is_some_and(|condition| condition.reason == "Released")
}

/// Looks at a lease that the pool has forgotten, because it ended; `None` while it lives.
async fn over(
    context: &Context,
    client: &Key,
    key: &Key,
    method: &str,
    judge: impl FnOnce(&Lease) -> Result<(), Status>,
) -> Result<Option<Arc<Lease>>, Status> {
    if context.view.get::<Lease>(key).is_some() {
        return Ok(None);
    }
    let Some(lease) = context.lease(key).await? else {
        return Err(not_found("lease", key));
    };
    if lease.client() != *client {
        return Err(Status::unknown(format!("{method} permission denied")));
    }
    if !lease.status.ended {
        return Ok(None);
    }
    judge(&lease)?;
    Ok(Some(lease))
}

/// A page of leases, of one namespace or of all.
pub(crate) async fn listed<M: Message>(
    context: &Context,
    namespace: Option<&str>,
    wanted: &LeaseSelection,
    (size, token): (i32, &str),
    mut convert: impl FnMut(&Lease) -> M,
) -> Result<(Vec<M>, String), Status> {
    if wanted.only_active {
        let page = Page::new("leases", size, token)?;
        let found = context.view.list::<Lease>(namespace);
        let matching = found
            .iter()
            .filter(|lease| wanted.holds(lease))
            .map(|lease| (lease.key(), lease));
        return Ok(page.take(matching, |lease| convert(lease)));
    }
    // Ended ones are in the store only, whose own tokens continue the list.
    let limit = match usize::try_from(size) {
        Ok(0) => usize::MAX,
        Ok(size) => size.min(PAGE_LIMIT),
        Err(_) => {
            return Err(Status::invalid_argument(format!(
                "page_size is {size}: use 0 for everything or a positive number"
            )));
        }
    };
    let mut found = Vec::new();
    let mut bytes = 0;
    let mut next = token.to_owned();
    loop {
        let chunk = CHUNK.min(limit - found.len());
        let mut query = Query::new(Kind::Lease)
            .labels(wanted.labels.clone())
            .leases(LeaseFilter {
                state: LeaseState::Any,
                ..LeaseFilter::default()
            })
            .page(chunk, &next);
        if let Some(namespace) = namespace {
            query = query.namespace(namespace);
        }
        let page = context.page::<Lease>(query).await?;
        for lease in &page.items {
            let message = convert(lease);
            bytes += message.encoded_len() + 8;
            found.push(message);
        }
        next = page.next.unwrap_or_default();
        if next.is_empty() || found.len() >= limit || bytes > FULL {
            return Ok((found, next));
        }
    }
}

/// Reads bytes as each of the requests about leases and checks them.
pub(super) fn fuzz(data: &[u8]) {
    if let Ok(request) = CreateLeaseRequest::decode(data) {
        let _ = NewRequest::read(&request);
    }
    if let Ok(request) = UpdateLeaseRequest::decode(data)
        && let Ok(update) = Update::read(&request)
    {
        let _ = update.summary();
    }
    if let Ok(request) = jmp_proto::jumpstarter::client::v1::ListLeasesRequest::decode(data) {
        let _ = parse_namespace(&request.parent);
        let _ = Page::new("leases", request.page_size, &request.page_token);
        let _ = LeaseSelection::new(&request.filter, &request.tag_filter, request.only_active);
    }
    if let Ok(request) = jmp_proto::jumpstarter::client::v1::ListExportersRequest::decode(data) {
        let _ = crate::selection::parse("filter", &request.filter, Code::Unknown);
    }
    if let Ok(request) = jmp_proto::jumpstarter::client::v1::GetLeaseRequest::decode(data) {
        let _ = Collection::Leases.parse(&request.name);
    }
}
