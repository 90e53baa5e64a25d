"""What happens to leases: hooks, expiry, queues, transfers; the released programs and ours, each with the other."""

import json
import os
import pathlib
import shlex
import signal
import time

import lab as laboratory
import pytest
from calls import FREE, Caller, claims, connect, make_device
from lab import OURS

#: A busy machine takes most of a minute for one start of a released client.
pytestmark = pytest.mark.limit(300)


def roles(*pairs):
    """Parametrize over (exporter, client)."""
    ids = [f"{exporter}-exporter-{client}-client" for exporter, client in pairs]
    return pytest.mark.parametrize(("exporter_version", "client_version"), pairs, ids=ids)


class Scene:
    """An exporter that a test configures, and a client."""

    def __init__(self, lab, exporter_version, client_version, **config):
        self.lab, self.client_version = lab, client_version
        self.name = lab.unique("scene")
        self.selector = f"unit={self.name}"
        self.config = lab.create_exporter(self.name, {"unit": self.name}, **config)
        self.client_name = lab.unique("actor")
        self.client = lab.create_client(self.client_name)
        self.caller = Caller(self.client)
        self.exporter_version = exporter_version
        self.exporter = None

    def __enter__(self):
        self.exporter = self.lab.run_exporter(self.exporter_version, self.config)
        self.wait_free()
        return self

    def __exit__(self, *_):
        self.exporter.close()
        self.caller.close()

    def free(self) -> bool:
        exporter = self.caller.exporter(self.name)
        held = [lease for lease in self.caller.leases() if lease.exporter.endswith(f"/{self.name}")]
        return exporter.online and exporter.status in FREE and not held

    def wait_free(self, seconds: float = laboratory.START_SECONDS):
        laboratory.wait_until(self.free, seconds, lambda: f"not free: {self.caller.exporter(self.name)}\n{self.exporter.text()[-4000:]}")

    def shell(self, *command, duration="00:10:00", options=(), timeout: float = 150):
        arguments = ["shell", "--selector", self.selector, "--duration", duration, *options, "--", *command]
        return self.lab.jmp(self.client_version, *arguments, client=self.client, timeout=timeout)

    def start_shell(self, *command, duration="00:10:00", client=None, version=None):
        arguments = ["shell", "--selector", self.selector, "--duration", duration, "--", *command]
        name = self.lab.unique(f"shell-{self.name}")
        return self.lab.start_jmp(version or self.client_version, *arguments, client=client or self.client, name=name)

    def failure(self, result) -> str:
        return f"ended with {result.returncode}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}\nEXPORTER\n{self.exporter.text()[-4000:]}"


# --- hooks ---------------------------------------------------------------


@roles((OURS, OURS), (OURS, "0.9.0"), (OURS, "0.8.1"), ("0.9.0", OURS), ("0.8.1", OURS), ("0.9.0", "0.9.0"))
@pytest.mark.feature("Hooks: run with `j`, their output reaches the client")
def test_hooks(lab, tmp_path, exporter_version, client_version):
    hooks = {
        "beforeLease": {"script": f"j power on && echo before for $CLIENT_NAME | tee {tmp_path}/before", "timeout": 60},
        "afterLease": {"script": f"j power off && echo after of $LEASE_NAME | tee {tmp_path}/after", "timeout": 60},
    }
    with Scene(lab, exporter_version, client_version, hooks=hooks) as scene:
        result = scene.shell("sh", "-c", f'cat "{tmp_path}/before"; echo "lease is $JMP_LEASE"')
        assert result.returncode == 0, scene.failure(result)
        output = result.stdout + result.stderr
        assert f"before for {scene.client_name}" in output and "after of" in output, scene.failure(result)
        assert (tmp_path / "before").read_text().strip() == f"before for {scene.client_name}"
        lease = (tmp_path / "after").read_text().split()[-1]
        # 0.8.1 does not tell the programs in its shell which lease it is.
        assert f"lease is {lease}" in output or client_version == "0.8.1"
        scene.wait_free()


@pytest.mark.feature("Hooks: run for a client that does not know them")
@roles((OURS, "0.7.4"))
def test_hooks_and_an_old_client(lab, tmp_path, exporter_version, client_version):
    hooks = {
        "beforeLease": {"script": f"sleep 1; touch {tmp_path}/before", "timeout": 60},
        "afterLease": {"script": f"touch {tmp_path}/after", "timeout": 60},
    }
    with Scene(lab, exporter_version, client_version, hooks=hooks) as scene:
        result = scene.shell("j", "power", "on")
        assert result.returncode == 0, scene.failure(result)
        scene.wait_free()
        assert (tmp_path / "before").exists() and (tmp_path / "after").exists()


