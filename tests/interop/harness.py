"""Programs and peers of the interop suite: who is under test, sessions, and the servers that drivers talk to.

Everything listens on 127.0.0.1 (ephemeral ports) and every process is ended by its own id.
"""

import contextlib
import os
import pathlib
import pty
import shutil
import signal
import socket
import socketserver
import string
import subprocess
import sys
import threading
import time
import tty

HERE = pathlib.Path(__file__).parent
PYTHON_BIN = pathlib.Path(sys.executable).parent
UPSTREAM_JMP = PYTHON_BIN / "jmp"
UPSTREAM_J = PYTHON_BIN / "j"

#: Our `jmp`, or `upstream` to validate the suite itself against the released packages.
EXPORTER = os.environ.get("JMP_INTEROP_EXPORTER", "upstream")
VALIDATING = EXPORTER == "upstream"
JMP = UPSTREAM_JMP if VALIDATING else pathlib.Path(EXPORTER).resolve()


def j_under_test(directory: pathlib.Path) -> pathlib.Path:
    """Path of the `j` under test; our single program becomes `j` through a link of that name."""
    if configured := os.environ.get("JMP_INTEROP_J"):
        return pathlib.Path(configured).absolute()
    if VALIDATING:
        return UPSTREAM_J
    link = directory / "j"
    if not link.exists():
        link.symlink_to(JMP)
    return link


def base_env(**extra: str) -> dict:
    """The caller's environment without any session of its own, plus `extra`."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JUMPSTARTER_", "JMP_", "_JMP_"))}
    # Modules of the environments are compiled at their first import; without a place for the result, at each start.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env.update({"TERM": "dumb", "COLUMNS": "200", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"})
    env["PATH"] = f"{PYTHON_BIN}:{env.get('PATH', os.defpath)}"
    env.update(extra)
    return env


def needed(program: str, package: str) -> str:
    """Path of a peer program; a missing one is an error, never a skipped test."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        raise RuntimeError(f"{program} is missing: run `cargo xtask setup`, or install the package {package}")
    return path


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port nobody listened on a moment ago."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def render(name: str, directory: pathlib.Path, **values) -> pathlib.Path:
    """Write `configs/<name>.yaml` with its placeholders filled in; returns the new file."""
    text = (HERE / "configs" / f"{name}.yaml").read_text()
    target = directory / f"{name}.yaml"
    target.write_text(string.Template(text).substitute({k: str(v) for k, v in values.items()}))
    return target


def end_group(process: subprocess.Popen, patience: float = 10.0) -> None:
    """End a process started with its own session: TERM, then KILL, for the whole group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(patience)
            break
        except subprocess.TimeoutExpired:
            continue
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run(arguments, *, timeout: float = 90.0, stdin: bytes | str | None = None, text: bool = True, **options):
    """Run a program to its end; on timeout its whole process group is killed and the test fails."""
    process = subprocess.Popen(
        [str(a) for a in arguments],
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=text,
        start_new_session=True,
        **options,
    )
    try:
        out, err = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        end_group(process, 2)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


#: A cold Python start on a busy disk has taken most of a minute.
START_SECONDS = 90


class LocalSession:
    """`jmp shell --exporter-config F -- …`, held open until closed; `env` is what its child saw."""

    def __init__(self, jmp: pathlib.Path, config: pathlib.Path, directory: pathlib.Path, **extra_env: str):
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "jmp-shell.log"
        seen = directory / "environment"
        script = f'env -0 > "{seen}.new" && mv "{seen}.new" "{seen}"; exec cat > /dev/null'
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(jmp), "shell", "--exporter-config", str(config), "--", "sh", "-c", script],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=base_env(**extra_env),
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not seen.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                end_group(self.process, 2)
                raise RuntimeError(f"{jmp} shell did not start: {self.log.read_text(errors='replace')}")
            time.sleep(0.02)
        pairs = (entry.partition("=") for entry in seen.read_text().split("\0") if entry)
        self.env = {key: value for key, _, value in pairs}
        self.host = self.env["JUMPSTARTER_HOST"]

    def close(self) -> int:
        """Let the child end and return the exit code of `jmp shell`."""
        self.process.stdin.close()
        try:
            return self.process.wait(20)
        finally:
            end_group(self.process, 2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class DirectListener:
    """`jmp run --tls-grpc-listener 127.0.0.1:PORT …`, ended by signal."""

    def __init__(self, jmp: pathlib.Path, config: pathlib.Path, directory: pathlib.Path, *options: str):
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.log = directory / "jmp-run.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(jmp), "run", "--exporter-config", str(config), "--tls-grpc-listener", f"127.0.0.1:{self.port}", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=base_env(),
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"{jmp} run did not start: {self.log.read_text(errors='replace')}")
            time.sleep(0.05)

    def close(self) -> int:
        """Ask it to stop and return its exit code (negative for a signal)."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        end_group(self.process, 2)
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _EchoHandler(socketserver.BaseRequestHandler):
    """Echo, except for commands a test sends first: `CLOSE`, `HALF` (close our side, report what came after), `FLOOD n`."""

    def handle(self):
        while data := self.request.recv(65536):
            if data.startswith(b"CLOSE"):
                return
            if data.startswith(b"HALF"):
                self.request.sendall(b"bye")
                self.request.shutdown(socket.SHUT_WR)
                rest = b""
                while more := self.request.recv(65536):
                    rest += more
                self.server.leftovers.append(rest)
                return
            if data.startswith(b"FLOOD "):
                self.request.sendall(b"x" * int(data[6:]))
                return
            self.request.sendall(data)


