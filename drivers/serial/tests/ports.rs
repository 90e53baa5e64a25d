//! Devices, loops and sockets, opened as the driver opens them.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use driver_serial::device::{PortSettings, check_present, open};
use driver_serial::pace::{Pace, Paced};
use driver_serial::port::PortControl;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{ControlModes, LocalModes, OptionalActions, tcgetattr, tcsetattr};
use support::{Cable, LIMIT, read_exactly, settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// A pseudo terminal: its controlling side, and the path of the device.
fn pseudo_terminal() -> (std::fs::File, PathBuf) {
    let master: OwnedFd =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    (master.into(), path.into())
}

fn device(path: &std::path::Path) -> PortSettings {
    settings(path.to_str().unwrap())
}

#[tokio::test]
async fn a_device_is_raw_and_has_its_baud_rate() {
    let (mut master, path) = pseudo_terminal();
    let terminal = std::fs::File::open(&path).unwrap();
    let mut attributes = tcgetattr(&terminal).unwrap();
    attributes.control_modes.insert(ControlModes::HUPCL);
    tcsetattr(&terminal, OptionalActions::Now, &attributes).unwrap();
    let mut port = open(&PortSettings {
        baudrate: 123_457,
        disable_hupcl: true,
        ..device(&path)
    })
    .await
    .unwrap();
    assert!(port.warnings().is_empty(), "{:?}", port.warnings());
    let attributes = tcgetattr(&terminal).unwrap();
    assert_eq!(attributes.output_speed(), 123_457);
    assert!(
        !attributes
            .local_modes
            .intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    );
    assert!(!attributes.control_modes.contains(ControlModes::HUPCL));

    let data: Vec<u8> = (0..=255).collect();
    master.write_all(&data).unwrap();
    assert_eq!(read_exactly(&mut port, data.len()).await, data);
    port.write_all(&data).await.unwrap();
    let mut received = [0; 256];
    master.read_exact(&mut received).unwrap();
    assert_eq!(&received[..], data);
}

#[tokio::test]
async fn shutting_the_writer_down_keeps_the_reader() {
    let (mut master, path) = pseudo_terminal();
    let mut port = open(&device(&path)).await.unwrap();
    port.shutdown().await.unwrap();
    master.write_all(b"still here").unwrap();
    assert_eq!(read_exactly(&mut port, 10).await, b"still here");
}

#[tokio::test]
async fn a_pseudo_terminal_has_no_modem_lines() {
    let (_master, path) = pseudo_terminal();
    let port = open(&device(&path)).await.unwrap();
    for result in [
        port.handle().set_dtr(true).await,
        port.handle().set_rts(false).await,
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    port.handle()
        .send_break(Duration::from_millis(1))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_device_that_goes_away_ends_with_its_name() {
    let (master, path) = pseudo_terminal();
    let mut port = open(&device(&path)).await.unwrap();
    drop(master);
    let error = timeout(LIMIT, port.read(&mut [0; 8]))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert!(error.to_string().contains("is gone"), "{error}");
}

#[tokio::test]
async fn a_cable_carries_both_directions_until_it_is_unplugged() {
    let Some(mut cable) = Cable::new().await else {
        return;
    };
    let left = open(&device(&cable.left)).await.unwrap();
    let mut right = open(&device(&cable.right)).await.unwrap();
    let data: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let (mut reader, mut writer) = tokio::io::split(left);
    let (_, received) = tokio::join!(
        async { writer.write_all(&data).await.unwrap() },
        read_exactly(&mut right, data.len())
    );
    assert_eq!(received, data);
    right.write_all(b"back").await.unwrap();
    assert_eq!(read_exactly(&mut reader, 4).await, b"back");
    cable.unplug().await;
    assert!(
        timeout(LIMIT, reader.read(&mut [0; 8]))
            .await
            .unwrap()
            .is_err()
    );
}

#[tokio::test]
async fn closing_from_elsewhere_ends_the_stream_and_frees_the_device() {
    let (_master, path) = pseudo_terminal();
    let mut port = open(&device(&path)).await.unwrap();
    let handle = port.handle();
    let reading = tokio::spawn(async move { port.read(&mut [0; 8]).await });
    tokio::task::yield_now().await;
    handle.close();
    assert_eq!(timeout(LIMIT, reading).await.unwrap().unwrap().unwrap(), 0);
    check_present(&device(&path)).await.unwrap();
}

#[tokio::test]
async fn devices_that_cannot_be_opened_say_why() {
    let error = open(&settings("/dev/ttyNOSUCH7")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let text = error.to_string();
    assert!(text.contains("/dev/ttyNOSUCH7"), "{text}");
    assert!(
        text.contains("present are /dev/") || text.contains("has no serial device"),
        "{text}"
    );

    let file = tempfile::NamedTempFile::new().unwrap();
    let error = open(&device(file.path())).await.unwrap_err();
    assert!(
        error.to_string().contains("it is not a serial device"),
        "{error}"
    );

    let (_master, path) = pseudo_terminal();
    let error = check_present(&PortSettings {
        baudrate: 0,
        ..device(&path)
    })
    .await
    .unwrap_err();
    assert!(error.to_string().contains("baudrate 0"), "{error}");
}

#[tokio::test]
async fn hardware_that_matches_nothing_is_counted() {
    let error = open(&settings("hwgrep://no-such-adapter-[0-9]{7}"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().contains("0 serial devices match"),
        "{error}"
    );
}

#[tokio::test]
async fn a_loop_echoes_messages_and_has_lines() {
    let mut port = open(&settings("loop://")).await.unwrap();
    port.handle().set_dtr(true).await.unwrap();
    port.handle().set_rts(false).await.unwrap();
    port.write_all(b"one").await.unwrap();
    port.write_all(b"two").await.unwrap();
    let mut buffer = [0; 16];
    assert_eq!(port.read(&mut buffer).await.unwrap(), 3);
    let pace = Pace::from_characters_per_second(1000.0).unwrap().unwrap();
    let mut port = Paced::new(port, pace);
    assert_eq!(port.read(&mut buffer).await.unwrap(), 3);
    port.write_all(b"xy").await.unwrap();
    assert_eq!(port.read(&mut buffer).await.unwrap(), 1);
}

#[tokio::test]
async fn a_socket_carries_bytes_and_no_lines() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("socket://{}", listener.local_addr().unwrap());
    let (port, accepted) = tokio::join!(async { open(&settings(&url)).await.unwrap() }, async {
        listener.accept().await.unwrap().0
    });
    let (mut port, mut peer) = (port, accepted);
    port.write_all(b"to the board").await.unwrap();
    port.shutdown().await.unwrap();
    assert_eq!(read_exactly(&mut peer, 12).await, b"to the board");
    peer.write_all(b"to the host").await.unwrap();
    assert_eq!(read_exactly(&mut port, 11).await, b"to the host");
    let error = port.handle().set_dtr(true).await.unwrap_err();
    assert!(error.to_string().contains("rfc2217://127.0.0.1"), "{error}");
    drop(port);
    assert_eq!(
        timeout(LIMIT, peer.read(&mut [0; 8]))
            .await
            .unwrap()
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn a_spy_writes_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("spy.log");
    let (mut master, path) = pseudo_terminal();
    let spied = settings(&format!("spy://{}?file={}", path.display(), log.display()));
    let mut port = open(&spied).await.unwrap();
    port.write_all(b"AT\r").await.unwrap();
    master.write_all(b"OK").unwrap();
    read_exactly(&mut port, 2).await;
    drop(port);
    check_present(&spied).await.unwrap();
    let text = std::fs::read_to_string(log).unwrap();
    assert!(
        text.contains("TX 41 54 0D") && text.contains("RX 4F 4B"),
        "{text}"
    );
}
