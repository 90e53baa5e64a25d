//! Making, changing, listing and ending objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use jmp_auth::IssuedToken;
use jmp_lease::pool::{Actor, Command};
use jmp_proto::jmp::v1::{ListResourcesRequest, ListResourcesResponse, Resource};
use jmp_types::resource::{
    AccessPolicy, Administrator, Client, Condition, Exporter, Key, Kind, LabelSelector, Lease,
    Metadata, PROCESS_LABEL_PREFIX, Router,
};
use tonic::{Code, Status};

use crate::client_service::listed_leases;
use crate::context::Context;
use crate::credentials::{Holder, exists, missing};
use crate::engine::Stored;
use crate::manifest::{Object, parse_kind};
use crate::names::check_namespace;
use crate::page::Page;
use crate::selection::{self, LeaseSelection};
use crate::view::Viewed;

/// What became of a manifest.
pub(super) struct Applied {
    pub object: Object,
    /// `created`, `configured` or `unchanged`.
    pub outcome: &'static str,
    pub token: Option<IssuedToken>,
}

const NO_LEASES: &str = "leases are made by clients, not by administrators: use `jmp create lease`";

/// Makes the object.
pub(super) async fn create(
    context: &Context,
    object: Object,
) -> Result<(Object, Option<IssuedToken>), Status> {
    match object {
        Object::Client(object) => with_token(context, object, Object::Client).await,
        Object::Exporter(mut object) => {
            object.metadata.labels = administrators(object.metadata.labels);
            with_token(context, object, Object::Exporter).await
        }
        Object::Administrator(object) => with_token(context, object, Object::Administrator).await,
        Object::Router(object) => with_token(context, object, Object::Router).await,
        Object::Policy(object) => {
            let key = object.key();
            let wanted = key.clone();
            let stored = context
                .engine
                .change::<AccessPolicy>(&key, move |present| match present {
                    Some(_) => Err(exists(Kind::ExporterAccessPolicy, &wanted)),
                    None => Ok(Some(object)),
                })
                .await?;
            Ok((Object::Policy(kept(stored, &key)?), None))
        }
        Object::Lease(_) => Err(Status::invalid_argument(NO_LEASES)),
    }
}

async fn with_token<T: Holder>(
    context: &Context,
    object: T,
    wrap: fn(T) -> Object,
) -> Result<(Object, Option<IssuedToken>), Status> {
    let (object, token) = context.create_with_token(object).await?;
    Ok((wrap(T::clone(&object)), Some(token)))
}

/// Makes the object, or gives the one with that name these labels, annotations and this `spec`.
pub(super) async fn apply(context: &Context, object: Object) -> Result<Applied, Status> {
    match &object {
        Object::Client(given) => {
            let given = given.clone();
            replace::<Client>(context, object, Object::Client, move |present| {
                spec(&mut present.metadata, &mut present.spec, given.spec);
                present.metadata.labels = given.metadata.labels;
                present.metadata.annotations = given.metadata.annotations;
            })
            .await
        }
        Object::Exporter(given) => {
            let given = given.clone();
            replace::<Exporter>(context, object, Object::Exporter, move |present| {
                spec(&mut present.metadata, &mut present.spec, given.spec);
                present
                    .metadata
                    .labels
                    .retain(|key, _| key.starts_with(PROCESS_LABEL_PREFIX));
                let labels = administrators(given.metadata.labels);
                present.metadata.labels.extend(labels);
                present.metadata.annotations = given.metadata.annotations;
            })
            .await
        }
        Object::Policy(given) => {
            let given = given.clone();
            replace::<AccessPolicy>(context, object, Object::Policy, move |present| {
                spec(&mut present.metadata, &mut present.spec, given.spec);
                present.metadata.labels = given.metadata.labels;
                present.metadata.annotations = given.metadata.annotations;
            })
            .await
        }
        Object::Administrator(given) => {
            let given = given.clone();
            replace::<Administrator>(context, object, Object::Administrator, move |present| {
                present.metadata.labels = given.metadata.labels;
                present.metadata.annotations = given.metadata.annotations;
            })
            .await
        }
        Object::Router(given) => {
            let given = given.clone();
            replace::<Router>(context, object, Object::Router, move |present| {
                present.metadata.labels = given.metadata.labels;
                present.metadata.annotations = given.metadata.annotations;
            })
            .await
        }
        Object::Lease(_) => Err(Status::invalid_argument(NO_LEASES)),
    }
}

