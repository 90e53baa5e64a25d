//! What every store does. Each test runs over both.

mod sinks;
mod watching;

use std::collections::BTreeMap;
use std::sync::Arc;

use jmp_store::{
    AuditQuery, AuditSink, EventSink, LeaseFilter, LeaseState, MemoryStore, Query, Resource,
    Revision, Store, StoreError, StoreExt, Write,
};
use jmp_types::resource::{
    AccessPolicy, Administrator, Client, Exporter, Key, Kind, LabelSelector, Lease, Reference,
};

use self::sinks::*;
use self::watching::*;
use crate::content::{at, client, ended, exporter, key, lease, metadata, open, options};

pub trait Everything: Store + AuditSink + EventSink {}

impl<S: Store + AuditSink + EventSink> Everything for S {}

macro_rules! over_both {
    ($($name:ident)*) => {
        mod in_memory {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(std::sync::Arc::new(super::MemoryStore::with_options(super::options()))).await;
                }
            )*
        }

        mod in_sqlite {
            $(
                #[tokio::test]
                async fn $name() {
                    let folder = tempfile::tempdir().expect("a folder");
                    super::$name(std::sync::Arc::new(super::open(folder.path().join("store.db")))).await;
                }
            )*
        }
    };
}

over_both! {
    every_kind_comes_back_as_it_was
    creation_of_what_is_there_fails
    an_update_needs_the_present_revision
    deletion_may_name_a_revision
    revisions_never_come_again
    writes_of_a_batch_succeed_or_fail_by_themselves
    what_cannot_be_stored_is_refused
    pages_follow_the_names_while_objects_come_and_go
    foreign_page_tokens_are_refused
    labels_select
    leases_are_found_by_what_they_say
    ended_leases_are_pruned_oldest_first
    a_watch_goes_on_after_the_list
    a_watch_keeps_to_its_kind
    a_watch_that_lags_lists_again
    a_watch_from_elsewhere_lists_again
    audit_is_read_newest_first
    audit_is_pruned_by_age
    events_are_kept_with_their_object
}

pub type Shared = Arc<dyn Everything>;

async fn every_kind_comes_back_as_it_was(store: Shared) {
    async fn round<T: Resource + PartialEq + std::fmt::Debug>(store: &dyn Everything, object: T) {
        let stored = store.create(&object).await.expect("is made");
        assert!(!stored.metadata().resource_version.is_empty());
        let found = store
            .get::<T>(&object.metadata().key())
            .await
            .expect("is read");
        assert_eq!(found, Some(stored.clone()));
        let mut without = stored;
        without.metadata_mut().resource_version.clear();
        assert_eq!(without, object);
    }
    let store = &*store;
    let mut full = exporter("same-name");
    full.metadata
        .labels
        .insert("board".into(), "ä 'quoted' \u{1F600}".into());
    full.metadata.creation_timestamp = Some(at(5));
    round(store, full).await;
    round(store, client("same-name")).await;
    round(store, lease("same-name", "alice")).await;
    let policy = AccessPolicy {
        metadata: metadata("same-name"),
        ..AccessPolicy::default()
    };
    round(store, policy).await;
    let administrator = Administrator {
        metadata: metadata("same-name"),
        ..Administrator::default()
    };
    round(store, administrator).await;
    assert_eq!(
        store.get::<Client>(&key("other")).await.expect("is read"),
        None
    );
    let elsewhere = Key::new("elsewhere", "same-name");
    assert_eq!(
        store.get::<Client>(&elsewhere).await.expect("is read"),
        None
    );
}

async fn creation_of_what_is_there_fails(store: Shared) {
    let first = store.create(&exporter("one")).await.expect("is made");
    let error = store.create(&exporter("one")).await.expect_err("is there");
    assert!(error.is_already_exists(), "{error}");
    assert_eq!(store.get(&key("one")).await.expect("is read"), Some(first));
}

