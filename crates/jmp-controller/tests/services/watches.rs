//! Watching leases and exporters, and describing them.

use std::time::Duration;

use jmp_proto::jmp::v1::{DescribeResourceRequest, WatchLeaseRequest};
use jmp_proto::jumpstarter::client::v1::{
    DeleteLeaseRequest, ListExportersRequest, ListLeasesRequest,
};
use jmp_proto::v1::ExporterStatus;
use serde_json::{Value, json};
use tonic::Code;

use crate::lab::{Lab, ask, get, manifest, refused, until_ready};

fn delete(name: &str) -> DeleteLeaseRequest {
    DeleteLeaseRequest { name: name.into() }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_watched_from_the_queue_to_its_end() {
    let lab = Lab::new().await;
    let mut device = lab.exporter("bench", "a").await;
    let (mut first, _) = lab.client("first").await;
    let (mut me, token) = lab.client("me").await;
    let held = first
        .create_lease(ask("board=a"))
        .await
        .unwrap()
        .into_inner();
    until_ready(&mut first, &held.name).await;
    device.leased(true).await;
    device.report(ExporterStatus::LeaseReady).await;
    let ahead = first
        .create_lease(ask("board=a"))
        .await
        .unwrap()
        .into_inner();
    let mine = me.create_lease(ask("board=a")).await.unwrap().into_inner();
    let mut watcher = lab.watcher("me", &token).await;
    let watch = WatchLeaseRequest {
        name: mine.name.clone(),
    };
    let mut stream = watcher
        .watch_lease(watch.clone())
        .await
        .unwrap()
        .into_inner();
    let state = stream.message().await.unwrap().unwrap();
    let queue = state.queue.expect("it waits");
    assert_eq!((queue.position, queue.length), (2, 2));
    assert_eq!(queue.candidates[0].exporter, "bench");
    assert_eq!(queue.candidates[0].client.as_deref(), Some("first"));
    assert!(queue.candidates[0].until.is_some());
    // Somebody else's change moves it.
    first.delete_lease(delete(&ahead.name)).await.unwrap();
    let state = stream.message().await.unwrap().unwrap();
    assert_eq!(state.queue.unwrap().position, 1);
    first.delete_lease(delete(&held.name)).await.unwrap();
    device.leased(false).await;
    device.report(ExporterStatus::Available).await;
    let assigned = loop {
        let state = stream.message().await.unwrap().unwrap();
        if state.lease.as_ref().unwrap().exporter.is_some() {
            break state;
        }
    };
    assert!(assigned.queue.is_none());
    me.delete_lease(delete(&mine.name)).await.unwrap();
    let ended = stream.message().await.unwrap().unwrap().lease.unwrap();
    assert!(ended.effective_end_time.is_some());
    assert!(
        stream.message().await.unwrap().is_none(),
        "nothing follows the end"
    );
    // A watch of an ended lease is one message.
    let mut stream = watcher.watch_lease(watch).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    assert!(stream.message().await.unwrap().is_none());
    let missing = WatchLeaseRequest {
        name: "namespaces/default/leases/none".into(),
    };
    refused(
        watcher.watch_lease(missing).await,
        Code::NotFound,
        "not found",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn leases_come_into_a_filter_and_leave_it() {
    let lab = Lab::new().await;
    let (mut me, token) = lab.client("me").await;
    lab.registered("bench", "a").await;
    let before = me.create_lease(ask("board=a")).await.unwrap().into_inner();
    let mut watcher = lab.watcher("me", &token).await;
    let request = ListLeasesRequest {
        parent: "namespaces/default".into(),
        filter: "board=a".into(),
        ..ListLeasesRequest::default()
    };
    let mut stream = watcher
        .watch_leases(request.clone())
        .await
        .unwrap()
        .into_inner();
    let change = stream.message().await.unwrap().unwrap();
    assert_eq!(change.state.unwrap().lease.unwrap().name, before.name);
    assert!(stream.message().await.unwrap().unwrap().synchronized);
    let mut request_b = ask("board=b");
    request_b.lease.as_mut().unwrap().exporter_name = None;
    // Refused or ended at once: nobody has such a board. Not among those that are watched anyway.
    let _ = me.create_lease(request_b).await;
    let added = me.create_lease(ask("board=a")).await.unwrap().into_inner();
    let change = stream.message().await.unwrap().unwrap();
    assert!(!change.removed);
    assert_eq!(change.state.unwrap().lease.unwrap().name, added.name);
    me.delete_lease(delete(&before.name)).await.unwrap();
    let gone = loop {
        let change = stream.message().await.unwrap().unwrap();
        if change.removed {
            break change.state.unwrap().lease.unwrap();
        }
    };
    assert_eq!(gone.name, before.name);
    // With ended ones it is changed, not removed.
    let all = ListLeasesRequest {
        only_active: Some(false),
        ..request
    };
    let mut stream = watcher.watch_leases(all).await.unwrap().into_inner();
    let mut names = Vec::new();
    loop {
        let change = stream.message().await.unwrap().unwrap();
        if change.synchronized {
            break;
        }
        names.push(change.state.unwrap().lease.unwrap().name);
    }
    assert_eq!(names.len(), 2);
    me.delete_lease(delete(&added.name)).await.unwrap();
    let change = stream.message().await.unwrap().unwrap();
    assert!(!change.removed);
    assert!(
        change
            .state
            .unwrap()
            .lease
            .unwrap()
            .effective_end_time
            .is_some()
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn exporters_are_watched() {
    let lab = Lab::new().await;
    let (_, token) = lab.client("me").await;
    let secret = lab.registered("bench", "a").await;
    let mut watcher = lab.watcher("me", &token).await;
    let request = ListExportersRequest {
        parent: "namespaces/default".into(),
        filter: "board=a".into(),
        ..ListExportersRequest::default()
    };
    let mut stream = watcher.watch_exporters(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().unwrap().exporter.is_some());
    assert!(stream.message().await.unwrap().unwrap().synchronized);
    let _device = lab.start("bench", &secret).await;
    let available = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let change = stream.message().await.unwrap().unwrap();
            if change.exporter.unwrap().status() == ExporterStatus::Available {
                return;
            }
        }
    });
    available.await.unwrap();
    let mut other = manifest("Exporter", "bench", json!({}));
    other["metadata"]["labels"] = json!({ "board": "b" });
    lab.apply(other).await.unwrap();
    loop {
        let change = stream.message().await.unwrap().unwrap();
        if change.removed {
            assert_eq!(
                change.exporter.unwrap().name,
                "namespaces/default/exporters/bench"
            );
            break;
        }
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn objects_are_described_without_secrets() {
    let lab = Lab::new().await;
    let _device = lab.exporter("bench", "a").await;
    let (mut me, token) = lab.client("me").await;
    let lease = me.create_lease(ask("board=a")).await.unwrap().into_inner();
    until_ready(&mut me, &lease.name).await;
    let mut watcher = lab.watcher("me", &token).await;
    let describe = |name: &str| DescribeResourceRequest { name: name.into() };
    let found = watcher
        .describe(describe(&lease.name))
        .await
        .unwrap()
        .into_inner();
    let object: Value = serde_json::from_str(&found.resource).unwrap();
    assert_eq!(object["kind"], "Lease");
    assert_eq!(object["status"]["exporterRef"]["name"], "bench");
    // Another one waits, and describes how things stand now.
    let waiting = me.create_lease(ask("board=a")).await.unwrap().into_inner();
    let found = watcher.describe(describe(&waiting.name)).await.unwrap();
    let object: Value = serde_json::from_str(&found.into_inner().resource).unwrap();
    let condition = &object["status"]["conditions"][0];
    assert_eq!(condition["type"], "Pending");
    let message = condition["message"].as_str().unwrap();
    assert!(message.contains("place 1 of 1"), "{message}");
    let name = "namespaces/default/exporters/bench";
    let found = watcher.describe(describe(name)).await.unwrap().into_inner();
    let object: Value = serde_json::from_str(&found.resource).unwrap();
    assert_eq!(object["status"]["credential"]["tokenId"], "");
    for (name, code) in [
        ("namespaces/default/leases/none", Code::NotFound),
        ("namespaces/default/exporters/none", Code::NotFound),
        ("namespaces/default/clients/me", Code::InvalidArgument),
        ("namespaces/lab/leases/a", Code::PermissionDenied),
    ] {
        refused(watcher.describe(describe(name)).await, code, "");
    }
    me.get_lease(get(&lease.name)).await.unwrap();
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_client_has_a_bounded_number_of_watches() {
    let lab = Lab::new().await;
    let (_, token) = lab.client("me").await;
    let mut watcher = lab.watcher("me", &token).await;
    let request = ListLeasesRequest {
        parent: "namespaces/default".into(),
        ..ListLeasesRequest::default()
    };
    let mut open = Vec::new();
    let refusal = loop {
        match watcher.watch_leases(request.clone()).await {
            Ok(stream) => open.push(stream),
            Err(status) => break status,
        }
        assert!(open.len() < 200);
    };
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    lab.stop().await;
}
