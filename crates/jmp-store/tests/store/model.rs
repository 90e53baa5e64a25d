//! Random operations, on SQLite and on a model beside it; the file is opened again now and then. The model
//! is the store in memory.

use std::path::Path;

use jmp_store::{
    AuditQuery, AuditSink, EventSink, LeaseFilter, LeaseState, MemoryStore, Query, Revision,
    SqliteStore, Store, StoreError, Write,
};
use jmp_types::resource::{Exporter, Key, Kind, Lease};
use proptest::prelude::*;
use tokio::runtime;

use crate::content::{at, audit, ended, event, exporter, key, lease, open};

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Change>),
    PruneLeases {
        before: i64,
        limit: usize,
    },
    Audit(u8),
    PruneAudit {
        before: i64,
        limit: usize,
    },
    Event {
        name: u8,
        same_uid: bool,
    },
    List {
        state: LeaseState,
        client: Option<u8>,
        limit: usize,
    },
    Reopen,
}

#[derive(Clone, Debug)]
struct Change {
    what: What,
    is_lease: bool,
    name: u8,
    /// Whether the revision named is the present one.
    fresh: bool,
    ended: Option<u8>,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Create,
    Update,
    Delete,
}

fn change() -> impl Strategy<Value = Change> {
    let what =
        prop_oneof![3 => Just(What::Create), 4 => Just(What::Update), 2 => Just(What::Delete)];
    (
        what,
        any::<bool>(),
        0..5_u8,
        prop::bool::weighted(0.8),
        prop::option::of(0..20_u8),
    )
        .prop_map(|(what, is_lease, name, fresh, ended)| Change {
            what,
            is_lease,
            name,
            fresh,
            ended,
        })
}

