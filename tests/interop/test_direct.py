"""The direct listener, both ways: plaintext, passphrase, TLS with an own authority."""

import datetime
import ipaddress
import signal

import grpc
import pytest

import harness
from wire import Wire, refused

PASSPHRASE = "correct horse"
HEADER = "x-jumpstarter-passphrase"


@pytest.fixture(scope="module")
def authority(workspace):
    """A certificate authority, and a server certificate for localhost and 127.0.0.1 signed by it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    directory = workspace / "tls"
    directory.mkdir()
    now = datetime.datetime.now(datetime.timezone.utc)

    def certificate(name, key, issuer, issuer_key, *extensions):
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(issuer_key, hashes.SHA256())

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = certificate("interop authority", ca_key, None, ca_key, (x509.BasicConstraints(True, None), True))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = certificate("localhost", key, ca.subject, ca_key, (x509.BasicConstraints(False, None), True), (names, False))
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(ca.public_bytes(pem))
    (directory / "cert.pem").write_bytes(server.public_bytes(pem))
    (directory / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return directory


@pytest.fixture(scope="module")
def plain(workspace, small_config):
    with harness.DirectListener(harness.JMP, small_config, workspace / "plain", "--tls-grpc-insecure") as listener:
        yield listener


@pytest.fixture(scope="module")
def guarded(workspace, small_config):
    options = ("--tls-grpc-insecure", "--passphrase", PASSPHRASE)
    with harness.DirectListener(harness.JMP, small_config, workspace / "guarded", *options) as listener:
        yield listener


@pytest.fixture(scope="module")
def secure(workspace, small_config, authority):
    options = ("--tls-cert", str(authority / "cert.pem"), "--tls-key", str(authority / "key.pem"), "--passphrase", PASSPHRASE)
    with harness.DirectListener(harness.JMP, small_config, workspace / "secure", *options) as listener:
        yield listener


def direct_shell(jmp, j, port, *options, env=None, host="127.0.0.1"):
    command = [jmp, "shell", "--tls-grpc", f"{host}:{port}", *options, "--", j, "power", "on"]
    return harness.run(command, env=env or harness.base_env(), timeout=90)


@pytest.mark.feature("Direct listener: plaintext")
@pytest.mark.peer("grpcio 1.85")
def test_raw_calls(plain):
    wire = Wire(f"127.0.0.1:{plain.port}")
    assert wire.call("power", "on") is None
    assert wire.status().status == 4
    stream = wire.driver_stream("echo")
    stream.send(b"direct")
    stream.wait(lambda: stream.data == b"direct")
    stream.cancel()
    wire.close()


@pytest.mark.feature("Direct listener: plaintext")
@pytest.mark.peer("Python 0.9.0 `jmp shell`")
@pytest.mark.limit(120)
def test_their_shell_twice(plain):
    for _ in range(2):
        result = direct_shell(harness.UPSTREAM_JMP, harness.UPSTREAM_J, plain.port, "--tls-grpc-insecure")
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.feature("Direct listener: exit code of the child")
@pytest.mark.peer("Python 0.9.0 `jmp shell`")
@pytest.mark.limit(120)
def test_their_shell_returns_the_code(plain):
    command = [harness.UPSTREAM_JMP, "shell", "--tls-grpc", f"127.0.0.1:{plain.port}", "--tls-grpc-insecure"]
    assert harness.run([*command, "--", "sh", "-c", "exit 7"], env=harness.base_env()).returncode == 7


@pytest.mark.feature("Direct listener: EndSession returns to ready")
@pytest.mark.peer("grpcio 1.85")
@pytest.mark.upstream_defect("0.9.0 becomes AVAILABLE for good")
def test_end_session_does_not_lock_everyone_out(workspace, small_config):
    from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2 as pb

    from wire import eventually

    with harness.DirectListener(harness.JMP, small_config, workspace / "ending", "--tls-grpc-insecure") as listener:
        wire = Wire(f"127.0.0.1:{listener.port}")
        assert wire.status().status == 4
        wire.exporter.EndSession(pb.EndSessionRequest(), timeout=5)
        eventually(lambda: wire.status().status == 4, 3)
        assert wire.call("power", "on") is None
        wire.close()


@pytest.mark.feature("Direct listener: passphrase")
@pytest.mark.peer("grpcio 1.85")
@pytest.mark.parametrize("metadata", [(), ((HEADER, "wrong"),), ((HEADER, ""),)])
def test_wrong_passphrase(guarded, metadata):
    from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2 as pb

    wire = Wire(f"127.0.0.1:{guarded.port}", metadata=metadata)
    attempts = [
        wire.report,
        wire.status,
        lambda: wire.exporter.DriverCall(pb.DriverCallRequest(method="on"), metadata=metadata, timeout=5),
        lambda: list(wire.exporter.StreamingDriverCall(pb.StreamingDriverCallRequest(), metadata=metadata, timeout=5)),
        lambda: list(wire.exporter.LogStream(pb.GetStatusRequest(), metadata=metadata, timeout=5)),
        lambda: wire.exporter.EndSession(pb.EndSessionRequest(), metadata=metadata, timeout=5),
    ]
    for attempt in attempts:
        assert refused(attempt).code() is grpc.StatusCode.UNAUTHENTICATED
    stream = wire.stream({"kind": "driver", "uuid": "0", "method": "connect"})
    assert stream.ended.wait(5) and stream.error.code() is grpc.StatusCode.UNAUTHENTICATED
    wire.close()


@pytest.mark.feature("Direct listener: passphrase")
@pytest.mark.peer("grpcio 1.85")
def test_right_passphrase(guarded):
    wire = Wire(f"127.0.0.1:{guarded.port}", metadata=((HEADER, PASSPHRASE),))
    assert wire.call("power", "on") is None
    stream = wire.driver_stream("echo")
    stream.send(b"let in")
    stream.wait(lambda: stream.data == b"let in")
    stream.cancel()
    wire.close()


@pytest.mark.feature("Direct listener: passphrase")
@pytest.mark.peer("Python 0.9.0 `jmp shell`")
@pytest.mark.limit(120)
def test_their_shell_with_passphrase(guarded):
    shell = (harness.UPSTREAM_JMP, harness.UPSTREAM_J, guarded.port, "--tls-grpc-insecure", "--passphrase")
    result = direct_shell(*shell, PASSPHRASE)
    assert result.returncode == 0, result.stdout + result.stderr
    result = direct_shell(*shell, "wrong")
    assert result.returncode == 1
    assert "Authentication failed" in result.stdout + result.stderr


@pytest.mark.feature("Direct listener: TLS")
@pytest.mark.peer("grpcio 1.85")
def test_tls(secure, authority):
    credentials = grpc.ssl_channel_credentials((authority / "ca.pem").read_bytes())
    wire = Wire(f"localhost:{secure.port}", credentials, metadata=((HEADER, PASSPHRASE),))
    assert wire.call("power", "on") is None
    wire.close()
    untrusting = Wire(f"localhost:{secure.port}", grpc.ssl_channel_credentials(), metadata=((HEADER, PASSPHRASE),))
    assert refused(untrusting.report).code() is grpc.StatusCode.UNAVAILABLE
    untrusting.close()


@pytest.mark.feature("Direct listener: TLS")
@pytest.mark.peer("Python 0.9.0 `jmp shell`")
@pytest.mark.limit(120)
def test_their_shell_over_tls(secure, authority):
    env = harness.base_env(GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=str(authority / "ca.pem"))
    shell = (harness.UPSTREAM_JMP, harness.UPSTREAM_J, secure.port, "--passphrase", PASSPHRASE)
    result = direct_shell(*shell, env=env, host="localhost")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.feature("Direct client: plaintext and passphrase")
@pytest.mark.peer("Python 0.9.0 `jmp run`")
@pytest.mark.limit(120)
def test_our_shell_against_their_listener(workspace, small_config):
    j = harness.j_under_test(workspace)
    options = ("--tls-grpc-insecure", "--passphrase", PASSPHRASE)
    with harness.DirectListener(harness.UPSTREAM_JMP, small_config, workspace / "theirs", *options) as listener:
        result = direct_shell(harness.JMP, j, listener.port, *options)
        assert result.returncode == 0, result.stdout + result.stderr
        result = direct_shell(harness.JMP, j, listener.port, "--tls-grpc-insecure", "--passphrase", "wrong")
        assert result.returncode == 1 and "uthentication failed" in result.stdout + result.stderr


@pytest.mark.feature("Direct client: TLS")
@pytest.mark.peer("Python 0.9.0 `jmp run`")
@pytest.mark.limit(120)
def test_our_shell_against_their_tls_listener(workspace, small_config, authority):
    j = harness.j_under_test(workspace)
    options = ("--tls-cert", str(authority / "cert.pem"), "--tls-key", str(authority / "key.pem"))
    env = harness.base_env(GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=str(authority / "ca.pem"))
    with harness.DirectListener(harness.UPSTREAM_JMP, small_config, workspace / "theirs-tls", *options) as listener:
        result = direct_shell(harness.JMP, j, listener.port, env=env, host="localhost")
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.feature("Direct listener: ends on a signal")
@pytest.mark.peer("any program")
def test_ends_on_sigterm(workspace, small_config):
    listener = harness.DirectListener(harness.JMP, small_config, workspace / "ended", "--tls-grpc-insecure")
    try:
        listener.process.send_signal(signal.SIGTERM)
        listener.process.wait(15)
        with pytest.raises(OSError):
            __import__("socket").create_connection(("127.0.0.1", listener.port), 1)
    finally:
        listener.close()
