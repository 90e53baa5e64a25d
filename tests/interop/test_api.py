"""The documented Python API of the released packages, unmodified, on the exporter under test."""

import getpass
import hashlib
import os
import socket
import threading
import time

import pytest
from jumpstarter.client.core import DriverError, DriverInvalidArgument, DriverMethodNotImplemented
from jumpstarter_driver_network.adapters import (
    DbusAdapter,
    FabricAdapter,
    NovncAdapter,
    PexpectAdapter,
    TcpPortforwardAdapter,
    UnixPortforwardAdapter,
)

import codecs_by_name


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- power ---------------------------------------------------------------


@pytest.mark.feature("Power: on, off, read, cycle")
@pytest.mark.parametrize("name", ["power", "sync_power"])
def test_power(client, name):
    power = getattr(client, name)
    power.on()
    power.off()
    readings = [(r.voltage, r.current, r.apparent_power) for r in power.read()]
    assert readings == [(0.0, 0.0, 0.0), (5.0, 2.0, 10.0)]
    power.cycle(wait=0)


@pytest.mark.feature("Power: on, off, read, cycle")
def test_rescue_is_not_there(client):
    with pytest.raises(DriverMethodNotImplemented):
        client.power.rescue()


@pytest.mark.feature("Composite and Proxy")
def test_composite_and_proxies(client):
    assert set(client.group.children) == {"inner", "proxied", "proxygroup"}
    client.group.inner.on()
    client.group.proxied.on()
    assert client.group.proxied.uuid == client.power.uuid
    assert client.group.proxied.description == "Bench supply"
    with client.group.proxygroup.echo.stream() as stream:
        stream.send(b"through the proxy")
        assert stream.receive() == b"through the proxy"
    with pytest.raises(AttributeError):
        client.group.nothing  # noqa: B018


@pytest.mark.feature("Composite and Proxy")
def test_tree_and_descriptions(client):
    assert {"power", "sync_power", "echo", "group", "other"} <= set(client.children)
    assert client.power.methods_description == {"on": "Energise the bench"}
    assert client.sync_power.labels["colour"] == "red"


# --- network -------------------------------------------------------------


@pytest.mark.feature("Network: echo stream")
def test_echo_stream(client):
    with client.echo.stream() as stream:
        for size in (1, 64, 65536, 1 << 20):
            stream.send(b"e" * size)
            received = b""
            while len(received) < size:
                received += stream.receive()
            assert received == b"e" * size


@pytest.mark.feature("Network: echo stream")
def test_many_streams_at_once(client):
    failures = []

    def work(number):
        try:
            with client.echo.stream() as stream:
                for turn in range(5):
                    text = f"{number}:{turn}".encode()
                    stream.send(text)
                    assert stream.receive() == text
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failures == [] and not any(t.is_alive() for t in threads)


@pytest.mark.feature("Network: TCP port forward")
def test_tcp_port_forward(client):
    payload = os.urandom(1 << 20)
    with TcpPortforwardAdapter(client=client.tcp) as (host, port):
        for _ in range(3):
            with socket.create_connection((host, port), 5) as sock:
                sock.settimeout(10)
                sender = threading.Thread(target=lambda s=sock: (s.sendall(payload), s.shutdown(socket.SHUT_WR)))
                sender.start()
                received = b""
                while chunk := sock.recv(65536):
                    received += chunk
                sender.join(5)
                assert received == payload


@pytest.mark.feature("Network: TCP port forward")
def test_device_closes_first(client):
    with TcpPortforwardAdapter(client=client.tcp) as (host, port), socket.create_connection((host, port), 5) as sock:
        sock.settimeout(5)
        sock.sendall(b"FLOOD 3000000")
        received = b""
        while chunk := sock.recv(65536):
            received += chunk
        assert len(received) == 3000000


