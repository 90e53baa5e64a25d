//! Two ends of the C-core kind: grpcio's asyncio, joined by our router over TLS.
//!
//! Needs a Python with grpcio, named by `JMP_TEST_PYTHON` as the project's test command does.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tonic::Code;

use crate::network::Loopback;
use crate::support::tokens;

/// One end. Arguments: port, certificate file, token. Frames are made by hand: field 1 is the
/// payload, field 2 the kind. It says `headers` when it has them, echoes or drives, and at the end
/// says what it got.
const END: &str = r#"
import asyncio, hashlib, sys
import grpc, grpc.aio

port, certificate, token, part = sys.argv[1:]

def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)

def data(payload):
    return b"\x0a" + varint(len(payload)) + payload

GOAWAY = b"\x10\x07"

def payload_of(message):
    if message[:1] != b"\x0a":
        return None
    position, shift, length = 1, 0, 0
    while True:
        byte = message[position]
        length |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            break
    assert len(message) == position + length
    return message[position:]

async def main():
    with open(certificate, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        call = channel.stream_stream("/jumpstarter.v1.RouterService/Stream")(
            metadata=(("authorization", f"Bearer {token}"),))
        await call.initial_metadata()
        print("headers", flush=True)
        digest, count = hashlib.sha256(), 0
        async def read():
            nonlocal count
            while True:
                message = await call.read()
                if message is grpc.aio.EOF or message == GOAWAY:
                    return message
                payload = payload_of(message)
                digest.update(payload)
                count += len(payload)
                if part == "echo":
                    await call.write(message)
        if part == "drive":
            async def write():
                for index in range(400):
                    await call.write(data(bytes([index % 251]) * (index * 37 % 70000)))
                await call.write(GOAWAY)
                await call.done_writing()
            reading = asyncio.create_task(read())
            await write()
            assert await reading == GOAWAY
        else:
            ended = await read()
            if ended == GOAWAY:
                await call.write(GOAWAY)
                await call.done_writing()
        while (await call.read()) is not grpc.aio.EOF:
            pass
        print("ended", await call.code(), await call.details(), flush=True)
        print("got", count, digest.hexdigest(), flush=True)

async def told():
    try:
        await main()
    except grpc.aio.AioRpcError as error:
        print("ended", error.code(), error.details(), flush=True)

asyncio.run(told())
"#;

/// Both ends of a tunnel as the released package makes them, each with a local connection behind it.
/// Arguments: port, certificate file, the two tokens.
const RELEASED: &str = r#"
import base64, importlib.util, sys
if importlib.util.find_spec("jumpstarter") is None:
    print("missing")
    sys.exit()
import anyio
from anyio.abc import SocketAttribute
from jumpstarter.common.streams import connect_router_stream
from jumpstarter.config.tls import TLSConfigV1Alpha1

port, certificate, client, exporter = sys.argv[1:]
SENT = bytes(range(256)) * 4096

async def local():
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    accepted = []
    async def accept(stream):
        accepted.append(stream)
        done.set()
        await anyio.sleep_forever()
    done = anyio.Event()
    tasks.start_soon(listener.listeners[0].serve, accept)
    outer = await anyio.connect_tcp("127.0.0.1", listener.extra(SocketAttribute.local_port))
    await done.wait()
    return outer, accepted[0]

async def read_all(stream):
    received = b""
    try:
        while True:
            received += await stream.receive()
    except anyio.EndOfStream:
        return received

async def main():
    global tasks
    with open(certificate, "rb") as file:
        tls = TLSConfigV1Alpha1(ca=base64.b64encode(file.read()).decode())
    async with anyio.create_task_group() as tasks:
        near, near_inner = await local()
        far, far_inner = await local()
        target = f"localhost:{port}"
        async with connect_router_stream(target, client, near_inner, tls, {}):
            async with connect_router_stream(target, exporter, far_inner, tls, {}):
                async def send():
                    await near.send(SENT)
                    await near.send_eof()
                tasks.start_soon(send)
                received = await read_all(far)
                assert received == SENT, len(received)
                await far.send(received[::-1])
                await far.send_eof()
                received = await read_all(near)
                assert received == SENT[::-1], len(received)
                print("whole", flush=True)
        print("closed", flush=True)
        tasks.cancel_scope.cancel()

anyio.run(main)
"#;

struct End {
    child: Child,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
}

impl End {
    fn start(python: &str, rig: &Loopback, certificate: &str, token: &str, part: &str) -> Self {
        let mut child = Command::new(python)
            .args(["-c", END, &rig.port().to_string(), certificate, token, part])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("python starts");
        let output = child.stdout.take().expect("piped");
        Self {
            lines: BufReader::new(output).lines(),
            child,
        }
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(Duration::from_secs(60), self.lines.next_line());
        let line = line.await.expect("in time").expect("readable");
        line.expect("another line")
    }
}

fn python() -> Option<String> {
    let python = std::env::var("JMP_TEST_PYTHON").ok();
    if python.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "JMP_TEST_PYTHON must name a Python with grpcio"
        );
        eprintln!("SKIPPED: JMP_TEST_PYTHON does not name a Python with grpcio");
    }
    python
}

