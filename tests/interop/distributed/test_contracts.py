"""What shipped exporters and clients match on: codes, texts, conditions, the order of messages. Raw calls with the released stubs."""

import base64
import json
import ssl
import time
import urllib.error
import urllib.request

import grpc
import pytest
from calls import (
    AVAILABLE,
    BEFORE,
    BEFORE_FAILED,
    FREE,
    LEASE_READY,
    OFFLINE,
    Caller,
    claims,
    conditions,
    connect,
    cpb,
    duration,
    make_device,
    moment,
    pb,
    selector,
)

import wire

pytestmark = [pytest.mark.peer("grpcio 1.85, stubs 0.9.0"), pytest.mark.limit(120)]

Code = grpc.StatusCode


def refusal(function, *arguments, **options) -> tuple:
    error = wire.refused(function, *arguments, **options)
    return error.code(), error.details()


def bearer(token: str) -> tuple:
    return ("authorization", f"Bearer {token}")


def altered(caller: Caller, **changes) -> list:
    """The caller's metadata with keys replaced (`jumpstarter_kind="Exporter"`), or left out by None."""
    changes = {key.replace("_", "-"): value for key, value in changes.items()}
    kept = [(key, value) for key, value in caller.metadata if key not in changes]
    return kept + [(key, value) for key, value in changes.items() if value is not None]


LIST = cpb.ListExportersRequest(parent="namespaces/default")


# --- who calls -----------------------------------------------------------


