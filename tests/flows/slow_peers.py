"""Slow and silent peers as a process of their own, so that their work is not taken for the server's.

`python -m tests.flows.slow_peers PORT CA KINDS COUNT PATH`: COUNT connections of each kind, dialled again whenever the server cuts them,
until standard input ends. What they have met is told on standard output, one line of JSON when each has been up and one at the end.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import sys
from collections import Counter, defaultdict
from typing import Final

HEADS, BODIES, READS, SILENT = "heads", "bodies", "reads", "silent"
KINDS: Final = (HEADS, BODIES, READS, SILENT)
DRIP_S: Final = 1.0
PER_ADDRESS: Final = 80
"""They come from many addresses, each below what one may have."""
SMALL_BUFFER: Final = 4096
DIAL_S: Final = 20
LOOK_EVERY_S: Final = 0.1
REST_S: Final = 1.0
"""Before a peer that was cut dials again."""
DIALS_AT_ONCE: Final = 50


class Peers:
    """All of them."""

    def __init__(self, port: int, tls: ssl.SSLContext | None, path: str) -> None:
        self.port = port
        self.tls = tls
        self.path = path
        self.up: Counter[str] = Counter()
        self.come: defaultdict[str, set[int]] = defaultdict(set)
        """Who has been up. All of them never are at once: the server cuts some while others dial."""
        self.cut: Counter[str] = Counter()
        self.lowest: dict[str, int] = {}
        self.dials = asyncio.Semaphore(DIALS_AT_ONCE)

    async def live(self, kind: str, number: int) -> None:
        """One peer: dial, be slow, and dial again when cut."""
        place = KINDS.index(kind) * 1000 + number
        source = f"127.1.{place // PER_ADDRESS // 250}.{place // PER_ADDRESS % 250 + 1}"
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                reader, writer = await self._dial(kind, source)
                self.up[kind] += 1
                self.come[kind].add(number)
                try:
                    await self._be_slow(kind, reader, writer)
                finally:
                    self.up[kind] -= 1
                    self.cut[kind] += 1
                    writer.close()
            await asyncio.sleep(REST_S)

    async def _dial(self, kind: str, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with self.dials, asyncio.timeout(DIAL_S):
            connection = socket.socket()
            connection.setblocking(False)
            if kind == READS:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            connection.bind((source, 0))
            try:
                await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
                tls = None if kind == SILENT else self.tls
                name = None if tls is None else "pay.localhost"
                return await asyncio.open_connection(sock=connection, ssl=tls, server_hostname=name, limit=SMALL_BUFFER)
            except BaseException:
                connection.close()
                raise

    async def _be_slow(self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if kind == READS:
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport, too
            writer.write(f"GET {self.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 20)
        elif kind == HEADS:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        elif kind == BODIES:
            writer.write(b"POST /pay/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n")
        while not writer.is_closing():
            if kind in {HEADS, BODIES}:
                writer.write(b" ")
            if kind == READS:
                await asyncio.sleep(DRIP_S)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DRIP_S):
                        if not await reader.read(SMALL_BUFFER):
                            return

    def note(self, kinds: list[str]) -> None:
        """Remember how few of a kind there ever were."""
        for kind in kinds:
            self.lowest[kind] = min(self.lowest.get(kind, sys.maxsize), self.up[kind])


def tell(what: dict[str, object]) -> None:
    """One line for whoever started us."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main(port: int, ca: str, kinds: list[str], count: int, path: str) -> None:
    """Run them until standard input ends."""
    tls = ssl.create_default_context(cafile=ca) if ca else None
    peers = Peers(port, tls, path)
    tasks = [asyncio.create_task(peers.live(kind, number)) for number in range(count) for kind in kinds]
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    is_told = False
    while not ended.done():
        await asyncio.sleep(LOOK_EVERY_S)
        if is_told:
            peers.note(kinds)
        elif all(len(peers.come[kind]) == count for kind in kinds):
            is_told = True
            tell({"up": peers.up})
    tell({"up": peers.up, "cut": peers.cut, "lowest": peers.lowest})
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3].split(","), int(sys.argv[4]), sys.argv[5]))
