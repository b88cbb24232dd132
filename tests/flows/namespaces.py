"""Three hosts on two networks, made of network namespaces: customers' side and leased line meet nowhere but in the gateway.

customer 10.77.1.2 ── cust0 10.77.1.1 gateway 10.77.2.1 leas0 ── 10.77.2.2 merchant
"""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

CUSTOMER, GATEWAY_TO_CUSTOMERS, GATEWAY_LEASED, MERCHANT = "10.77.1.2", "10.77.1.1", "10.77.2.1", "10.77.2.2"
LEASED_INTERFACE = "leas0"
PATIENCE_S = 60
ROOT = Path(__file__).parent.parent.parent


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=20)


def _reason_without_namespaces() -> str | None:
    """Why this machine cannot have network namespaces; None if it can."""
    if shutil.which("ip") is None:
        return "iproute2 is not installed; `make test` installs it where it may"
    probe = f"hanbit-{os.getpid()}"
    try:
        _ip("netns", "add", probe)
        _ip("netns", "delete", probe)
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not allowed here: {error.stderr.strip()}"
    return None


@dataclass(frozen=True)
class Hosts:
    """The namespaces' names."""

    gateway: str
    merchant: str
    customer: str

    def run(self, host: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A program to its end on one host."""
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        return subprocess.run(
            ["ip", "netns", "exec", host, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, env=environment, check=False
        )

    @asynccontextmanager
    async def program(self, host: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A program on one host that ends with the block."""
        process = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", host, sys.executable, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTHONUNBUFFERED": "1"},
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), PATIENCE_S)
            except TimeoutError:
                process.kill()
                await process.wait()

    def tcp(self, host: str, address: str, port: int, source: str = "") -> str:
        """What a TCP call gets: `connected` and the first bytes that come within two seconds, or the error."""
        script = (
            "import socket, sys\n"
            "address, port, source = sys.argv[1:]\n"
            "call = socket.socket(); call.settimeout(2)\n"
            "try:\n"
            "    call.bind((source, 0)); call.connect((address, int(port)))\n"
            "    call.sendall(b'GET /line HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
            "    print('connected', call.recv(10))\n"
            "except OSError as error:\n"
            "    print(type(error).__name__)\n"
        )
        result = self.run(host, sys.executable, "-c", script, address, str(port), source)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()


@contextmanager
def hosts() -> Iterator[Hosts]:
    """The three hosts, taken away again whatever happens; skips where namespaces are not allowed."""
    reason = _reason_without_namespaces()
    if reason is not None:
        pytest.skip(reason)
    made = Hosts(*(f"hanbit-{os.getpid()}-{role}" for role in ("gateway", "merchant", "customer")))
    names = (made.gateway, made.merchant, made.customer)
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        for host, theirs, ours, their_address, our_address in (
            (made.customer, "eth0", "cust0", CUSTOMER, GATEWAY_TO_CUSTOMERS),
            (made.merchant, "eth0", LEASED_INTERFACE, MERCHANT, GATEWAY_LEASED),
        ):
            _ip("-n", made.gateway, "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", host)
            for namespace, link, address in ((host, theirs, their_address), (made.gateway, ours, our_address)):
                _ip("-n", namespace, "address", "add", f"{address}/24", "dev", link)
                _ip("-n", namespace, "link", "set", link, "up")
            # Each sends whatever it likes to the gateway, also what is meant for the other network.
            _ip("-n", host, "route", "add", "default", "via", our_address)
        yield made
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
