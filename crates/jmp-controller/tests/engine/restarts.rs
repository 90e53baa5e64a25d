//! Restarts over a file.

use jmp_proto::jumpstarter::client::v1::CreateLeaseRequest;
use jmp_proto::v1;
use jmp_store::{Options, SqliteStore};
use tonic::Code;

use crate::lab::{Lab, after, ask, refused};
use crate::world::{World, controller_calls, leased, release};

fn named(name: &str) -> CreateLeaseRequest {
    CreateLeaseRequest {
        lease_id: name.into(),
        ..ask("board=a")
    }
}

fn open(path: &std::path::Path) -> SqliteStore {
    SqliteStore::open(path, &Options::default()).unwrap()
}

async fn wait_for_lease(lab: &Lab, token: &str, name: &str) -> bool {
    let mut me = lab.client_with("me", token).await;
    let get = crate::lab::get(&format!("namespaces/default/leases/{name}"));
    let lease = me.get_lease(get).await.unwrap().into_inner();
    lease.exporter.is_some_and(|exporter| !exporter.is_empty())
}

#[tokio::test]
async fn a_restart_in_the_middle_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut world = World::new(open(&path));
    let lab = world.start().await;
    let key = lab.registered("bench", "a").await;
    let mut device = lab.start("bench", &key).await;
    let (mut me, token) = lab.client("me").await;
    let held = leased(&lab, &mut device, "me", &token, "a").await;
    me.create_lease(named("first")).await.unwrap();
    me.create_lease(named("second")).await.unwrap();
    let mut reserved = named("reserved");
    let lease = reserved.lease.as_mut().unwrap();
    lease.begin_time = Some(after(24 * 3600));
    me.create_lease(reserved).await.unwrap();
    // No goodbye: what was acknowledged is on disk.
    drop(lab);
    drop(device);
    world.store.close().await;
    world.store = std::sync::Arc::new(open(&path));
    let lab = world.start().await;
    // Rebuilt before it answers: the very first call sees everything.
    assert!(wait_for_lease(&lab, &token, &held).await);
    assert!(!wait_for_lease(&lab, &token, "first").await);
    let mut me = lab.client_with("me", &token).await;
    let mut conflicting = named("conflicting");
    let lease = conflicting.lease.as_mut().unwrap();
    lease.begin_time = Some(after(24 * 3600 + 60));
    let answer = me.create_lease(conflicting).await;
    assert!(answer.is_err(), "the reservation holds its device");
    // The exporter comes back: it is told of the same lease at once, and nobody else gets it.
    let mut calls = controller_calls(&lab, "Exporter", "bench", &key).await;
    let stream = calls.status(v1::StatusRequest {}).await.unwrap();
    let mut stream = stream.into_inner();
    let told = stream.message().await.unwrap().unwrap();
    assert_eq!(told.lease_name.as_deref(), Some(held.as_str()));
    // The queue is in its order.
    for next in ["first", "second"] {
        let holder = told_lease(&lab, &token).await;
        release(&lab, "me", &token, &holder).await;
        assert!(!stream.message().await.unwrap().unwrap().leased);
        let report = v1::ReportStatusRequest {
            status: v1::ExporterStatus::Available.into(),
            ..v1::ReportStatusRequest::default()
        };
        calls.report_status(report).await.unwrap();
        let told = stream.message().await.unwrap().unwrap();
        assert_eq!(told.lease_name.as_deref(), Some(next));
    }
    lab.stop().await;
}

/// The one that has the exporter now.
async fn told_lease(lab: &Lab, token: &str) -> String {
    let mut me = controller_calls(lab, "Client", "me", token).await;
    let names = me.list_leases(v1::ListLeasesRequest {}).await.unwrap();
    for name in names.into_inner().names {
        if name != "reserved" && wait_for_lease(lab, token, &name).await {
            return name;
        }
    }
    panic!("nobody has it");
}

#[tokio::test]
async fn a_lease_that_ran_out_meanwhile_ends_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut world = World::new(open(&path));
    let lab = world.start().await;
    let key = lab.registered("bench", "a").await;
    let mut device = lab.start("bench", &key).await;
    let (_, token) = lab.client("me").await;
    let held = leased(&lab, &mut device, "me", &token, "a").await;
    lab.stop().await;
    world.clock.jump(3600);
    let lab = world.start().await;
    let mut calls = controller_calls(&lab, "Exporter", "bench", &key).await;
    let stream = calls.status(v1::StatusRequest {}).await.unwrap();
    assert!(!stream.into_inner().message().await.unwrap().unwrap().leased);
    let mut me = lab.client_with("me", &token).await;
    let get = crate::lab::get(&format!("namespaces/default/leases/{held}"));
    let over = me.get_lease(get).await.unwrap().into_inner();
    assert!(over.effective_end_time.is_some(), "{over:?}");
    lab.stop().await;
}

/// A file that may not grow stands for a disk that is full.
#[tokio::test]
async fn a_full_file_refuses_writes_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let options = Options {
        maximum_pages: Some(120),
        ..Options::default()
    };
    let mut world = World::new(SqliteStore::open(&path, &options).unwrap());
    let lab = world.start().await;
    let (mut me, token) = lab.client("me").await;
    let mut device = lab.exporter("bench", "a").await;
    let mut acknowledged = vec![leased(&lab, &mut device, "me", &token, "a").await];
    let mut refusal = None;
    for number in 0..400 {
        let mut large = named(&format!("lease-{number:03}"));
        let context = &mut large.lease.as_mut().unwrap().context;
        for key in 0..8 {
            context.insert(format!("note-{key}"), "x".repeat(60));
        }
        match me.create_lease(large).await {
            Ok(made) => {
                let name = made.into_inner().name;
                acknowledged.push(name.rsplit('/').next().unwrap().to_owned());
            }
            Err(status) => {
                refusal = Some(status);
                break;
            }
        }
    }
    let refusal = refusal.expect("the file is full");
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
    assert!(refusal.message().contains("is full"), "{refusal:?}");
    assert!(acknowledged.len() > 3);
    lab.stop().await;
    world.store.close().await;
    // Room was made.
    world.store = std::sync::Arc::new(open(&path));
    let lab = world.start().await;
    let mut calls = controller_calls(&lab, "Client", "me", &token).await;
    let names = calls.list_leases(v1::ListLeasesRequest {}).await.unwrap();
    let names = names.into_inner().names;
    for name in &acknowledged {
        assert!(names.contains(name), "{name} was acknowledged");
    }
    let mut me = lab.client_with("me", &token).await;
    me.create_lease(named("after")).await.unwrap();
    lab.stop().await;
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut world = World::new(open(&path));
    let lab = world.start().await;
    lab.client("me").await;
    lab.stop().await;
    world.store.close().await;
    drop(world);
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    for byte in &mut bytes[2000.min(length / 2)..] {
        *byte = 0x5a;
    }
    std::fs::write(&path, bytes).unwrap();
    let error = SqliteStore::open(&path, &Options::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("store.db"), "{text}");
    assert!(text.contains("restore"), "{text}");
    // An old name of a lease is refused after a restart, too.
    let other = folder.path().join("other.db");
    let mut world = World::new(open(&other));
    let lab = world.start().await;
    let (mut me, token) = lab.client("me").await;
    me.create_lease(named("mine")).await.unwrap();
    lab.stop().await;
    let lab = world.start().await;
    let mut me = lab.client_with("me", &token).await;
    refused(
        me.create_lease(named("mine")).await,
        Code::Unknown,
        "already exists",
    );
    lab.stop().await;
}