async fn an_update_needs_the_present_revision(store: Shared) {
    let first = store.create(&exporter("one")).await.expect("is made");
    let mut second = first.clone();
    second.spec.enabled = Some(false);
    let second = store.update(&second).await.expect("has the revision");
    assert_ne!(
        first.metadata.resource_version,
        second.metadata.resource_version
    );
    let error = store.update(&first).await.expect_err("has an old one");
    assert!(error.is_conflict(), "{error}");
    assert_eq!(
        store.get(&key("one")).await.expect("is read"),
        Some(second.clone())
    );
    let error = store.update(&exporter("one")).await.expect_err("has none");
    assert!(matches!(error, StoreError::Invalid { .. }), "{error}");
    store
        .delete::<Exporter>(&key("one"), None)
        .await
        .expect("goes");
    let error = store.update(&second).await.expect_err("is gone");
    assert!(error.is_not_found(), "{error}");
}

async fn deletion_may_name_a_revision(store: Shared) {
    let first = store.create(&exporter("one")).await.expect("is made");
    let second = store.update(&first).await.expect("has the revision");
    let old = Revision::from(first.metadata.resource_version);
    let error = store
        .delete::<Exporter>(&key("one"), Some(old))
        .await
        .expect_err("is old");
    assert!(error.is_conflict(), "{error}");
    let present = Revision::from(second.metadata.resource_version);
    let gone = store
        .delete::<Exporter>(&key("one"), Some(present.clone()))
        .await;
    assert_eq!(gone.expect("goes").metadata.uid, second.metadata.uid);
    for expected in [None, Some(present)] {
        let error = store
            .delete::<Exporter>(&key("one"), expected)
            .await
            .expect_err("is gone");
        assert!(error.is_not_found(), "{error}");
    }
}

async fn revisions_never_come_again(store: Shared) {
    let first = store.create(&exporter("one")).await.expect("is made");
    store
        .delete::<Exporter>(&key("one"), None)
        .await
        .expect("goes");
    let again = store.create(&exporter("one")).await.expect("is made again");
    assert_ne!(
        again.metadata.resource_version,
        first.metadata.resource_version
    );
    let error = store.update(&first).await.expect_err("is another");
    assert!(error.is_conflict(), "{error}");
}

async fn writes_of_a_batch_succeed_or_fail_by_themselves(store: Shared) {
    let present = store.create(&exporter("present")).await.expect("is made");
    let gone = Write::Delete {
        kind: Kind::Exporter,
        key: key("absent"),
        expected: None,
    };
    let answers = store
        .apply(vec![
            Write::create(&exporter("new")).expect("a write"),
            Write::create(&exporter("present")).expect("a write"),
            Write::update(&present).expect("a write"),
            gone,
        ])
        .await;
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0].as_ref().expect("is made").key, key("new"));
    assert!(
        answers[1]
            .as_ref()
            .is_err_and(StoreError::is_already_exists)
    );
    assert!(answers[2].is_ok());
    assert!(answers[3].as_ref().is_err_and(StoreError::is_not_found));
    assert_eq!(
        names(&*store, Query::new(Kind::Exporter)).await,
        ["new", "present"]
    );
    assert!(store.apply(Vec::new()).await.is_empty());
}

async fn what_cannot_be_stored_is_refused(store: Shared) {
    let mut large = exporter("large");
    large.status.endpoint = "x".repeat(jmp_store::MAXIMUM_OBJECT_BYTES);
    let mut nowhere = exporter("nowhere");
    nowhere.metadata.namespace.clear();
    for object in [exporter(""), nowhere, large] {
        let error = store.create(&object).await.expect_err("cannot be stored");
        assert!(matches!(error, StoreError::Invalid { .. }), "{error}");
    }
    assert!(names(&*store, Query::new(Kind::Exporter)).await.is_empty());
}