@pytest.mark.feature("Contract: credentials")
class TestCredentials:
    def test_tokens_look_like_what_clients_decode(self, client, device):
        for caller, kind in ((client, "client"), (device.caller, "exporter")):
            assert caller.token.count(".") == 2
            content = claims(caller.token)
            assert content["exp"] > time.time() + 3600
            assert content["sub"].startswith(f"{kind}:{caller.namespace}:{caller.name}:"), content["sub"]

    def test_no_authorization(self, client):
        code, _ = refusal(client.call, "clients.ListExporters", LIST, altered(client, authorization=None))
        assert code is Code.UNAUTHENTICATED

    @pytest.mark.parametrize("header", ["Basic dXNlcjpwYXNz", "Bearer", "token"])
    def test_malformed_authorization(self, client, header):
        code, _ = refusal(client.call, "clients.ListExporters", LIST, altered(client, authorization=header))
        assert code is Code.INVALID_ARGUMENT

    def test_two_authorizations(self, client):
        code, _ = refusal(client.call, "clients.ListExporters", LIST, [*client.metadata, bearer(client.token)])
        assert code is Code.INVALID_ARGUMENT

    def test_scheme_in_any_case(self, client):
        client.call("clients.ListExporters", LIST, altered(client, authorization=f"bearer {client.token}"))

    @pytest.mark.parametrize("key", ["jumpstarter-kind", "jumpstarter-namespace"])
    def test_missing_and_repeated_keys(self, client, key):
        missing = altered(client, **{key: None})
        assert refusal(client.call, "clients.ListExporters", LIST, missing)[0] is Code.INVALID_ARGUMENT
        value = dict(client.metadata)[key]
        twice = [*client.metadata, (key, value)]
        assert refusal(client.call, "clients.ListExporters", LIST, twice)[0] is Code.INVALID_ARGUMENT

    def test_wrong_kind(self, client, device):
        request = pb.RegisterRequest()
        code, text = refusal(client.call, "Register", request)
        assert code is Code.INVALID_ARGUMENT and "kind" in text
        code, text = refusal(device.caller.call, "clients.ListExporters", LIST)
        assert code is Code.INVALID_ARGUMENT and "kind" in text

    def test_garbage_token_is_unknown_with_its_reason(self, client):
        for token in ("garbage", "a.b.c", client.token[:-6] + "AAAAAA"):
            code, text = refusal(client.call, "clients.ListExporters", LIST, altered(client, authorization=f"Bearer {token}"))
            assert code is Code.UNKNOWN and text, (token, code, text)
            assert token not in text

    def test_expired_token(self, lab, client):
        """Clients offer to log in again when they read these words."""
        past = {**claims(client.token), "iat": int(time.time()) - 7200, "exp": int(time.time()) - 3600}
        header = f"Bearer {lab.signed(past)}"
        code, text = refusal(client.call, "clients.ListExporters", LIST, altered(client, authorization=header))
        assert code is Code.UNKNOWN and "token is expired" in text

    def test_foreign_token(self, client):
        """The same claims, signed by somebody else with the same kind of key."""
        from cryptography.hazmat.primitives.asymmetric import ec
        from joserfc import jwk, jwt

        key = jwk.ECKey.import_key(ec.generate_private_key(ec.SECP256R1()))
        forged = jwt.encode({"alg": "ES256"}, claims(client.token), key)
        code, text = refusal(client.call, "clients.ListExporters", LIST, altered(client, authorization=f"Bearer {forged}"))
        assert code is Code.UNKNOWN and "token is expired" not in text

    def test_somebody_elses_token(self, client, other):
        code, text = refusal(client.call, "clients.ListExporters", LIST, altered(client, authorization=f"Bearer {other.token}"))
        assert code is Code.PERMISSION_DENIED and "permission denied" in text.lower()

    def test_unknown_name(self, client):
        code, _ = refusal(client.call, "clients.ListExporters", LIST, altered(client, jumpstarter_name="nobody"))
        assert code in (Code.UNKNOWN, Code.NOT_FOUND, Code.PERMISSION_DENIED)

    def test_other_namespace(self, client):
        code, _ = refusal(client.call, "clients.ListExporters", LIST, altered(client, jumpstarter_namespace="elsewhere"))
        assert code in (Code.UNKNOWN, Code.NOT_FOUND, Code.PERMISSION_DENIED)
        code, text = refusal(client.call, "clients.ListExporters", cpb.ListExportersRequest(parent="namespaces/elsewhere"))
        assert code is Code.PERMISSION_DENIED and "namespace" in text

    @pytest.mark.parametrize("name", ["", "default", "namespaces/default/leases/x", "namespaces/default/exporters"])
    def test_malformed_resource_names(self, client, name):
        code, _ = refusal(client.call, "clients.GetExporter", cpb.GetExporterRequest(name=name))
        assert code is Code.INVALID_ARGUMENT

    def test_rotated_token(self, lab, client):
        answer = client.call("clients.RotateToken", cpb.RotateTokenRequest(parent=client.parent))
        assert answer.token != client.token and answer.token.count(".") == 2
        assert abs(answer.expiry.seconds - claims(answer.token)["exp"]) <= 1
        client.call("clients.ListExporters", LIST, altered(client, authorization=f"Bearer {answer.token}"))

    def test_a_deleted_client_is_not_let_in_again(self, lab, client):
        lab.admin("delete", "client", client.name, "--nointeractive")
        code, _ = refusal(client.call, "clients.ListExporters", LIST)
        assert code is not Code.OK
        again = lab.create_client(client.name)
        code, _ = refusal(client.call, "clients.ListExporters", LIST)
        assert code in (Code.PERMISSION_DENIED, Code.UNKNOWN), "the old token belongs to an object that is gone"
        with Caller(again) as caller:
            caller.call("clients.ListExporters", LIST)

    def test_health_needs_no_credentials(self, client):
        check = client.channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=10) == b"\x08\x01"

    def test_unknown_method(self, client):
        call = client.channel.unary_unary("/jumpstarter.v1.ControllerService/NoSuchMethod")
        assert refusal(call, b"", metadata=client.metadata, timeout=10)[0] is Code.UNIMPLEMENTED


@pytest.mark.feature("Contract: what `jmp login` asks")
class TestLogin:
    def ask(self, lab, authority: bytes, path: str):
        context = ssl.create_default_context(cadata=authority.decode())
        with urllib.request.urlopen(f"https://127.0.0.1:{lab.ports.login}{path}", timeout=10, context=context) as answer:
            return json.load(answer)

    def test_configuration(self, lab, client):
        answer = self.ask(lab, client.authority, "/v1/auth/config")
        assert answer["grpcEndpoint"] == lab.endpoint and answer["namespace"] == "default"
        assert base64.b64decode(answer["caBundle"]) == client.authority
        assert isinstance(answer.get("oidc", []), list)

    def test_other_paths(self, lab, client):
        with pytest.raises(urllib.error.HTTPError) as refused:
            self.ask(lab, client.authority, "/v1/no/such/path")
        assert refused.value.code == 404


