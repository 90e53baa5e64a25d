//! A store that fails: who asked is told, what was acknowledged stays, and it goes on.

use std::sync::Arc;
use std::time::Duration;

use jmp_proto::jumpstarter::client::v1::{CreateLeaseRequest, ListLeasesRequest};
use jmp_proto::v1;
use jmp_store::{MemoryStore, StoreError};
use tonic::Code;

use crate::lab::{Lab, ask, refused};
use crate::world::{FakeRouter, World, controller_calls, dial, leased, listen, release};

fn full() -> StoreError {
    StoreError::Full(Arc::from("/data/store.db"))
}

fn broken() -> StoreError {
    StoreError::Failed {
        place: Arc::from("/data/store.db"),
        reason: Arc::from("input/output error"),
    }
}

fn named(board: &str, name: &str) -> CreateLeaseRequest {
    CreateLeaseRequest {
        lease_id: name.into(),
        ..ask(&format!("board={board}"))
    }
}

async fn names(lab: &Lab, token: &str) -> Vec<String> {
    let list = ListLeasesRequest {
        parent: "namespaces/default".into(),
        ..ListLeasesRequest::default()
    };
    let mut me = lab.client_with("me", token).await;
    let listed = me.list_leases(list).await.unwrap().into_inner();
    let name = |lease: &jmp_proto::jumpstarter::client::v1::Lease| {
        lease.name.rsplit('/').next().unwrap().to_owned()
    };
    listed.leases.iter().map(name).collect()
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_said_and_nothing_acknowledged_is_lost() {
    let mut world = World::new(MemoryStore::new());
    let lab = world.start().await;
    let mut device = lab.exporter("bench", "a").await;
    let (mut me, token) = lab.client("me").await;
    let held = leased(&lab, &mut device, "me", &token, "a").await;
    me.create_lease(named("a", "kept")).await.unwrap();
    world.store.fail_writes(2, full());
    refused(
        me.create_lease(named("a", "lost")).await,
        Code::ResourceExhausted,
        "/data/store.db is full; make room and retry",
    );
    world.store.fail_writes(0, full());
    assert_eq!(names(&lab, &token).await.len(), 2);
    me.create_lease(named("a", "later")).await.unwrap();
    // Everything goes on as it was: the holder holds, those that wait keep their order.
    release(&lab, "me", &token, &held).await;
    device.leased(false).await;
    device.report(v1::ExporterStatus::Available).await;
    let next = device.leased(true).await;
    assert_eq!(next.lease_name.as_deref(), Some("kept"));
    lab.stop().await;
    // And it is what a restart finds.
    let lab = world.start().await;
    let mut found = names(&lab, &token).await;
    found.sort();
    assert_eq!(found, ["kept", "later"]);
    lab.stop().await;
}

/// A report must survive it: shipped exporters repeat it after UNAVAILABLE only.
#[tokio::test(start_paused = true)]
async fn exporters_are_asked_to_report_again() {
    let mut world = World::new(MemoryStore::new());
    let lab = world.start().await;
    let mut device = lab.exporter("bench", "a").await;
    let (_, token) = lab.client("me").await;
    let held = leased(&lab, &mut device, "me", &token, "a").await;
    for error in [full(), broken()] {
        world.store.fail_writes(1, error);
        let report = v1::ReportStatusRequest {
            status: v1::ExporterStatus::AfterLeaseHook.into(),
            ..v1::ReportStatusRequest::default()
        };
        refused(
            device.calls.report_status(report).await,
            Code::Unavailable,
            "/data/store.db",
        );
    }
    world.store.fail_writes(0, full());
    device.report(v1::ExporterStatus::LeaseReady).await;
    release(&lab, "me", &token, &held).await;
    device.leased(false).await;
    lab.stop().await;
}

/// While it cannot be read either, everything is refused, health says so, and it comes back by itself.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_comes_back_by_itself() {
    let mut world = World::new(MemoryStore::new());
    let lab = world.start().await;
    let mut device = lab.exporter("bench", "a").await;
    let (mut me, token) = lab.client("me").await;
    let held = leased(&lab, &mut device, "me", &token, "a").await;
    me.create_lease(named("a", "waiting")).await.unwrap();
    world.store.fail_writes(1, broken());
    world.store.fail_reads(10_000, broken());
    let answer = me.create_lease(ask("board=a")).await;
    refused(answer, Code::Unavailable, "input/output error");
    assert!(!lab.controller.context().is_ready());
    let answer = me.create_lease(ask("board=a")).await;
    refused(
        answer,
        Code::Unavailable,
        "store is not available; try again",
    );
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.store.fail_reads(0, broken());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(lab.controller.context().is_ready());
    // The stream of the exporter stayed open and still counts.
    release(&lab, "me", &token, &held).await;
    device.leased(false).await;
    device.report(v1::ExporterStatus::Available).await;
    let next = device.leased(true).await;
    assert_eq!(next.lease_name.as_deref(), Some("waiting"));
    lab.stop().await;
}

