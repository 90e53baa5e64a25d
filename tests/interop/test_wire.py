"""The services themselves: metadata, statuses, frames and log lines, with grpcio and the released stubs."""

import gzip
import uuid

import grpc
import pytest

import harness
from wire import DATA, GOAWAY, PING, eventually, refused

pytestmark = pytest.mark.peer("grpcio 1.85")
Code = grpc.StatusCode
NOWHERE = "00000000-0000-0000-0000-000000000000"


def ours(code, upstream):
    """Ours says more than 0.9.0 where every shipped client takes both (docs/design/0001-the-seam.md)."""
    return upstream if harness.EXPORTER == "upstream" else code


NAME, CLIENT = "jumpstarter.dev/name", "jumpstarter.dev/client"


@pytest.mark.feature("Report: device tree")
def test_report_lists_the_tree_in_order(wire):
    report = wire.report()
    uuid.UUID(report.uuid)
    assert list(report.alternative_endpoints) == []
    names = [node.labels.get(NAME, "") for node in report.reports]
    expected = (
        ["", "power", "sync_power", "echo", "tcp", "tcp_hidden", "tcp_refused", "ssh", "udp", "unix", "websocket", "dbus", "fs"]
        + ["memory", "web", "mux", "mux_flasher", "flasher", "serial", "serial_slow", "serial_tty", "serial_socket", "shell"]
        + ["group", "inner", "proxied", "proxygroup", "echo", "other", "echo"]
    )
    assert names == expected


@pytest.mark.feature("Report: device tree")
def test_report_fields(wire):
    nodes = wire.report().reports
    root, power, sync = nodes[0], nodes[1], nodes[2]
    assert not root.HasField("parent_uuid")
    assert dict(root.labels) == {CLIENT: "jumpstarter_driver_composite.client.CompositeClient"}
    assert power.parent_uuid == root.uuid
    assert power.description == "Bench supply"
    assert dict(power.methods_description) == {"on": "Energise the bench"}
    assert not sync.HasField("description")
    assert dict(sync.labels) == {CLIENT: "jumpstarter_driver_power.client.PowerClient", NAME: "sync_power", "colour": "red"}
    dbus = next(n for n in nodes if n.labels[NAME] == "dbus")
    assert dbus.labels["jumpstarter.dev/dbusnetwork/kind"] == "session"


@pytest.mark.feature("Report: proxies repeat their target")
def test_proxy_repeats_its_target(wire):
    nodes = wire.report().reports
    by_name = {n.labels[NAME]: n for n in nodes if n.labels[NAME] in ("power", "proxied", "proxygroup", "other", "group")}
    assert by_name["proxied"].uuid == by_name["power"].uuid
    assert by_name["proxied"].description == "Bench supply"
    assert by_name["proxied"].parent_uuid == by_name["group"].uuid
    assert by_name["proxygroup"].uuid == by_name["other"].uuid


@pytest.mark.feature("DriverCall: dispatch and statuses")
@pytest.mark.parametrize("spelling", [str, str.upper, lambda u: u.replace("-", "")], ids=["plain", "upper", "no hyphens"])
def test_uuid_spellings(wire, spelling):
    assert wire.call(spelling(wire.uuid("power")), "on") is None


@pytest.mark.feature("DriverCall: dispatch and statuses")
def test_response_carries_null_and_a_uuid(wire):
    from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2 as pb

    response = wire.exporter.DriverCall(pb.DriverCallRequest(uuid=wire.uuid("power"), method="on"), timeout=5)
    assert response.result.WhichOneof("kind") == "null_value"
    assert uuid.UUID(response.uuid) != uuid.UUID(wire.uuid("power"))


