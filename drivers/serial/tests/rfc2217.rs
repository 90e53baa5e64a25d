//! The RFC 2217 client against real servers, and against broken ones.

mod support;

use std::time::Duration;

use driver_serial::device::{check_present, open};
use driver_serial::port::PortControl;
use driver_serial::rfc2217::Rfc2217Client;
use driver_serial::url::{Address, Rfc2217Url};
use rustix::termios::tcgetattr;
use support::{Cable, LIMIT, PyserialServer, Ser2net, read_exactly, settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

/// Every byte value, telnet's own among them, and doubled ones.
fn every_byte() -> Vec<u8> {
    (0..=255_u8).flat_map(|byte| [byte, 255, byte]).collect()
}

#[tokio::test]
async fn pyserial_takes_settings_and_echoes_every_byte() {
    let Some(mut server) = PyserialServer::new("loop://").await else {
        return;
    };
    let mut port_settings = settings(&server.url());
    port_settings.baudrate = 57_600;
    let mut port = open(&port_settings).await.unwrap();
    let state = server.state().await;
    for expected in [
        r#""baudrate": 57600"#,
        r#""bytesize": 8"#,
        r#""parity": "N""#,
        r#""stopbits": 1"#,
        r#""rtscts": false"#,
    ] {
        assert!(state.contains(expected), "{expected} in {state}");
    }
    // pyserial's loop has little room, so it is read while it is written.
    let data = every_byte().repeat(20);
    let (mut reader, mut writer) = tokio::io::split(&mut port);
    let writing = async {
        writer.write_all(&data).await.unwrap();
        writer.flush().await.unwrap();
    };
    let (_, received) = tokio::join!(writing, read_exactly(&mut reader, data.len()));
    assert_eq!(received, data);
}

#[tokio::test]
async fn pyserial_sees_lines_and_breaks() {
    let Some(mut server) = PyserialServer::new("loop://").await else {
        return;
    };
    let port = open(&settings(&server.url())).await.unwrap();
    let handle = port.handle();
    let state = server.state().await;
    assert!(state.contains(r#""dtr": true, "rts": true"#), "{state}");
    handle.set_dtr(false).await.unwrap();
    assert!(
        server
            .state()
            .await
            .contains(r#""dtr": false, "rts": true"#)
    );
    handle.set_rts(false).await.unwrap();
    assert!(
        server
            .state()
            .await
            .contains(r#""dtr": false, "rts": false"#)
    );
    handle.set_dtr(true).await.unwrap();
    assert!(
        server
            .state()
            .await
            .contains(r#""dtr": true, "rts": false"#)
    );

    let breaking = tokio::spawn({
        let handle = handle.clone();
        async move { handle.send_break(Duration::from_secs(60)).await }
    });
    server.wait_for_state(r#""break_condition": true"#).await;
    breaking.abort();
    server.wait_for_state(r#""break_condition": false"#).await;
    handle.send_break(Duration::from_millis(20)).await.unwrap();
    assert!(server.state().await.contains(r#""break_condition": false"#));
}

#[tokio::test]
async fn modem_lines_are_notified_and_polled() {
    let Some(server) = PyserialServer::new("loop://").await else {
        return;
    };
    for poll_modem in [false, true] {
        let mut url = Rfc2217Url::new(server.address.clone());
        url.poll_modem = poll_modem;
        let mut client = Rfc2217Client::connect(&url, 115_200).await.unwrap();
        let control = client.control();
        // The loop connects RTS with CTS.
        for on in [true, false, true] {
            control.set_rts(on).await.unwrap();
            let seen = async {
                let mut buffer = [0; 16];
                while control
                    .modem_state()
                    .await
                    .unwrap()
                    .map(|state| state.clear_to_send())
                    != Some(on)
                {
                    // Reading takes notifications in; there are no data.
                    let _ = timeout(Duration::from_millis(10), client.read(&mut buffer)).await;
                }
            };
            timeout(LIMIT, seen).await.expect("the line is seen");
        }
    }
}

#[tokio::test]
async fn lines_are_set_while_a_reader_and_a_writer_are_busy() {
    let Some(server) = PyserialServer::new("loop://").await else {
        return;
    };
    let port = open(&settings(&server.url())).await.unwrap();
    let handle = port.handle();
    let data = every_byte().repeat(50);
    let (mut reader, mut writer) = tokio::io::split(port);
    let expected = data.clone();
    let writing = async {
        writer.write_all(&data).await.unwrap();
        writer.flush().await.unwrap();
    };
    let toggling = async {
        for turn in 0..20 {
            handle.set_dtr(turn % 2 == 0).await.unwrap();
        }
    };
    let (_, received, ()) =
        tokio::join!(writing, read_exactly(&mut reader, expected.len()), toggling);
    assert_eq!(received, expected);
}

#[tokio::test]
async fn closing_ends_a_waiting_reader_and_frees_the_server() {
    let Some(server) = PyserialServer::new("loop://").await else {
        return;
    };
    let mut port = open(&settings(&server.url())).await.unwrap();
    let handle = port.handle();
    let reading = tokio::spawn(async move {
        let length = port.read(&mut [0; 16]).await.unwrap();
        (length, port.write(b"x").await.unwrap_err().kind())
    });
    sleep(Duration::from_millis(50)).await;
    handle.close();
    handle.close();
    let (length, error) = timeout(LIMIT, reading).await.unwrap().unwrap();
    assert_eq!((length, error), (0, std::io::ErrorKind::BrokenPipe));
    assert!(!handle.is_open());
    assert_eq!(
        handle.set_dtr(true).await.unwrap_err().kind(),
        std::io::ErrorKind::BrokenPipe
    );
    check_present(&settings(&server.url())).await.unwrap();
}

#[tokio::test]
async fn ser2net_carries_every_byte_and_the_baud_rate() {
    let Some(cable) = Cable::new().await else {
        return;
    };
    let Some(server) = Ser2net::new(&cable.left).await else {
        return;
    };
    let mut device = open(&settings(cable.right.to_str().unwrap()))
        .await
        .unwrap();
    let mut port_settings = settings(&server.url());
    port_settings.baudrate = 19_200;
    let mut port = open(&port_settings).await.unwrap();
    let terminal = std::fs::File::open(&cable.left).unwrap();
    assert_eq!(tcgetattr(&terminal).unwrap().output_speed(), 19_200);

    let data = every_byte();
    port.write_all(&data).await.unwrap();
    port.flush().await.unwrap();
    assert_eq!(read_exactly(&mut device, data.len()).await, data);
    device.write_all(&data).await.unwrap();
    assert_eq!(read_exactly(&mut port, data.len()).await, data);
    port.handle()
        .send_break(Duration::from_millis(10))
        .await
        .unwrap();
}

#[tokio::test]
async fn ser2net_does_not_answer_for_lines_its_port_has_not() {
    let Some(cable) = Cable::new().await else {
        return;
    };
    let Some(server) = Ser2net::new(&cable.left).await else {
        return;
    };
    let port = open(&settings(&format!("{}?timeout=0.5", server.url())))
        .await
        .unwrap();
    let error = port.handle().set_dtr(true).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(
        error.to_string().contains("did not answer SET-CONTROL 8"),
        "{error}"
    );
    drop(port);
    let port = open(&settings(&format!("{}?ign_set_control", server.url())))
        .await
        .unwrap();
    port.handle().set_dtr(true).await.unwrap();
}

/// A server that answers every connection with `greeting` and then reads in silence.
async fn silent_server(greeting: &'static [u8]) -> (Address, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(greeting).await.unwrap();
        let _ = socket.read_to_end(&mut Vec::new()).await;
    });
    (
        Address {
            host: "127.0.0.1".to_owned(),
            port,
        },
        serving,
    )
}

async fn refusal(greeting: &'static [u8]) -> std::io::Error {
    let (address, serving) = silent_server(greeting).await;
    let mut url = Rfc2217Url::new(address);
    url.step_timeout = Duration::from_millis(200);
    let error = timeout(LIMIT, Rfc2217Client::connect(&url, 115_200))
        .await
        .unwrap()
        .unwrap_err();
    timeout(LIMIT, serving)
        .await
        .expect("the connection is closed")
        .unwrap();
    error
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let error = refusal(b"").await;
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(
        error
            .to_string()
            .contains("did not agree to the COM-PORT option within 200ms"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_stops_answering_is_given_up_at_the_step() {
    let error = refusal(&[255, 253, 44]).await;
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(
        error
            .to_string()
            .contains("did not answer SET-BAUDRATE 115200"),
        "{error}"
    );
}

#[tokio::test]
async fn a_plain_telnet_server_is_named() {
    let error = refusal(&[255, 254, 44]).await;
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("use socket://127.0.0.1"),
        "{error}"
    );
}

#[tokio::test]
async fn another_baud_rate_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(&[255, 253, 44]).await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(&[1, 0, 1, 0xc2, 0, 255, 240]) {
            received.push(socket.read_u8().await.unwrap());
        }
        socket
            .write_all(&[255, 250, 44, 101, 0, 0, 0x25, 0x80, 255, 240])
            .await
            .unwrap();
        let _ = socket.read_to_end(&mut Vec::new()).await;
    };
    let url = Rfc2217Url::new(Address {
        host: "127.0.0.1".to_owned(),
        port,
    });
    let (error, ()) = timeout(LIMIT, async {
        tokio::join!(Rfc2217Client::connect(&url, 115_200), serving)
    })
    .await
    .unwrap();
    let error = error.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(
        error
            .to_string()
            .contains("declined SET-BAUDRATE 115200: it uses 9600"),
        "{error}"
    );
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rfc2217://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = open(&settings(&url)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(
        error
            .to_string()
            .contains("failed to connect to the serial server 127.0.0.1:"),
        "{error}"
    );
}