/// The write happened, but the store said that it failed.
#[tokio::test(start_paused = true)]
async fn what_was_written_after_all_takes_its_effect() {
    let mut world = World::new(MemoryStore::new());
    let lab = world.start().await;
    let mut router = FakeRouter::new(&lab, "east", &[]).await;
    let mut device = lab.exporter("bench", "a").await;
    let (_, token) = lab.client("me").await;
    let held = leased(&lab, &mut device, "me", &token, "a").await;
    let _listening = listen(&mut device, &held).await;
    let mut calls = controller_calls(&lab, "Client", "me", &token).await;
    calls.dial(dial(&held)).await.unwrap();
    // Another process of the lab wrote to the store: here, the end of the lease.
    let key = jmp_types::resource::Key::new("default", held.clone());
    let mut lease: jmp_types::resource::Lease = jmp_store::StoreExt::get(&*world.store, &key)
        .await
        .unwrap()
        .unwrap();
    lease.status.ended = true;
    let now = jmp_types::Timestamp::from_second(crate::lab::START + 5).unwrap();
    lease.status.end_time = Some(now);
    jmp_store::StoreExt::update(&*world.store, &lease)
        .await
        .unwrap();
    // Its next write conflicts, and everything is read again.
    let release = v1::ReleaseLeaseRequest { name: held };
    calls.release_lease(release).await.unwrap();
    let close = router.closing().await;
    assert_eq!(close.lease, format!("default/{}", key.name));
    assert!(!device.leased(false).await.leased);
    lab.stop().await;
}

/// One write of a batch fails; the others of the batch are none the worse.
#[tokio::test(start_paused = true)]
async fn a_failed_write_fails_its_own_caller_only() {
    let mut world = World::new(MemoryStore::new());
    let lab = world.start().await;
    let mut device = lab.exporter("bench", "a").await;
    let (_, token) = lab.client("me").await;
    let held = leased(&lab, &mut device, "me", &token, "a").await;
    // A lease of that name gets into the store behind the controller's back, after it was looked for:
    // as if two controllers shared the store.
    let key = jmp_types::resource::Key::new("default", held);
    let mut lease: jmp_types::resource::Lease = jmp_store::StoreExt::get(&*world.store, &key)
        .await
        .unwrap()
        .unwrap();
    lease.metadata.name = "taken".into();
    lease.metadata.uid = "another".into();
    lease.status.ended = true;
    lease.status.end_time = lease.status.begin_time;
    jmp_store::StoreExt::create(&*world.store, &lease)
        .await
        .unwrap();
    let engine = &lab.controller.context().engine;
    let create = |name: &str| {
        jmp_lease::pool::Command::Create(Box::new(jmp_lease::pool::NewLease {
            name: name.into(),
            uid: name.into(),
            client: Some(jmp_types::resource::Key::new("default", "me")),
            selector: "board=a".into(),
            duration: Some(jmp_lease::pool::GivenDuration {
                seconds: 60,
                nanoseconds: 0,
            }),
            ..jmp_lease::pool::NewLease::default()
        }))
    };
    let (one, taken, two) = tokio::join!(
        engine.command(create("one")),
        engine.command(create("taken")),
        engine.command(create("two")),
    );
    one.unwrap();
    two.unwrap();
    let refusal = taken.unwrap_err();
    assert_eq!(refusal.code(), Code::Unknown);
    assert!(refusal.message().contains("exists already"), "{refusal:?}");
    let mut found = names(&lab, &token).await;
    found.retain(|name| name.len() < 30);
    found.sort();
    assert_eq!(found, ["one", "two"]);
    assert!(lab.controller.context().is_ready());
    lab.stop().await;
}