@pytest.mark.feature("DriverCall: dispatch and statuses")
@pytest.mark.parametrize(
    "path, method, arguments, code, text",
    [
        ("power", "nosuch", (), Code.NOT_FOUND, "method nosuch not found on driver"),
        ("power", "read", (), Code.NOT_FOUND, "method read missing marker marker_drivercall"),
        ("echo", "connect", (), Code.NOT_FOUND, "method connect missing marker marker_drivercall"),
        (NOWHERE, "on", (), Code.UNKNOWN, ""),
        ("not-a-uuid", "on", (), Code.UNKNOWN, ""),
        ("power", "on", (1,), ours(Code.INVALID_ARGUMENT, Code.UNKNOWN), ""),
        ("mux", "write", (), ours(Code.INVALID_ARGUMENT, Code.UNKNOWN), ""),
        ("tcp_hidden", "address", (), Code.INVALID_ARGUMENT, "enable_address mode is not true in the exporter configuration"),
        ("fs", "stat", ("missing",), Code.UNKNOWN, "NotFound"),
        ("fs", "open", ("x", "sideways"), Code.INVALID_ARGUMENT, ""),
        ("flasher", "flash", ("text",), Code.INVALID_ARGUMENT, ""),
    ],
)
def test_refused_calls(wire, path, method, arguments, code, text):
    error = refused(wire.call, path, method, *arguments)
    assert error.code() is code
    assert text in error.details()


@pytest.mark.feature("DriverCall: dispatch and statuses")
@pytest.mark.parametrize(
    "method, text",
    [("on", "method on missing marker marker_streamingdrivercall"), ("nosuch", "method nosuch not found on driver")],
)
def test_refused_streaming_calls(wire, method, text):
    error = refused(wire.streaming_call, "power", method)
    assert (error.code(), error.details()) == (Code.NOT_FOUND, text)


@pytest.mark.feature("DriverCall: dispatch and statuses")
def test_unknown_rpc(wire):
    call = wire.channel.unary_unary("/jumpstarter.v1.ExporterService/Nope", lambda _: b"", lambda b: b)
    assert refused(call, None, timeout=5).code() is Code.UNIMPLEMENTED


@pytest.mark.feature("DriverCall: dispatch and statuses")
def test_oversized_request_is_refused_and_the_session_lives(wire):
    error = refused(wire.call, "fs", "exists", "x" * (5 << 20))
    assert error.code() is Code.RESOURCE_EXHAUSTED
    assert wire.call("power", "on") is None


@pytest.mark.feature("StreamingDriverCall")
def test_streaming_call(wire):
    assert wire.streaming_call("power", "read") == [{"voltage": 0.0, "current": 0.0}, {"voltage": 5.0, "current": 2.0}]


@pytest.mark.feature("Status and end of session (local)")
def test_status_of_a_local_session(wire):
    status = wire.status()
    assert status.status == 4  # LEASE_READY
    assert status.HasField("message") and status.message == ""
    assert status.HasField("previous_status") and status.previous_status == 2  # AVAILABLE
    assert status.status_version == 1


@pytest.mark.feature("Status and end of session (local)")
def test_end_session_without_a_lease(wire):
    from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2 as pb

    answer = wire.exporter.EndSession(pb.EndSessionRequest(), timeout=5)
    assert not answer.success and answer.HasField("message")
    assert wire.status().status == 4


@pytest.mark.feature("Streams: frames and their end")
@pytest.mark.parametrize("ending", ["goaway and half-close", "goaway", "half-close"])
def test_client_ends_a_stream(wire, ending):
    stream = wire.driver_stream("echo")
    assert "resource" not in stream.metadata
    stream.send(b"abc")
    stream.send(b"def")
    if "goaway" in ending:
        stream.send(kind=GOAWAY)
    if "half-close" in ending:
        stream.half_close()
    stream.wait(lambda: stream.closed_by_peer)
    assert stream.data == b"abcdef"
    assert stream.error is None, "a finished stream is not an error"
    stream.cancel()


@pytest.mark.feature("Streams: frames and their end")
def test_echo_keeps_message_boundaries_and_ignores_ping(wire):
    stream = wire.driver_stream("echo")
    for part in (b"a", b"bc"):
        stream.send(part)
    stream.send(b"ignored", kind=PING)
    stream.send(b"d")
    stream.wait(lambda: stream.data == b"abcd")
    assert [f.payload for f in stream.frames if f.payload] == [b"a", b"bc", b"d"]
    stream.cancel()