@pytest.mark.feature("Network: TCP port forward")
def test_refused_target_breaks_the_forward_not_the_session(client):
    with pytest.raises(Exception), client.tcp_refused.stream() as stream:  # noqa: B017 - the library's own error type
        stream.receive()
    with TcpPortforwardAdapter(client=client.tcp_refused) as (host, port), socket.create_connection((host, port), 5) as sock:
        sock.shutdown(socket.SHUT_WR)
    client.power.on()


@pytest.mark.feature("Network: unix port forward")
def test_unix_network_and_unix_forward(client, tmp_path):
    with UnixPortforwardAdapter(client=client.unix, path=tmp_path / "s") as path:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(path))
            sock.sendall(b"over unix")
            assert sock.recv(100) == b"over unix"


@pytest.mark.feature("Network: UDP")
def test_udp_keeps_datagrams(client):
    with client.udp.stream() as stream:
        for text in (b"a", b"bc", b"d" * 9000):
            stream.send(text)
            assert stream.receive() == b"<" + text + b">"


@pytest.mark.feature("Network: WebSocket")
def test_websocket(client):
    with client.websocket.stream() as stream:
        stream.send(b"\x00binary\xff")
        assert stream.receive() == b"\x00binary\xff"


@pytest.mark.feature("Network: address")
def test_addresses(client, peers):
    assert client.tcp.address() == f"tcp://127.0.0.1:{peers.tcp.server_address[1]}"
    assert client.udp.address() == f"udp://127.0.0.1:{peers.udp.server_address[1]}"
    assert client.websocket.address() == f"ws://127.0.0.1:{peers.websocket_port}/"
    with pytest.raises(DriverInvalidArgument, match="enable_address mode is not true"):
        client.tcp_hidden.address()
    with pytest.raises(DriverMethodNotImplemented):
        client.echo.address()


@pytest.mark.feature("Network: expect adapter")
def test_pexpect_adapter(client):
    with PexpectAdapter(client=client.echo) as console:
        console.send("login: ")
        console.expect_exact("login: ", timeout=5)
        console.send("abc 42 def")
        console.expect(r"\d+", timeout=5)
        assert console.after == b"42"


@pytest.mark.feature("Network: SSH adapter")
def test_fabric_adapter(client, peers):
    keys = {"key_filename": str(peers.ssh_key), "allow_agent": False, "look_for_keys": False}
    with FabricAdapter(client=client.ssh, user=getpass.getuser(), connect_kwargs=keys) as connection:
        result = connection.run("echo from the device; exit 5", hide=True, warn=True, in_stream=False)
    assert (result.stdout, result.exited) == ("from the device\n", 5)


@pytest.mark.feature("Network: D-Bus")
def test_dbus_adapter(client):
    before = os.environ.get("DBUS_SESSION_BUS_ADDRESS")
    with DbusAdapter(client=client.dbus):
        address = os.environ["DBUS_SESSION_BUS_ADDRESS"]
        assert address.startswith("tcp:host=")
        values = dict(pair.split("=") for pair in address.removeprefix("tcp:").split(","))
        with socket.create_connection((values["host"], int(values["port"])), 5) as bus:
            bus.settimeout(5)
            bus.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
            assert bus.recv(100).startswith(b"OK ")
    assert os.environ.get("DBUS_SESSION_BUS_ADDRESS") == before


@pytest.mark.feature("Network: noVNC adapter")
def test_novnc_adapter(client):
    from urllib.parse import parse_qs, urlparse

    from websockets.sync.client import connect

    with NovncAdapter(client=client.echo, encrypt=False) as url:
        query = {k: v[0] for k, v in parse_qs(urlparse(url).query).items()}
        with connect(f"ws://{query['host']}:{query['port']}", close_timeout=0.2) as browser:
            browser.send(b"RFB 003.008\n")
            assert browser.recv(timeout=5) == b"RFB 003.008\n"


# --- serial --------------------------------------------------------------


@pytest.mark.feature("Serial: loop://")
def test_serial_pexpect(client):
    with client.serial.pexpect() as console:
        console.sendline("hello")
        console.expect_exact("hello", timeout=5)
        console.sendline("# version 2026.11")
        console.expect(r"version (\d+)\.(\d+)", timeout=5)
        assert console.match.group(1) == b"2026"