async fn pages_follow_the_names_while_objects_come_and_go(store: Shared) {
    for name in ["b", "d", "f", "h", "Z", "ä"] {
        store.create(&exporter(name)).await.expect("is made");
    }
    let mut elsewhere = exporter("a");
    elsewhere.metadata.namespace = "workshop".into();
    store.create(&elsewhere).await.expect("is made");

    let page = store
        .list::<Exporter>(Query::new(Kind::Exporter).page(2, ""))
        .await
        .expect("a page");
    assert_eq!(called(&page.items), ["Z", "b"]);
    // The last of that page goes, one comes before the next page and one into it.
    store
        .delete::<Exporter>(&key("b"), None)
        .await
        .expect("goes");
    store.create(&exporter("a")).await.expect("is made");
    store.create(&exporter("c")).await.expect("is made");
    let next = page.next.expect("there are more");
    let page = store
        .list::<Exporter>(Query::new(Kind::Exporter).page(3, &next))
        .await
        .expect("a page");
    assert_eq!(called(&page.items), ["c", "d", "f"]);
    let next = page.next.expect("there are more");
    let page = store
        .list::<Exporter>(Query::new(Kind::Exporter).page(3, &next))
        .await
        .expect("a page");
    assert_eq!(called(&page.items), ["h", "ä", "a"]);
    assert_eq!(page.next, None);

    let inside = Query::new(Kind::Exporter).namespace("workshop");
    assert_eq!(names(&*store, inside).await, ["a"]);
}

async fn foreign_page_tokens_are_refused(store: Shared) {
    for name in ["a", "b"] {
        store.create(&exporter(name)).await.expect("is made");
    }
    let query = Query::new(Kind::Exporter).namespace("lab").page(1, "");
    let token = store
        .list_objects(query)
        .await
        .expect("a page")
        .next
        .expect("there are more");
    let elsewhere = Query::new(Kind::Exporter).namespace("workshop");
    for query in [
        Query::new(Kind::Client).page(1, &token),
        elsewhere.page(1, &token),
        Query::new(Kind::Exporter).page(1, "garbage!"),
        Query::new(Kind::Exporter).page(1, "Z2FyYmFnZQ"),
    ] {
        let error = store.list_objects(query).await.expect_err("is foreign");
        assert!(matches!(error, StoreError::PageToken), "{error}");
    }
    let query = AuditQuery {
        limit: 1,
        page_token: Some("garbage".into()),
        ..AuditQuery::default()
    };
    let error = store.list_audit(query).await.expect_err("is foreign");
    assert!(matches!(error, StoreError::PageToken), "{error}");
}

async fn labels_select(store: Shared) {
    for (name, board) in [("a", "rpi"), ("b", "imx"), ("c", "rpi"), ("d", "rpi")] {
        let mut exporter = exporter(name);
        exporter
            .metadata
            .labels
            .insert("board".into(), board.into());
        store.create(&exporter).await.expect("is made");
    }
    let rpi = LabelSelector {
        match_labels: BTreeMap::from([("board".into(), "rpi".into())]),
        ..LabelSelector::default()
    };
    let query = Query::new(Kind::Exporter).labels(rpi);
    assert_eq!(names(&*store, query.clone()).await, ["a", "c", "d"]);
    let page = store
        .list::<Exporter>(query.clone().page(2, ""))
        .await
        .expect("a page");
    assert_eq!(called(&page.items), ["a", "c"]);
    let page = store
        .list::<Exporter>(query.page(2, &page.next.expect("there are more")))
        .await;
    assert_eq!(called(&page.expect("a page").items), ["d"]);
}

