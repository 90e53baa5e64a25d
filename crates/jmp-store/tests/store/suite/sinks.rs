//! The audit record and the events of objects.

use jmp_store::{AuditQuery, StoreExt};
use jmp_types::resource::{Exporter, Kind};

use super::Shared;
use crate::content::{at, audit, event, exporter, key};

pub async fn audit_is_read_newest_first(store: Shared) {
    let records = vec![
        audit("client:lab:alice", "CreateLease", 10),
        audit("admin:root", "DeleteResource", 20),
        audit("client:lab:bob", "CreateLease", 30),
        audit("client:lab:alice", "DeleteLease", 40),
    ];
    let numbers = store.append_audit(records).await.expect("is kept");
    assert!(numbers.is_sorted() && numbers.len() == 4, "{numbers:?}");
    let all = AuditQuery {
        limit: 10,
        ..AuditQuery::default()
    };
    let found = async |query: AuditQuery| {
        let page = store.list_audit(query).await.expect("a page");
        let seconds: Vec<i64> = page
            .records
            .iter()
            .map(|record| record.time.as_second())
            .collect();
        (seconds, page.next)
    };
    assert_eq!(found(all.clone()).await, (vec![40, 30, 20, 10], None));
    let text = |text: &str| Some(text.to_owned());
    for (query, expected) in [
        (
            AuditQuery {
                actor: text("alice"),
                ..all.clone()
            },
            vec![40, 10],
        ),
        (
            AuditQuery {
                action: text("CreateLease"),
                ..all.clone()
            },
            vec![30, 10],
        ),
        (
            AuditQuery {
                action: text("Create"),
                ..all.clone()
            },
            vec![],
        ),
        (
            AuditQuery {
                resource: text("/one"),
                since: Some(at(30)),
                ..all.clone()
            },
            vec![40, 30],
        ),
        (
            AuditQuery {
                resource: text("/two"),
                ..all.clone()
            },
            vec![],
        ),
        (
            AuditQuery {
                until: Some(at(20)),
                ..all.clone()
            },
            vec![10],
        ),
        (
            AuditQuery {
                actor: text("100%_"),
                ..all
            },
            vec![],
        ),
    ] {
        assert_eq!(found(query.clone()).await.0, expected, "{query:?}");
    }
    let mut query = AuditQuery {
        limit: 2,
        actor: text("client"),
        ..AuditQuery::default()
    };
    let (seconds, next) = found(query.clone()).await;
    assert_eq!(seconds, [40, 30]);
    query.page_token = next;
    store
        .append_audit(vec![audit("client:lab:carol", "CreateLease", 50)])
        .await
        .expect("is kept");
    assert_eq!(found(query).await, (vec![10], None));
}

pub async fn audit_is_pruned_by_age(store: Shared) {
    let records = (1..=5)
        .map(|seconds| audit("admin:root", "Backup", seconds))
        .collect();
    let numbers = store.append_audit(records).await.expect("is kept");
    assert_eq!(store.prune_audit(at(4), 2).await.expect("is pruned"), 2);
    assert_eq!(store.prune_audit(at(4), 2).await.expect("is pruned"), 1);
    assert_eq!(store.prune_audit(at(4), 2).await.expect("is pruned"), 0);
    assert_eq!(store.prune_audit(at(9), 9).await.expect("is pruned"), 2);
    let later = store
        .append_audit(vec![audit("admin:root", "Backup", 6)])
        .await
        .expect("is kept");
    assert!(later[0] > numbers[4], "numbers never come again");
}

pub async fn events_are_kept_with_their_object(store: Shared) {
    let reasons = async |name: &str| {
        let events = store
            .list_events(Kind::Exporter, &key(name))
            .await
            .expect("are read");
        events
            .into_iter()
            .map(|event| event.reason)
            .collect::<Vec<_>>()
    };
    store.create(&exporter("one")).await.expect("is made");
    store.create(&exporter("two")).await.expect("is made");
    let mut anonymous = event("one", "Second");
    anonymous.uid.clear();
    let mut former = event("one", "Former");
    former.uid = "uid-of-an-earlier-one".into();
    let events = vec![
        event("one", "First"),
        anonymous,
        former,
        event("two", "Other"),
        event("absent", "Lost"),
    ];
    store.append_events(events).await.expect("are kept");
    assert_eq!(reasons("one").await, ["First", "Second"]);
    assert_eq!(reasons("two").await, ["Other"]);
    assert!(reasons("absent").await.is_empty());
    let found = store
        .list_events(Kind::Exporter, &key("one"))
        .await
        .expect("are read");
    assert_eq!(found[0], event("one", "First"));

    // Three are kept, also when the object changes.
    let more = vec![event("one", "Third"), event("one", "Fourth")];
    store.append_events(more).await.expect("are kept");
    let present = store
        .get::<Exporter>(&key("one"))
        .await
        .expect("is read")
        .expect("is there");
    store.update(&present).await.expect("has the revision");
    assert_eq!(reasons("one").await, ["Second", "Third", "Fourth"]);

    store
        .delete::<Exporter>(&key("one"), None)
        .await
        .expect("goes");
    store.create(&exporter("one")).await.expect("is made again");
    assert!(reasons("one").await.is_empty());
    assert_eq!(reasons("two").await, ["Other"]);
}
