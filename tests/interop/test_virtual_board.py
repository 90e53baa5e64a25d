"""The story of `jmp demo`, told by the released Python packages on the same simulated board."""

import hashlib
import os
import struct

import pytest

import conftest
import harness

pytestmark = [
    pytest.mark.feature("VirtualBoard: flash, boot, log in, measure"),
    pytest.mark.skipif(harness.VALIDATING, reason="the released packages have no simulated board"),
]

ARGUMENTS = "console=ttyS0,115200 root=/dev/mmcblk0p1 rootwait"


def board_image(version: str, payload: bytes) -> bytes:
    """An image as the documentation of the board describes it, made without any of our code."""
    head = struct.pack("<8sIIQ", b"JMPBOARD", 1, 0, len(payload)) + hashlib.sha256(payload).digest()
    head += struct.pack("<32s32s328s32x", version.encode(), b"python", ARGUMENTS.encode())
    assert len(head) == 480
    return head + hashlib.sha256(head).digest() + payload


@pytest.fixture(scope="module")
def board(workspace):
    folder = workspace / "virtual-board"
    folder.mkdir()
    config = harness.render("virtual-board", folder)
    with harness.LocalSession(harness.JMP, config, folder) as session, conftest.connected(session) as client:
        yield client.board


@pytest.fixture
def image_file(tmp_path):
    def write(payload: bytes, damage: bool = False, version: str = "9.0"):
        image = bytearray(board_image(version, payload))
        if damage:
            image[len(image) // 2] ^= 1
        path = tmp_path / "board.img"
        path.write_bytes(image)
        return path

    return write


def reading(board):
    readings = list(board.power.read())
    assert readings
    return readings[-1]


def test_the_whole_story(board, image_file):
    board.storage.host()
    board.storage.write_local_file(str(image_file(os.urandom(3 << 20))))
    board.storage.dut()
    with board.serial.pexpect() as console:
        console.timeout = 20
        board.power.on()
        console.expect_exact("Hit any key to stop autoboot")
        console.send(" ")
        console.expect_exact("=> ")
        console.send("setenv bootargs ${bootargs} story=python\r")
        console.expect_exact("=> ")
        console.send("boot\r")
        console.expect_exact("sha256+ OK")
        console.expect_exact("python login: ")
        console.send("root\r")
        console.expect_exact(":~# ")
        console.send("cat /etc/os-release /proc/cmdline\r")
        console.expect_exact('VERSION="9.0"')
        console.expect_exact(f"{ARGUMENTS} story=python")
        console.expect_exact(":~# ")
    measured = reading(board)
    assert 4.8 < measured.voltage < 5.2 and 0.1 < measured.current < 1.0
    board.power.off()
    assert reading(board).voltage == 0


def test_flash_switches_the_storage_to_the_board(board, image_file):
    board.storage.flash(str(image_file(b"payload", version="9.1")))
    with board.serial.pexpect() as console:
        console.timeout = 20
        board.power.cycle(wait=0)
        console.expect_exact("stop autoboot")
        console.send(" ")
        console.expect_exact("=> ")
        console.send("boot\r")
        console.expect_exact("9.1")
    board.power.off()


def test_a_corrupted_image_does_not_boot(board, image_file):
    board.storage.flash(str(image_file(os.urandom(1 << 16), damage=True)))
    with board.serial.pexpect() as console:
        console.timeout = 20
        board.power.on()
        console.expect_exact("stop autoboot")
        console.send(" ")
        console.expect_exact("=> ")
        console.send("boot\r")
        console.expect_exact("Bad Data Hash")
    board.power.off()


def test_the_storage_cannot_be_read_while_the_board_has_it(board, image_file, tmp_path):
    image = image_file(os.urandom(1 << 16))
    board.storage.flash(str(image))
    with pytest.raises(Exception) as refused:
        board.storage.read_local_file(str(tmp_path / "refused"))
    text = str(refused.value) + "".join(str(e) for e in getattr(refused.value, "exceptions", ()))
    assert "connected to the board (DUT)" in text
    board.storage.host()
    board.storage.read_local_file(str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == image.read_bytes()


def test_an_image_larger_than_the_storage_is_refused(board, image_file):
    board.storage.host()
    with pytest.raises(Exception) as refused:
        board.storage.write_local_file(str(image_file(bytes(9 << 20))))
    text = str(refused.value) + "".join(str(e) for e in getattr(refused.value, "exceptions", ()))
    assert "do not fit on the storage, which holds 8388608" in text
