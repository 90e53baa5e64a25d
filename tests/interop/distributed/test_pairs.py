"""Exporters and clients of every release, in pairs, through our controller and router."""

import contextlib
import json
import os
import signal
import subprocess

import lab as laboratory
import pytest
from calls import FREE, Caller
from lab import OURS

PAIRS = [
    (OURS, OURS),
    *[(OURS, version) for version in laboratory.RELEASES],
    *[(version, OURS) for version in laboratory.RELEASES],
    *[(version, version) for version in laboratory.RELEASES],
]


#: 0.7.4 has no `--name`.
WITHOUT_NAMES = "0.7.4"


def pytest_generate_tests(metafunc):
    if "pair" in metafunc.fixturenames:
        pairs = [p for p in PAIRS if metafunc.function is not test_shell_by_name or p[1] != WITHOUT_NAMES]
        marked = [
            pytest.param(pair, id=f"{pair[0]}-exporter-{pair[1]}-client", marks=pytest.mark.xdist_group("-".join(pair)))
            for pair in pairs
        ]
        metafunc.parametrize("pair", marked, indirect=True, scope="module")


class Pair:
    """A running exporter of one release, and a client of another with its configuration."""

    def __init__(self, lab, exporter_version: str, client_version: str):
        self.lab = lab
        self.exporter_version, self.client_version = exporter_version, client_version
        self.client_program = lab.programs[client_version]
        stem = f"{exporter_version}-{client_version}".replace(".", "")
        self.name = lab.unique(f"exporter-{stem}")
        self.selector = f"unit={self.name}"
        self.exporter_config = lab.create_exporter(self.name, {"unit": self.name})
        self.client_name = lab.unique(f"client-{stem}")
        self.client_config = lab.create_client(self.client_name)
        self.caller = Caller(self.client_config)
        self.image = lab.directory / "image.bin"
        if not self.image.exists():
            self.image.write_bytes(os.urandom(3 << 20))
        self.exporter = lab.run_exporter(exporter_version, self.exporter_config)
        self.wait_free()

    def wait_free(self, seconds: float = laboratory.START_SECONDS):
        """The exporter is online, not leased and says that it can be leased."""

        def free():
            exporter = self.caller.exporter(self.name)
            return exporter.online and exporter.status in FREE and not self.leases()

        laboratory.wait_until(free, seconds, lambda: f"{self.caller.exporter(self.name)}\n{self.leases()}\n{self.exporter.text()[-4000:]}")

    def leases(self) -> list:
        return [lease for lease in self.caller.leases() if lease.exporter.endswith(f"/{self.name}")]

    def jmp(self, *arguments, **options):
        return self.lab.jmp(self.client_version, *arguments, client=self.client_config, **options)

    def close(self):
        self.exporter.close()
        self.caller.close()

    def failure(self, result) -> str:
        return f"{result.args} ended with {result.returncode}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}\nEXPORTER\n{self.exporter.text()[-4000:]}"


@pytest.fixture(scope="module")
def pair(request, lab):
    pair = Pair(lab, *request.param)
    yield pair
    pair.close()


def items(result, kind: str) -> list:
    """The list in a command's JSON; 0.7.4 prints JSON within a JSON string."""
    printed = json.loads(result.stdout)
    return (json.loads(printed) if isinstance(printed, str) else printed)[kind]


@pytest.mark.feature("Registers and shows as online")
@pytest.mark.limit(300)
def test_listed(pair):
    result = pair.jmp("get", "exporters", "-l", pair.selector, "--with", "online", "-o", "json")
    assert result.returncode == 0, pair.failure(result)
    listed = items(result, "exporters")
    assert [(e["name"], e["online"], e["labels"]["unit"]) for e in listed] == [(pair.name, True, pair.name)]
    nodes = json.loads(pair.lab.admin("get", "exporter", pair.name, "-o", "json"))["status"]["devices"]
    assert len(nodes) == 5


@pytest.mark.feature("`jmp shell` by selector: power, serial, storage; exit code")
@pytest.mark.limit(300)
def test_shell_by_selector(pair):
    pair.wait_free()
    script = 'j power on && "$LAB_PYTHON" "$1" "$2" && echo "leased $JMP_LEASE" && exit 7'
    arguments = ["sh", "-c", script, "sh", laboratory.HERE / "device.py", pair.image]
    result = pair.jmp("shell", "--selector", pair.selector, "--duration", "00:10:00", "--", *arguments, timeout=200)
    assert result.returncode == 7, pair.failure(result)
    for line in ("power works", "serial works", "bytes are the same", "storage works"):
        assert f"device: {line}" in result.stdout, pair.failure(result)
    pair.wait_free()


@pytest.mark.feature("Lease made beforehand: `JMP_LEASE`, list, extend, delete; the exporter returns")
@pytest.mark.limit(300)
def test_lease_made_beforehand(pair):
    pair.wait_free()
    result = pair.jmp("create", "lease", "-l", pair.selector, "--duration", "00:20:00", "-o", "name")
    assert result.returncode == 0, pair.failure(result)
    lease = result.stdout.strip()
    result = pair.jmp("shell", "--", "j", "power", "on", env={"JMP_LEASE": lease})
    assert result.returncode == 0, pair.failure(result)
    assert [held.name.rpartition("/")[2] for held in pair.leases()] == [lease], "a borrowed lease is not released"
    result = pair.jmp("update", "lease", lease, "--duration", "00:40:00", "-o", "json")
    assert result.returncode == 0, pair.failure(result)
    result = pair.jmp("get", "leases", "-o", "json")
    assert result.returncode == 0, pair.failure(result)
    listed = [item for item in items(result, "leases") if item["exporter"] == pair.name]
    assert [(item["name"], item["client"]) for item in listed] == [(lease, pair.client_name)]
    assert pair.caller.lease(lease).duration.seconds == 2400
    result = pair.jmp("delete", "leases", lease)
    assert result.returncode == 0 and lease in result.stdout, pair.failure(result)
    pair.wait_free()


@pytest.mark.feature("`jmp shell` by exporter name")
@pytest.mark.limit(300)
def test_shell_by_name(pair):
    pair.wait_free()
    result = pair.jmp("shell", "--name", pair.name, "--duration", "00:10:00", "--", "j", "power", "off")
    assert result.returncode == 0, pair.failure(result)
    newest = max(pair.caller.leases(only_active=False), key=lambda lease: lease.effective_begin_time.ToNanoseconds())
    assert newest.exporter_name == pair.name and newest.exporter.endswith(f"/{pair.name}")
    pair.wait_free()


@pytest.mark.feature("Exporter leaves the pool when it is stopped")
@pytest.mark.limit(300)
def test_stopped(pair):
    pair.wait_free()

    def ended():
        # 0.7.4 loses a signal that comes while it starts its process again, as it does after each lease.
        pair.exporter.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            pair.exporter.process.wait(15)
        return pair.exporter.process.poll() is not None

    laboratory.wait_until(ended, laboratory.START_SECONDS, lambda: pair.exporter.text()[-4000:])
    if pair.lab.programs[pair.exporter_version].numbers >= (0, 8):
        laboratory.wait_until(lambda: not pair.caller.exporter(pair.name).online, 60, lambda: pair.caller.exporter(pair.name))
