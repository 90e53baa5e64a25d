"""The controller's and the router's services with grpcio and the released stubs, below every client library."""

import base64
import contextlib
import json
import pathlib
import threading
import time

import grpc
import yaml
from google.protobuf import duration_pb2, timestamp_pb2
from jumpstarter_protocol.jumpstarter.client.v1 import client_pb2 as cpb
from jumpstarter_protocol.jumpstarter.client.v1 import client_pb2_grpc
from jumpstarter_protocol.jumpstarter.v1 import common_pb2, kubernetes_pb2, router_pb2_grpc
from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2 as pb
from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2_grpc as stubs

import lab as laboratory
import wire

AVAILABLE = common_pb2.EXPORTER_STATUS_AVAILABLE
UNSPECIFIED = common_pb2.EXPORTER_STATUS_UNSPECIFIED
OFFLINE = common_pb2.EXPORTER_STATUS_OFFLINE
LEASE_READY = common_pb2.EXPORTER_STATUS_LEASE_READY
BEFORE = common_pb2.EXPORTER_STATUS_BEFORE_LEASE_HOOK
BEFORE_FAILED = common_pb2.EXPORTER_STATUS_BEFORE_LEASE_HOOK_FAILED
AFTER = common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK
AFTER_FAILED = common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK_FAILED
#: An old exporter never reports a status; both values mean the same.
FREE = (AVAILABLE, UNSPECIFIED)

#: Deadline of one unary call.
CALL = 30


def channel(endpoint: str, authority: bytes | None):
    """A channel with a connection of its own, as every process has."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.secure_channel(endpoint, grpc.ssl_channel_credentials(authority), options)


class Caller:
    """Who calls: an exporter's or client's configuration file, with a connection of its own."""

    def __init__(self, config: pathlib.Path, **changed):
        self.config = yaml.safe_load(config.read_text())
        self.kind = {"ExporterConfig": "Exporter", "ClientConfig": "Client"}[self.config["kind"]]
        self.name = self.config["metadata"]["name"]
        self.namespace = self.config["metadata"]["namespace"]
        self.token = self.config["token"]
        self.authority = laboratory.certificate_authority(self.config)
        self.channel = channel(self.config["endpoint"], self.authority)
        self.controller = stubs.ControllerServiceStub(self.channel)
        self.clients = client_pb2_grpc.ClientServiceStub(self.channel)
        self.calls = []
        vars(self).update(changed)

    @property
    def metadata(self) -> list:
        return [
            ("authorization", f"Bearer {self.token}"),
            ("jumpstarter-kind", self.kind),
            ("jumpstarter-namespace", self.namespace),
            ("jumpstarter-name", self.name),
        ]

    @property
    def parent(self) -> str:
        return f"namespaces/{self.namespace}"

    def call(self, method: str, request, metadata=None, timeout: float = CALL):
        """A unary call of either service, `Register` or `clients.CreateLease` for instance."""
        service, _, name = method.rpartition(".")
        stub = self.clients if service == "clients" else self.controller
        return getattr(stub, name)(request, metadata=self.metadata if metadata is None else metadata, timeout=timeout)

    # --- clients ------------------------------------------------------------

    def lease_path(self, name: str) -> str:
        return f"{self.parent}/leases/{name}"

    def create(self, selector: str = "", seconds: float | None = 600, lease_id: str = "", **fields):
        """CreateLease as the released client sends it; returns the lease's name."""
        lease = cpb.Lease(selector=selector, exporter_name=fields.pop("exporter_name", ""), **fields)
        if seconds is not None:
            lease.duration.CopyFrom(duration(seconds))
        request = cpb.CreateLeaseRequest(parent=self.parent, lease_id=lease_id, lease=lease)
        return self.call("clients.CreateLease", request).name.rpartition("/")[2]

    def lease(self, name: str):
        return self.call("clients.GetLease", cpb.GetLeaseRequest(name=self.lease_path(name)))

    def delete(self, name: str):
        return self.call("clients.DeleteLease", cpb.DeleteLeaseRequest(name=self.lease_path(name)))

    def update(self, name: str, **fields):
        lease = cpb.Lease(name=self.lease_path(name), **fields)
        return self.call("clients.UpdateLease", cpb.UpdateLeaseRequest(lease=lease))

    def leases(self, **options):
        return self.call("clients.ListLeases", cpb.ListLeasesRequest(parent=self.parent, **options)).leases

    def exporter(self, name: str):
        return self.call("clients.GetExporter", cpb.GetExporterRequest(name=f"{self.parent}/exporters/{name}"))

    def wait_lease(self, name: str, kind: str, status: str, seconds: float = 30):
        """Wait until the lease has this condition; returns the condition."""

        def there():
            return next((c for c in self.lease(name).conditions if (c.type, c.status) == (kind, status)), None)

        return laboratory.wait_until(
            there, seconds, lambda: f"{name} has no {kind}={status}: {self.lease(name).conditions}"
        )

    def acquired(self, *arguments, seconds: float = 30, **options) -> str:
        name = self.create(*arguments, **options)
        self.wait_lease(name, "Ready", "True", seconds)
        return name

    def wait_exporter(self, name: str, statuses, seconds: float = 60, online: bool = True):
        def there():
            exporter = self.exporter(name)
            return exporter if exporter.online is online and exporter.status in statuses else None

        return laboratory.wait_until(there, seconds, lambda: f"{name} is {self.exporter(name)}")

    # --- exporters ----------------------------------------------------------

    def register(self, labels: dict | None = None):
        report = pb.DriverInstanceReport(uuid="0190a0a0-0000-7000-8000-000000000001", labels={"jumpstarter.dev/client": "x.Y"})
        return self.call("Register", pb.RegisterRequest(labels=labels or {}, reports=[report]))

    def report(self, status: int, message: str = "", **more):
        return self.call("ReportStatus", pb.ReportStatusRequest(status=status, message=message, **more))

    def status(self) -> "Following":
        return self.following(self.controller.Status(pb.StatusRequest(), metadata=self.metadata, timeout=120))

    def listen(self, lease: str) -> "Following":
        return self.following(self.controller.Listen(pb.ListenRequest(lease_name=lease), metadata=self.metadata, timeout=120))

    def following(self, call) -> "Following":
        following = Following(call)
        self.calls.append(following)
        return following

    def dial(self, lease: str, timeout: float = CALL):
        return self.call("Dial", pb.DialRequest(lease_name=lease), timeout=timeout)

    def tunnel(self, offer, timeout: float = 30) -> wire.Stream:
        """The router's stream for one DialResponse or ListenResponse, with nothing but its token."""
        stub = router_pb2_grpc.RouterServiceStub(channel(offer.router_endpoint, self.authority))
        return wire.Stream(stub, (("authorization", f"Bearer {offer.router_token}"),), timeout)

    def close(self):
        for call in self.calls:
            call.cancel()
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Following:
    """A server stream whose messages are collected as they come."""

    def __init__(self, call):
        self.call, self.messages, self.error = call, [], None
        self.ended = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for message in self.call:
                self.messages.append(message)
        except grpc.RpcError as error:
            self.error = error
        self.ended.set()

    def wait(self, count: int, seconds: float = 30):
        """Wait for the message of this number, counted from one."""
        laboratory.wait_until(
            lambda: len(self.messages) >= count,
            seconds,
            lambda: f"{len(self.messages)} of {count} messages: {self.messages} {self.error}",
            gone=lambda: self.ended.is_set() and len(self.messages) < count,
        )
        return self.messages[count - 1]

    def wait_for(self, condition, seconds: float = 30):
        """Wait until the newest message fulfils a condition."""
        laboratory.wait_until(
            lambda: self.messages and condition(self.messages[-1]), seconds, lambda: f"{self.messages} {self.error}"
        )
        return self.messages[-1]

    def cancel(self):
        self.call.cancel()


