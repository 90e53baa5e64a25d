//! Objects in the hands of administrators.

use jmp_proto::jmp::v1::{
    ApplyResourceRequest, CreateResourceRequest, GetServerInfoRequest, ListResourcesRequest,
};
use jmp_proto::jumpstarter::client::v1::ListExportersRequest;
use serde_json::{Value, json};
use tonic::Code;

use crate::lab::{Lab, ask, manifest, named, refused, resource, until_ready};

fn list(kind: &str) -> ListResourcesRequest {
    ListResourcesRequest {
        kind: kind.into(),
        ..ListResourcesRequest::default()
    }
}

fn create(manifest: &Value) -> CreateResourceRequest {
    CreateResourceRequest {
        resource: Some(resource(manifest)),
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_is_made_found_and_deleted() {
    let lab = Lab::new().await;
    let mut admin = lab.admin().await;
    for (kind, word) in [
        ("Client", "client"),
        ("Exporter", "exporter"),
        ("ExporterAccessPolicy", "exporteraccesspolicy"),
        ("Administrator", "admin"),
        ("Router", "router"),
    ] {
        let mut made = manifest(kind, "one", json!({}));
        made["metadata"]["labels"] = json!({ "a": "1" });
        let created = admin
            .create_resource(create(&made))
            .await
            .unwrap()
            .into_inner();
        let object: Value = serde_json::from_str(&created.resource.unwrap().manifest).unwrap();
        assert_eq!(object["kind"], kind);
        assert_eq!(object["metadata"]["namespace"], "default");
        assert!(!object["metadata"]["uid"].as_str().unwrap().is_empty());
        assert_eq!(object["metadata"]["generation"], 1);
        let credential = created.credential;
        assert_eq!(
            credential.is_some(),
            kind != "ExporterAccessPolicy",
            "{kind}"
        );
        if let Some(credential) = credential {
            assert_eq!(credential.endpoint, "localhost:8082");
            assert!(!credential.token.is_empty());
            assert!(!object.to_string().contains(&credential.token));
        }
        refused(
            admin.create_resource(create(&made)).await,
            Code::AlreadyExists,
            "one",
        );
        let found = admin
            .get_resource(named(word, "one"))
            .await
            .unwrap()
            .into_inner();
        assert!(found.manifest.contains("\"one\""));
        for (selector, count) in [("a=1", 1), ("a=2", 0)] {
            let request = ListResourcesRequest {
                selector: selector.into(),
                ..list(word)
            };
            let found = admin.list_resources(request).await.unwrap().into_inner();
            assert_eq!(found.resources.len(), count, "{kind} {selector}");
        }
        admin.delete_resource(named(word, "one")).await.unwrap();
        refused(
            admin.get_resource(named(word, "one")).await,
            Code::NotFound,
            "one",
        );
        refused(
            admin.delete_resource(named(word, "one")).await,
            Code::NotFound,
            "one",
        );
        refused(
            admin.rotate_credential(named(word, "one")).await,
            if kind == "ExporterAccessPolicy" {
                Code::InvalidArgument
            } else {
                Code::NotFound
            },
            "",
        );
    }
    refused(
        admin.get_resource(named("pod", "one")).await,
        Code::InvalidArgument,
        "unknown kind",
    );
    refused(
        admin.get_resource(named("client", "A")).await,
        Code::InvalidArgument,
        "invalid name",
    );
    let bad = manifest("Lease", "one", json!({}));
    refused(
        admin.create_resource(create(&bad)).await,
        Code::InvalidArgument,
        "jmp create lease",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_administrators_get_in() {
    let lab = Lab::new().await;
    let (_, token) = lab.client("me").await;
    for (kind, name, code) in [
        ("Client", "me", Code::InvalidArgument),
        ("Admin", "me", Code::NotFound),
        ("Admin", "root", Code::PermissionDenied),
    ] {
        let connection = lab.identified(kind, ("default", name), &token).await;
        let origin = connection.origin();
        let mut calls = jmp_proto::jmp::v1::admin_service_client::AdminServiceClient::with_origin(
            connection, origin,
        );
        refused(calls.list_resources(list("client")).await, code, "");
        let made = manifest("Client", "x", json!({}));
        refused(calls.create_resource(create(&made)).await, code, "");
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn applying_says_what_it_did() {
    let lab = Lab::new().await;
    let mut made = manifest("Exporter", "bench", json!({ "enabled": true }));
    made["metadata"]["labels"] = json!({ "board": "a", "jumpstarter.dev/x": "mine" });
    let first = lab.apply(made.clone()).await.unwrap();
    assert_eq!(first.outcome, "created");
    let _device = lab.start("bench", &first.credential.unwrap().token).await;
    let again = lab.apply(made.clone()).await.unwrap();
    assert_eq!(
        (again.outcome.as_str(), again.credential),
        ("unchanged", None)
    );
    made["spec"]["enabled"] = json!(false);
    made["metadata"]["labels"] = json!({ "board": "b" });
    let changed = lab.apply(made).await.unwrap();
    assert_eq!(changed.outcome, "configured");
    let object: Value = serde_json::from_str(&changed.resource.unwrap().manifest).unwrap();
    assert_eq!(object["metadata"]["labels"], json!({ "board": "b" }));
    assert_eq!(object["metadata"]["generation"], 2);
    assert_eq!(object["spec"]["enabled"], false);
    // What was read can be applied.
    let read = lab
        .admin()
        .await
        .get_resource(named("exporter", "bench"))
        .await
        .unwrap();
    let request = ApplyResourceRequest {
        resource: Some(read.into_inner()),
    };
    let applied = lab
        .admin()
        .await
        .apply_resource(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(applied.outcome, "unchanged");
    let bad = manifest("Exporter", "bench", json!({ "enable": true }));
    let refusal = lab.apply(bad).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("spec.enable"), "{refusal:?}");
    let none = ApplyResourceRequest::default();
    refused(
        lab.admin().await.apply_resource(none).await,
        Code::InvalidArgument,
        "resource is required",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn policies_decide_who_may_lease() {
    let lab = Lab::new().await;
    let _device = lab.exporter("bench", "a").await;
    let (mut me, _) = lab.client("me").await;
    let policy = manifest(
        "ExporterAccessPolicy",
        "ci",
        json!({ "policies": [{ "description": "the CI team",
            "from": [{ "clientSelector": { "matchLabels": { "team": "ci" } } }] }] }),
    );
    assert_eq!(lab.apply(policy).await.unwrap().outcome, "created");
    let lease = me.create_lease(ask("board=a")).await.unwrap().into_inner();
    let last = lease.conditions.last().unwrap();
    assert_eq!(
        (last.r#type(), last.reason()),
        ("Unsatisfiable", "NoAccess")
    );
    assert!(last.message().contains("the CI team"), "{last:?}");
    let mut client = manifest("Client", "me", json!({}));
    client["metadata"]["labels"] = json!({ "team": "ci" });
    assert_eq!(lab.apply(client).await.unwrap().outcome, "configured");
    let lease = me.create_lease(ask("board=a")).await.unwrap().into_inner();
    until_ready(&mut me, &lease.name).await;
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn namespaces_are_apart() {
    let lab = Lab::new().await;
    let mut made = manifest("Exporter", "bench", json!({}));
    made["metadata"]["namespace"] = json!("lab");
    lab.create(made.clone()).await;
    lab.registered("bench", "a").await;
    let (mut me, _) = lab.client("me").await;
    let request = ListExportersRequest {
        parent: "namespaces/default".into(),
        ..ListExportersRequest::default()
    };
    let found = me.list_exporters(request).await.unwrap().into_inner();
    assert_eq!(found.exporters.len(), 1);
    let mut admin = lab.admin().await;
    for (namespace, count) in [("", 2), ("lab", 1), ("default", 1), ("none", 0)] {
        let request = ListResourcesRequest {
            namespace: namespace.into(),
            ..list("exporter")
        };
        let found = admin.list_resources(request).await.unwrap().into_inner();
        assert_eq!(found.resources.len(), count, "{namespace}");
    }
    let request = ListResourcesRequest {
        page_size: 1,
        ..list("exporter")
    };
    let first = admin
        .list_resources(request.clone())
        .await
        .unwrap()
        .into_inner();
    let request = ListResourcesRequest {
        page_token: first.next_page_token,
        ..request
    };
    let second = admin.list_resources(request).await.unwrap().into_inner();
    assert_ne!(first.resources, second.resources);
    assert_eq!(second.next_page_token, "");
    made["metadata"]["namespace"] = json!("Not.A.Label");
    refused(
        admin.create_resource(create(&made)).await,
        Code::InvalidArgument,
        "metadata.namespace",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn administrators_end_leases() {
    let lab = Lab::new().await;
    let mut device = lab.exporter("bench", "a").await;
    let (mut me, _) = lab.client("me").await;
    let mut request = ask("board=a");
    request.lease_id = "l".into();
    let lease = me.create_lease(request).await.unwrap().into_inner();
    until_ready(&mut me, &lease.name).await;
    device.leased(true).await;
    let mut admin = lab.admin().await;
    assert_eq!(
        admin
            .list_resources(list("lease"))
            .await
            .unwrap()
            .get_ref()
            .resources
            .len(),
        1
    );
    let ended = admin
        .delete_resource(named("lease", "l"))
        .await
        .unwrap()
        .into_inner();
    let object: Value = serde_json::from_str(&ended.manifest).unwrap();
    assert_eq!(object["status"]["ended"], true);
    device.leased(false).await;
    refused(
        admin.delete_resource(named("lease", "l")).await,
        Code::FailedPrecondition,
        "ended already",
    );
    assert_eq!(
        admin
            .list_resources(list("lease"))
            .await
            .unwrap()
            .get_ref()
            .resources
            .len(),
        0
    );
    let all = ListResourcesRequest {
        include_ended: true,
        ..list("lease")
    };
    assert_eq!(
        admin
            .list_resources(all)
            .await
            .unwrap()
            .get_ref()
            .resources
            .len(),
        1
    );
    admin.get_resource(named("lease", "l")).await.unwrap();
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn somebody_can_always_let_others_in() {
    let lab = Lab::new().await;
    let mut root = lab.admin().await;
    for result in [
        root.delete_resource(named("admin", "root")).await,
        root.revoke_credential(named("admin", "root")).await,
    ] {
        refused(result, Code::FailedPrecondition, "the last one");
    }
    lab.create(manifest("Administrator", "second", json!({})))
        .await;
    root.delete_resource(named("admin", "root")).await.unwrap();
    refused(
        root.list_resources(list("client")).await,
        Code::NotFound,
        "root",
    );
    assert!(
        jmp_controller::credentials::bootstrap_administrator(lab.controller.context())
            .await
            .unwrap()
            .is_none()
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_administrators_cannot_be_rid_of_each_other() {
    let lab = Lab::new().await;
    let second = lab
        .create(manifest("Administrator", "second", json!({})))
        .await;
    let (mut one, mut other) = (lab.admin().await, lab.admin().await);
    let results = tokio::join!(
        one.revoke_credential(named("admin", "second")),
        other.delete_resource(named("admin", "root")),
    );
    let good = usize::from(results.0.is_ok()) + usize::from(results.1.is_ok());
    assert_eq!(good, 1, "{results:?}");
    assert!(!second.token.is_empty());
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_server_tells_about_itself() {
    let lab = Lab::new().await;
    let _device = lab.exporter("bench", "a").await;
    lab.registered("other", "b").await;
    let info = lab
        .admin()
        .await
        .get_server_info(GetServerInfoRequest {})
        .await;
    let info = info.unwrap().into_inner();
    assert_eq!(info.identity, "admin:root");
    assert_eq!((info.exporters, info.exporters_online), (2, 1));
    assert_eq!(info.endpoint, "localhost:8082");
    assert_eq!(info.started.unwrap().seconds, crate::lab::START);
    lab.stop().await;
}
