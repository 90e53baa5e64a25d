"""An RFC 2217 server for tests, on pyserial's public PortManager.

Usage: rfc2217_server.py SERIAL_URL

Prints the TCP port it listens on, serves one client after the other, and answers each line on standard input with the
state of its serial port as one line of JSON. It ends with its standard input.
"""

import json
import socket
import sys
import threading

import serial
import serial.rfc2217


class Connection:
    """What PortManager writes to."""

    def __init__(self, client):
        self.client = client
        self.lock = threading.Lock()

    def write(self, data):
        with self.lock:
            self.client.sendall(data)


def serve(port, client):
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = Connection(client)
    manager = serial.rfc2217.PortManager(port, connection)
    alive = True

    def deliver():
        while alive:
            manager.check_modem_lines()
            data = port.read(port.in_waiting or 1)
            if data:
                try:
                    connection.write(b"".join(manager.escape(data)))
                except OSError:
                    return

    thread = threading.Thread(target=deliver, daemon=True)
    thread.start()
    try:
        while data := client.recv(1024):
            port.write(b"".join(manager.filter(data)))
    except OSError:
        pass
    alive = False
    client.close()
    thread.join()


def accept(listener, port):
    while True:
        client, _ = listener.accept()
        serve(port, client)


def main():
    port = serial.serial_for_url(sys.argv[1], timeout=0.02)
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, args=(listener, port), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    for _ in sys.stdin:
        names = ["baudrate", "bytesize", "parity", "stopbits", "dtr", "rts", "xonxoff", "rtscts", "break_condition"]
        print(json.dumps({name: getattr(port, name) for name in names}), flush=True)


main()