async fn certificate(rig: &Loopback) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ca.pem");
    let mut file = tokio::fs::File::create(&path).await.expect("file");
    file.write_all(rig.authority.as_bytes())
        .await
        .expect("written");
    file.flush().await.expect("written");
    (directory, path.to_str().expect("text").to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_ends_of_grpcio_are_joined() {
    let Some(python) = python() else { return };
    let rig = Loopback::start().await;
    let (_directory, ca) = certificate(&rig).await;
    let pair = tokens();
    let mut driver = End::start(&python, &rig, &ca, pair.client.token.expose(), "drive");
    // The first has its headers although nobody else is there.
    assert_eq!(driver.line().await, "headers");
    let mut echo = End::start(&python, &rig, &ca, pair.exporter.token.expose(), "echo");
    assert_eq!(echo.line().await, "headers");
    for end in [&mut driver, &mut echo] {
        let ended = end.line().await;
        assert!(ended.starts_with("ended StatusCode.OK"), "{ended}");
    }
    let sent: usize = (0..400).map(|index| index * 37 % 70_000).sum();
    let (left, right) = (driver.line().await, echo.line().await);
    assert_eq!(left, right);
    assert!(left.starts_with(&format!("got {sent} ")), "{left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_end_of_grpcio_is_missed_and_a_surviving_one_is_told() {
    let Some(python) = python() else { return };
    let rig = Loopback::start().await;
    let (_directory, ca) = certificate(&rig).await;
    // The Python end is killed, ours is told.
    let pair = tokens();
    let mut ours = rig.peer(pair.client.token.expose()).await;
    let mut theirs = End::start(&python, &rig, &ca, pair.exporter.token.expose(), "echo");
    assert_eq!(theirs.line().await, "headers");
    ours.send(&b"\0\0\0\0\x03\x0a\x01x"[..]).await;
    assert_eq!(ours.receive(8).await, &b"\0\0\0\0\x03\x0a\x01x"[..]);
    theirs.child.kill().await.expect("killed");
    ours.expect(Code::Unavailable, "the exporter left the tunnel")
        .await;
    // Ours goes in the middle of a message, the Python end is told.
    let pair = tokens();
    let ours = rig.peer(pair.client.token.expose()).await;
    let mut theirs = End::start(&python, &rig, &ca, pair.exporter.token.expose(), "echo");
    assert_eq!(theirs.line().await, "headers");
    ours.send(&b"\0\0\0\0\x03\x0a"[..]).await;
    drop(ours);
    let ended = theirs.line().await;
    assert!(ended.contains("StatusCode.UNAVAILABLE"), "{ended}");
    assert!(ended.contains("the client left the tunnel"), "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_ends_of_the_released_package_are_joined() {
    let Some(python) = python() else { return };
    let rig = Loopback::start().await;
    let (_directory, ca) = certificate(&rig).await;
    let pair = tokens();
    let (client, exporter) = (pair.client.token, pair.exporter.token);
    let port = rig.port().to_string();
    let arguments = [
        "-c",
        RELEASED,
        &port,
        &ca,
        client.expose(),
        exporter.expose(),
    ];
    let output = Command::new(&python)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await;
    let output = output.expect("in time").expect("python runs");
    let (said, complaint) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if said.trim() == "missing" {
        eprintln!("SKIPPED: {python} has no package jumpstarter");
        return;
    }
    assert_eq!(said, "whole\nclosed\n", "{complaint}");
    // A payload of a mebibyte there and back, and what frames it.
    assert!(rig.router.stats().bytes_forwarded > 2 * 1024 * 1024);
    tokio::time::timeout(Duration::from_secs(10), async {
        while rig.router.stats().tunnels > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the tunnel ends");
}
