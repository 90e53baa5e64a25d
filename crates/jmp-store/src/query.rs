//! What can be asked for, and the tokens that continue a list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jmp_types::Timestamp;
use jmp_types::resource::{Key, Kind, LabelSelector, Metadata};
use serde::Deserialize;

use crate::StoreError;
use crate::object::{LeaseFacets, Object, Revision};

/// Which objects of one kind, in the order of namespace and name.
#[derive(Clone, Debug)]
pub struct Query {
    /// The kind.
    pub kind: Kind,
    /// Only of this namespace.
    pub namespace: Option<String>,
    /// Only with labels that satisfy this.
    pub labels: LabelSelector,
    /// Only such leases. Means nothing for other kinds.
    pub leases: LeaseFilter,
    /// At most so many; all of them at once without.
    pub limit: Option<usize>,
    /// Continues where the page ended that came with this token.
    pub page_token: Option<String>,
}

/// Conditions on leases, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseFilter {
    /// Over or not.
    pub state: LeaseState,
    /// Held by the client of this name.
    pub client: Option<String>,
    /// Has, or had, the exporter of this name.
    pub exporter: Option<String>,
    /// Ended at this time or later. Implies that it ended.
    pub ended_since: Option<Timestamp>,
    /// Ended before this time. Implies that it ended.
    pub ended_before: Option<Timestamp>,
}

/// Whether leases are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaseState {
    /// All leases.
    #[default]
    Any,
    /// Those that wait, hold an exporter, or will. Costs nothing for those that ended.
    Live,
    /// Those that are over.
    Ended,
}

/// A part of a list, or all of it.
#[derive(Clone, Debug)]
pub struct Page {
    /// The objects.
    pub objects: Vec<Object>,
    /// What to ask for the next part with; nothing when this was the last one. Stays good while objects
    /// come and go: the next part begins after the last name of this one. A cluster may forget it after
    /// some minutes and answer [`StoreError::PageToken`].
    pub next: Option<String>,
    /// The state of the store that this was read from: [`Store::watch`](crate::Store::watch) goes on from here.
    pub revision: Revision,
}

// === impl Query ===

impl Query {
    /// All objects of that kind.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            namespace: None,
            labels: LabelSelector::default(),
            leases: LeaseFilter::default(),
            limit: None,
            page_token: None,
        }
    }

    /// All leases that are not over.
    #[must_use]
    pub fn live_leases() -> Self {
        Self::new(Kind::Lease).leases(LeaseFilter {
            state: LeaseState::Live,
            ..LeaseFilter::default()
        })
    }

    /// Only of this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Only with such labels.
    #[must_use]
    pub fn labels(mut self, labels: LabelSelector) -> Self {
        self.labels = labels;
        self
    }

    /// Only such leases.
    #[must_use]
    pub fn leases(mut self, filter: LeaseFilter) -> Self {
        self.leases = filter;
        self
    }

    /// At most so many, after the page with that token; an empty token begins at the beginning.
    #[must_use]
    pub fn page(mut self, limit: usize, token: &str) -> Self {
        self.limit = Some(limit);
        self.page_token = (!token.is_empty()).then(|| token.to_owned());
        self
    }

    /// The key after which the list goes on.
    pub(crate) fn after(&self) -> Result<Option<Key>, StoreError> {
        let Some(token) = &self.page_token else {
            return Ok(None);
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| StoreError::PageToken)?;
        let (kind, namespace, name): (Kind, String, String) =
            serde_json::from_slice(&bytes).map_err(|_| StoreError::PageToken)?;
        if kind != self.kind || self.namespace.as_ref().is_some_and(|own| *own != namespace) {
            return Err(StoreError::PageToken);
        }
        Ok(Some(Key::new(namespace, name)))
    }

    /// Whether the labels of the object are wanted.
    pub(crate) fn labels_match(&self, json: &str) -> bool {
        #[derive(Deserialize)]
        struct Labelled {
            metadata: Metadata,
        }
        self.labels.is_empty()
            || serde_json::from_str::<Labelled>(json)
                .is_ok_and(|object| self.labels.matches(&object.metadata.labels))
    }

    /// A page of these, the last of which may be one too many: that only tells that there are more.
    pub(crate) fn finish(&self, mut objects: Vec<Object>, revision: u64) -> Page {
        let mut next = None;
        if let Some(limit) = self.limit
            && objects.len() > limit
        {
            objects.truncate(limit);
            next = objects.last().map(|last| token(self.kind, &last.key));
        }
        Page {
            objects,
            next,
            revision: Revision::of(revision),
        }
    }

    /// How many objects [`Query::finish`] wants to see.
    pub(crate) fn wanted(&self) -> usize {
        self.limit
            .map_or(usize::MAX, |limit| limit.saturating_add(1))
    }
}

fn token(kind: Kind, last: &Key) -> String {
    let text = serde_json::json!([kind, last.namespace, last.name]).to_string();
    URL_SAFE_NO_PAD.encode(text)
}

// === impl LeaseFilter ===

impl LeaseFilter {
    /// Whether a lease with these facets is wanted; `None` is an object that is no lease.
    pub(crate) fn matches(&self, facets: Option<&LeaseFacets>) -> bool {
        let Some(facets) = facets else { return true };
        let state = match self.state {
            LeaseState::Any => true,
            LeaseState::Live => facets.ended.is_none(),
            LeaseState::Ended => facets.ended.is_some(),
        };
        let since = self.ended_since.map(Timestamp::as_microsecond);
        let before = self.ended_before.map(Timestamp::as_microsecond);
        state
            && self
                .client
                .as_ref()
                .is_none_or(|name| *name == facets.client)
            && self
                .exporter
                .as_ref()
                .is_none_or(|name| facets.exporter.as_ref() == Some(name))
            && since.is_none_or(|since| facets.ended.is_some_and(|ended| ended >= since))
            && before.is_none_or(|before| facets.ended.is_some_and(|ended| ended < before))
    }
}
