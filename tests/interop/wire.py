"""Calls on the raw services with grpcio and the released stubs: what the client library would hide."""

import json
import queue
import threading
import time

import grpc
from google.protobuf import empty_pb2, struct_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2 as pb
from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2_grpc as stubs
from jumpstarter_protocol.jumpstarter.v1 import router_pb2, router_pb2_grpc

EMPTY = empty_pb2.Empty()
DATA, GOAWAY, PING = router_pb2.FRAME_TYPE_DATA, router_pb2.FRAME_TYPE_GOAWAY, router_pb2.FRAME_TYPE_PING


def frame(payload: bytes = b"", kind: int = DATA):
    return router_pb2.StreamRequest(payload=payload, frame_type=kind)


class Stream:
    """One `RouterService.Stream` call whose frames are collected as they arrive."""

    def __init__(self, stub, metadata, timeout: float = 10.0):
        self._outgoing = queue.Queue()
        self.frames = []
        self.error = None
        self.ended = threading.Event()
        self._news = threading.Condition()
        self.call = stub.Stream(iter(self._outgoing.get, None), metadata=metadata, timeout=timeout)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for message in self.call:
                with self._news:
                    self.frames.append(message)
                    self._news.notify_all()
        except grpc.RpcError as error:
            self.error = error
        with self._news:
            self.ended.set()
            self._news.notify_all()

    @property
    def metadata(self) -> dict:
        return {k: v for k, v in self.call.initial_metadata()}

    @property
    def data(self) -> bytes:
        return b"".join(f.payload for f in self.frames if f.frame_type == DATA)

    @property
    def closed_by_peer(self) -> bool:
        """The other side said that it will send no more."""
        return any(f.frame_type == GOAWAY for f in self.frames)

    def send(self, payload: bytes = b"", kind: int = DATA):
        self._outgoing.put(frame(payload, kind))

    def half_close(self):
        self._outgoing.put(None)

    def wait(self, condition, seconds: float = 5.0):
        """Wait until `condition()` holds; called again after every frame and at the end."""
        with self._news:
            assert self._news.wait_for(condition, seconds), f"waited {seconds} s; frames {self.frames}, error {self.error}"

    def cancel(self):
        self.call.cancel()
        self._outgoing.put(None)


class Wire:
    """Stubs on one channel and the uuids of the tree by dotted path."""

    def __init__(self, target: str, credentials=None, metadata=()):
        self.channel = grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target)
        self.metadata = tuple(metadata)
        self.exporter = stubs.ExporterServiceStub(self.channel)
        self.router = router_pb2_grpc.RouterServiceStub(self.channel)
        self._uuids = None

    def report(self):
        return self.exporter.GetReport(EMPTY, metadata=self.metadata, timeout=10)

    def uuid(self, path: str) -> str:
        if self._uuids is None:
            self._uuids, last = {}, {}
            for node in self.report().reports:
                name = node.labels.get("jumpstarter.dev/name", "")
                parent = last.get(node.parent_uuid, "")
                last[node.uuid] = f"{parent}.{name}" if parent else name
                self._uuids.setdefault(last[node.uuid], node.uuid)
        return self._uuids.get(path, path)

    def call(self, path: str, method: str, *args, timeout: float = 10.0):
        """DriverCall; the result as plain JSON values."""
        request = pb.DriverCallRequest(uuid=self.uuid(path), method=method, args=[to_value(a) for a in args])
        response = self.exporter.DriverCall(request, metadata=self.metadata, timeout=timeout)
        return MessageToDict(response.result)

    def streaming_call(self, path: str, method: str, *args, timeout: float = 10.0) -> list:
        request = pb.StreamingDriverCallRequest(uuid=self.uuid(path), method=method, args=[to_value(a) for a in args])
        return [MessageToDict(r.result) for r in self.exporter.StreamingDriverCall(request, metadata=self.metadata, timeout=timeout)]

    def status(self):
        return self.exporter.GetStatus(pb.GetStatusRequest(), metadata=self.metadata, timeout=10)

    def stream(self, request, timeout: float = 10.0) -> Stream:
        """Open a stream; `request` is the JSON object, a raw string, or None for no metadata entry."""
        text = request if isinstance(request, str) or request is None else json.dumps(request, separators=(",", ":"))
        extra = () if text is None else (("request", text),)
        return Stream(self.router, self.metadata + extra, timeout)

    def driver_stream(self, path: str, method: str = "connect", **more) -> Stream:
        return self.stream({"kind": "driver", "uuid": self.uuid(path), "method": method, **more})

    def resource(self, path: str, encoding: str | None = None):
        """Open a resource stream; returns it with the handle to pass to a call."""
        stream = self.stream({"kind": "resource", "uuid": self.uuid(path), "x_jmp_content_encoding": encoding})
        return stream, json.loads(stream.metadata["resource"])

    def logs(self):
        """Subscribe to the log; returns (list that grows, call to cancel)."""
        lines, call = [], self.exporter.LogStream(EMPTY, metadata=self.metadata)

        def read():
            try:
                for line in call:
                    lines.append(line)
            except grpc.RpcError:
                pass

        threading.Thread(target=read, daemon=True).start()
        return lines, call

    def close(self):
        self.channel.close()


def to_value(value) -> struct_pb2.Value:
    return ParseDict(value, struct_pb2.Value())


def refused(function, *args, **kwargs) -> grpc.RpcError:
    """The RPC error that `function` must raise."""
    try:
        result = function(*args, **kwargs)
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"expected an RPC error, got {result!r}")


def eventually(condition, seconds: float = 5.0):
    """Wait for another thread's or process's effect."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s"
        time.sleep(0.02)