FAILING = (OURS, OURS), (OURS, "0.9.0"), (OURS, "0.8.1"), ("0.9.0", OURS), ("0.8.1", OURS)


def failing(which: str, on_failure: str, *versions: str) -> dict:
    # Released clients look for their lease every 5 seconds; when they connect after the failure, they know no reason.
    # Released exporters forget what a hook printed before a client was there.
    pause = "sleep 8; " if any(version != OURS for version in versions) else ""
    return {which: {"script": f"{pause}echo cannot find the board; exit 3", "timeout": 60, "onFailure": on_failure}}


@roles(*FAILING)
@pytest.mark.feature("Hooks: a failing beforeLease with `warn`")
def test_before_lease_warns(lab, exporter_version, client_version):
    with Scene(lab, exporter_version, client_version, hooks=failing("beforeLease", "warn", exporter_version, client_version)) as scene:
        result = scene.shell("sh", "-c", "echo shell runs; j power on; exit 4")
        assert result.returncode == 4 and "shell runs" in result.stdout, scene.failure(result)
        assert "cannot find the board" in result.stdout + result.stderr, scene.failure(result)
        scene.wait_free()


@roles(*FAILING)
@pytest.mark.feature("Hooks: a failing beforeLease with `endLease`")
def test_before_lease_ends_the_lease(lab, exporter_version, client_version):
    with Scene(lab, exporter_version, client_version, hooks=failing("beforeLease", "endLease", exporter_version, client_version)) as scene:
        result = scene.shell("sh", "-c", "echo shell runs")
        # 0.8.1 ends with 0 although it runs nothing.
        assert result.returncode == 1 or client_version == "0.8.1", scene.failure(result)
        assert "shell runs" not in result.stdout, scene.failure(result)
        assert "hook" in (result.stdout + result.stderr).lower(), scene.failure(result)
        assert "cannot find the board" in result.stdout + result.stderr, scene.failure(result)
        scene.wait_free()


@roles((OURS, OURS), (OURS, "0.9.0"), (OURS, "0.8.1"))
@pytest.mark.feature("Hooks: a failing beforeLease with `exit`")
def test_before_lease_ends_the_exporter(lab, exporter_version, client_version):
    with Scene(lab, exporter_version, client_version, hooks=failing("beforeLease", "exit", exporter_version, client_version)) as scene:
        result = scene.shell("sh", "-c", "echo shell runs")
        assert result.returncode == 1 and "shell runs" not in result.stdout, scene.failure(result)
        assert scene.exporter.wait(laboratory.START_SECONDS) == 1
        laboratory.wait_until(lambda: not scene.caller.exporter(scene.name).online, 60, "still online")
        assert not [lease for lease in scene.caller.leases() if lease.exporter.endswith(f"/{scene.name}")]


@roles((OURS, OURS), (OURS, "0.9.0"), ("0.9.0", OURS))
@pytest.mark.parametrize("on_failure", ["warn", "endLease"])
@pytest.mark.feature("Hooks: a failing afterLease leaves the exporter leasable")
def test_after_lease_fails(lab, exporter_version, client_version, on_failure):
    with Scene(lab, exporter_version, client_version, hooks=failing("afterLease", on_failure)) as scene:
        result = scene.shell("j", "power", "on")
        assert result.returncode == (0 if on_failure == "warn" else 1), scene.failure(result)
        scene.wait_free()
        lease = scene.caller.acquired(scene.selector, seconds=20)
        scene.caller.delete(lease)


# --- the end of a lease --------------------------------------------------

EACH = [(OURS, OURS), *[(OURS, v) for v in laboratory.RELEASES], *[(v, OURS) for v in laboratory.RELEASES]]


@roles(*EACH)
@pytest.mark.feature("A lease expires while its shell is open")
def test_expiry(lab, exporter_version, client_version):
    with Scene(lab, exporter_version, client_version) as scene:
        # 0.7.4 says that the lease has ended and lets its program go on.
        long = 40 if client_version == "0.7.4" else 250
        shell = scene.start_shell("sh", "-c", f"echo opened; exec sleep {long}", duration="00:00:15")
        shell.expect("opened")
        # Clients look at their lease every 30 seconds, and close in their own time.
        code = shell.wait(120)
        if client_version != "0.7.4":
            assert code != 0, shell.text()
        scene.wait_free()


