//! The lease calls of clients before `ClientService`.

use jmp_proto::v1;
use tonic::Code;

use crate::lab::{Lab, refused, seconds};
use crate::world::{controller_calls, leased};

fn wanted(board: &str) -> v1::RequestLeaseRequest {
    v1::RequestLeaseRequest {
        duration: Some(seconds(600)),
        selector: Some(v1::LabelSelector {
            match_expressions: Vec::new(),
            match_labels: [("board".to_owned(), board.to_owned())].into(),
        }),
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_requested_seen_listed_and_released() {
    let lab = Lab::new().await;
    let mut device = lab.exporter("bench", "a").await;
    let (_, token) = lab.client("me").await;
    let (_, stranger) = lab.client("stranger").await;
    let mut me = controller_calls(&lab, "Client", "me", &token).await;
    let mut other = controller_calls(&lab, "Client", "stranger", &stranger).await;
    let made = me.request_lease(wanted("a")).await.unwrap().into_inner();
    let name = made.name;
    assert_eq!(name.len(), 36, "a UUID");
    device.leased(true).await;
    let get = |name: &str| v1::GetLeaseRequest { name: name.into() };
    let seen = me.get_lease(get(&name)).await.unwrap().into_inner();
    assert_eq!(seen.duration.unwrap().seconds, 600);
    assert_eq!(seen.selector.unwrap().match_labels["board"], "a");
    assert!(seen.begin_time.is_some() && seen.end_time.is_none());
    assert!(seen.exporter_uuid.is_some_and(|uid| uid.len() == 36));
    let ready = seen
        .conditions
        .iter()
        .find(|condition| condition.r#type.as_deref() == Some("Ready"))
        .unwrap();
    assert_eq!(ready.status.as_deref(), Some("True"));
    refused(
        other.get_lease(get(&name)).await,
        Code::Unknown,
        "GetLease permission denied",
    );
    refused(
        me.get_lease(get("nothing")).await,
        Code::Unknown,
        "lease default/nothing not found",
    );
    let list = || v1::ListLeasesRequest {};
    let listed = me.list_leases(list()).await.unwrap().into_inner();
    assert_eq!(listed.names, std::slice::from_ref(&name));
    let others = other.list_leases(list()).await.unwrap().into_inner();
    assert!(others.names.is_empty());
    let release = |name: &str| v1::ReleaseLeaseRequest { name: name.into() };
    refused(
        other.release_lease(release(&name)).await,
        Code::Unknown,
        "ReleaseLease permission denied",
    );
    refused(
        me.release_lease(release("nothing")).await,
        Code::Unknown,
        "lease default/nothing not found",
    );
    for _ in 0..3 {
        me.release_lease(release(&name)).await.unwrap();
    }
    device.leased(false).await;
    let over = me.get_lease(get(&name)).await.unwrap().into_inner();
    assert!(over.end_time.is_some());
    let listed = me.list_leases(list()).await.unwrap().into_inner();
    assert!(listed.names.is_empty());
    refused(
        device.calls.request_lease(wanted("a")).await,
        Code::InvalidArgument,
        "object kind mismatch",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn exporters_release_what_they_hold() {
    let lab = Lab::new().await;
    let mut device = lab.exporter("bench", "a").await;
    let mut other = lab.exporter("other", "b").await;
    let (_, token) = lab.client("me").await;
    let lease = leased(&lab, &mut device, "me", &token, "a").await;
    let release = |name: &str| v1::ReleaseLeaseRequest { name: name.into() };
    refused(
        device.calls.release_lease(release("nothing")).await,
        Code::NotFound,
        "lease default/nothing not found",
    );
    refused(
        other.calls.release_lease(release(&lease)).await,
        Code::FailedPrecondition,
        "is not held by exporter default/other",
    );
    for _ in 0..3 {
        device.calls.release_lease(release(&lease)).await.unwrap();
    }
    assert!(!device.leased(false).await.leased);
    let mut me = controller_calls(&lab, "Client", "me", &token).await;
    let get = v1::GetLeaseRequest { name: lease };
    let over = me.get_lease(get).await.unwrap().into_inner();
    let ready = over
        .conditions
        .iter()
        .find(|condition| condition.r#type.as_deref() == Some("Ready"))
        .unwrap();
    assert_eq!(ready.reason.as_deref(), Some("Released"));
    lab.stop().await;
}
