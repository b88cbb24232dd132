"""One of a merchant's connections in a process of its own: says what it hears, and answers, or (`hang`) thinks for ever."""

import asyncio
import json
import random
import sys
from pathlib import Path

from hanbit.crypto import certificates, tls
from hanbit.kernel.clock import SystemClock
from hanbit.merchant.line_client import LineClient
from hanbit.protocols.signed import PinnedTrust, Signer
from tests.unit.line.parties import GATEWAY, OPERATOR, QUICK, answer_to, merchant_urn


def say(word: str) -> None:
    """One line, at once."""
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


async def main(name: str, port: int, mode: str, line: list[str], sign: list[str]) -> None:
    """Until standard input ends."""
    chain, key, root = map(Path, line)
    urn = merchant_urn(name)
    root_der = certificates.load_chain_pem(root)[0]

    async def on_request(frame: str) -> str | None:
        say("asked")
        if mode == "hang":
            await asyncio.Event().wait()
        return answer_to(frame, typ=f"from-{mode}")

    client = LineClient(
        host="127.0.0.1",
        port=port,
        ssl_context=tls.client_context(chain, key, root),
        gateway_urn=GATEWAY,
        operator=OPERATOR,
        root=root_der,
        signer=Signer.load(Path(sign[0]), Path(sign[1]), urn=urn, purpose="merchant-sign"),
        trust=PinnedTrust(root_der, OPERATOR, urn=GATEWAY),
        clock=SystemClock(),
        random=random.random,
        on_request=on_request,
        limits=QUICK,
    )
    await client.start()
    await client.connected.wait()
    say("connected")
    await asyncio.to_thread(sys.stdin.read)
    await client.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], *json.loads(sys.argv[4])))