@roles((OURS, OURS), (OURS, "0.9.0"), ("0.9.0", "0.9.0"), ("0.7.4", "0.7.4"))
@pytest.mark.feature("Two clients queue for one exporter")
def test_queue(lab, stack, exporter_version, client_version):
    with Scene(lab, exporter_version, client_version) as scene:
        holder = stack.enter_context(Caller(lab.create_client(lab.unique("holder"))))
        held = holder.acquired(scene.selector)
        waiting = scene.start_shell("sh", "-c", "j power on && echo it is mine now")
        laboratory.wait_until(lambda: [x for x in scene.caller.leases() if x.client.endswith(f"/{scene.client_name}")], laboratory.START_SECONDS, "no request")
        time.sleep(1)
        assert "it is mine now" not in waiting.text()
        holder.delete(held)
        assert waiting.wait(laboratory.START_SECONDS) == 0, waiting.text()
        assert "it is mine now" in waiting.text()
        scene.wait_free()


@pytest.mark.parametrize("client_version", [OURS, "0.9.0", "0.7.4"])
@pytest.mark.feature("A client that stops waiting leaves the queue")
def test_stops_waiting(lab, stack, client_version):
    device = make_device(lab, stack)
    holder = stack.enter_context(Caller(lab.create_client(lab.unique("holder"))))
    held = holder.acquired(device.selector)
    name = lab.unique("impatient")
    config = lab.create_client(name)
    waiting = lab.start_jmp(client_version, "shell", "--selector", device.selector, "--", "true", client=config, name=name)

    def requests():
        return [x for x in holder.leases() if x.client.endswith(f"/{name}")]

    laboratory.wait_until(requests, laboratory.START_SECONDS, lambda: waiting.text())
    time.sleep(1)
    waiting.signal(signal.SIGINT)
    assert waiting.wait(laboratory.START_SECONDS) != 0
    laboratory.wait_until(lambda: not requests(), 60, lambda: f"{requests()}\n{waiting.text()}")
    holder.delete(held)


@pytest.mark.parametrize("client_version", [OURS, *laboratory.RELEASES])
@pytest.mark.feature("A selector that nothing matches fails at once")
def test_unknown_selector(lab, client_version):
    config = lab.create_client(lab.unique("seeker"))
    result = lab.jmp(client_version, "shell", "--selector", "no=such-board", "--", "true", client=config)
    assert result.returncode == 1
    assert "cannot be satisfied" in result.stdout + result.stderr, result.stdout + result.stderr


@roles((OURS, "0.9.0"), (OURS, "0.8.1"), ("0.9.0", OURS), (OURS, OURS))
@pytest.mark.feature("A lease is transferred to another client")
def test_transfer(lab, exporter_version, client_version):
    with Scene(lab, exporter_version, client_version) as scene:
        lease = scene.caller.acquired(scene.selector)
        heir_name = lab.unique("heir")
        heir = lab.create_client(heir_name)
        result = lab.jmp(client_version, "update", "lease", lease, "--to-client", heir_name, client=scene.client)
        assert result.returncode == 0, scene.failure(result)
        result = lab.jmp(client_version, "shell", "--lease", lease, "--", "j", "power", "on", client=heir)
        assert result.returncode == 0, scene.failure(result)
        result = lab.jmp(client_version, "shell", "--lease", lease, "--", "j", "power", "on", client=scene.client)
        assert result.returncode != 0, scene.failure(result)
        result = lab.jmp(client_version, "delete", "leases", lease, client=heir)
        assert result.returncode == 0, scene.failure(result)
        scene.wait_free()


@pytest.mark.parametrize("client_version", [OURS, "0.9.0"])
@pytest.mark.feature("Tags: set, shown, filtered, refused over the limit")
def test_tags(lab, stack, client_version):
    device = make_device(lab, stack)
    config = lab.create_client(lab.unique("tagger"))

    def jmp(*arguments):
        return lab.jmp(client_version, *arguments, client=config)

    result = jmp("create", "lease", "-l", device.selector, "--duration", "00:10:00", "--tag", "team=red", "--tag", "ci=42", "-o", "json")
    assert result.returncode == 0, result.stderr
    lease = json.loads(result.stdout)
    assert lease["tags"] == {"team": "red", "ci": "42"}
    for filter_text, expected in (("team=red,ci=42", [lease["name"]]), ("team=blue", [])):
        result = jmp("get", "leases", "--tag-filter", filter_text, "-o", "name")
        assert result.returncode == 0 and result.stdout.split() == expected, result.stdout + result.stderr
    many = [flag for n in range(11) for flag in ("--tag", f"t{n}=v")]
    result = jmp("create", "lease", "-l", device.selector, "--duration", "00:10:00", *many)
    assert result.returncode != 0
    result = jmp("delete", "leases", "--all")
    assert result.returncode == 0 and lease["name"] in result.stdout, result.stderr