class _UdpHandler(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(b"<" + data + b">", self.client_address)


class _Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _Udp(socketserver.ThreadingUDPServer):
    daemon_threads = True
    max_packet_size = 65535


class _Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class Peers:
    """The servers that the exporter's drivers connect to, and the values for `configs/all.yaml`."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self.fs_root = directory / "fs"
        self.fs_root.mkdir(parents=True)
        self.web_root = directory / "web"
        self.web_root.mkdir()
        self._stack = contextlib.ExitStack()
        self.tcp = self._serve(_Tcp(("127.0.0.1", 0), _EchoHandler))
        self.tcp.leftovers = []
        self.udp = self._serve(_Udp(("127.0.0.1", 0), _UdpHandler))
        self.unix_path = directory / "echo.sock"
        self.unix = self._serve(_Unix(str(self.unix_path), _EchoHandler))
        self.unix.leftovers = []
        self.web = self._serve_web()
        self.websocket_port = self._serve_websocket()
        # One terminal for each session: an exporter may keep its port open, and two readers would share the input.
        self.tty_master, self.tty_path = self._terminal()
        self.other_tty_master, self.other_tty_path = self._terminal()
        self.dbus_address = self._serve_dbus()
        self.ssh_key = directory / "user-key"
        self.ssh_port = self._serve_ssh()

    def values(self) -> dict:
        return {
            "TCP_PORT": self.tcp.server_address[1],
            "SSH_PORT": self.ssh_port,
            "UDP_PORT": self.udp.server_address[1],
            "CLOSED_PORT": free_port(),
            "UNIX_PATH": self.unix_path,
            "WS_PORT": self.websocket_port,
            "HTTP_PORT": self.web.server_address[1],
            "FS_ROOT": self.fs_root,
            "TTY_PATH": self.tty_path,
        }

    @staticmethod
    def _terminal() -> tuple[int, str]:
        master, slave = pty.openpty()
        tty.setraw(slave)
        return master, os.ttyname(slave)

    def _serve(self, server):
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)
        return server

    def _serve_web(self):
        """Files of `web_root`; `/moved/X` redirects to `/X` with the percent-encoding kept; PUT stores a file."""
        import http.server

        root = self.web_root
        seen = self.web_requests = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __init__(self, *args, **kwargs):
                super().__init__(*args, directory=str(root), **kwargs)

            def do_GET(self):
                seen.append(("GET", self.path))
                if self.path.startswith("/moved/"):
                    self.send_response(302)
                    self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}{self.path[6:]}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                super().do_GET()

            def do_PUT(self):
                seen.append(("PUT", self.path))
                if self.headers.get("Transfer-Encoding", "") == "chunked":
                    body = b""
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(int(self.headers["Content-Length"]))
                (root / self.path.lstrip("/").partition("?")[0]).write_bytes(body)
                self.send_response(201)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        return self._serve(server)

    def _serve_websocket(self) -> int:
        from websockets.sync.server import serve

        def echo(connection):
            with contextlib.suppress(Exception):
                for message in connection:
                    connection.send(message)

        server = serve(echo, "127.0.0.1", 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._stack.callback(server.shutdown)
        return server.socket.getsockname()[1]

    def _serve_dbus(self) -> str:
        daemon = needed("dbus-daemon", "dbus-daemon")
        address = f"unix:path={self.directory / 'bus'}"
        process = subprocess.Popen(
            [daemon, "--session", "--nofork", "--nopidfile", f"--address={address}", "--print-address=1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._stack.callback(end_group, process, 2)
        process.stdout.readline()
        return address

    def _serve_ssh(self) -> int:
        """A real OpenSSH server for one key, as the current user."""
        server = needed("sshd", "openssh-server")
        for name in ("host-key", "user-key"):
            key = self.directory / name
            run([needed("ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", "", "-f", key]).check_returncode()
        port = free_port()
        settings = self.directory / "sshd_config"
        settings.write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {self.directory / 'host-key'}\nPidFile none\n"
            f"AuthorizedKeysFile {self.directory / 'user-key.pub'}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        )
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        process = subprocess.Popen(
            [server, "-D", "-e", "-f", str(settings)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._stack.callback(end_group, process, 2)
        return port

    def close(self) -> None:
        self._stack.close()
