"""Figures of the released Python client for `cargo xtask bench`: `upstream.py MEASURE COUNT`, one number on stdout."""

import os
import statistics
import struct
import sys
import time

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def median_us(work, count):
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


def echo(stream, payload):
    stream.send(payload)
    left = len(payload)
    while left:
        left -= len(stream.receive())


def main(measure, argument):
    from jumpstarter.utils.env import env

    with env() as client:
        if measure == "call":
            return median_us(client.power.on, int(argument))
        if measure == "echo64":
            with client.echo.stream() as stream:
                return median_us(lambda: echo(stream, b"x" * 64), int(argument))
        if measure == "echo64k":
            payload, count = b"x" * 65536, int(argument)
            with client.echo.stream() as stream:
                begin = time.perf_counter()
                for _ in range(count):
                    echo(stream, payload)
                return len(payload) * count / (time.perf_counter() - begin) / 1e6
        if measure == "oneway":
            left = int(argument)
            with client.source.stream() as stream:
                begin = time.perf_counter()
                stream.send(struct.pack("<Q", left))
                while left > 0:
                    left -= len(stream.receive())
                return int(argument) / (time.perf_counter() - begin) / 1e6
        if measure == "file":
            begin = time.perf_counter()
            client.storage.write_local_file(argument)
            return os.path.getsize(argument) / (time.perf_counter() - begin) / 1e6
    raise SystemExit(f"unknown measure {measure}")


if __name__ == "__main__":
    print(main(*sys.argv[1:3]))