@pytest.mark.parametrize("client_version", [OURS, *laboratory.RELEASES])
@pytest.mark.feature("A disabled exporter is not leased")
def test_disabled(lab, stack, client_version):
    device = make_device(lab, stack)
    lab.set_enabled(device.name, False)
    config = lab.create_client(lab.unique("seeker"))
    result = lab.jmp(client_version, "shell", "--selector", device.selector, "--", "true", client=config)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "disabled" in (result.stdout + result.stderr).lower(), result.stdout + result.stderr


# --- tokens --------------------------------------------------------------


def with_token(config: pathlib.Path, token: str) -> pathlib.Path:
    """The same configuration with another token."""
    import yaml

    content = yaml.safe_load(config.read_text())
    content["token"] = token
    path = config.with_name(f"{config.stem}-changed.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("client_version", [OURS, "0.9.0", "0.7.4"])
@pytest.mark.feature("Tokens that are not accepted: the client says why")
def test_bad_tokens(lab, client_version):
    config = lab.create_client(lab.unique("stranger"))
    token = Caller(config).token
    broken = with_token(config, token[:-8] + "AAAAAAAA")
    result = lab.jmp(client_version, "get", "exporters", client=broken)
    output = result.stdout + result.stderr
    assert result.returncode == 1 and "token" in output.lower(), output
    assert token[-16:] not in output and "Traceback" not in output


@pytest.mark.parametrize("client_version", [OURS, *laboratory.RELEASES])
@pytest.mark.feature("`tls.insecure`: trust in the chain that is presented")
def test_presented_chain(lab, client_version):
    """Shipped clients take the presented chain as their roots, and still check names: leaf and root must both be sent."""
    import yaml

    config = lab.create_client(lab.unique("trusting"))
    content = yaml.safe_load(config.read_text())
    content["tls"] = {"ca": "", "insecure": True}
    config.write_text(yaml.safe_dump(content))
    result = lab.jmp(client_version, "get", "exporters", client=config)
    assert result.returncode == 0, result.stdout + result.stderr
    content["tls"] = {"ca": "", "insecure": False}
    config.write_text(yaml.safe_dump(content))
    result = lab.jmp(client_version, "get", "exporters", client=config)
    assert result.returncode == 1, result.stdout + result.stderr
    result = lab.jmp(client_version, "get", "exporters", client=config, env={"JUMPSTARTER_GRPC_INSECURE": "1"})
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("client_version", [OURS, *laboratory.RELEASES])
@pytest.mark.feature("An expired token: the client says so")
def test_expired_token(lab, client_version):
    config = lab.create_client(lab.unique("late"))
    now = int(time.time())
    with Caller(config) as caller:
        token = lab.signed({**claims(caller.token), "iat": now - 7200, "exp": now - 3600})
    result = lab.jmp(client_version, "get", "exporters", client=with_token(config, token), stdin="")
    output = result.stdout + result.stderr
    assert result.returncode == 1 and "expired" in output.lower(), output
    assert token[-16:] not in output


@pytest.mark.parametrize("client_version", [OURS, "0.9.0"])
@pytest.mark.feature("`jmp auth status` and `jmp auth rotate`")
def test_rotate(lab, client_version):
    config = lab.create_client(lab.unique("rotator"))
    before = Caller(config).token
    result = lab.jmp(client_version, "auth", "status", client=config)
    assert result.returncode == 0 and "Valid" in result.stdout, result.stdout + result.stderr
    result = lab.jmp(client_version, "auth", "rotate", client=config)
    assert result.returncode == 0, result.stdout + result.stderr
    # 0.9.0 writes beside its other configurations, whatever file it was given.
    kept = lab.directory / "client-home/clients" / config.name
    after = Caller(kept if kept.exists() else config)
    assert after.token != before
    after.leases()


@roles(("0.9.0", OURS), (OURS, "0.9.0"))
@pytest.mark.feature("Many tunnels at once")
def test_many_tunnels(lab, exporter_version, client_version):
    with Scene(lab, exporter_version, client_version) as scene:
        many = " & ".join(f"j power on && echo done-{n}" for n in range(4))
        result = scene.shell("sh", "-c", f"{many} & wait")
        assert result.returncode == 0 and all(f"done-{n}" in result.stdout for n in range(4)), scene.failure(result)


def quoted(*words) -> str:
    return " ".join(shlex.quote(str(word)) for word in words)


def steady(lab, version: str, seconds: float, started: pathlib.Path) -> list:
    return [lab.programs[version].python, laboratory.HERE / "steady.py", str(seconds), started]


# --- faults --------------------------------------------------------------


@roles(*EACH)
@pytest.mark.feature("An exporter is killed and started again during its lease")
def test_exporter_restart(lab, exporter_version, client_version):
    with Scene(lab, exporter_version, client_version) as scene:
        lease = scene.caller.acquired(scene.selector)

        def use():
            return lab.jmp(client_version, "shell", "--", "j", "power", "on", client=scene.client, env={"JMP_LEASE": lease})

        first = use()
        assert first.returncode == 0, scene.failure(first)
        scene.exporter.kill()
        scene.exporter = lab.run_exporter(exporter_version, scene.config)
        second = use()
        assert second.returncode == 0, scene.failure(second)
        scene.caller.delete(lease)
        scene.wait_free()


@roles((OURS, OURS), *[(v, v) for v in laboratory.RELEASES], (OURS, "0.9.0"), ("0.9.0", OURS))
@pytest.mark.feature("The controller is killed and started again: an open stream loses no byte, the lease goes on")
def test_controller_restart(own_lab, tmp_path, exporter_version, client_version):
    with Scene(own_lab, exporter_version, client_version) as scene:
        started = tmp_path / "started"
        shell = scene.start_shell("sh", "-c", f"{quoted(*steady(own_lab, client_version, 8, started))} && j power on && echo all is well")
        laboratory.wait_until(started.exists, laboratory.START_SECONDS, lambda: shell.text(), gone=lambda: shell.process.poll() is not None)
        lease = [x.name for x in scene.caller.leases()]
        os.kill(own_lab.controller.pid, signal.SIGKILL)
        own_lab.controller.process.wait(10)
        own_lab.start()
        assert [x.name for x in scene.caller.leases()] == lease
        assert shell.wait(laboratory.START_SECONDS) == 0, shell.text()
        assert "not a byte lost" in shell.text() and "all is well" in shell.text(), shell.text()
        scene.wait_free()
        scene.caller.delete(scene.caller.acquired(scene.selector))


@roles((OURS, OURS), ("0.9.0", "0.9.0"))
@pytest.mark.feature("The router is killed: a new connection works, the lease goes on")
def test_router_restart(own_lab, tmp_path, exporter_version, client_version):
    with Scene(own_lab, exporter_version, client_version) as scene:
        script = f"j power on && touch {tmp_path}/first; while [ ! -e {tmp_path}/again ]; do sleep 0.1; done; j power off && echo all is well"
        shell = scene.start_shell("sh", "-c", script)
        laboratory.wait_until((tmp_path / "first").exists, laboratory.START_SECONDS, lambda: shell.text(), gone=lambda: shell.process.poll() is not None)
        old = own_lab.router_pid()
        os.kill(old, signal.SIGKILL)

        def replaced():
            try:
                return own_lab.router_pid() != old
            except AssertionError:
                return False

        laboratory.wait_until(replaced, 30, lambda: f"no new router: {own_lab.controller.text()[-4000:]}")
        (tmp_path / "again").touch()
        shell.wait(laboratory.START_SECONDS)
        assert "all is well" in shell.text(), shell.text()
        scene.wait_free()


@pytest.mark.parametrize("client_version", [OURS, "0.9.0"])
@pytest.mark.feature("A client that vanishes: its lease ends in time, the exporter returns")
def test_client_vanishes(lab, client_version):
    with Scene(lab, OURS, client_version) as scene:
        shell = scene.start_shell("sh", "-c", "j power on; echo opened; exec sleep 60", duration="00:00:20")
        shell.expect("opened")
        shell.kill()
        scene.wait_free()
        again = scene.caller.acquired(scene.selector)
        scene.caller.delete(again)


@pytest.mark.feature("Cut connections between exporter and controller")
@pytest.mark.parametrize("exporter_version", [OURS, "0.9.0"])
def test_cut_network(lab, stack, exporter_version):
    import yaml

    proxy = laboratory.Proxy(("127.0.0.1", lab.ports.grpc))
    stack.callback(proxy.close)
    scene = Scene(lab, exporter_version, OURS)
    config = yaml.safe_load(scene.config.read_text())
    config["endpoint"] = f"127.0.0.1:{proxy.port}"
    scene.config.write_text(yaml.safe_dump(config))
    with scene:
        lease = scene.caller.acquired(scene.selector)
        connect(scene.caller, lease, 30)
        for _ in range(3):
            proxy.cut()
            time.sleep(1)
        connect(scene.caller, lease, 30)
        scene.caller.delete(lease)
        scene.wait_free()
