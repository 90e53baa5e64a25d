//! Rotation and revocation.

use std::time::Duration;

use jmp_proto::jmp::v1::WatchLeaseRequest;
use jmp_proto::jumpstarter::client::v1::{ListLeasesRequest, RotateTokenRequest};
use tonic::Code;

use crate::lab::{Lab, ask, named, refused};

fn list() -> ListLeasesRequest {
    ListLeasesRequest {
        parent: "namespaces/default".into(),
        ..ListLeasesRequest::default()
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_rotates_its_token_has_a_minute_to_move() {
    let lab = Lab::new().await;
    let (mut me, old) = lab.client("me").await;
    let lease = me.create_lease(ask("board=a")).await.unwrap().into_inner();
    let request = RotateTokenRequest {
        parent: "namespaces/default".into(),
    };
    let rotated = me.rotate_token(request).await.unwrap().into_inner();
    assert_ne!(rotated.token, old);
    assert_eq!(rotated.token.split('.').count(), 3);
    assert!(rotated.expiry.unwrap().seconds > crate::lab::START);
    let mut fresh = lab.client_with("me", &rotated.token).await;
    fresh.list_leases(list()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(50)).await;
    me.list_leases(list()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    refused(
        me.list_leases(list()).await,
        Code::PermissionDenied,
        "revoked",
    );
    fresh.get_lease(crate::lab::get(&lease.name)).await.unwrap();
    let elsewhere = RotateTokenRequest {
        parent: "namespaces/lab".into(),
    };
    refused(
        fresh.rotate_token(elsewhere).await,
        Code::PermissionDenied,
        "namespace mismatch",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_its_token() {
    let lab = Lab::new().await;
    let _device = lab.exporter("bench", "a").await;
    let (mut me, token) = lab.client("me").await;
    let lease = me.create_lease(ask("board=a")).await.unwrap().into_inner();
    let watch = || WatchLeaseRequest {
        name: lease.name.clone(),
    };
    let mut watcher = lab.watcher("me", &token).await;
    let mut stream = watcher.watch_lease(watch()).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let parent = "namespaces/default".to_owned();
    let rotated = me
        .rotate_token(RotateTokenRequest { parent })
        .await
        .unwrap()
        .into_inner();
    let ended = loop {
        match stream.message().await {
            Ok(message) => assert!(message.is_some()),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended:?}");
    // Revoked by an administrator, it ends at once.
    let mut watcher = lab.watcher("me", &rotated.token).await;
    let mut stream = watcher.watch_lease(watch()).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let before = tokio::time::Instant::now();
    lab.admin()
        .await
        .revoke_credential(named("client", "me"))
        .await
        .unwrap();
    let ended = stream.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended:?}");
    assert!(before.elapsed() < Duration::from_secs(1));
    let mut late = lab.client_with("me", &rotated.token).await;
    refused(
        late.list_leases(list()).await,
        Code::PermissionDenied,
        "revoked",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_the_time_of_its_token() {
    let settings = jmp_controller::settings::Settings {
        token_lifetime: Duration::from_secs(3600),
        ..Default::default()
    };
    let lab = Lab::with(settings).await;
    let (_, token) = lab.client("me").await;
    let mut watcher = lab.watcher("me", &token).await;
    let mut stream = watcher.watch_leases(list()).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().unwrap().synchronized);
    // A clock that was set counts, too.
    lab.clock.jump(3000);
    let ended = stream.message().await.unwrap_err();
    assert!(ended.message().contains("token is expired"), "{ended:?}");
    let mut late = lab.client_with("me", &token).await;
    refused(
        late.list_leases(list()).await,
        Code::Unknown,
        "token is expired",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_administrators_rotation_takes_effect_at_once() {
    let lab = Lab::new().await;
    let old = lab.registered("bench", "a").await;
    let mut device = lab.start("bench", &old).await;
    let mut admin = lab.admin().await;
    let further = admin
        .get_credential(named("exporter", "bench"))
        .await
        .unwrap()
        .into_inner();
    assert_ne!(further.token, old);
    assert_eq!(further.certificate_authority, "AUTHORITY");
    let rotated = admin
        .rotate_credential(named("exporter", "bench"))
        .await
        .unwrap()
        .into_inner();
    let ended = loop {
        match device.status.message().await {
            Ok(message) => assert!(message.is_some(), "the stream ends with its reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended:?}");
    for bad in [&old, &further.token] {
        let connection = lab.identified("Exporter", ("default", "bench"), bad).await;
        let origin = connection.origin();
        let mut calls =
            jmp_proto::v1::controller_service_client::ControllerServiceClient::with_origin(
                connection, origin,
            );
        refused(
            calls.status(jmp_proto::v1::StatusRequest {}).await,
            Code::PermissionDenied,
            "permission denied for exporter default/bench",
        );
    }
    lab.start("bench", &rotated.token).await;
    admin
        .revoke_credential(named("exporter", "bench"))
        .await
        .unwrap();
    refused(
        admin.get_credential(named("exporter", "bench")).await,
        Code::FailedPrecondition,
        "rotate",
    );
    admin
        .rotate_credential(named("exporter", "bench"))
        .await
        .unwrap();
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_object_of_the_same_name_has_other_tokens() {
    let lab = Lab::new().await;
    let (mut me, _) = lab.client("me").await;
    lab.admin()
        .await
        .delete_resource(named("client", "me"))
        .await
        .unwrap();
    refused(
        me.list_leases(list()).await,
        Code::NotFound,
        "does not exist",
    );
    lab.client("me").await;
    refused(
        me.list_leases(list()).await,
        Code::PermissionDenied,
        "permission denied",
    );
    lab.stop().await;
}
