"""Runs inside a `jmp shell` with any release of the client library: uses one driver of each wire kind.

Arguments: a file to write to the exporter's storage.
"""

import hashlib
import pathlib
import sys

from jumpstarter.utils.env import env

image = pathlib.Path(sys.argv[1])

with env() as client:
    client.power.on()
    readings = [(r.voltage, r.current) for r in client.power.read()]
    assert readings == [(0.0, 0.0), (5.0, 2.0)], readings
    client.power.off()
    print("device: power works")

    with client.serial.pexpect() as console:
        console.sendline("hello, serial line")
        console.expect_exact("hello, serial line", timeout=10)
    print("device: serial works")

    with client.echo.stream() as stream:
        sent = b"0123456789abcdef" * 16384
        stream.send(sent)
        received = b""
        while len(received) < len(sent):
            received += stream.receive()
        assert received == sent
    print("device: bytes are the same")

    client.storage.write_from_path("image.bin", image)
    assert client.storage.hash("image.bin", "sha256") == hashlib.sha256(image.read_bytes()).hexdigest()
    print("device: storage works")
