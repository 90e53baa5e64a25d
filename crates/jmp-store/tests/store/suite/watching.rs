//! Watching.

use jmp_store::{Query, Revision, StoreExt, Watch, WatchEvent};
use jmp_types::resource::{Exporter, Key, Kind};
use tokio::time::timeout;

use super::Shared;
use crate::content::{PATIENCE, client, exporter, key};

pub async fn a_watch_goes_on_after_the_list(store: Shared) {
    let first = store.create(&exporter("one")).await.expect("is made");
    let listed = store
        .list_objects(Query::new(Kind::Exporter))
        .await
        .expect("a list");
    let mut watch = store.watch(Kind::Exporter, &listed.revision);
    let changed = store.update(&first).await.expect("has the revision");
    store.create(&exporter("two")).await.expect("is made");
    store
        .delete::<Exporter>(&key("one"), None)
        .await
        .expect("goes");

    assert_eq!(change(&mut watch).await, (key("one"), false));
    assert_eq!(change(&mut watch).await, (key("two"), false));
    assert_eq!(change(&mut watch).await, (key("one"), true));
    // One that begins in between sees the rest, and what comes while it waits.
    let mut later = store.watch(Kind::Exporter, &changed.metadata.resource_version.into());
    assert_eq!(change(&mut later).await, (key("two"), false));
    assert_eq!(change(&mut later).await, (key("one"), true));
    let (next, made) = tokio::join!(change(&mut later), async {
        tokio::task::yield_now().await;
        store.create(&exporter("three")).await
    });
    made.expect("is made");
    assert_eq!(next, (key("three"), false));
}

pub async fn a_watch_keeps_to_its_kind(store: Shared) {
    let listed = store
        .list_objects(Query::new(Kind::Exporter))
        .await
        .expect("a list");
    let mut watch = store.watch(Kind::Exporter, &listed.revision);
    // More than the history holds: those that keep up do not mind changes of other kinds.
    for number in 0..20 {
        store
            .create(&client(&format!("client-{number}")))
            .await
            .expect("is made");
        assert!(
            timeout(std::time::Duration::ZERO, watch.next())
                .await
                .is_err()
        );
    }
    store.create(&exporter("one")).await.expect("is made");
    assert_eq!(change(&mut watch).await, (key("one"), false));
}

pub async fn a_watch_that_lags_lists_again(store: Shared) {
    let listed = store
        .list_objects(Query::new(Kind::Exporter))
        .await
        .expect("a list");
    let mut watch = store.watch(Kind::Exporter, &listed.revision);
    for number in 0..9 {
        store
            .create(&exporter(&format!("exporter-{number}")))
            .await
            .expect("is made");
    }
    assert_eq!(next(&mut watch).await, Some(WatchEvent::Relist));
    assert_eq!(next(&mut watch).await, None);
    let listed = store
        .list_objects(Query::new(Kind::Exporter))
        .await
        .expect("a list");
    assert_eq!(listed.objects.len(), 9);
    let mut watch = store.watch(Kind::Exporter, &listed.revision);
    store
        .delete::<Exporter>(&key("exporter-3"), None)
        .await
        .expect("goes");
    assert_eq!(change(&mut watch).await, (key("exporter-3"), true));
}

pub async fn a_watch_from_elsewhere_lists_again(store: Shared) {
    for revision in ["", "garbage", "4711"] {
        let mut watch = store.watch(Kind::Exporter, &Revision::from(revision));
        assert_eq!(
            next(&mut watch).await,
            Some(WatchEvent::Relist),
            "{revision}"
        );
    }
}

async fn next(watch: &mut Watch) -> Option<WatchEvent> {
    timeout(PATIENCE, watch.next())
        .await
        .expect("comes in time")
}

/// What changed, and whether it is gone.
async fn change(watch: &mut Watch) -> (Key, bool) {
    match next(watch).await {
        Some(WatchEvent::Changed(object)) => (object.key, false),
        Some(WatchEvent::Deleted(object)) => (object.key, true),
        other => panic!("no change, but {other:?}"),
    }
}
