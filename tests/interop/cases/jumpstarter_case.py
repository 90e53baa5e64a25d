"""The seed's pytest example, run by `test_cli.py` inside a `jmp shell`."""

from jumpstarter_driver_network.adapters import PexpectAdapter
from jumpstarter_testing.pytest import JumpstarterTest


class TestDevice(JumpstarterTest):
    selector = "board=demo"

    def test_power(self, client):
        client.power.on()
        client.power.off()

    def test_readings(self, client):
        assert [r.voltage for r in client.power.read()] == [0.0, 5.0]

    def test_console(self, client):
        with PexpectAdapter(client=client.echo) as console:
            console.sendline("login")
            console.expect_exact("login", timeout=5)
