//! The figures for Prometheus.

use std::collections::BTreeMap;
use std::time::Duration;

use jmp_proto::jumpstarter::client::v1::DeleteLeaseRequest;
use jmp_proto::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::lab::{Lab, ask};

/// All figures by their names with labels.
pub async fn scrape(lab: &Lab) -> BTreeMap<String, f64> {
    let context = lab.controller.context();
    let counts = context.engine.counts().await.unwrap();
    let exporters = context.view.list(None);
    let usable = context.routers.usable();
    parse(&context.metrics.text(&counts, &exporters, usable))
}

fn parse(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "the end of OpenMetrics");
    let mut figures = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (line, _exemplar) = line.split_once(" # ").unwrap_or((line, ""));
        let (name, value) = line.rsplit_once(' ').expect(line);
        let value: f64 = value.parse().expect(line);
        assert!(name.starts_with("jumpstarter_"), "{line}");
        assert!(figures.insert(name.to_owned(), value).is_none(), "{line}");
    }
    figures
}

async fn get(address: std::net::SocketAddr, path: &str) -> (String, String) {
    let mut io = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn figures_have_the_names_of_shipped_controllers_and_those_for_charging() {
    let lab = Lab::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = lab.controller.serve_metrics(listener).unwrap();
    let (head, body) = get(address, "/metrics").await;
    assert!(head.contains("200 ok") && head.contains("application/openmetrics-text"));
    let first = parse(body.split_once("\r\n").map_or(&*body, |_| &body));
    for result in ["success", "failure"] {
        let name = format!("jumpstarter_lease_acquisitions_total{{result=\"{result}\"}}");
        assert_eq!(first[&name], 0.0, "there from the beginning");
    }
    for status in ["Offline", "Available", "LeaseReady", "AfterLeaseHookFailed"] {
        assert_eq!(
            first[&format!("jumpstarter_exporters{{status=\"{status}\"}}")],
            0.0
        );
    }
    let mut device = lab.exporter("bench", "a").await;
    let (mut me, _) = lab.client("me").await;
    let mut tagged = ask("board=a");
    let lease = tagged.lease.as_mut().unwrap();
    lease.tags.insert("team".into(), "blue".into());
    let held = me.create_lease(tagged).await.unwrap().into_inner();
    device.leased(true).await;
    device.report(v1::ExporterStatus::LeaseReady).await;
    me.create_lease(ask("board=a")).await.unwrap();
    me.create_lease(ask("board=nowhere")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let text = get(address, "/metrics").await.1;
    let held_by = held.name.rsplit('/').next().unwrap();
    let exemplar = format!("# {{client=\"me\",lease_id=\"{held_by}\"}} 1");
    assert!(text.contains(&exemplar), "{text}");
    let middle = parse(&text);
    assert_eq!(middle["jumpstarter_leases{state=\"active\"}"], 1.0);
    assert_eq!(middle["jumpstarter_leases{state=\"waiting\"}"], 1.0);
    assert_eq!(middle["jumpstarter_leases{state=\"scheduled\"}"], 0.0);
    assert_eq!(middle["jumpstarter_exporters{status=\"LeaseReady\"}"], 1.0);
    assert_eq!(middle["jumpstarter_routers"], 0.0);
    assert_eq!(middle["jumpstarter_lease_queue_seconds_count"], 1.0);
    assert_eq!(
        middle["jumpstarter_lease_acquisitions_total{result=\"success\"}"],
        1.0
    );
    assert_eq!(
        middle["jumpstarter_lease_acquisitions_total{result=\"failure\"}"],
        1.0
    );
    let name = held.name;
    me.delete_lease(DeleteLeaseRequest { name }).await.unwrap();
    let last = parse(&get(address, "/metrics").await.1);
    let by_holder = last["jumpstarter_lease_held_seconds_total{namespace=\"default\",client=\"me\",exporter=\"bench\"}"];
    let by_tag = last["jumpstarter_lease_held_by_tag_seconds_total{namespace=\"default\",key=\"team\",value=\"blue\"}"];
    assert!((1.2..60.0).contains(&by_holder), "{by_holder}");
    assert_eq!(by_holder, by_tag);
    let calls = "jumpstarter_rpc_calls_total{method=\"/jumpstarter.client.v1.ClientService/CreateLease\",code=\"OK\"}";
    assert_eq!(last[calls], 3.0);
    let (head, _) = get(address, "/healthz").await;
    assert!(head.contains("200 ok"));
    let (head, _) = get(address, "/readyz").await;
    assert!(head.contains("200 ok"));
    let (head, _) = get(address, "/else").await;
    assert!(head.contains("404"));
    lab.stop().await;
}