@pytest.mark.feature("Serial: loop://")
def test_serial_open_and_close(client):
    console = client.serial.open()
    console.sendline("kept open")
    console.expect("kept (open)", timeout=5)
    client.serial.close()


@pytest.mark.feature("Serial: throttle")
def test_serial_throttle(client):
    with client.serial_slow.stream() as stream:
        begin = time.monotonic()
        stream.send(b"0123456789")
        received = b""
        while len(received) < 10:
            received += stream.receive()
        elapsed = time.monotonic() - begin
    assert received == b"0123456789"
    assert 0.15 < elapsed < 2.0, "nine gaps of 20 ms"


@pytest.mark.feature("Serial: device")
def test_serial_device(client, peers):
    with client.serial_tty.stream() as stream:
        stream.send(b"to the device\n")
        received = b""
        while len(received) < 14:
            received += os.read(peers.tty_master, 100)
        assert received == b"to the device\n"
        os.write(peers.tty_master, b"from the device\n")
        answer = b""
        while len(answer) < 16:
            answer += stream.receive()
        assert answer == b"from the device\n"


@pytest.mark.feature("Serial: socket://")
def test_serial_socket(client):
    with client.serial_socket.pexpect() as console:
        console.send("over tcp")
        console.expect_exact("over tcp", timeout=5)


# --- opendal -------------------------------------------------------------


@pytest.mark.feature("OpenDAL: files")
@pytest.mark.parametrize("store", ["fs", "memory"])
def test_bytes_round_trip(client, store):
    fs = getattr(client, store)
    payload = os.urandom(200000)
    fs.write_bytes("dir/bytes.bin", payload)
    assert fs.read_bytes("dir/bytes.bin") == payload
    assert fs.exists("dir/bytes.bin") and not fs.exists("dir/none")
    assert fs.hash("dir/bytes.bin") == hashlib.sha256(payload).hexdigest()
    assert fs.hash("dir/bytes.bin", "md5") == hashlib.md5(payload).hexdigest()
    info = fs.stat("dir/bytes.bin")
    assert info.content_length == 200000
    assert info.mode.is_file() and not info.mode.is_dir()
    assert set(fs.list("dir/")) >= {"dir/bytes.bin"}
    fs.delete("dir/bytes.bin")
    assert not fs.exists("dir/bytes.bin")


@pytest.mark.feature("OpenDAL: files")
def test_open_file_operations(client, tmp_path):
    source = tmp_path / "src"
    source.write_bytes(b"hello world")
    file = client.fs.open("handle.bin", "wb")
    assert file.writable() and not file.readable() and not file.seekable() and not file.closed
    file.write_bytes(b"head:")
    file.write_from_path(source)
    file.close()
    assert file.closed
    file = client.fs.open("handle.bin", "rb")
    assert file.readable() and file.seekable() and not file.writable()
    assert file.seek(5) == 5 and file.tell() == 5
    assert file.read_bytes() == b"hello world"
    file.seek(-5, 2)
    target = tmp_path / "dst"
    file.read_into_path(target)
    assert target.read_bytes() == b"world"
    file.close()


@pytest.mark.feature("OpenDAL: files")
def test_paths_round_trip(client, image, tmp_path):
    client.fs.write_from_path("images/a.img", image)
    assert client.fs.hash("images/a.img") == sha256(image)
    client.fs.read_into_path("images/a.img", tmp_path / "back")
    assert sha256(tmp_path / "back") == sha256(image)