# --- leases --------------------------------------------------------------


@pytest.mark.feature("Contract: lease requests and their refusals")
class TestRequests:
    def test_neither_selector_nor_name(self, client):
        assert refusal(client.create)[0] is Code.INVALID_ARGUMENT
        request = cpb.CreateLeaseRequest(parent=client.parent)
        assert refusal(client.call, "clients.CreateLease", request)[0] is Code.INVALID_ARGUMENT

    @pytest.mark.parametrize("seconds", [None, 0, -60])
    def test_durations(self, client, seconds):
        code, text = refusal(client.create, "a=b", seconds)
        assert code in (Code.UNKNOWN, Code.INVALID_ARGUMENT) and "duration" in text

    def test_end_before_begin(self, client):
        code, _ = refusal(client.create, "a=b", None, begin_time=moment(600), end_time=moment(60))
        assert code in (Code.UNKNOWN, Code.INVALID_ARGUMENT)
        code, text = refusal(client.create, "a=b", 60, begin_time=moment(60), end_time=moment(600))
        assert code in (Code.UNKNOWN, Code.INVALID_ARGUMENT) and "duration" in text

    @pytest.mark.parametrize(
        "tags", [{f"t{n}": "v" for n in range(11)}, {"a/b": "c"}, {"": "x"}, {"a": "not a label value!"}, {"a": "x" * 64}]
    )
    def test_tags(self, client, tags):
        assert refusal(client.create, "a=b", tags=tags)[0] is Code.INVALID_ARGUMENT

    @pytest.mark.parametrize("text", ["a in (b", "=b", "a=b=c", "a=-b-"])
    def test_bad_selectors_never_wait(self, client, text):
        """Either the call refuses them or the lease ends as invalid."""
        try:
            name = client.create(text)
        except grpc.RpcError as error:
            assert error.code() in (Code.INVALID_ARGUMENT, Code.UNKNOWN) and error.details()
        else:
            client.wait_lease(name, "Invalid", "True")

    def test_wanted_name_and_its_second_use(self, client):
        wanted = f"wanted-{client.name}"
        assert client.create("no=where", lease_id=wanted) == wanted
        code, text = refusal(client.create, "no=where", lease_id=wanted)
        assert code in (Code.UNKNOWN, Code.ALREADY_EXISTS) and "already exists" in text

    def test_names_are_ordered_by_time(self, client):
        names = [client.create("no=where") for _ in range(3)]
        assert names == sorted(names)
        assert all(name[14] == "7" and len(name) == 36 for name in names), names

    def test_missing_lease(self, client):
        code, _ = refusal(client.lease, "no-such-lease")
        assert code in (Code.UNKNOWN, Code.NOT_FOUND)
        code, _ = refusal(client.delete, "no-such-lease")
        assert code in (Code.UNKNOWN, Code.NOT_FOUND)