async fn leases_are_found_by_what_they_say(store: Shared) {
    let mut assigned = lease("a", "alice");
    assigned.status.exporter_ref = Some(Reference::new("bench"));
    for lease in [
        assigned,
        lease("b", "bob"),
        ended("c", "alice", "bench", 10),
        ended("d", "alice", "shelf", 20),
        ended("e", "bob", "bench", 30),
    ] {
        store.create(&lease).await.expect("is made");
    }
    let alice = Some("alice".to_owned());
    let bench = Some("bench".to_owned());
    let any = LeaseFilter::default();
    let live = LeaseFilter {
        state: LeaseState::Live,
        ..any.clone()
    };
    let over = LeaseFilter {
        state: LeaseState::Ended,
        ..any.clone()
    };
    for (filter, expected) in [
        (any.clone(), "abcde"),
        (live.clone(), "ab"),
        (over.clone(), "cde"),
        (
            LeaseFilter {
                client: alice.clone(),
                ..any.clone()
            },
            "acd",
        ),
        (
            LeaseFilter {
                client: alice.clone(),
                ..live.clone()
            },
            "a",
        ),
        (
            LeaseFilter {
                client: alice.clone(),
                ..over.clone()
            },
            "cd",
        ),
        (
            LeaseFilter {
                exporter: bench.clone(),
                ..any.clone()
            },
            "ace",
        ),
        (
            LeaseFilter {
                exporter: bench.clone(),
                ..over.clone()
            },
            "ce",
        ),
        (
            LeaseFilter {
                exporter: bench,
                client: alice,
                ..over.clone()
            },
            "c",
        ),
        (
            LeaseFilter {
                ended_since: Some(at(20)),
                ..any.clone()
            },
            "de",
        ),
        (
            LeaseFilter {
                ended_before: Some(at(20)),
                ..over
            },
            "c",
        ),
        (
            LeaseFilter {
                ended_before: Some(at(30)),
                ended_since: Some(at(20)),
                ..any
            },
            "d",
        ),
        (
            LeaseFilter {
                ended_before: Some(at(30)),
                ..live
            },
            "",
        ),
    ] {
        let query = Query::new(Kind::Lease).leases(filter.clone());
        assert_eq!(
            names(&*store, query.clone()).await.concat(),
            expected,
            "{filter:?}"
        );
        let mut paged = String::new();
        let mut token = String::new();
        loop {
            let page = store
                .list::<Lease>(query.clone().page(1, &token))
                .await
                .expect("a page");
            paged.push_str(&called(&page.items).concat());
            let Some(next) = page.next else { break };
            token = next;
        }
        assert_eq!(paged, expected, "{filter:?} in pages");
    }

    let mut over = store
        .get::<Lease>(&key("a"))
        .await
        .expect("is read")
        .expect("is there");
    over.status.ended = true;
    store.update(&over).await.expect("has the revision");
    assert_eq!(names(&*store, Query::live_leases()).await, ["b"]);
}

async fn ended_leases_are_pruned_oldest_first(store: Shared) {
    for (name, seconds) in [("a", 40), ("b", 10), ("c", 30), ("d", 20)] {
        store
            .create(&ended(name, "alice", "bench", seconds))
            .await
            .expect("is made");
    }
    store
        .create(&lease("live", "alice"))
        .await
        .expect("is made");
    assert_eq!(store.prune_leases(at(40), 2).await.expect("is pruned"), 2);
    assert_eq!(
        names(&*store, Query::new(Kind::Lease)).await,
        ["a", "c", "live"]
    );
    assert_eq!(store.prune_leases(at(40), 2).await.expect("is pruned"), 1);
    assert_eq!(store.prune_leases(at(40), 2).await.expect("is pruned"), 0);
    assert_eq!(names(&*store, Query::new(Kind::Lease)).await, ["a", "live"]);
    assert_eq!(store.prune_leases(at(41), 2).await.expect("is pruned"), 1);
}

async fn names(store: &dyn Everything, query: Query) -> Vec<String> {
    let page = store.list_objects(query).await.expect("a list");
    assert_eq!(page.next, None);
    page.objects
        .into_iter()
        .map(|object| object.key.name)
        .collect()
}

fn called<T: Resource>(objects: &[T]) -> Vec<&str> {
    objects
        .iter()
        .map(|object| object.metadata().name.as_str())
        .collect()
}