@pytest.mark.feature("OpenDAL: directories")
def test_tree_operations(client, peers):
    fs = client.fs
    fs.create_dir("tree/a/b/")
    fs.create_dir("tree/a/b/")
    fs.write_bytes("tree/a/one", b"1")
    fs.copy("tree/a/one", "tree/a/b/two")
    fs.rename("tree/a/one", "tree/a/three")
    assert sorted(fs.scan("tree/")) == ["tree/", "tree/a/", "tree/a/b/", "tree/a/b/two", "tree/a/three"]
    assert sorted(fs.list("tree/a/")) == ["tree/a/", "tree/a/b/", "tree/a/three"]
    assert (peers.fs_root / "tree/a/three").read_bytes() == b"1"
    assert {"tree/a/three", "tree/a/b/two"} <= fs.get_created_resources()
    fs.remove_all("tree/")
    assert not fs.exists("tree/")
    fs.delete("tree/never-there")


@pytest.mark.feature("OpenDAL: errors")
def test_missing_paths(client):
    for action in (lambda: client.fs.stat("none"), lambda: client.fs.open("none", "rb"), lambda: client.fs.hash("none")):
        with pytest.raises(DriverError, match="NotFound"):
            action()


@pytest.mark.feature("OpenDAL: capability and presign")
def test_capability_and_presign(client, peers):
    capability = client.fs.capability()
    assert capability.copy and capability.rename and capability.write_can_append and not capability.presign
    with pytest.raises(DriverError):
        client.fs.presign_read("a", 60)
    signed = client.web.presign_read("x/y.bin", 60)
    assert (signed.method, signed.url) == ("GET", f"http://127.0.0.1:{peers.web.server_address[1]}/x/y.bin")
    assert client.web.presign_stat("x", 60).method == "HEAD"


@pytest.mark.feature("OpenDAL: sources over HTTP")
def test_write_from_url(client, peers):
    (peers.web_root / "image@1.bin").write_bytes(b"web" * 100000)
    port = peers.web.server_address[1]
    client.fs.write_from_path("from-web.bin", f"http://127.0.0.1:{port}/moved/image%401.bin?token=1")
    assert ("GET", "/image%401.bin?token=1") in peers.web_requests
    assert (peers.fs_root / "from-web.bin").read_bytes() == b"web" * 100000


@pytest.mark.feature("OpenDAL: sources over HTTP")
def test_write_from_missing_url(client, peers):
    with pytest.raises(DriverError, match="Presigned HTTP GET"):
        client.fs.write_from_path("x", f"http://127.0.0.1:{peers.web.server_address[1]}/nothing-here")


@pytest.mark.feature("OpenDAL: sources from an operator")
def test_write_from_operator(client, tmp_path):
    from opendal import Operator

    (tmp_path / "src.bin").write_bytes(b"operator" * 1000)
    operator = Operator("fs", root=str(tmp_path))
    client.fs.write_from_path("from-operator", "src.bin", operator)
    client.fs.read_into_path("from-operator", "back.bin", operator)
    assert (tmp_path / "back.bin").read_bytes() == b"operator" * 1000


# --- storage mux and flashers ---------------------------------------------


@pytest.mark.feature("Storage mux")
def test_storage_mux(client, image, tmp_path):
    client.mux.host()
    client.mux.write_local_file(image)
    client.mux.read_local_file(tmp_path / "back")
    client.mux.dut()
    client.mux.off()
    assert sha256(tmp_path / "back") == sha256(image)


@pytest.mark.feature("Storage mux")
def test_storage_mux_flasher(client, image, tmp_path):
    client.mux_flasher.flash(image)
    client.mux_flasher.dump(tmp_path / "back")
    assert sha256(tmp_path / "back") == sha256(image)


@pytest.mark.feature("Flasher: flash and dump")
def test_flasher(client, image, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"rootfs")
    client.flasher.flash(image)
    client.flasher.flash(image, target="boot")
    client.flasher.flash({"root": other, "data": image})
    for target, original in ((None, image), ("boot", image), ("root", other), ("data", image)):
        client.flasher.dump(tmp_path / "back", target=target)
        assert sha256(tmp_path / "back") == sha256(original)
    # The library wraps the error when a resource stream is open around the call.
    with pytest.raises((DriverError, ExceptionGroup)) as error:
        client.flasher.dump(tmp_path / "back", target="nosuch")
    if isinstance(error.value, ExceptionGroup):
        assert error.group_contains(DriverError)