@pytest.mark.feature("Contract: lease conditions")
class TestConditions:
    def test_no_match_cannot_be_satisfied(self, client):
        name = client.create("no=such-label")
        condition = client.wait_lease(name, "Unsatisfiable", "True")
        assert condition.reason not in ("", "NoExporter"), "shipped clients would ask again for ever"
        assert condition.message
        assert name not in [lease.name.rpartition("/")[2] for lease in client.leases()]

    def test_named_exporter_that_is_not_there(self, client):
        name = client.create(exporter_name="nobody")
        assert client.wait_lease(name, "Unsatisfiable", "True").reason == "ExporterNotFound"

    def test_named_exporter_that_the_selector_excludes(self, client, device):
        name = client.create("kind=other", exporter_name=device.name)
        assert client.wait_lease(name, "Unsatisfiable", "True").reason == "SelectorMismatch"

    def test_offline(self, lab, client):
        name = lab.unique("absent")
        lab.create_exporter(name, {"unit": name})
        lease = client.create(f"unit={name}")
        assert client.wait_lease(lease, "Pending", "True").reason == "Offline"
        assert "Ready" not in conditions(client.lease(lease))
        client.delete(lease)
        assert conditions(client.lease(lease))["Ready"] == ("False", "Released")

    def test_ready_keeps_pending(self, client, device):
        first = client.acquired(device.selector)
        second = client.create(device.selector)
        assert client.wait_lease(second, "Pending", "True").reason == "NotAvailable"
        device.serve()
        client.delete(first)
        device.finish()
        client.wait_lease(second, "Ready", "True")
        after = conditions(client.lease(second))
        assert after["Pending"][0] == "True" and after["Ready"] == ("True", "Ready")
        client.delete(second)

    def test_not_ready_exporter(self, client, device):
        device.caller.report(BEFORE, "busy")
        lease = client.create(device.selector)
        assert client.wait_lease(lease, "Pending", "True").reason == "NotReady"
        device.caller.report(AVAILABLE)
        client.wait_lease(lease, "Ready", "True")
        client.delete(lease)

    def test_expiry(self, client, device):
        lease = client.acquired(device.selector, 1.5)
        begun = client.lease(lease)
        assert begun.HasField("effective_begin_time") and not begun.HasField("effective_end_time")
        device.serve()
        assert client.wait_lease(lease, "Ready", "False").reason == "Expired"
        ended = client.lease(lease)
        assert ended.HasField("effective_end_time") and 1 <= ended.effective_duration.ToTimedelta().total_seconds() < 6
        device.finish()
        client.wait_exporter(device.name, FREE)

    def test_fields_of_a_lease(self, client, device):
        lease = client.lease(client.acquired(device.selector, 60, tags={"team": "red"}))
        assert lease.client == f"namespaces/default/clients/{client.name}"
        assert lease.exporter == f"namespaces/default/exporters/{device.name}"
        assert lease.selector == device.selector and dict(lease.tags) == {"team": "red"}
        assert lease.duration.seconds == 60 and lease.exporter_name == ""
        client.delete(lease.name.rpartition("/")[2])

    def test_by_name(self, client, device):
        lease = client.lease(client.acquired(exporter_name=device.name))
        assert lease.exporter_name == device.name and lease.exporter.endswith(f"/{device.name}")
        client.delete(lease.name.rpartition("/")[2])

    def test_reservation_waits_for_its_time(self, client, device):
        lease = client.create(device.selector, 60, begin_time=moment(2))
        assert not client.lease(lease).HasField("exporter")
        client.wait_lease(lease, "Ready", "True")
        client.delete(lease)