@pytest.mark.feature("Streams: frames and their end")
def test_device_ends_first_and_the_other_direction_still_works(wire, peers):
    stream = wire.driver_stream("tcp")
    stream.send(b"HALF")
    stream.wait(lambda: stream.closed_by_peer)
    assert stream.data == b"bye"
    assert not stream.ended.is_set(), "the client has not finished"
    stream.send(b"late")
    stream.send(kind=GOAWAY)
    stream.half_close()
    eventually(lambda: b"late" in peers.tcp.leftovers)
    stream.cancel()


@pytest.mark.feature("Streams: frames and their end")
def test_headers_come_before_any_frame(wire):
    stream = wire.driver_stream("tcp", unknown_member=1)
    assert stream.metadata is not None and stream.frames == []
    stream.cancel()


@pytest.mark.feature("Streams: refused openings")
@pytest.mark.parametrize(
    "path, method, code",
    [
        ("echo", "nosuch", Code.NOT_FOUND),
        ("power", "on", Code.NOT_FOUND),
        (NOWHERE, "connect", Code.UNKNOWN),
        ("tcp_refused", "connect", ours(Code.UNAVAILABLE, Code.UNKNOWN)),
    ],
)
def test_refused_streams(wire, path, method, code):
    stream = wire.driver_stream(path, method)
    assert stream.ended.wait(5)
    assert stream.error.code() is code
    assert stream.frames == []


@pytest.mark.feature("Streams: refused openings")
@pytest.mark.parametrize("request_text", ["{", '{"kind":"driver"}', '{"kind":"x","uuid":"%s","method":"connect"}' % NOWHERE, "[]", None])
def test_malformed_stream_metadata(wire, request_text):
    stream = wire.stream(request_text)
    assert stream.ended.wait(5)
    assert stream.error.code() is ours(Code.INVALID_ARGUMENT, Code.UNKNOWN)
    assert wire.call("power", "on") is None


@pytest.mark.feature("Resources: handshake")
@pytest.mark.parametrize("encoding, accepted", [(None, ""), ("gzip", "gzip"), ("xz", "xz"), ("bz2", "bz2"), ("zstd", "zstd")])
def test_resource_handshake(wire, encoding, accepted):
    stream, handle = wire.resource("mux", encoding)
    uuid.UUID(handle["uuid"])
    assert handle["kind"] == "client_stream"
    assert handle["x_jmp_content_encoding"] == encoding
    assert stream.metadata["x_jmp_accept_encoding"] == accepted
    stream.cancel()


def upload(wire, payload: bytes, encoding=None, path="mux"):
    stream, handle = wire.resource(path, encoding)
    for start in range(0, len(payload), 65536):
        stream.send(payload[start : start + 65536])
    stream.send(kind=GOAWAY)
    stream.half_close()
    try:
        wire.call(path, "write", handle)
        stream.wait(lambda: stream.closed_by_peer)
    finally:
        stream.cancel()
    return handle


def download(wire, encoding=None, path="mux") -> bytes:
    stream, handle = wire.resource(path, encoding)
    wire.call(path, "read", handle)
    stream.wait(lambda: stream.closed_by_peer)
    stream.cancel()
    return stream.data


@pytest.mark.feature("Resources: handshake")
def test_resource_round_trip_and_single_use(wire):
    payload = bytes(range(256)) * 1000
    handle = upload(wire, payload)
    assert download(wire) == payload
    assert refused(wire.call, "mux", "write", handle).code() is Code.UNKNOWN


@pytest.mark.feature("Resources: compressed upload")
@pytest.mark.upstream_defect("0.9.0 drops every compressed member after the first")
def test_multi_member_gzip(wire):
    upload(wire, gzip.compress(b"one,") + gzip.compress(b"two"), "gzip")
    assert download(wire) == b"one,two"


@pytest.mark.feature("Resources: compressed download")
@pytest.mark.upstream_defect("0.9.0 never flushes the compressor")
@pytest.mark.parametrize("encoding", ["gzip", "xz", "bz2", "zstd"])
def test_compressed_read_is_whole(wire, encoding):
    from codecs_by_name import decompress

    upload(wire, b"whole" * 20000)
    assert decompress(encoding, download(wire, encoding)) == b"whole" * 20000


