//! Making, changing and ending leases.

use std::time::Duration;

use jmp_proto::jumpstarter::client::v1::{
    DeleteLeaseRequest, Lease, ListExportersRequest, UpdateLeaseRequest,
};
use jmp_proto::v1;
use jmp_proto::v1::controller_service_client::ControllerServiceClient;
use serde_json::json;
use tonic::Code;

use crate::lab::{Lab, after, ask, get, manifest, refused, seconds, until_ready};

fn delete(name: &str) -> DeleteLeaseRequest {
    DeleteLeaseRequest { name: name.into() }
}

fn update(lease: Lease) -> UpdateLeaseRequest {
    UpdateLeaseRequest {
        lease: Some(lease),
        update_mask: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_comes_and_goes() {
    let lab = Lab::new().await;
    let mut device = lab.exporter("bench", "a").await;
    let (mut me, _) = lab.client("me").await;
    let mut request = ask("board=a");
    let lease = request.lease.as_mut().unwrap();
    lease.tags.insert("team".into(), "x".into());
    lease.context.insert("build".into(), "7".into());
    lease.client = Some("namespaces/default/clients/other".into());
    let made = me.create_lease(request).await.unwrap().into_inner();
    assert_eq!(
        made.client.as_deref(),
        Some("namespaces/default/clients/me")
    );
    assert_eq!(made.selector, "board=a");
    assert_eq!(made.tags["team"], "x");
    assert_eq!(made.context["build"], "7");
    let ready = until_ready(&mut me, &made.name).await;
    assert_eq!(
        ready.exporter.as_deref(),
        Some("namespaces/default/exporters/bench")
    );
    let last = ready.conditions.last().unwrap();
    assert_eq!(
        (last.r#type(), last.status(), last.reason()),
        ("Ready", "True", "Ready")
    );
    let heard = device.leased(true).await;
    assert_eq!(heard.client_name.as_deref(), Some("me"));
    assert_eq!(heard.context["build"], "7");
    tokio::time::sleep(Duration::from_secs(90)).await;
    me.delete_lease(delete(&made.name)).await.unwrap();
    let over = me.get_lease(get(&made.name)).await.unwrap().into_inner();
    assert!(over.effective_end_time.is_some());
    assert!(over.effective_duration.unwrap().seconds >= 90);
    assert_eq!(over.conditions.last().unwrap().reason(), "Released");
    device.leased(false).await;
    refused(
        me.delete_lease(delete(&made.name)).await,
        Code::FailedPrecondition,
        "already been released",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_request_is_told_before_who_sent_it() {
    let lab = Lab::new().await;
    let connection = lab.connect(&[]).await;
    let origin = connection.origin();
    let mut nobody =
        jmp_proto::jumpstarter::client::v1::client_service_client::ClientServiceClient::with_origin(
            connection, origin,
        );
    let mut empty = ask("board=a");
    empty.lease = None;
    refused(
        nobody.create_lease(empty).await,
        Code::InvalidArgument,
        "lease is required",
    );
    refused(
        nobody.create_lease(ask("")).await,
        Code::InvalidArgument,
        "one of selector or exporter_name is required",
    );
    refused(
        nobody.create_lease(ask("board=a")).await,
        Code::Unauthenticated,
        "authorization",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn absurd_requests_are_invalid_arguments() {
    let lab = Lab::new().await;
    let (mut me, _) = lab.client("me").await;
    let mut bad = Vec::new();
    for (length, text) in [
        (seconds(0), "duration must be positive"),
        (seconds(-1), "duration must be positive"),
        (seconds(i64::MAX), "duration"),
        (
            prost_types::Duration {
                seconds: 1,
                nanos: i32::MAX,
            },
            "duration",
        ),
    ] {
        let mut request = ask("board=a");
        request.lease.as_mut().unwrap().duration = Some(length);
        bad.push((request, text));
    }
    let mut request = ask("board=a");
    request.lease.as_mut().unwrap().duration = None;
    bad.push((request, "duration is required"));
    let mut request = ask("board=a");
    let lease = request.lease.as_mut().unwrap();
    (lease.begin_time, lease.end_time) = (Some(after(100)), Some(after(50)));
    bad.push((request, "not after begin_time"));
    let mut request = ask("board=a");
    let lease = request.lease.as_mut().unwrap();
    (lease.begin_time, lease.end_time) = (Some(after(100)), Some(after(200)));
    bad.push((request, "duration conflicts with begin_time and end_time"));
    let mut request = ask("board=a");
    request.lease.as_mut().unwrap().begin_time = Some(prost_types::Timestamp {
        seconds: i64::MAX,
        nanos: 0,
    });
    bad.push((request, "begin_time is no time"));
    let mut request = ask("board=a");
    let tags = &mut request.lease.as_mut().unwrap().tags;
    tags.extend((0..11).map(|number| (format!("t{number}"), String::new())));
    bad.push((request, "too many tags"));
    let mut request = ask("board=a");
    request
        .lease
        .as_mut()
        .unwrap()
        .tags
        .insert("a/b".into(), String::new());
    bad.push((request, "invalid tag"));
    bad.push((ask("board in (a"), "selector"));
    bad.push((ask(&"a,".repeat(20_000)), "selector"));
    let mut request = ask("board=a");
    request.lease_id = "Not A Name".into();
    bad.push((request, "invalid name"));
    let mut request = ask("board=a");
    request.parent = "default".into();
    bad.push((request, "namespaces/NAMESPACE"));
    for (request, text) in bad {
        refused(me.create_lease(request).await, Code::InvalidArgument, text);
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn other_peoples_leases_are_not_ones_own() {
    let lab = Lab::new().await;
    let _device = lab.exporter("bench", "a").await;
    let (mut me, _) = lab.client("me").await;
    let (mut other, _) = lab.client("other").await;
    let mine = me.create_lease(ask("board=a")).await.unwrap().into_inner();
    // Reading is everybody's.
    other.get_lease(get(&mine.name)).await.unwrap();
    let change = Lease {
        name: mine.name.clone(),
        duration: Some(seconds(60)),
        ..Lease::default()
    };
    refused(
        other.update_lease(update(change.clone())).await,
        Code::Unknown,
        "UpdateLease permission denied",
    );
    refused(
        other.delete_lease(delete(&mine.name)).await,
        Code::Unknown,
        "DeleteLease permission denied",
    );
    me.delete_lease(delete(&mine.name)).await.unwrap();
    // Ended ones neither.
    refused(
        other.delete_lease(delete(&mine.name)).await,
        Code::Unknown,
        "DeleteLease permission denied",
    );
    refused(
        me.update_lease(update(change)).await,
        Code::FailedPrecondition,
        "already ended",
    );
    let missing = "namespaces/default/leases/none";
    refused(me.get_lease(get(missing)).await, Code::Unknown, "not found");
    refused(
        me.delete_lease(delete(missing)).await,
        Code::Unknown,
        "not found",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn namespaces_and_kinds_must_fit() {
    let lab = Lab::new().await;
    let (mut me, token) = lab.client("me").await;
    refused(
        me.get_lease(get("namespaces/lab/leases/a")).await,
        Code::PermissionDenied,
        "namespace mismatch",
    );
    let mut elsewhere = ask("board=a");
    elsewhere.parent = "namespaces/lab".into();
    refused(
        me.create_lease(elsewhere).await,
        Code::PermissionDenied,
        "namespace mismatch",
    );
    let exporter = lab.registered("bench", "a").await;
    let connection = lab
        .identified("Exporter", ("default", "bench"), &exporter)
        .await;
    let origin = connection.origin();
    let mut device =
        jmp_proto::jumpstarter::client::v1::client_service_client::ClientServiceClient::with_origin(
            connection, origin,
        );
    refused(
        device.get_lease(get("namespaces/default/leases/a")).await,
        Code::InvalidArgument,
        "object kind mismatch",
    );
    let mut disguised = lab.client_with("other", &token).await;
    lab.create(manifest("Client", "other", json!({}))).await;
    refused(
        disguised
            .get_lease(get("namespaces/default/leases/a"))
            .await,
        Code::PermissionDenied,
        "permission denied for client default/other",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn names_are_chosen_once() {
    let lab = Lab::new().await;
    let (mut me, _) = lab.client("me").await;
    let _device = lab.exporter("bench", "a").await;
    let mut request = ask("board=a");
    request.lease_id = "mine".into();
    let made = me.create_lease(request.clone()).await.unwrap().into_inner();
    assert_eq!(made.name, "namespaces/default/leases/mine");
    refused(
        me.create_lease(request.clone()).await,
        Code::Unknown,
        "already exists",
    );
    me.delete_lease(delete(&made.name)).await.unwrap();
    refused(
        me.create_lease(request).await,
        Code::Unknown,
        "already exists",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_may_still_be_deleted() {
    let lab = Lab::new().await;
    let _device = lab.exporter("bench", "a").await;
    let (mut me, _) = lab.client("me").await;
    let mut request = ask("board=a");
    request.lease.as_mut().unwrap().duration = Some(seconds(60));
    let made = me.create_lease(request).await.unwrap().into_inner();
    until_ready(&mut me, &made.name).await;
    tokio::time::sleep(Duration::from_secs(70)).await;
    let over = me.get_lease(get(&made.name)).await.unwrap().into_inner();
    assert_eq!(over.conditions.last().unwrap().reason(), "Expired");
    me.delete_lease(delete(&made.name)).await.unwrap();
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_end_of_a_reservation_can_be_moved() {
    let lab = Lab::new().await;
    let _device = lab.exporter("bench", "a").await;
    let (mut me, _) = lab.client("me").await;
    let mut request = ask("board=a");
    let lease = request.lease.as_mut().unwrap();
    lease.duration = None;
    (lease.begin_time, lease.end_time) = (Some(after(3600)), Some(after(7200)));
    let made = me.create_lease(request).await.unwrap().into_inner();
    assert_eq!(made.duration.unwrap().seconds, 3600);
    let named = |lease: Lease| Lease {
        name: made.name.clone(),
        ..lease
    };
    let begun = update(named(Lease {
        begin_time: Some(after(1800)),
        ..Lease::default()
    }));
    let moved = me.update_lease(begun).await.unwrap().into_inner();
    assert_eq!(moved.begin_time.unwrap().seconds, after(1800).seconds);
    assert_eq!(moved.end_time.unwrap().seconds, after(7200).seconds);
    assert_eq!(moved.duration.unwrap().seconds, 5400);
    // The mask does not count: whatever is there is wanted.
    let mut ending = update(named(Lease {
        end_time: Some(after(5400)),
        ..Lease::default()
    }));
    ending.update_mask = Some(prost_types::FieldMask {
        paths: vec!["duration".into()],
    });
    let moved = me.update_lease(ending).await.unwrap().into_inner();
    assert_eq!(moved.begin_time.unwrap().seconds, after(1800).seconds);
    assert_eq!(moved.duration.unwrap().seconds, 3600);
    let none = UpdateLeaseRequest::default();
    refused(
        me.update_lease(none).await,
        Code::InvalidArgument,
        "lease is required",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_running_lease_is_extended_and_handed_over() {
    let lab = Lab::new().await;
    let _device = lab.exporter("bench", "a").await;
    let (mut me, _) = lab.client("me").await;
    let (mut other, _) = lab.client("other").await;
    let made = me.create_lease(ask("board=a")).await.unwrap().into_inner();
    until_ready(&mut me, &made.name).await;
    let named = |lease: Lease| {
        update(Lease {
            name: made.name.clone(),
            ..lease
        })
    };
    let longer = named(Lease {
        duration: Some(seconds(7200)),
        ..Lease::default()
    });
    let longer = me.update_lease(longer).await.unwrap().into_inner();
    assert_eq!(longer.duration.unwrap().seconds, 7200);
    refused(
        me.update_lease(named(Lease {
            begin_time: Some(after(9000)),
            ..Lease::default()
        }))
        .await,
        Code::FailedPrecondition,
        "cannot update BeginTime: lease has already started",
    );
    for (client, code) in [
        ("other", Code::InvalidArgument),
        ("namespaces/default/exporters/other", Code::InvalidArgument),
        ("namespaces/lab/clients/other", Code::InvalidArgument),
        ("namespaces/default/clients/nobody", Code::Unknown),
    ] {
        let to = named(Lease {
            client: Some(client.into()),
            ..Lease::default()
        });
        refused(me.update_lease(to).await, code, "");
    }
    let to = "namespaces/default/clients/other";
    let handed = named(Lease {
        client: Some(to.into()),
        ..Lease::default()
    });
    let handed = me.update_lease(handed).await.unwrap().into_inner();
    assert_eq!(handed.client.as_deref(), Some(to));
    refused(
        me.delete_lease(delete(&made.name)).await,
        Code::Unknown,
        "permission denied",
    );
    other.delete_lease(delete(&made.name)).await.unwrap();
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn changing_calls_have_a_limit() {
    let lab = Lab::new().await;
    let (mut me, _) = lab.client("me").await;
    let name = "namespaces/default/leases/none";
    let mut refusals = 0;
    for _ in 0..600 {
        let status = me.delete_lease(delete(name)).await.unwrap_err();
        refusals += usize::from(status.code() == Code::ResourceExhausted);
    }
    assert!((50..=100).contains(&refusals), "{refusals}");
    // Reading goes on.
    refused(me.get_lease(get(name)).await, Code::Unknown, "not found");
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_only_look_have_a_limit_too() {
    let lab = Lab::new().await;
    let (mut me, token) = lab.client("me").await;
    let (mut other, _) = lab.client("other").await;
    let list = ListExportersRequest {
        parent: "namespaces/default".into(),
        ..ListExportersRequest::default()
    };
    let mut refusals = 0;
    for _ in 0..2500 {
        let result = me.list_exporters(list.clone()).await;
        refusals += usize::from(result.is_err_and(|status| {
            assert_eq!(status.code(), Code::ResourceExhausted);
            true
        }));
    }
    assert!((400..=500).contains(&refusals), "{refusals}");
    let mut watcher = lab.watcher("me", &token).await;
    let describe = jmp_proto::jmp::v1::DescribeResourceRequest {
        name: "namespaces/default/exporters/x".into(),
    };
    refused(
        watcher.describe(describe).await,
        Code::ResourceExhausted,
        "too many calls",
    );
    other.list_exporters(list.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    me.list_exporters(list).await.unwrap();
    lab.stop().await;
}

/// Errors name what does not exist; they have to fit into the head of an answer.
#[tokio::test(start_paused = true)]
async fn endless_names_are_refused_with_short_words() {
    let lab = Lab::new().await;
    let (mut me, token) = lab.client("me").await;
    let long = "x".repeat(100_000);
    let name = format!("namespaces/default/leases/{long}");
    let connection = lab.identified("Client", ("default", "me"), &token).await;
    let origin = connection.origin();
    let mut old = ControllerServiceClient::with_origin(connection, origin);
    let lease_name = long.clone();
    let dialled = old.dial(v1::DialRequest { lease_name }).await.map(drop);
    let name_only = long.clone();
    let found = old.get_lease(v1::GetLeaseRequest { name: name_only });
    let found = found.await.map(drop);
    let released = old.release_lease(v1::ReleaseLeaseRequest { name: long });
    let released = released.await.map(drop);
    for result in [
        me.get_lease(get(&name)).await.map(drop),
        me.delete_lease(delete(&name)).await.map(drop),
        dialled,
        found,
        released,
    ] {
        let status = result.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains("longer than 253 bytes"));
        assert!(status.message().len() < 400);
    }
    lab.stop().await;
}
