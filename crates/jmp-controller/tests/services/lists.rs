//! Lists of leases and exporters.

use jmp_controller::settings::Settings;
use jmp_proto::jumpstarter::client::v1::{
    DeleteLeaseRequest, GetExporterRequest, ListExportersRequest, ListLeasesRequest,
};
use tonic::Code;

use crate::lab::{Lab, ask, refused};

fn leases() -> ListLeasesRequest {
    ListLeasesRequest {
        parent: "namespaces/default".into(),
        ..ListLeasesRequest::default()
    }
}

fn exporters() -> ListExportersRequest {
    ListExportersRequest {
        parent: "namespaces/default".into(),
        ..ListExportersRequest::default()
    }
}

#[tokio::test(start_paused = true)]
async fn ten_leases_and_ten_exporters_take_two_pages_of_five() {
    let lab = Lab::new().await;
    let (mut me, _) = lab.client("me").await;
    for number in 0..10 {
        lab.registered(&format!("bench-{number}"), "a").await;
        let mut request = ask("board=a");
        request.lease_id = format!("l-{number}");
        me.create_lease(request).await.unwrap();
    }
    let mut names = Vec::new();
    let mut token = String::new();
    for page in 0..2 {
        let request = ListExportersRequest {
            page_size: 5,
            page_token: token,
            ..exporters()
        };
        let found = me.list_exporters(request).await.unwrap().into_inner();
        assert_eq!(found.exporters.len(), 5);
        names.extend(found.exporters.into_iter().map(|exporter| exporter.name));
        token = found.next_page_token;
        assert_eq!(token.is_empty(), page == 1);
    }
    names.dedup();
    assert_eq!(names.len(), 10);
    for only_active in [None, Some(false)] {
        let mut names = Vec::new();
        let mut token = String::new();
        loop {
            let request = ListLeasesRequest {
                page_size: 5,
                page_token: token,
                only_active,
                ..leases()
            };
            let found = me.list_leases(request).await.unwrap().into_inner();
            assert!(found.leases.len() <= 5);
            names.extend(found.leases.into_iter().map(|lease| lease.name));
            token = found.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        names.dedup();
        assert_eq!(names.len(), 10, "{only_active:?}");
    }
    let all = me.list_leases(leases()).await.unwrap().into_inner();
    assert_eq!((all.leases.len(), all.next_page_token.as_str()), (10, ""));
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn bad_pages_are_invalid_arguments() {
    let lab = Lab::new().await;
    let (mut me, _) = lab.client("me").await;
    for token in ["x", "AAAA"] {
        for only_active in [None, Some(false)] {
            let request = ListLeasesRequest {
                page_token: token.into(),
                only_active,
                ..leases()
            };
            refused(
                me.list_leases(request).await,
                Code::InvalidArgument,
                "token",
            );
        }
        let request = ListExportersRequest {
            page_token: token.into(),
            ..exporters()
        };
        refused(
            me.list_exporters(request).await,
            Code::InvalidArgument,
            "token",
        );
    }
    let request = ListExportersRequest {
        page_size: -1,
        ..exporters()
    };
    refused(
        me.list_exporters(request).await,
        Code::InvalidArgument,
        "page_size",
    );
    let request = ListLeasesRequest {
        page_size: -1,
        only_active: Some(false),
        ..leases()
    };
    refused(
        me.list_leases(request).await,
        Code::InvalidArgument,
        "page_size",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn filters_choose() {
    let lab = Lab::new().await;
    let (mut me, _) = lab.client("me").await;
    for board in ["a", "b"] {
        lab.registered(&format!("bench-{board}"), board).await;
        let mut request = ask(&format!("board={board}"));
        request.lease_id = format!("l-{board}");
        request
            .lease
            .as_mut()
            .unwrap()
            .tags
            .insert("team".into(), board.into());
        me.create_lease(request).await.unwrap();
    }
    me.delete_lease(DeleteLeaseRequest {
        name: "namespaces/default/leases/l-b".into(),
    })
    .await
    .unwrap();
    for (filter, tags, only_active, expected) in [
        ("", "", None, vec!["l-a"]),
        ("", "", Some(true), vec!["l-a"]),
        ("", "", Some(false), vec!["l-a", "l-b"]),
        ("board=b", "", Some(false), vec!["l-b"]),
        ("board!=b", "", Some(false), vec!["l-a"]),
        ("", "team in (a,b)", Some(false), vec!["l-a", "l-b"]),
        ("board=a", "team=b", Some(false), vec![]),
        ("", "!team", None, vec![]),
    ] {
        let request = ListLeasesRequest {
            filter: filter.into(),
            tag_filter: tags.into(),
            only_active,
            ..leases()
        };
        let found = me.list_leases(request).await.unwrap().into_inner().leases;
        let names: Vec<&str> = found
            .iter()
            .map(|lease| lease.name.rsplit('/').next().unwrap())
            .collect();
        assert_eq!(names, expected, "{filter} {tags} {only_active:?}");
    }
    let request = ListLeasesRequest {
        filter: "a in (".into(),
        ..leases()
    };
    refused(me.list_leases(request).await, Code::Unknown, "filter");
    let request = ListLeasesRequest {
        tag_filter: "a in (".into(),
        ..leases()
    };
    refused(
        me.list_leases(request).await,
        Code::InvalidArgument,
        "tag_filter",
    );
    for (filter, count) in [("board=a", 1), ("!board", 0), ("board in (a,b)", 2)] {
        let request = ListExportersRequest {
            filter: filter.into(),
            ..exporters()
        };
        let found = me
            .list_exporters(request)
            .await
            .unwrap()
            .into_inner()
            .exporters;
        assert_eq!(found.len(), count, "{filter}");
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn exporters_show_what_clients_may_see() {
    let mut settings = Settings::default();
    settings.labels.hidden.insert("board".into());
    let lab = Lab::with(settings).await;
    let _device = lab.exporter("bench", "a").await;
    let (mut me, _) = lab.client("me").await;
    let name = "namespaces/default/exporters/bench".to_owned();
    let plain = GetExporterRequest {
        name: name.clone(),
        show_hidden_labels: false,
    };
    let found = me.get_exporter(plain.clone()).await.unwrap().into_inner();
    assert!(!found.labels.contains_key("board"));
    assert_eq!(found.status(), jmp_proto::v1::ExporterStatus::Available);
    assert_eq!(found.enabled, Some(true));
    let all = GetExporterRequest {
        show_hidden_labels: true,
        ..plain
    };
    let found = me.get_exporter(all).await.unwrap().into_inner();
    assert_eq!(found.labels["board"], "a");
    let missing = GetExporterRequest {
        name: "namespaces/default/exporters/none".into(),
        ..GetExporterRequest::default()
    };
    refused(me.get_exporter(missing).await, Code::Unknown, "not found");
    lab.stop().await;
}