class Device:
    """An exporter at the level of its calls: registered, online, answering nothing but what a test makes it answer.

    `reports=False` is how exporters before 0.8 behave: they never report a status.
    """

    def __init__(self, config: pathlib.Path, reports: bool = True):
        self.caller = Caller(config)
        self.reports = reports
        self.uuid = self.caller.register().uuid
        if reports:
            self.caller.report(AVAILABLE, "Exporter registered and available")
        self.status = self.caller.status()
        self.status.wait(1)

    def leased(self, seconds: float = 30):
        return self.status.wait_for(lambda m: m.leased, seconds)

    def free(self, seconds: float = 30):
        return self.status.wait_for(lambda m: not m.leased, seconds)

    def serve(self):
        """What an exporter does when it is leased; returns the stream of tunnels to open."""
        lease = self.leased().lease_name
        listening = self.caller.listen(lease)
        if self.reports:
            self.caller.report(LEASE_READY, "Ready for commands")
        return listening

    def finish(self):
        """What an exporter does when its lease has ended."""
        self.free()
        if self.reports:
            self.caller.report(AVAILABLE, "Available for new lease")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(grpc.RpcError):
            self.caller.call("Unregister", pb.UnregisterRequest(reason="test is over"))
        self.caller.close()


def make_device(lab, stack: contextlib.ExitStack, **options) -> Device:
    """A new exporter of this laboratory, with a label of its own: `device.selector`."""
    name = lab.unique("device")
    config = lab.create_exporter(name, {"unit": name, "kind": "raw"})
    device = stack.enter_context(Device(config, **options))
    device.name, device.selector, device.config = name, f"unit={name}", config
    return device


def claims(token: str) -> dict:
    """What a token says, unverified."""
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def duration(seconds: float) -> duration_pb2.Duration:
    value = duration_pb2.Duration()
    value.FromMilliseconds(int(seconds * 1000))
    return value


def moment(seconds_from_now: float) -> timestamp_pb2.Timestamp:
    value = timestamp_pb2.Timestamp()
    value.FromMilliseconds(int((time.time() + seconds_from_now) * 1000))
    return value


def selector(**labels) -> kubernetes_pb2.LabelSelector:
    return kubernetes_pb2.LabelSelector(match_labels=labels)


def conditions(lease) -> dict:
    """Type to (status, reason) of a lease's conditions."""
    return {c.type: (c.status, c.reason) for c in lease.conditions}


def connect(client: Caller, lease: str, seconds: float = 30):
    """Dial as the released client does: again while the exporter is not ready or does not listen yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return client.dial(lease, timeout=40)
        except grpc.RpcError as error:
            again = error.code() is grpc.StatusCode.UNAVAILABLE or (
                error.code() is grpc.StatusCode.FAILED_PRECONDITION and "not ready" in error.details()
            )
            if not again or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
