"""Fixtures: one laboratory for each worker, and programs of every release."""

import contextlib
import signal

import lab as laboratory
import pytest
from calls import Caller, make_device

# The shells of a lease that ends get SIGHUP. Whoever runs this without a terminal (nohup) has it ignored,
# and programs inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """Our controller and router, for the tests that leave them alone."""
    with laboratory.Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def own_lab(tmp_path):
    """A controller and router that the test may harm."""
    with laboratory.Lab(tmp_path / "lab") as lab:
        yield lab


@pytest.fixture(scope="session")
def observer(lab):
    """A client that only looks."""
    with Caller(lab.create_client("observer")) as caller:
        yield caller


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def client(lab, stack):
    """A client of this test, at the level of calls."""
    return stack.enter_context(Caller(lab.create_client(lab.unique("client"))))


@pytest.fixture
def other(lab, stack):
    """Another client of this test."""
    return stack.enter_context(Caller(lab.create_client(lab.unique("other"))))


@pytest.fixture
def device(lab, stack):
    """An exporter at the level of calls, with a label of its own: `unit=<name>`."""
    return make_device(lab, stack)