@pytest.mark.feature("Resources: refused handles")
@pytest.mark.parametrize(
    "handle, code",
    [
        ("text", Code.INVALID_ARGUMENT),
        ({"kind": "nope"}, Code.INVALID_ARGUMENT),
        ({"kind": "presigned_request", "headers": {}, "url": "http://127.0.0.1:1/", "method": "DELETE"}, Code.INVALID_ARGUMENT),
        ({"kind": "client_stream", "uuid": NOWHERE, "x_jmp_content_encoding": None}, Code.UNKNOWN),
        ({"kind": "client_stream", "uuid": NOWHERE}, Code.UNKNOWN),
    ],
)
def test_refused_handles(wire, handle, code):
    assert refused(wire.call, "mux", "write", handle).code() is code


@pytest.mark.feature("Resources: damaged upload")
def test_garbage_is_not_gzip(wire):
    stream, handle = wire.resource("mux", "gzip")
    stream.send(b"garbage")
    stream.send(kind=GOAWAY)
    assert refused(wire.call, "mux", "write", handle).code() is Code.UNKNOWN
    stream.wait(lambda: stream.closed_by_peer or stream.ended.is_set())
    stream.cancel()


@pytest.mark.feature("Resources: presigned GET")
def test_presigned_get(wire, peers):
    (peers.web_root / "a@b.bin").write_bytes(b"signed" * 30000)
    port = peers.web.server_address[1]
    url = f"http://127.0.0.1:{port}/moved/moved/a%40b.bin?sig=secret"
    wire.call("mux", "write", {"kind": "presigned_request", "headers": {"x-test": "1"}, "url": url, "method": "GET"})
    assert ("GET", "/a%40b.bin?sig=secret") in peers.web_requests, "percent-encoding survives redirects"
    assert download(wire) == b"signed" * 30000


@pytest.mark.feature("Resources: presigned GET")
def test_presigned_errors_hide_the_query(wire, peers):
    port = peers.web.server_address[1]
    for url in (f"http://127.0.0.1:{port}/absent?sig=secret", "http://127.0.0.1:1/x?sig=secret"):
        error = refused(wire.call, "mux", "write", {"kind": "presigned_request", "headers": {}, "url": url, "method": "GET"})
        assert error.code() is Code.UNKNOWN
        assert error.details().startswith("Presigned HTTP GET")
        assert "secret" not in error.details() and "?[REDACTED]" in error.details()


@pytest.mark.feature("Resources: presigned PUT")
@pytest.mark.upstream_defect("0.9.0 waits for the answer before it sends the body")
@pytest.mark.limit(10)
def test_presigned_put(wire, peers):
    upload(wire, b"put" * 50000)
    url = f"http://127.0.0.1:{peers.web.server_address[1]}/stored.bin"
    handle = {"kind": "presigned_request", "headers": {}, "url": url, "method": "PUT"}
    wire.call("mux", "read", handle, timeout=4)
    assert (peers.web_root / "stored.bin").read_bytes() == b"put" * 50000


def line_of(lines, text):
    return [line for line in lines if text in line.message]


@pytest.mark.feature("Logs")
def test_log_lines_of_a_driver(wire):
    lines, call = wire.logs()
    wire.call("sync_power", "on")
    wire.call("sync_power", "off")
    eventually(lambda: line_of(lines, "power off"))
    on = line_of(lines, "power on")[-1]
    assert (on.severity, on.uuid, on.source) == ("INFO", "", 1)
    assert on.HasField("source")
    call.cancel()


@pytest.mark.feature("Logs")
@pytest.mark.upstream_defect("in 0.9.0 all subscribers drain one queue")
def test_every_subscriber_gets_every_line(wire):
    subscribers = [wire.logs() for _ in range(3)]
    eventually(lambda: wire.call("power", "off") is None)
    marks = 8
    before = [len(line_of(lines, "power on")) for lines, _ in subscribers]
    for _ in range(marks):
        wire.call("power", "on")
    try:
        for (lines, _), start in zip(subscribers, before):
            eventually(lambda lines=lines, start=start: len(line_of(lines, "power on")) >= start + marks, 2)
    finally:
        for _, call in subscribers:
            call.cancel()