@pytest.mark.feature("Flasher: compressed flash")
@pytest.mark.parametrize("encoding", ["gzip", "xz", "bz2", "zstd"])
def test_compressed_flash(client, image, tmp_path, encoding):
    content = image.read_bytes()[: 1 << 20]
    packed = tmp_path / "packed"
    packed.write_bytes(codecs_by_name.compress(encoding, content))
    client.flasher.flash(packed, target=f"c-{encoding}", compression=encoding)
    client.flasher.dump(tmp_path / "back", target=f"c-{encoding}")
    assert (tmp_path / "back").read_bytes() == content


@pytest.mark.feature("Flasher: compressed dump")
@pytest.mark.upstream_defect("0.9.0 never flushes the compressor")
@pytest.mark.parametrize("encoding", ["gzip", "xz", "bz2", "zstd"])
def test_compressed_dump(client, image, tmp_path, encoding):
    client.flasher.flash(image, target="whole")
    client.flasher.dump(tmp_path / "packed", target="whole", compression=encoding)
    assert codecs_by_name.decompress(encoding, (tmp_path / "packed").read_bytes()) == image.read_bytes()


# --- shell ---------------------------------------------------------------


@pytest.mark.feature("Shell: methods")
def test_shell_output_and_code(client, capfd):
    assert client.shell.hello("world") == 0
    assert capfd.readouterr().out == "hello world\n"
    assert client.shell.both() == 0
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("out\n", "err\n")
    assert client.shell.fail() == 3
    assert capfd.readouterr().err == "going down\n"


@pytest.mark.feature("Shell: methods")
def test_shell_environment(client, capfd):
    assert client.shell.show_env(GREETING="hi there") == 0
    assert capfd.readouterr().out == "value=hi there\n"
    for name in ("LD_PRELOAD", "PATH", "not-an-identifier"):
        with pytest.raises(DriverInvalidArgument):
            client.shell.show_env(**{name: "x"})


@pytest.mark.feature("Shell: methods")
def test_shell_unknown_method(client):
    with pytest.raises(DriverInvalidArgument, match="nosuch"):
        list(client.shell.streamingcall("call_method", "nosuch", {}))
    with pytest.raises(AttributeError):
        client.shell.nosuch()
    assert set(client.shell.call("get_methods")) == {"hello", "both", "fail", "show_env", "documented", "slow"}
    assert client.shell.methods_description == {"documented": "A method with a description"}


@pytest.mark.feature("Shell: timeout")
def test_shell_timeout(client, capfd):
    begin = time.monotonic()
    assert client.shell.slow() == 199
    assert time.monotonic() - begin < 8
    captured = capfd.readouterr()
    assert "begun" in captured.out and "Timeout expired while running slow" in captured.err


# --- errors and logs ------------------------------------------------------


@pytest.mark.feature("DriverCall: dispatch and statuses")
def test_client_exceptions(client):
    with pytest.raises(DriverMethodNotImplemented, match="NOT_FOUND"):
        client.power.call("nosuch")
    with pytest.raises(DriverInvalidArgument):
        client.fs.call("open", "x", "sideways")
    with pytest.raises(DriverError):
        client.power.call("on", "too", "many")


@pytest.mark.feature("Logs")
def test_client_log_stream(client, caplog):
    caplog.set_level("INFO")
    with client.log_stream():
        deadline = time.monotonic() + 5
        while not any("power on" in message for message in caplog.messages):
            assert time.monotonic() < deadline
            client.power.on()
            time.sleep(0.1)


@pytest.mark.feature("Values: numbers, text, null")
def test_integral_arguments(client):
    client.fs.write_bytes("seek.bin", b"0123456789")
    file = client.fs.open("seek.bin", "rb")
    assert file.seek(3) == 3
    assert file.read_bytes() == b"3456789"
    file.close()
    with pytest.raises(DriverInvalidArgument):
        client.fs.call("presign_read", "x", 1.5)