async fn replace<T: Viewed>(
    context: &Context,
    object: Object,
    wrap: fn(T) -> Object,
    change: impl FnOnce(&mut T) + Send + 'static,
) -> Result<Applied, Status> {
    let key = object.metadata().key();
    let stored = context
        .engine
        .change::<T>(&key, move |present| {
            let mut next = present.cloned();
            if let Some(next) = &mut next {
                change(next);
            }
            Ok(next)
        })
        .await?;
    let outcome = match &stored {
        Stored::Unchanged(_) => "unchanged",
        Stored::Absent | Stored::Deleted(_) => {
            let (object, token) = create(context, object).await?;
            return Ok(Applied {
                object,
                outcome: "created",
                token,
            });
        }
        Stored::Created(_) | Stored::Updated(_) => "configured",
    };
    Ok(Applied {
        object: wrap(kept(stored, &key)?),
        outcome,
        token: None,
    })
}

/// Replaces the `spec`; `generation` counts that.
fn spec<S: PartialEq>(metadata: &mut Metadata, present: &mut S, given: S) {
    if *present != given {
        *present = given;
        metadata.generation += 1;
    }
}

/// The labels that an administrator may set: those of the process are its own.
fn administrators(mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.retain(|key, _| !key.starts_with(PROCESS_LABEL_PREFIX));
    labels
}

fn kept<T: Viewed>(stored: Stored<T>, key: &Key) -> Result<T, Status> {
    match stored {
        Stored::Created(object) | Stored::Updated(object) | Stored::Unchanged(object) => {
            Ok(Arc::unwrap_or_clone(object))
        }
        Stored::Deleted(_) | Stored::Absent => Err(missing(T::KIND, key)),
    }
}

/// One object.
pub(super) async fn get(context: &Context, kind: Kind, key: &Key) -> Result<Object, Status> {
    let view = &context.view;
    let found = match kind {
        Kind::Client => view
            .get::<Client>(key)
            .map(|object| Object::Client(with_expiry(context, &object))),
        Kind::Exporter => view
            .get::<Exporter>(key)
            .map(|object| Object::Exporter(Exporter::clone(&object))),
        Kind::Lease => context
            .lease(key)
            .await?
            .map(|object| Object::Lease(Lease::clone(&object))),
        Kind::ExporterAccessPolicy => view
            .get::<AccessPolicy>(key)
            .map(|object| Object::Policy(AccessPolicy::clone(&object))),
        Kind::Administrator => view
            .get::<Administrator>(key)
            .map(|object| Object::Administrator(Administrator::clone(&object))),
        Kind::Router => view
            .get::<Router>(key)
            .map(|object| Object::Router(Router::clone(&object))),
    };
    found.ok_or_else(|| missing(kind, key))
}

/// The condition `TokenExpiring`, which follows from the time (facts: controller 1.1).
fn with_expiry(context: &Context, client: &Client) -> Client {
    const DAY: i64 = 24 * 3600;
    let mut client = client.clone();
    let Some(expires) = client.status.token_expires_at else {
        return client;
    };
    let now = context.now();
    let left = expires.as_second().saturating_sub(now.as_second());
    let (status, reason, since) = match left {
        ..=0 => ("True", "Expired", 0),
        _ if left <= 7 * DAY => ("True", "ExpiresWithin7Days", 7 * DAY),
        _ if left <= 30 * DAY => ("True", "ExpiresWithin30Days", 30 * DAY),
        _ => ("False", "Valid", left),
    };
    let since = jmp_types::Timestamp::from_second(expires.as_second() - since).unwrap_or(now);
    client.status.conditions = vec![Condition {
        kind: "TokenExpiring".into(),
        status: status.into(),
        reason: reason.into(),
        message: format!("the token ends at {expires}"),
        last_transition_time: since,
        observed_generation: client.metadata.generation,
    }];
    client
}

/// A list that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    kind: Kind,
    namespace: Option<String>,
    selector: LabelSelector,
    page: Page,
}

// === impl Listing ===

impl Listing {
    pub fn read(request: &ListResourcesRequest) -> Result<Self, Status> {
        let kind = parse_kind(&request.kind)?;
        let list = match kind {
            Kind::Client => "clients",
            Kind::Exporter => "admin exporters",
            // Its pages are read elsewhere.
            Kind::Lease => "leases",
            Kind::ExporterAccessPolicy => "policies",
            Kind::Administrator => "administrators",
            Kind::Router => "routers",
        };
        let namespace = (!request.namespace.is_empty()).then(|| request.namespace.clone());
        if let Some(namespace) = &namespace {
            check_namespace(namespace)?;
        }
        let ended = kind == Kind::Lease && request.include_ended;
        let token = if ended { "" } else { &request.page_token };
        Ok(Self {
            kind,
            namespace: namespace.filter(|_| !matches!(kind, Kind::Administrator | Kind::Router)),
            selector: selection::parse("selector", &request.selector, Code::InvalidArgument)?,
            page: Page::new(list, request.page_size, token)?,
        })
    }

