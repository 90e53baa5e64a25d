//! The audit record.

use jmp_proto::jmp::v1::{AuditRecord, ListAuditRequest};
use jmp_proto::jumpstarter::client::v1::client_service_client::ClientServiceClient;
use jmp_proto::jumpstarter::client::v1::{
    DeleteLeaseRequest, RotateTokenRequest, UpdateLeaseRequest,
};
use jmp_proto::v1::{ReleaseLeaseRequest, UnregisterRequest};
use tonic::Code;

use crate::lab::{Lab, after, ask, get, named, refused, until_ready};

async fn rows(lab: &Lab, request: ListAuditRequest) -> Vec<AuditRecord> {
    let found = lab.admin().await.list_audit(request).await.unwrap();
    found.into_inner().records
}

#[tokio::test(start_paused = true)]
async fn every_change_leaves_a_row() {
    let lab = Lab::new().await;
    let (mut me, token) = lab.client("me").await;
    let (mut other, _) = lab.client("other").await;
    lab.registered("bench", "a").await;
    let lease = me.create_lease(ask("board=a")).await.unwrap().into_inner();
    let delete = DeleteLeaseRequest {
        name: lease.name.clone(),
    };
    other.delete_lease(delete.clone()).await.unwrap_err();
    me.delete_lease(delete).await.unwrap();
    me.get_lease(get(&lease.name)).await.unwrap();
    let parent = "namespaces/default".to_owned();
    let rotated = me
        .rotate_token(RotateTokenRequest { parent })
        .await
        .unwrap()
        .into_inner();
    lab.admin()
        .await
        .revoke_credential(named("client", "me"))
        .await
        .unwrap();
    let found = rows(&lab, ListAuditRequest::default()).await;
    let told: Vec<(&str, &str, &str)> = found
        .iter()
        .rev()
        .map(|row| (row.actor.as_str(), row.action.as_str(), row.result.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("controller", "CreateResource", "OK"),
            ("admin:root", "CreateResource", "OK"),
            ("admin:root", "CreateResource", "OK"),
            ("admin:root", "CreateResource", "OK"),
            ("client:default:me", "CreateLease", "OK"),
            ("client:default:other", "DeleteLease", "UNKNOWN"),
            ("client:default:me", "DeleteLease", "OK"),
            ("client:default:me", "RotateToken", "OK"),
            ("admin:root", "RevokeCredential", "OK"),
        ]
    );
    let name = lease.name.rsplit('/').next().unwrap();
    let made = &found[found.len() - 5];
    assert_eq!(made.resource, format!("lease default/{name}"));
    assert_eq!(made.peer, "192.0.2.7");
    assert!(!made.token_id.is_empty());
    assert!(made.time.as_ref().unwrap().seconds >= crate::lab::START);
    assert!(made.detail.contains("board=a"));
    let everything = format!("{found:?}");
    for secret in [&token, &rotated.token, &lab.root] {
        assert!(!everything.contains(secret.as_str()));
        let signature = secret.rsplit('.').next().unwrap();
        assert!(!everything.contains(signature));
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn exporters_leave_rows_when_they_change_something() {
    let lab = Lab::new().await;
    let mut device = lab.exporter("bench", "a").await;
    let (mut me, _) = lab.client("me").await;
    let lease = me.create_lease(ask("board=a")).await.unwrap().into_inner();
    until_ready(&mut me, &lease.name).await;
    let name = lease.name.rsplit('/').next().unwrap().to_owned();
    let release = ReleaseLeaseRequest { name };
    device.calls.release_lease(release).await.unwrap();
    let reason = "maintenance".to_owned();
    device
        .calls
        .unregister(UnregisterRequest { reason })
        .await
        .unwrap();
    let by = ListAuditRequest {
        actor: "exporter:default:bench".into(),
        ..ListAuditRequest::default()
    };
    let found = rows(&lab, by).await;
    let told: Vec<&str> = found.iter().rev().map(|row| row.action.as_str()).collect();
    // Heartbeats and reports are none.
    assert_eq!(told, ["Register", "ReleaseLease", "Unregister"]);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn refused_callers_are_recorded_within_limits() {
    let lab = Lab::new().await;
    let mut stranger = lab.client_with("me", "a.b.c").await;
    for _ in 0..300 {
        let _ = stranger.create_lease(ask("board=a")).await.unwrap_err();
    }
    let request = ListAuditRequest {
        page_size: 1000,
        ..ListAuditRequest::default()
    };
    let found = rows(&lab, request).await;
    let refusals = found.iter().filter(|row| row.actor == "-").count();
    assert!((50..=110).contains(&refusals), "{refusals}");
    assert!(found.iter().all(|row| !row.detail.contains("a.b.c")));
    lab.stop().await;
}

/// Neither has one host with many addresses more rows, nor have many hosts without end.
#[tokio::test(start_paused = true)]
async fn strangers_cannot_fill_the_disk() {
    let lab = Lab::new().await;
    let mut senseless = ask("board=a");
    senseless.lease = None;
    let rows_of = async |host: u16, network: u16| {
        let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host);
        let connection = lab.connect_from(address.into(), &[]).await;
        let origin = connection.origin();
        let mut stranger = ClientServiceClient::with_origin(connection, origin);
        for _ in 0..60 {
            let refused = stranger.create_lease(senseless.clone()).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
        }
    };
    for host in 0..5 {
        rows_of(host, 0).await;
    }
    let query = jmp_store::AuditQuery {
        limit: 10_000,
        ..jmp_store::AuditQuery::default()
    };
    let count = async || {
        let audit = &lab.controller.context().audit;
        let found = audit.list_audit(query.clone()).await.unwrap().records;
        found.iter().filter(|row| row.actor == "-").count()
    };
    assert!((50..=110).contains(&count().await), "{}", count().await);
    for network in 1..30 {
        rows_of(1, network).await;
    }
    assert!((400..=600).contains(&count().await), "{}", count().await);
    lab.stop().await;
}

/// Also of requests that make no sense, with who sent them.
#[tokio::test(start_paused = true)]
async fn senseless_changes_leave_rows_with_their_callers() {
    let lab = Lab::new().await;
    let (mut me, _) = lab.client("me").await;
    let mut empty = ask("board=a");
    empty.lease = None;
    let name = "leases/x".to_owned();
    let parent = "default".to_owned();
    for refused in [
        me.create_lease(empty).await.map(drop),
        me.update_lease(UpdateLeaseRequest::default())
            .await
            .map(drop),
        me.delete_lease(DeleteLeaseRequest { name }).await.map(drop),
        me.rotate_token(RotateTokenRequest { parent })
            .await
            .map(drop),
    ] {
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
    let mut admin = lab.admin().await;
    let refused = admin.delete_resource(named("spoon", "x")).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    let found = rows(&lab, ListAuditRequest::default()).await;
    let told: Vec<(&str, &str)> = found
        .iter()
        .rev()
        .filter(|row| row.result == "INVALID_ARGUMENT")
        .map(|row| (row.actor.as_str(), row.action.as_str()))
        .collect();
    let me = "client:default:me";
    assert_eq!(
        told,
        [
            (me, "CreateLease"),
            (me, "UpdateLease"),
            (me, "DeleteLease"),
            (me, "RotateToken"),
            ("admin:root", "DeleteResource"),
        ]
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn rows_are_found_by_actor_resource_and_time() {
    let lab = Lab::new().await;
    let (mut me, _) = lab.client("me").await;
    me.create_lease(ask("board=a")).await.unwrap();
    let by = |actor: &str, resource: &str| ListAuditRequest {
        actor: actor.into(),
        resource: resource.into(),
        ..ListAuditRequest::default()
    };
    assert_eq!(rows(&lab, by("client:", "")).await.len(), 1);
    assert_eq!(rows(&lab, by("", "lease default/")).await.len(), 1);
    assert_eq!(rows(&lab, by("nobody", "")).await.len(), 0);
    let since = ListAuditRequest {
        since: Some(after(3600)),
        ..by("", "")
    };
    assert_eq!(rows(&lab, since).await.len(), 0);
    let mut admin = lab.admin().await;
    let page = ListAuditRequest {
        page_size: 2,
        ..by("", "")
    };
    let first = admin.list_audit(page.clone()).await.unwrap().into_inner();
    assert_eq!(first.records.len(), 2);
    let page = ListAuditRequest {
        page_token: first.next_page_token,
        ..page
    };
    let second = admin.list_audit(page).await.unwrap().into_inner();
    assert!(second.records[0].number < first.records[1].number);
    let bad = ListAuditRequest {
        page_token: "x".into(),
        ..by("", "")
    };
    refused(admin.list_audit(bad).await, Code::InvalidArgument, "token");
    let bad = ListAuditRequest {
        page_size: -1,
        ..by("", "")
    };
    refused(
        admin.list_audit(bad).await,
        Code::InvalidArgument,
        "page_size",
    );
    lab.stop().await;
}