@pytest.mark.feature("Contract: changes to leases")
class TestChanges:
    def test_second_delete(self, client, device):
        lease = client.acquired(device.selector)
        client.delete(lease)
        assert refusal(client.delete, lease)[0] is Code.FAILED_PRECONDITION

    def test_only_the_owner(self, client, other, device):
        lease = client.acquired(device.selector)
        assert other.lease(lease).name, "everybody of the namespace may look"
        for code, text in (
            refusal(other.delete, lease),
            refusal(other.update, lease, duration=duration(60)),
            refusal(other.call, "ReleaseLease", pb.ReleaseLeaseRequest(name=lease)),
            refusal(other.call, "GetLease", pb.GetLeaseRequest(name=lease)),
            refusal(other.dial, lease),
        ):
            assert code in (Code.UNKNOWN, Code.PERMISSION_DENIED) and "permission denied" in text.lower()
        client.delete(lease)

    def test_update_ignores_the_mask(self, client, device):
        lease = client.acquired(device.selector, 60)
        assert client.update(lease, duration=duration(120)).duration.seconds == 120
        code, _ = refusal(client.update, lease, begin_time=moment(600), duration=duration(60))
        assert code in (Code.UNKNOWN, Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION)
        client.delete(lease)

    def test_transfer(self, client, other, device):
        lease = client.acquired(device.selector)
        device.serve()
        moved = client.update(lease, client=f"namespaces/default/clients/{other.name}")
        assert moved.client.endswith(f"/{other.name}")
        device.status.wait_for(lambda m: m.leased and m.client_name == other.name, 15)
        code, text = refusal(client.dial, lease)
        assert code in (Code.UNKNOWN, Code.PERMISSION_DENIED) and "permission denied" in text.lower()
        connect(other, lease)
        other.delete(lease)

    def test_transfer_to_nobody(self, client, device):
        lease = client.acquired(device.selector)
        refusal(client.update, lease, client="namespaces/default/clients/nobody")
        refusal(client.update, lease, client="namespaces/elsewhere/clients/somebody")
        assert client.lease(lease).client.endswith(f"/{client.name}")
        client.delete(lease)

    def test_lists(self, client, other, device):
        active = client.acquired(device.selector, tags={"team": f"red-{client.name}"})
        ended = client.create("no=such-label")
        client.wait_lease(ended, "Unsatisfiable", "True")
        foreign = other.create(device.selector)

        def names(**options):
            return {lease.name.rpartition("/")[2] for lease in client.leases(**options)} & {active, ended, foreign}

        assert names() == {active, foreign}
        assert names(only_active=True) == {active, foreign}
        assert names(only_active=False) == {active, ended, foreign}
        assert names(tag_filter=f"team=red-{client.name}") == {active}
        assert names(filter=device.selector) == {active, foreign}
        assert names(filter="unit=other") == set()
        assert refusal(client.leases, tag_filter="a in (")[0] is Code.INVALID_ARGUMENT
        assert refusal(client.leases, filter="a in (")[0] in (Code.UNKNOWN, Code.INVALID_ARGUMENT)
        other.delete(foreign)
        client.delete(active)

    def test_pages(self, client):
        for _ in range(3):
            client.create("no=such-label")
        seen, token = [], ""
        for _ in range(100):
            request = cpb.ListLeasesRequest(parent=client.parent, page_size=2, page_token=token, only_active=False)
            page = client.call("clients.ListLeases", request)
            assert len(page.leases) <= 2
            seen += [lease.name for lease in page.leases]
            if not (token := page.next_page_token):
                break
        assert len(seen) == len(set(seen)) >= 3 and not token

    def test_calls_of_older_clients(self, client, device):
        """RequestLease, GetLease, ListLeases and ReleaseLease of ControllerService."""
        request = pb.RequestLeaseRequest(duration=duration(60), selector=selector(unit=device.name))
        name = client.call("RequestLease", request).name
        client.wait_lease(name, "Ready", "True")
        lease = client.call("GetLease", pb.GetLeaseRequest(name=name))
        assert lease.exporter_uuid == device.uuid and lease.duration.seconds == 60 and lease.HasField("begin_time")
        assert dict(lease.selector.match_labels) == {"unit": device.name}
        assert list(client.call("ListLeases", pb.ListLeasesRequest()).names) == [name]
        for _ in range(2):
            client.call("ReleaseLease", pb.ReleaseLeaseRequest(name=name))
        assert list(client.call("ListLeases", pb.ListLeasesRequest()).names) == []


# --- exporters -----------------------------------------------------------