    fn of<T: Viewed>(
        &self,
        context: &Context,
        wrap: impl Fn(&T) -> Object,
    ) -> ListResourcesResponse {
        let found = context.view.list::<T>(self.namespace.as_deref());
        let matching = found
            .iter()
            .filter(|object| self.selector.matches(&object.metadata().labels))
            .map(|object| (object.metadata().key(), object));
        let (resources, next_page_token) =
            self.page.take(matching, |object| resource(&wrap(object)));
        ListResourcesResponse {
            resources,
            next_page_token,
        }
    }
}

fn resource(object: &Object) -> Resource {
    Resource {
        manifest: object.to_json(),
    }
}

/// A page of objects.
pub(super) async fn list(
    context: &Context,
    request: &ListResourcesRequest,
) -> Result<ListResourcesResponse, Status> {
    let listing = Listing::read(request)?;
    Ok(match listing.kind {
        Kind::Client => listing.of::<Client>(context, |object| {
            Object::Client(with_expiry(context, object))
        }),
        Kind::Exporter => {
            listing.of::<Exporter>(context, |object| Object::Exporter(object.clone()))
        }
        Kind::ExporterAccessPolicy => {
            listing.of::<AccessPolicy>(context, |object| Object::Policy(object.clone()))
        }
        Kind::Administrator => {
            listing.of::<Administrator>(context, |object| Object::Administrator(object.clone()))
        }
        Kind::Router => listing.of::<Router>(context, |object| Object::Router(object.clone())),
        Kind::Lease => {
            let wanted = LeaseSelection {
                labels: listing.selector.clone(),
                only_active: !request.include_ended,
            };
            let at = (request.page_size, request.page_token.as_str());
            let (resources, next_page_token) = listed_leases(
                context,
                listing.namespace.as_deref(),
                &wanted,
                at,
                |lease| resource(&Object::Lease(lease.clone())),
            )
            .await?;
            ListResourcesResponse {
                resources,
                next_page_token,
            }
        }
    })
}

/// Deletes the object; of leases that is their end.
pub(super) async fn delete(context: &Context, kind: Kind, key: &Key) -> Result<Object, Status> {
    let always = || Ok(());
    Ok(match kind {
        Kind::Client => Object::Client(remove(context, key, always).await?),
        Kind::Exporter => Object::Exporter(remove(context, key, always).await?),
        Kind::ExporterAccessPolicy => Object::Policy(remove(context, key, always).await?),
        Kind::Router => Object::Router(remove(context, key, always).await?),
        Kind::Administrator => {
            let others = keeps_an_administrator(context, key);
            Object::Administrator(remove(context, key, others).await?)
        }
        Kind::Lease => {
            let lease = context
                .lease(key)
                .await?
                .ok_or_else(|| missing(kind, key))?;
            if lease.status.ended {
                return Err(Status::failed_precondition(format!(
                    "lease {key} has ended already"
                )));
            }
            let command = Command::Release {
                actor: Actor::Administrator,
                lease: key.clone(),
                method: "DeleteResource",
            };
            Object::Lease(Lease::clone(&*context.engine.command(command).await?))
        }
    })
}

async fn remove<T: Viewed>(
    context: &Context,
    key: &Key,
    allowed: impl FnOnce() -> Result<(), Status> + Send + 'static,
) -> Result<T, Status> {
    let change = |present: Option<&T>| match present {
        Some(_) => allowed().map(|()| None),
        None => Ok(None),
    };
    match context.engine.change::<T>(key, change).await? {
        Stored::Deleted(object) => Ok(Arc::unwrap_or_clone(object)),
        _ => Err(missing(T::KIND, key)),
    }
}

/// Somebody must be able to let others in. To be asked while nothing else changes: two administrators
/// may want to be rid of each other.
pub(super) fn keeps_an_administrator(
    context: &Context,
    key: &Key,
) -> impl FnOnce() -> Result<(), Status> + Send + 'static {
    let (view, key) = (Arc::clone(&context.view), key.clone());
    move || {
        let administrators = view.list::<Administrator>(None);
        let mut others = administrators
            .iter()
            .filter(|one| one.metadata.key() != key);
        if others.any(|other| !other.status.credential.revoked) {
            return Ok(());
        }
        Err(Status::failed_precondition(format!(
            "admin {} is the last one with a good token: make another one first",
            key.name
        )))
    }
}
