"""Fixtures: one session of the exporter under test for the whole run, and time limits for every test."""

import contextlib
import os
import signal
import sys

import pytest

import harness

sys.dont_write_bytecode = True

# gRPC's fork handlers make every subprocess of this process slow and noisy.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
os.environ["TERM"] = "dumb"

DEFAULT_PEER = "Python 0.9.0 client"


def pytest_report_header():
    return f"exporter under test: {harness.JMP}" + (" (validating the suite on the released packages)" if harness.VALIDATING else "")


def who(item) -> list:
    """Whom a test is about: the releases of exporter and client in the distributed mode, else a peer by its name."""
    values = item.callspec.params if hasattr(item, "callspec") else {}
    exporter, client = values.get("pair") or (values.get("exporter_version"), values.get("client_version"))
    if exporter and client:
        return [("exporter", exporter), ("client", client), ("peer", f"{exporter} exporter, {client} client")]
    if exporter or client:
        role = "exporter" if exporter else "client"
        version = exporter or client
        return [("peer", f"our {role}" if version == "ours" else f"Python {version} {role}")]
    marker = item.get_closest_marker("peer")
    return [("peer", marker.args[0] if marker else DEFAULT_PEER)]


def pytest_collection_modifyitems(items):
    for item in items:
        defect = item.get_closest_marker("upstream_defect")
        if defect and harness.VALIDATING:
            item.add_marker(pytest.mark.xfail(reason=defect.args[0]))
        feature = item.get_closest_marker("feature")
        if feature is None:
            raise pytest.UsageError(f"{item.nodeid}: every interop test names its feature")
        item.user_properties.append(("feature", feature.args[0]))
        item.user_properties += who(item)
        if defect:
            item.user_properties.append(("upstream_defect", defect.args[0]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    marker = item.get_closest_marker("limit")
    seconds = marker.args[0] if marker else 60

    def too_long(*_):
        pytest.fail(f"took longer than {seconds} s")

    previous = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("interop")


@pytest.fixture(scope="session")
def peers(workspace):
    peers = harness.Peers(workspace / "peers")
    yield peers
    peers.close()


@pytest.fixture(scope="session")
def config(workspace, peers):
    return harness.render("all", workspace, **peers.values())


@pytest.fixture(scope="session")
def small_config(workspace):
    return harness.render("small", workspace)


@pytest.fixture(scope="session")
def session(workspace, config, peers):
    """The exporter under test, serving `configs/all.yaml` in its `jmp shell`."""
    with harness.LocalSession(
        harness.JMP, config, workspace / "session", DBUS_SESSION_BUS_ADDRESS=peers.dbus_address
    ) as session:
        yield session


@pytest.fixture(scope="session")
def upstream_session(request, workspace, peers):
    """The released exporter, serving the same tree."""
    if harness.VALIDATING:
        yield request.getfixturevalue("session")
        return
    folder = workspace / "upstream-session"
    folder.mkdir()
    config = harness.render("all", folder, **{**peers.values(), "TTY_PATH": peers.other_tty_path})
    with harness.LocalSession(
        harness.UPSTREAM_JMP, config, folder, DBUS_SESSION_BUS_ADDRESS=peers.dbus_address
    ) as session:
        yield session


@contextlib.contextmanager
def connected(session):
    """The documented Python API on a session: `jumpstarter.utils.env.env()`."""
    from jumpstarter.utils.env import env

    wanted = {k: v for k, v in session.env.items() if k.startswith(("JUMPSTARTER_", "JMP_", "_JMP_"))}
    os.environ.update(wanted)
    try:
        with env() as client:
            yield client
    finally:
        for key in wanted:
            os.environ.pop(key, None)


@pytest.fixture(scope="session")
def client(session):
    """Client of the released packages, connected to the exporter under test."""
    with connected(session) as client:
        yield client


@pytest.fixture(scope="session")
def wire(session):
    """Generated stubs and instance ids, for tests below the client library."""
    import wire as module

    wire = module.Wire(f"unix:{session.host}")
    yield wire
    wire.close()


@pytest.fixture(scope="session")
def image(workspace):
    """Three mebibytes that do not repeat within a chunk and compress a little."""
    path = workspace / "image.bin"
    path.write_bytes(b"".join(i.to_bytes(4, "little") + os.urandom(12) for i in range(196608)))
    return path