@pytest.mark.feature("Contract: the life of an exporter")
class TestExporters:
    def test_register_sets_only_its_own_labels(self, client, device):
        device.caller.register({"jumpstarter.dev/process": "1", "unit": "stolen"})
        labels = dict(client.exporter(device.name).labels)
        assert labels["unit"] == device.name and labels["jumpstarter.dev/process"] == "1"
        device.caller.register()
        assert "jumpstarter.dev/process" not in client.exporter(device.name).labels

    def test_status_begins_at_once_and_follows_the_lease(self, client, device):
        first = device.status.wait(1)
        assert (first.leased, first.HasField("lease_name"), first.HasField("client_name")) == (False, False, False)
        lease = client.acquired(device.selector)
        message = device.leased()
        assert (message.lease_name, message.client_name) == (lease, client.name)
        device.serve()
        client.delete(lease)
        assert not device.free().HasField("lease_name")
        kept = device.status.messages
        assert all(a != b for a, b in zip(kept, kept[1:], strict=False)), "nothing is said twice"

    def test_unleased_between_two_leases(self, client, device):
        """Shipped exporters miss a change of lease without it; and they get the next one only once they are free again."""
        first = client.acquired(device.selector)
        device.serve()
        second = client.create(device.selector)
        client.delete(first)
        device.free()
        time.sleep(0.5)
        assert not client.lease(second).HasField("exporter"), "it has not said yet that it is available"
        device.caller.report(AVAILABLE)
        client.wait_lease(second, "Ready", "True")
        assert device.leased().lease_name == second
        said = [(m.leased, m.lease_name) for m in device.status.messages]
        assert said == [(False, ""), (True, first), (False, ""), (True, second)], said
        client.delete(second)

    def test_leaves_and_returns(self, client, device):
        device.caller.call("Unregister", pb.UnregisterRequest(reason="for a test"))
        exporter = client.wait_exporter(device.name, (OFFLINE,), online=False)
        assert "for a test" in exporter.status_message
        device.caller.register()
        device.caller.report(AVAILABLE)
        client.wait_exporter(device.name, FREE)

    def test_listen_refusals(self, client, device, lab, stack):
        def listen(caller, name):
            return refusal(list, caller.controller.Listen(pb.ListenRequest(lease_name=name), metadata=caller.metadata, timeout=10))

        code, text = listen(device.caller, "")
        assert code in (Code.UNKNOWN, Code.INVALID_ARGUMENT) and "empty lease name" in text
        assert listen(device.caller, "no-such-lease")[0] in (Code.UNKNOWN, Code.NOT_FOUND)
        lease = client.acquired(device.selector)
        code, text = listen(make_device(lab, stack).caller, lease)
        assert code in (Code.UNKNOWN, Code.PERMISSION_DENIED) and "permission denied" in text.lower()
        client.delete(lease)

    def test_second_listen_ends_the_first_well(self, client, device):
        lease = client.acquired(device.selector)
        first = device.serve()
        time.sleep(0.2)
        second = device.caller.listen(lease)
        assert first.ended.wait(10) and first.error is None
        connect(client, lease)
        second.wait(1)
        assert first.messages == []
        client.delete(lease)

    def test_releases_its_lease(self, client, device, lab, stack):
        lease = client.acquired(device.selector)
        device.serve()
        stranger = make_device(lab, stack)
        code, _ = refusal(stranger.caller.call, "ReleaseLease", pb.ReleaseLeaseRequest(name=lease))
        assert code is Code.FAILED_PRECONDITION
        code, _ = refusal(stranger.caller.call, "ReleaseLease", pb.ReleaseLeaseRequest(name="no-such-lease"))
        assert code is Code.NOT_FOUND
        for _ in range(2):
            device.caller.call("ReleaseLease", pb.ReleaseLeaseRequest(name=lease))
        assert client.wait_lease(lease, "Ready", "False").reason == "Released"
        device.finish()
        client.wait_exporter(device.name, FREE)

    def test_releases_its_lease_with_a_status(self, client, device):
        """How 0.8 exporters do it, and newer ones when they are refused."""
        lease = client.acquired(device.selector)
        device.serve()
        device.caller.report(BEFORE_FAILED, "hook failed", release_lease=True)
        client.wait_lease(lease, "Ready", "False")
        device.finish()
        client.wait_exporter(device.name, FREE)

    def test_never_reports_a_status(self, lab, client, stack):
        """Exporters before 0.8 stay in the pool over several leases."""
        old = make_device(lab, stack, reports=False)
        for _ in range(3):
            lease = client.acquired(old.selector)
            assert client.exporter(old.name).online
            old.leased()
            # For each lease it registers anew, beside its open Status stream.
            old.caller.register()
            listening = old.serve()
            client.tunnel(connect(client, lease)).call.cancel()
            listening.wait(1)
            listening.cancel()
            client.delete(lease)
            old.finish()
            # It drops everything and starts again.
            old.status.cancel()
            old.caller.register()
            old.status = old.caller.status()
            old.status.wait(1)

    def test_status_stream_clears_a_stale_offline(self, lab, client, stack):
        old = make_device(lab, stack, reports=False)
        old.caller.call("Unregister", pb.UnregisterRequest(reason="restart"))
        old.status.cancel()
        client.wait_exporter(old.name, (OFFLINE,), online=False)
        old.caller.register()
        old.status = old.caller.status()
        client.wait_exporter(old.name, FREE)
        client.delete(client.acquired(old.selector))


