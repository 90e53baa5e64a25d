"""`j` as a program, both ways: theirs against the exporter under test, ours against theirs."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time

import pytest

import harness

WAYS = {"their-j": "Python 0.9.0 `j`", "our-j": "our `j` in a Python 0.9.0 shell"}


def pytest_generate_tests(metafunc):
    if "j" in metafunc.fixturenames:
        # Validation mode has one `j` and one exporter: one way is all there is.
        ways = ["their-j"] if harness.VALIDATING else list(WAYS)
        metafunc.parametrize("j", [pytest.param(w, marks=pytest.mark.peer(WAYS[w])) for w in ways], indirect=True)


class J:
    """One `j` program and the session it talks to."""

    def __init__(self, program, session, ours):
        self.program, self.ours = program, ours
        self.env = {**session.env, "COLUMNS": "200"}

    def __call__(self, *arguments, **options):
        return harness.run([self.program, *arguments], env=self.env, **options)

    def start(self, *arguments):
        return subprocess.Popen(
            [str(self.program), *map(str, arguments)],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


@pytest.fixture
def j(request, workspace):
    if request.param == "their-j":
        return J(harness.UPSTREAM_J, request.getfixturevalue("session"), ours=False)
    return J(harness.j_under_test(workspace), request.getfixturevalue("upstream_session"), ours=True)


@pytest.mark.feature("`j`: help and usage errors")
def test_help(j):
    result = j("--help")
    assert result.returncode == 0
    for name, text in [("power", "Bench supply"), ("echo", "Generic Network Connection"), ("shell", "Shell command executor")]:
        assert any(name in line and text in line for line in result.stdout.splitlines()), (name, text)
    result = j("power")
    assert result.returncode == 1 and result.stdout == ""
    assert all(word in result.stderr for word in ("cycle", "off", "on", "read"))


@pytest.mark.feature("`j`: help and usage errors")
def test_unknown_command(j):
    result = j("power", "bogus")
    assert result.returncode == 1
    assert "bogus" in result.stderr and result.stdout == ""


@pytest.mark.feature("`j`: power")
def test_power(j):
    assert j("power", "on").returncode == 0
    result = j("power", "read")
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        "voltage=0.0 V  current=0.0 A  apparent_power=0.0 VA",
        "voltage=5.0 V  current=2.0 A  apparent_power=10.0 VA",
    ]


@pytest.mark.feature("`j`: power")
def test_power_through_a_proxy_in_a_group(j):
    result = j("group", "proxied", "cycle", "--wait", "0")
    assert result.returncode == 0
    assert "Power cycling with 0 seconds wait time..." in result.stdout + result.stderr


@pytest.mark.feature("`j`: storage and flasher")
def test_storage_and_flasher(j, image, tmp_path):
    assert j("mux", "host").returncode == 0
    assert j("flasher", "flash", image, "-t", f"boot:{image}").returncode == 0
    assert j("flasher", "dump", tmp_path / "back", "--target", "boot").returncode == 0
    assert (tmp_path / "back").read_bytes() == image.read_bytes()


@pytest.mark.feature("`j`: driver errors")
def test_driver_errors(j, tmp_path):
    result = j("flasher", "dump", tmp_path / "back", "--target", "nosuch")
    assert result.returncode == 1 and result.stderr


@pytest.mark.feature("`j`: shell methods")
def test_shell_method(j):
    result = j("shell", "show_env", "-e", "GREETING=good day")
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "value=good day")


@pytest.mark.feature("`j`: network")
def test_address(j, peers):
    result = j("tcp", "address")
    assert (result.returncode, result.stdout.strip()) == (0, f"127.0.0.1:{peers.tcp.server_address[1]}")


@pytest.mark.feature("`j`: network")
def test_forward_tcp(j):
    process = j.start("echo", "forward-tcp", harness.free_port())
    try:
        host, _, port = process.stdout.readline().strip().rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), 5) as sock:
            sock.settimeout(5)
            sock.sendall(b"forwarded")
            assert sock.recv(100) == b"forwarded"
    finally:
        harness.end_group(process, 3)
        process.communicate()


@pytest.mark.feature("`j`: serial pipe")
def test_serial_pipe(j, peers):
    theirs = j.ours and not harness.VALIDATING
    master = peers.other_tty_master if theirs else peers.tty_master
    process = j.start("serial_tty", "pipe")
    try:
        process.stdin.write("typed\n")
        process.stdin.close()  # 0.9.0 sends nothing before the end of a piped stdin
        received = b""
        while len(received) < 6:
            received += os.read(master, 100)
        assert received == b"typed\n"
        os.write(master, b"answer\n")
        while (line := process.stdout.readline()) and "answer" not in line:
            pass
        assert line == "answer\n"
    finally:
        harness.end_group(process, 3)


@pytest.mark.feature("`j`: session missing")
def test_no_session(j):
    env = {k: v for k, v in j.env.items() if k not in ("JUMPSTARTER_HOST", "XDG_RUNTIME_DIR", "HOME")}
    result = harness.run([j.program, "power", "on"], env={**env, "HOME": "/nonexistent"})
    assert result.returncode == 1 and result.stderr


# What 0.9.0 lost or gets wrong and ours must do, through our `j` only (against either exporter).


@pytest.fixture
def our_j(request, workspace):
    return J(harness.j_under_test(workspace), request.getfixturevalue("upstream_session"), ours=True)


@pytest.mark.feature("`j`: exit code of shell methods")
@pytest.mark.peer(WAYS["our-j"])
@pytest.mark.upstream_defect("0.9.0 exits 0 whatever the script does")
def test_exit_code_of_a_shell_method(our_j):
    assert our_j("shell", "fail").returncode == 3


@pytest.mark.feature("`j`: write-local-file")
@pytest.mark.peer(WAYS["our-j"])
@pytest.mark.upstream_defect("0.9.0 lost the command")
def test_write_local_file(our_j, image):
    assert our_j("mux", "write-local-file", image).returncode == 0


@pytest.mark.feature("`j`: OpenDAL commands")
@pytest.mark.peer(WAYS["our-j"])
@pytest.mark.upstream_defect("0.9.0 lost the commands")
def test_opendal_commands(our_j, image, tmp_path):
    j = our_j
    assert j("fs", "write-from-path", "cli/a.img", image).returncode == 0
    assert j("fs", "read-into-path", "cli/a.img", tmp_path / "back").returncode == 0
    assert (tmp_path / "back").read_bytes() == image.read_bytes()
    assert j("fs", "write-bytes", "cli/b", stdin="some bytes").returncode == 0
    assert j("fs", "read-bytes", "cli/b").stdout == "some bytes"
    assert j("fs", "copy", "cli/b", "cli/c").returncode == 0
    assert set(j("fs", "list", "cli/").stdout.split()) >= {"cli/a.img", "cli/b", "cli/c"}
    assert json.loads(j("fs", "stat", "cli/b").stdout)["content_length"] == 10
    missing = j("fs", "exists", "cli/none")
    assert missing.returncode == 1 and "cli/none" in missing.stderr
    assert j("fs", "remove-all", "cli/").returncode == 0


@pytest.mark.feature("`j`: generic call")
@pytest.mark.peer(WAYS["our-j"])
@pytest.mark.upstream_defect("0.9.0 has no generic call")
def test_generic_call(our_j):
    result = our_j("power", "call", "read")
    assert result.returncode == 0 and "5" in result.stdout


# `jmp shell` around a command.


@pytest.mark.feature("`jmp shell`: local session")
@pytest.mark.peer("Python 0.9.0 `j`")
def test_their_j_inside_our_shell(small_config):
    command = [harness.JMP, "shell", "--exporter-config", small_config, "--", harness.UPSTREAM_J, "power", "on"]
    result = harness.run(command, env=harness.base_env())
    assert result.returncode == 0, result.stderr


@pytest.mark.feature("`jmp shell`: environment of the child")
@pytest.mark.peer("Python 0.9.0 `jmp`")
def test_environment_of_the_child(session):
    env = session.env
    assert os.path.isabs(env["JUMPSTARTER_HOST"]) and env["JMP_DRIVERS_ALLOW"] == "UNSAFE"
    assert env["_JMP_SUPPRESS_DRIVER_WARNINGS"] == "1"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.connect(env["JUMPSTARTER_HOST"])


@pytest.mark.feature("`jmp shell`: exit code of the child")
@pytest.mark.peer("any program")
@pytest.mark.upstream_defect("0.9.0 discards the exit code in local mode")
def test_exit_code_of_the_child(small_config):
    command = [harness.JMP, "shell", "--exporter-config", small_config, "--", "sh", "-c", "exit 42"]
    assert harness.run(command, env=harness.base_env()).returncode == 42


@pytest.mark.feature("`jmp shell`: ends cleanly")
@pytest.mark.peer("any program")
def test_nothing_is_left_behind(workspace, small_config):
    with harness.LocalSession(harness.JMP, small_config, workspace / "short") as session:
        host = session.host
        assert os.path.exists(host)
    deadline = time.monotonic() + 5
    while os.path.exists(host):
        assert time.monotonic() < deadline, f"{host} is still there"
        time.sleep(0.05)


@pytest.mark.feature("OpenDAL: removes what the session created")
def test_remove_created_on_close(workspace, tmp_path):
    from conftest import connected

    root = tmp_path / "root"
    root.mkdir()
    (root / "kept").write_bytes(b"not ours")
    config = harness.render("cleaning", tmp_path, FS_ROOT=root)
    with harness.LocalSession(harness.JMP, config, tmp_path / "session") as session:
        with connected(session) as client:
            client.fs.create_dir("made/deep/")
            client.fs.write_bytes("made/deep/file", b"x")
            client.fs.write_bytes("top", b"x")
            assert (root / "made/deep/file").exists()
    # 0.9.0 keeps the emptied directory `made`, so nothing is said about it.
    assert not (root / "made/deep").exists() and not (root / "top").exists()
    assert (root / "kept").read_bytes() == b"not ours"


@pytest.mark.feature("pytest: JumpstarterTest")
@pytest.mark.peer("jumpstarter-testing 0.9.0")
@pytest.mark.limit(120)
def test_pytest_class(small_config, tmp_path):
    # A copy, so that this suite's conftest.py does not apply to it.
    cases = shutil.copy(harness.HERE / "cases" / "jumpstarter_case.py", tmp_path / "test_device.py")
    command = [harness.JMP, "shell", "--exporter-config", small_config, "--"]
    command += [harness.PYTHON_BIN / "python", "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", cases]
    result = harness.run(command, env=harness.base_env(), timeout=60)
    assert "3 passed" in result.stdout, result.stdout + result.stderr
    assert result.returncode == 0
