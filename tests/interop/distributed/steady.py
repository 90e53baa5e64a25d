"""Runs inside a `jmp shell`: one driver stream on which every byte that was sent must come back, for some seconds.

Arguments: seconds; file to create once the stream is open.
"""

import os
import pathlib
import sys
import time

from jumpstarter.utils.env import env

seconds, started = float(sys.argv[1]), pathlib.Path(sys.argv[2])

with env() as client, client.echo.stream() as stream:
    sent = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        block = sent.to_bytes(8, "big") + os.urandom(1016)
        stream.send(block)
        received = b""
        while len(received) < len(block):
            received += stream.receive()
        assert received == block, f"block {sent} came back different"
        sent += 1
        started.touch()
        time.sleep(0.01)
    print(f"steady: {sent} blocks and not a byte lost")