# --- connecting ----------------------------------------------------------


@pytest.mark.feature("Contract: Dial")
class TestDial:
    def test_empty_and_unknown_names(self, client):
        for name in ("", "no-such-lease"):
            code, text = refusal(client.dial, name)
            assert code in (Code.UNKNOWN, Code.INVALID_ARGUMENT, Code.NOT_FOUND)
            assert "permission denied" not in text.lower(), "that would mean a transferred lease"

    def test_waiting_lease(self, client, device):
        client_lease = client.acquired(device.selector)
        waiting = client.create(device.selector)
        code, text = refusal(client.dial, waiting)
        assert code is Code.UNKNOWN and "not active" in text
        client.delete(waiting)
        client.delete(client_lease)

    def test_nobody_listens(self, client, device):
        lease = client.acquired(device.selector)
        device.caller.report(LEASE_READY)
        assert refusal(client.dial, lease, timeout=40)[0] is Code.UNAVAILABLE
        client.delete(lease)

    def test_never_ready(self, client, device):
        """The exporter says that it is free although it is leased: the controller waits, then says `not ready`."""
        lease = client.acquired(device.selector)
        device.leased()
        device.caller.listen(lease)
        code, text = refusal(client.dial, lease, timeout=45)
        assert code is Code.FAILED_PRECONDITION and "not ready" in text
        client.delete(lease)

    def test_becomes_ready(self, client, device):
        lease = client.acquired(device.selector)
        device.leased()
        call = client.controller.Dial.future(pb.DialRequest(lease_name=lease), metadata=client.metadata, timeout=40)
        device.serve()
        assert call.result().router_token
        client.delete(lease)

    @pytest.mark.parametrize("status", [OFFLINE, BEFORE_FAILED])
    def test_refusing_statuses(self, client, device, status):
        lease = client.acquired(device.selector)
        device.serve()
        device.caller.report(status, "for a test")
        code, text = refusal(client.dial, lease)
        assert code is Code.FAILED_PRECONDITION and "not ready" not in text
        client.delete(lease)

    def test_during_hooks(self, client, device):
        lease = client.acquired(device.selector)
        listening = device.serve()
        device.caller.report(BEFORE)
        connect(client, lease)
        listening.wait(1)
        client.delete(lease)


