//! Two processes with one exporter's credential.

use std::time::Duration;

use jmp_controller::probe::Probe;
use jmp_proto::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::lab::{Lab, ask, refused};
use crate::world::{controller_calls, end, register};

#[tokio::test(start_paused = true)]
async fn the_second_process_is_refused_while_the_first_answers() {
    let lab = Lab::new().await;
    let token = lab.registered("bench", "a").await;
    let mut first = lab.start("bench", &token).await;
    let mut second = controller_calls(&lab, "Exporter", "bench", &token).await;
    let before = tokio::time::Instant::now();
    let text = "another process is running as exporter default/bench";
    refused(second.register(register()).await, Code::AlreadyExists, text);
    refused(
        second.status(v1::StatusRequest {}).await,
        Code::AlreadyExists,
        text,
    );
    assert!(before.elapsed() < Duration::from_secs(1));
    // A process opens connections as it likes: what it reports and listens to is not refused.
    let report = v1::ReportStatusRequest {
        status: v1::ExporterStatus::Available.into(),
        ..v1::ReportStatusRequest::default()
    };
    second.report_status(report).await.unwrap();
    let (mut me, _) = lab.client("me").await;
    me.create_lease(ask("board=a")).await.unwrap();
    first.leased(true).await;
    drop(first);
    second.register(register()).await.unwrap();
    lab.stop().await;
}

/// Carries bytes between two pipes until it is told to stop; the connections stay open then.
async fn carry(mut a: DuplexStream, mut b: DuplexStream, frozen: CancellationToken) {
    let copy = tokio::io::copy_bidirectional(&mut a, &mut b);
    tokio::select! {
        _ = copy => {}
        () = frozen.cancelled() => std::future::pending().await,
    }
}

#[tokio::test(start_paused = true)]
async fn another_process_takes_over_from_one_that_does_not_answer() {
    let lab = Lab::new().await;
    let token = lab.registered("bench", "a").await;
    let (ours, near) = tokio::io::duplex(65536);
    let (far, theirs) = tokio::io::duplex(65536);
    let frozen = CancellationToken::new();
    let carried = tokio::spawn(carry(near, far, frozen.clone()));
    lab.controller.accept_io(theirs, None);
    let mut metadata = http::HeaderMap::new();
    for (key, value) in [
        ("authorization", format!("Bearer {token}")),
        ("jumpstarter-kind", "Exporter".into()),
        ("jumpstarter-namespace", "default".into()),
        ("jumpstarter-name", "bench".into()),
    ] {
        metadata.insert(key, value.parse().unwrap());
    }
    let connection =
        jmp_wire::connection::Connection::handshake(ours, "controller", metadata, None)
            .await
            .unwrap();
    let origin = connection.origin();
    let mut calls =
        v1::controller_service_client::ControllerServiceClient::with_origin(connection, origin);
    calls.register(register()).await.unwrap();
    let stream = calls.status(v1::StatusRequest {}).await.unwrap();
    let mut stream = stream.into_inner();
    stream.message().await.unwrap().unwrap();
    frozen.cancel();

    let before = tokio::time::Instant::now();
    let mut device = lab.start("bench", &token).await;
    let took = before.elapsed();
    assert!(took >= Duration::from_secs(5), "{took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(lab.controller.context().exporters.connected(), 1);
    let (mut me, _) = lab.client("me").await;
    me.create_lease(ask("board=a")).await.unwrap();
    device.leased(true).await;
    carried.abort();
    assert!(end(&mut stream).await.is_some());
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_went_away_is_replaced_at_once() {
    let lab = Lab::new().await;
    let token = lab.registered("bench", "a").await;
    let first = lab.start("bench", &token).await;
    let before = tokio::time::Instant::now();
    drop(first);
    lab.start("bench", &token).await;
    assert!(before.elapsed() < Duration::from_secs(1));
    lab.stop().await;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A ping goes out between two frames only, also when it is wanted in the middle of one.
#[tokio::test(start_paused = true)]
async fn pings_stand_between_frames() {
    let (near, mut far) = tokio::io::duplex(64);
    let (mut probed, probe) = Probe::wrap(near, CancellationToken::new());
    // Not before the peer has begun.
    let asking = tokio::spawn({
        let probe = probe.clone();
        async move { probe.answers(Duration::from_secs(5)).await }
    });
    let mut buffer = [0; 256];
    assert!(
        tokio::time::timeout(Duration::from_secs(1), probed.read(&mut buffer))
            .await
            .is_err()
    );
    far.write_all(PREFACE).await.unwrap();
    assert_eq!(probed.read(&mut buffer).await.unwrap(), PREFACE.len());
    // A DATA frame of 200 bytes does not fit into the pipe: the ping must wait for its end.
    let mut frame = vec![0, 0, 200, 0, 0, 0, 0, 0, 1];
    frame.extend([7; 200]);
    let sent = frame.clone();
    let writer = tokio::spawn(async move {
        probed.write_all(&sent).await.unwrap();
        probed.flush().await.unwrap();
        probed
    });
    let mut seen = vec![0; frame.len() + 17];
    let arrived = tokio::time::timeout(Duration::from_secs(4), far.read_exact(&mut seen));
    arrived.await.expect("a ping behind the frame").unwrap();
    assert_eq!(seen[..frame.len()], frame);
    let ping = &seen[frame.len()..];
    assert_eq!(ping[..9], [0, 0, 8, 6, 0, 0, 0, 0, 0]);
    let mut probed = writer.await.unwrap();
    // The acknowledgement may come in pieces, behind other frames.
    let mut answer = vec![0, 0, 3, 0, 0, 0, 0, 0, 1, 1, 2, 3];
    answer.extend([0, 0, 8, 6, 1, 0, 0, 0, 0]);
    answer.extend(&ping[9..]);
    for byte in answer {
        far.write_all(&[byte]).await.unwrap();
        assert_eq!(probed.read(&mut buffer).await.unwrap(), 1);
    }
    assert!(asking.await.unwrap());
    // Unanswered.
    let before = tokio::time::Instant::now();
    assert!(!probe.answers(Duration::from_secs(5)).await);
    assert_eq!(before.elapsed(), Duration::from_secs(5));
    // Gone: no need to wait.
    let asking = tokio::spawn(async move { probe.answers(Duration::from_secs(5)).await });
    tokio::task::yield_now().await;
    drop(probed);
    let before = tokio::time::Instant::now();
    assert!(!asking.await.unwrap());
    assert!(before.elapsed() < Duration::from_millis(10));
}
