"""A shipped client at a serial console: waits for a prompt, answers, waits for the end.

Connects twice, as scripts do that open the console anew for each step.
"""

import sys

from jumpstarter.utils.env import env

with env() as client:
    with client.pexpect() as console:
        print("connected", flush=True)
        console.expect("U-Boot> ", timeout=20)
        console.sendline(sys.argv[1])
        console.expect("goodbye", timeout=20)
        print("served", flush=True)
    with client.pexpect() as console:
        print("connected", flush=True)
        console.expect("again> ", timeout=20)
        print(f"before: {console.before!r}", flush=True)