fn step() -> impl Strategy<Value = Step> {
    let states = [LeaseState::Any, LeaseState::Live, LeaseState::Ended];
    prop_oneof![
        10 => prop::collection::vec(change(), 0..4).prop_map(Step::Apply),
        1 => (0..25_i64, 0..4_usize).prop_map(|(before, limit)| Step::PruneLeases { before, limit }),
        2 => (0..20_u8).prop_map(Step::Audit),
        1 => (0..25_i64, 0..4_usize).prop_map(|(before, limit)| Step::PruneAudit { before, limit }),
        3 => (0..5_u8, any::<bool>()).prop_map(|(name, same_uid)| Step::Event { name, same_uid }),
        3 => (prop::sample::select(states.to_vec()), prop::option::of(0..2_u8), 1..4_usize)
            .prop_map(|(state, client, limit)| Step::List { state, client, limit }),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_does_what_the_model_does(steps in prop::collection::vec(step(), 1..40)) {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(run(&folder.path().join("store.db"), steps));
    }
}

async fn run(path: &Path, steps: Vec<Step>) {
    let model = MemoryStore::with_options(crate::content::options());
    let mut store = open(path);
    for step in steps {
        match step {
            Step::Reopen => {
                store.close().await;
                store = open(path);
            }
            Step::Apply(changes) => {
                let writes = writes(&model, changes).await;
                let (found, expected) =
                    (store.apply(writes.clone()).await, model.apply(writes).await);
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.into_iter().zip(expected) {
                    assert_eq!(found.map_err(text), expected.map_err(text));
                }
            }
            other => {
                let found = ask(&store, &other).await;
                assert_eq!(found, ask(&model, &other).await, "{other:?}");
            }
        }
        assert_eq!(everything(&store).await, everything(&model).await);
    }
}

/// What the store says to that.
async fn ask<S: Store + AuditSink + EventSink>(store: &S, step: &Step) -> String {
    match step.clone() {
        Step::PruneLeases { before, limit } => {
            format!(
                "{:?}",
                store.prune_leases(at(before), limit).await.map_err(text)
            )
        }
        Step::Audit(seconds) => {
            let records =
                vec![audit("admin:root", "Backup", seconds.into()); usize::from(seconds % 3)];
            format!("{:?}", store.append_audit(records).await.map_err(text))
        }
        Step::PruneAudit { before, limit } => {
            format!(
                "{:?}",
                store.prune_audit(at(before), limit).await.map_err(text)
            )
        }
        Step::Event { name, same_uid } => {
            let mut event = event(&name.to_string(), "Happened");
            event.message = format!("{step:?}");
            if !same_uid {
                event.uid = "uid-of-another".into();
            }
            format!("{:?}", store.append_events(vec![event]).await.map_err(text))
        }
        Step::List {
            state,
            client,
            limit,
        } => {
            let client = client.map(|client| client.to_string());
            let filter = LeaseFilter {
                state,
                client,
                ..LeaseFilter::default()
            };
            let query = Query::new(Kind::Lease).leases(filter);
            let mut pages = String::new();
            let mut token = String::new();
            loop {
                let page = store
                    .list_objects(query.clone().page(limit, &token))
                    .await
                    .expect("a page");
                pages.push_str(&format!("{page:?}"));
                let Some(next) = page.next else { return pages };
                token = next;
            }
        }
        Step::Apply(_) | Step::Reopen => String::new(),
    }
}

async fn everything<S: Store + AuditSink + EventSink>(store: &S) -> String {
    let mut text = String::new();
    for kind in [Kind::Exporter, Kind::Lease] {
        let page = store.list_objects(Query::new(kind)).await.expect("a list");
        text.push_str(&format!("{page:?}"));
        for object in page.objects {
            let single = store.get_object(kind, &object.key).await.expect("is read");
            assert_eq!(single.as_ref(), Some(&object));
            let events = store
                .list_events(kind, &object.key)
                .await
                .expect("are read");
            text.push_str(&format!("{events:?}"));
        }
    }
    let all = AuditQuery {
        limit: 1000,
        ..AuditQuery::default()
    };
    let page = store.list_audit(all).await.expect("a page");
    text + &format!("{page:?}")
}

/// The writes, with revisions out of the model.
async fn writes(model: &MemoryStore, changes: Vec<Change>) -> Vec<Write> {
    let mut writes = Vec::new();
    for change in changes {
        let name = change.name.to_string();
        let kind = if change.is_lease {
            Kind::Lease
        } else {
            Kind::Exporter
        };
        let present = model.get_object(kind, &key(&name)).await.expect("is read");
        let revision = match present {
            Some(present) if change.fresh => present.revision.to_string(),
            _ => "1".into(),
        };
        writes.push(match (change.what, change.is_lease) {
            (What::Delete, _) => {
                let expected = change.ended.map(|_| Revision::from(revision));
                Write::Delete {
                    kind,
                    key: Key::new("lab", name),
                    expected,
                }
            }
            (what, true) => write(what, some_lease(&name, &change), &revision),
            (what, false) => write(what, some_exporter(&name, &change), &revision),
        });
    }
    writes
}

fn write<T: jmp_store::Resource>(what: What, mut object: T, revision: &str) -> Write {
    object.metadata_mut().resource_version = revision.into();
    match what {
        What::Update => Write::update(&object).expect("a write"),
        _ => Write::create(&object).expect("a write"),
    }
}

fn some_lease(name: &str, change: &Change) -> Lease {
    let client = (change.name % 2).to_string();
    match change.ended {
        Some(seconds) => ended(name, &client, "bench", seconds.into()),
        None => lease(name, &client),
    }
}

fn some_exporter(name: &str, change: &Change) -> Exporter {
    let mut exporter = exporter(name);
    exporter.status.status_message = format!("{change:?}");
    exporter
}

fn text(error: StoreError) -> String {
    error.to_string()
}

#[tokio::test]
async fn the_lock_goes_with_the_last_clone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let first = open(&path);
    let clone = first.clone();
    drop(first);
    assert!(SqliteStore::open(&path, &crate::content::options()).is_err());
    drop(clone);
    open(&path);
}
