"""A laboratory of the distributed mode: our controller with its router, exporters and clients of several releases.

Everything listens on 127.0.0.1. Every process is started in a session of its own and ended by its id.
"""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import yaml

import harness

HERE = pathlib.Path(__file__).parent
OURS = "ours"
RELEASES = ("0.9.0", "0.8.1", "0.7.4")

#: `jmp` under test; the released packages are always the peers here.
JMP = pathlib.Path(os.environ.get("JMP_INTEROP_EXPORTER", "jmp")).absolute()

#: A cold Python start while everything else is being compiled or imported has taken most of a minute.
START_SECONDS = 150


class Program:
    """One release of `jmp` and `j`, with the Python that scripts in its shell run in."""

    def __init__(self, version: str, links: pathlib.Path):
        self.version = version
        self.ours = version == OURS
        newest = pathlib.Path(sys.prefix)
        home = newest if version in (OURS, RELEASES[0]) else newest.with_name(f"{newest.name}-{version}")
        self.python = home / "bin/python"
        if not self.python.exists():
            raise RuntimeError(f"{self.python} is missing: run `cargo xtask setup`")
        self.bin = home / "bin"
        if self.ours:
            # Our single program becomes `j` through a link of that name; scripts in its shell use the released library.
            self.bin = links
            for name in ("jmp", "j"):
                with contextlib.suppress(FileExistsError):
                    (links / name).symlink_to(JMP)
        self.jmp = self.bin / "jmp"

    @property
    def numbers(self) -> tuple:
        return (99,) if self.ours else tuple(int(n) for n in self.version.split("."))

    def env(self, **extra: str) -> dict:
        env = harness.base_env(**extra)
        env["PATH"] = f"{self.bin}:{self.python.parent}:{os.environ.get('PATH', os.defpath)}"
        return env

    def __str__(self):
        return self.version