@pytest.mark.feature("Contract: the router")
class TestRouter:
    def pair(self, client, device):
        lease = client.acquired(device.selector)
        listening = device.serve()
        ours = client.tunnel(connect(client, lease))
        offer = listening.wait(1)
        return lease, ours, device.caller.tunnel(offer)

    def test_frames_arrive_as_they_were(self, client, device):
        lease, near, far = self.pair(client, device)
        kinds = (wire.DATA, wire.PING, 99, wire.DATA, 3)
        for number, kind in enumerate(kinds):
            near.send(bytes([number]) * number, kind)
        wire.eventually(lambda: len(far.frames) == len(kinds))
        assert [(f.frame_type, f.payload) for f in far.frames] == [(k, bytes([n]) * n) for n, k in enumerate(kinds)]
        blob = bytes(range(256)) * 256
        for _ in range(32):
            far.send(blob)
        wire.eventually(lambda: len(near.data) == 32 * len(blob))
        assert near.data == blob * 32
        client.delete(lease)

    def test_ends_when_both_have_ended(self, client, device):
        lease, near, far = self.pair(client, device)
        near.send(b"", wire.GOAWAY)
        near.half_close()
        wire.eventually(lambda: far.closed_by_peer)
        far.send(b"still open")
        wire.eventually(lambda: near.data == b"still open")
        far.send(b"", wire.GOAWAY)
        far.half_close()
        assert near.ended.wait(10) and far.ended.wait(10)
        assert near.error is None and far.error is None
        client.delete(lease)

    def test_exporter_first(self, client, device):
        lease = client.acquired(device.selector)
        listening = device.serve()
        offer = connect(client, lease)
        far = device.caller.tunnel(listening.wait(1))
        far.send(b"server preface")
        time.sleep(0.3)
        near = client.tunnel(offer)
        wire.eventually(lambda: near.data == b"server preface")
        client.delete(lease)

    def test_a_token_is_good_for_one_tunnel(self, client, device):
        lease = client.acquired(device.selector)
        listening = device.serve()
        offer = connect(client, lease)
        near, far = client.tunnel(offer), device.caller.tunnel(listening.wait(1))
        near.send(b"x")
        wire.eventually(lambda: far.data == b"x")
        again = client.tunnel(offer)
        assert again.ended.wait(10) and again.error is not None
        client.delete(lease)

    @pytest.mark.parametrize("token", ["garbage", "a.b.c", ""])
    def test_bad_tokens(self, client, device, token):
        lease = client.acquired(device.selector)
        device.serve()
        offer = connect(client, lease)
        offer.router_token = token
        stream = client.tunnel(offer)
        assert stream.ended.wait(10) and stream.error.code() is Code.UNAUTHENTICATED
        offer.router_token = client.token
        stream = client.tunnel(offer)
        assert stream.ended.wait(10) and stream.error.code() is Code.UNAUTHENTICATED
        client.delete(lease)

    def test_survivor_is_told(self, client, device):
        """Ours goes beyond the router of 0.9.0: a vanished peer ends the tunnel at once."""
        lease, near, far = self.pair(client, device)
        near.send(b"x")
        wire.eventually(lambda: far.data == b"x")
        near.call.cancel()
        assert far.ended.wait(10)
        client.delete(lease)

    def test_no_tunnel_outlives_its_lease(self, client, device):
        lease, near, far = self.pair(client, device)
        near.send(b"x")
        wire.eventually(lambda: far.data == b"x")
        client.delete(lease)
        assert near.ended.wait(10) and far.ended.wait(10)


@pytest.mark.feature("Contract: exporters as clients see them")
class TestListing:
    def test_enabled_online_status(self, client, device):
        exporter = client.wait_exporter(device.name, (AVAILABLE,))
        assert exporter.name == f"namespaces/default/exporters/{device.name}"
        assert exporter.enabled and exporter.HasField("enabled")
        names = [e.name for e in client.call("clients.ListExporters", cpb.ListExportersRequest(parent=client.parent, filter=device.selector)).exporters]
        assert names == [exporter.name]
        assert refusal(client.exporter, "nobody")[0] in (Code.UNKNOWN, Code.NOT_FOUND)

    def test_disabled(self, lab, client, device):
        lab.set_enabled(device.name, False)
        assert not client.exporter(device.name).enabled
        by_selector, by_name = client.create(device.selector), client.create(exporter_name=device.name)
        assert client.wait_lease(by_selector, "Unsatisfiable", "True").reason == "AllDisabled"
        assert client.wait_lease(by_name, "Unsatisfiable", "True").reason == "ExporterDisabled"
        allowed = client.acquired(exporter_name=device.name, allow_disabled=True)
        client.delete(allowed)
        lab.set_enabled(device.name, True)
        assert client.exporter(device.name).enabled

    def test_policies(self, lab, client, device):
        """NoAccess names the rules that did not fit."""
        rule = {
            "description": f"for the owners of {device.name}",
            "priority": 5,
            "from": [{"clientSelector": {"matchLabels": {"team": "owners"}}}],
        }
        lab.apply(
            {
                "apiVersion": "jumpstarter.dev/v1alpha1",
                "kind": "ExporterAccessPolicy",
                "metadata": {"name": f"only-{device.name}", "namespace": "default"},
                "spec": {"exporterSelector": {"matchLabels": {"unit": device.name}}, "policies": [rule]},
            }
        )
        try:
            lease = client.create(device.selector)
            condition = client.wait_lease(lease, "Unsatisfiable", "True")
            assert condition.reason == "NoAccess" and f"for the owners of {device.name}" in condition.message
        finally:
            lab.admin("delete", "policy", f"only-{device.name}")
