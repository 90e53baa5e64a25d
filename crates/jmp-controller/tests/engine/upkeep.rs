//! What is deleted when it is old.

use std::time::Duration;

use jmp_controller::settings::Settings;
use jmp_proto::jmp::v1::ListAuditRequest;
use jmp_proto::jumpstarter::client::v1::GetLeaseRequest;
use jmp_proto::v1::ExporterStatus;
use tonic::Code;

use crate::lab::{Lab, refused};
use crate::world::{leased, release};

const KEPT: Duration = Duration::from_secs(3600);

async fn rows(lab: &Lab, action: &str) -> usize {
    let request = ListAuditRequest::default();
    let found = lab.admin().await.list_audit(request).await.unwrap();
    let records = found.into_inner().records;
    records.iter().filter(|row| row.action == action).count()
}

#[tokio::test(start_paused = true)]
async fn ended_leases_and_the_record_are_kept_for_their_time() {
    let settings = Settings {
        lease_retention: KEPT,
        audit_retention: 2 * KEPT,
        ..Settings::default()
    };
    let lab = Lab::with(settings).await;
    let mut device = lab.exporter("bench", "a").await;
    let (_, token) = lab.client("me").await;
    let ended = leased(&lab, &mut device, "me", &token, "a").await;
    release(&lab, "me", &token, &ended).await;
    device.leased(false).await;
    device.report(ExporterStatus::Available).await;
    let created = rows(&lab, "CreateLease").await;
    assert_eq!(created, 1);
    let get = async || {
        let mut me = lab.client_with("me", &token).await;
        let name = format!("namespaces/default/leases/{ended}");
        me.get_lease(GetLeaseRequest { name }).await
    };

    tokio::time::sleep(KEPT - Duration::from_secs(60)).await;
    let kept = get().await.unwrap().into_inner();
    assert!(kept.effective_end_time.is_some());
    tokio::time::sleep(Duration::from_secs(15 * 60)).await;
    refused(get().await, Code::Unknown, &ended);
    assert_eq!(rows(&lab, "CreateLease").await, 1);
    tokio::time::sleep(KEPT).await;
    assert_eq!(rows(&lab, "CreateLease").await, 0);
    lab.stop().await;
}