class Process:
    """A program that runs in the background; its output is collected line by line and can be waited for."""

    def __init__(self, arguments, *, env, log: pathlib.Path, cwd=None, stdin=False):
        self.log = log
        self.name = " ".join(pathlib.Path(str(a)).name if i == 0 else str(a) for i, a in enumerate(arguments))
        log.parent.mkdir(parents=True, exist_ok=True)
        self._output = open(log, "ab")
        self.process = subprocess.Popen(
            [str(a) for a in arguments],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
        self._output.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def expect(self, text: str, seconds: float = START_SECONDS, times: int = 1) -> None:
        """Wait until `text` has been printed this many times."""
        wait_until(
            lambda: self.text().count(text) >= times,
            seconds,
            lambda: f"{self.name} did not print {text!r} {times}x:\n{self.text()[-6000:]}",
            gone=lambda: self.process.poll() is not None and self.text().count(text) < times,
        )

    def wait(self, seconds: float) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {seconds} s:\n{self.text()[-6000:]}") from None

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        """KILL for the program and its children, all at once, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            for pid in descendants(self.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(10)

    def close(self, patience: float = 10.0) -> int | None:
        """TERM, then KILL, for whatever is left of it."""
        children = descendants(self.pid) if self.process.poll() is None else []
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        harness.end_group(self.process, 2)
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return self.process.returncode


def descendants(pid: int) -> list[int]:
    """Ids of all processes below `pid`, from /proc."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
                parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def wait_until(condition, seconds: float, message, gone=lambda: False):
    """Wait for another process's effect; returns what `condition` returned."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if gone() or time.monotonic() > deadline:
            raise AssertionError(message() if callable(message) else f"not within {seconds} s: {message}")
        time.sleep(0.05)
    return value


class Ports:
    """Ports of this lab. Taken once, so that a restarted controller is found where it was."""

    def __init__(self):
        sockets = [socket.socket() for _ in range(4)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        self.grpc, self.router, self.login, self.metrics = (s.getsockname()[1] for s in sockets)
        for sock in sockets:
            sock.close()


class Lab:
    """`jmp controller run` with the router it starts, and what an administrator does to it."""

    def __init__(self, directory: pathlib.Path, *options: str, env: dict | None = None):
        self.directory = directory
        self.data = directory / "data"
        self.home = directory / "home"
        self.options = options
        self.extra_env = env or {}
        self.ports = Ports()
        self.endpoint = f"127.0.0.1:{self.ports.grpc}"
        self.stack = contextlib.ExitStack()
        self.processes = []
        links = directory / "bin"
        links.mkdir(parents=True)
        self.programs = {v: Program(v, links) for v in (OURS, *RELEASES)}
        self.controller = None
        self._clients = {}
        self._numbers = {}

    # --- the controller -----------------------------------------------------

    def env(self) -> dict:
        return self.programs[OURS].env(JMP_CLIENT_CONFIG_HOME=str(self.home), **self.extra_env)

    def start(self) -> None:
        """Start the controller (again, on the same data and ports) and wait until it serves."""
        self.controller = Process(
            [self.programs[OURS].jmp, "controller", "run", *self.controller_options(), *self.options],
            env=self.env(),
            log=self.directory / "controller.log",
        )
        self.processes.append(self.controller)
        wait_until(
            self.is_up,
            START_SECONDS,
            lambda: f"the controller does not serve:\n{self.controller.text()[-6000:]}",
            gone=lambda: self.controller.process.poll() is not None,
        )

    def controller_options(self) -> list:
        return [
            "--data-directory", self.data,
            "--listen", self.endpoint,
            "--router-listen", f"127.0.0.1:{self.ports.router}",
            "--login-listen", f"127.0.0.1:{self.ports.login}",
            "--metrics-listen", f"127.0.0.1:{self.ports.metrics}",
            "--public-endpoint", self.endpoint,
        ]  # fmt: skip

    def is_up(self) -> bool:
        for port in (self.ports.grpc, self.ports.router):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                return False
        return (self.home / "admin.yaml").exists()

    def router_pid(self) -> int:
        """The process that listens on the router's port."""
        return listener(self.ports.router)

    # --- what an administrator does -----------------------------------------

    def admin(self, *arguments, **options) -> str:
        """Run `jmp admin …`; returns its output."""
        result = harness.run([self.programs[OURS].jmp, "admin", *arguments], env=self.env(), timeout=60, **options)
        assert result.returncode == 0, f"jmp admin {arguments}: {result.stdout}{result.stderr}"
        return result.stdout

    def unique(self, stem: str) -> str:
        """A name that no other test of this lab uses."""
        self._numbers[stem] = self._numbers.get(stem, 0) + 1
        return f"{stem}-{self._numbers[stem]}"

    def create_exporter(self, name: str, labels: dict, *, export: dict | None = None, **more) -> pathlib.Path:
        """A new exporter; returns the path of its configuration, devices included."""
        path = self.directory / "exporters" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        flags = [flag for key, value in labels.items() for flag in ("--label", f"{key}={value}")]
        self.admin("create", "exporter", name, *flags, "--out", path)
        config = yaml.safe_load(path.read_text())
        storage = self.directory / "storage" / name
        storage.mkdir(parents=True, exist_ok=True)
        config["export"] = devices(storage) if export is None else export
        config.update(more)
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path

    def create_client(self, name: str, labels: dict | None = None) -> pathlib.Path:
        """A new client; returns the path of its configuration."""
        path = self.directory / "clients" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        flags = [flag for key, value in (labels or {}).items() for flag in ("--label", f"{key}={value}")]
        self.admin("create", "client", name, *flags, "--unsafe", "--out", path)
        return path

    def set_enabled(self, name: str, enabled: bool) -> None:
        """Let new leases have an exporter, or not."""
        exporter = json.loads(self.admin("get", "exporter", name, "-o", "json"))
        exporter.setdefault("spec", {})["enabled"] = enabled
        self.apply({key: exporter[key] for key in ("apiVersion", "kind", "metadata", "spec")})

    def apply(self, *manifests: dict) -> None:
        path = self.directory / f"{self.unique('manifest')}.yaml"
        path.write_text(yaml.safe_dump_all(manifests))
        self.admin("apply", "-f", path)

    def signed(self, claims: dict) -> str:
        """A token of this controller with other claims: signed with its own key."""
        from joserfc import jwk, jwt

        key = jwk.ECKey.import_key((self.data / "identity.key").read_text())
        return jwt.encode({"alg": "ES256"}, claims, key)

    # --- the other programs -------------------------------------------------

    def run_exporter(self, version: str, config: pathlib.Path) -> Process:
        """`jmp run` of that release; returns at once."""
        program = self.programs[version]
        home = self.directory / "exporter-home"
        process = Process(
            [program.jmp, "run", "--exporter-config", config],
            env=program.env(JMP_CLIENT_CONFIG_HOME=str(home)),
            log=self.directory / f"exporter-{config.stem}.log",
        )
        self.processes.append(process)
        return process

    def jmp(self, version: str, *arguments, client: pathlib.Path, timeout: float = 150, env: dict | None = None, **options):
        """Run a command of that release's `jmp` as this client, to its end; options go before a `--`."""
        arguments = [str(a) for a in arguments]
        cut = arguments.index("--") if "--" in arguments else len(arguments)
        arguments[cut:cut] = ["--client-config", str(client)]
        return harness.run(
            [self.programs[version].jmp, *arguments],
            env=self.client_env(version, **(env or {})),
            timeout=timeout,
            **options,
        )

    def start_jmp(self, version: str, *arguments, client: pathlib.Path, name: str, env: dict | None = None, stdin=False):
        """The same in the background."""
        arguments = [str(a) for a in arguments]
        cut = arguments.index("--") if "--" in arguments else len(arguments)
        arguments[cut:cut] = ["--client-config", str(client)]
        process = Process(
            [self.programs[version].jmp, *arguments],
            env=self.client_env(version, **(env or {})),
            log=self.directory / f"{name}.log",
            stdin=stdin,
        )
        self.processes.append(process)
        return process

    def client_env(self, version: str, **extra) -> dict:
        program = self.programs[version]
        return program.env(JMP_CLIENT_CONFIG_HOME=str(self.directory / "client-home"), LAB_PYTHON=str(program.python), **extra)

    def close(self) -> None:
        for process in reversed(self.processes):
            process.close()
        self.stack.close()

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()


def devices(storage: pathlib.Path) -> dict:
    """What every exporter here exports: one driver of each wire kind."""
    return {
        "power": {"type": "jumpstarter_driver_power.driver.MockPower"},
        "echo": {"type": "jumpstarter_driver_network.driver.EchoNetwork"},
        "serial": {"type": "jumpstarter_driver_pyserial.driver.PySerial", "config": {"url": "loop://"}},
        "storage": {
            "type": "jumpstarter_driver_opendal.driver.Opendal",
            "config": {"scheme": "fs", "kwargs": {"root": str(storage)}},
        },
    }


def listener(port: int) -> int:
    """Id of the process that listens on a loopback port, from /proc."""
    inodes = set()
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                for descriptor in os.listdir(f"/proc/{entry}/fd"):
                    with contextlib.suppress(OSError):
                        if os.readlink(f"/proc/{entry}/fd/{descriptor}") in inodes:
                            return int(entry)
    raise AssertionError(f"nothing listens on port {port}")


class Proxy:
    """Forwards TCP between a port of its own and a target, until it is told to cut or to stall."""

    def __init__(self, target: tuple):
        self.target = target
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.pairs = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.server.accept()
                try:
                    far = socket.create_connection(self.target, 5)
                except OSError:
                    near.close()
                    continue
                self.pairs.append((near, far))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def cut(self):
        """Breaks all present connections; new ones work."""
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.server.close()
        self.cut()


def certificate_authority(config: dict) -> bytes | None:
    """The PEM that a configuration file pins."""
    return base64.b64decode(config.get("tls", {}).get("ca") or "") or None


def find(program: str) -> str:
    """Path of a peer program of the system."""
    return shutil.which(program) or program
