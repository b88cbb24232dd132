"""Processes of one gateway reach one another, and nobody else reaches them: the internal listener."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hanbit.crypto import tls
from hanbit.crypto.tls import LineTls
from hanbit.kernel.errors import BadInput, ProtocolViolation, Unavailable
from hanbit.line import neighbours
from hanbit.line.neighbours import Neighbours, NoWay
from tests.unit.line.parties import CLOCK, GATEWAY, OPERATOR, Files, Operator, merchant_urn
from tests.waiting import until


def made(operator: Operator, files: Files) -> Neighbours:
    def check(certificate: bytes) -> None:
        if tls.peer_urn(certificate, operator.root_der, CLOCK.now(), OPERATOR) != GATEWAY:
            raise ProtocolViolation("not_the_gateway")

    return Neighbours(LineTls(files.chain, files.key, files.root), check)


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Operator, Neighbours, Neighbours, str, list[str]]]:
    """One that asks, one that answers, its address, and what it heard."""
    operator, heard = Operator(folder), list[str]()
    asks, answers = made(operator, operator.files(GATEWAY)), made(operator, operator.files(GATEWAY))

    async def serve(act: str, name: str, text: str) -> str:
        heard.append(f"{act} {name} {text}")
        if act == "lacks":
            raise NoWay("this process holds no line of this merchant")
        if act == "wrong":
            raise BadInput("act")
        if act == "broken":
            raise KeyError(act)
        if act == "slow":
            await asyncio.sleep(60)
        return text.upper()

    address = await answers.listen("127.0.0.1", 0, serve)
    try:
        yield operator, asks, answers, address, heard
    finally:
        await asks.close()
        await answers.close()


async def test_a_request_is_answered_and_news_is_heard(tmp_path: Path) -> None:
    async with two(tmp_path) as (_, asks, _, address, heard):
        assert await asyncio.gather(*(asks.ask(address, "ask", "shop", f"frame {n}") for n in range(20))) == [
            f"FRAME {n}" for n in range(20)
        ]
        asks.tell(address, "drop", "shop", "revoked")
        await until(lambda: "drop shop revoked" in heard)


async def test_who_has_no_way_is_told_from_who_does_not_know(tmp_path: Path) -> None:
    async with two(tmp_path) as (_, asks, _, address, _):
        with pytest.raises(NoWay):
            await asks.ask(address, "lacks", "shop", "")
        for act in ("wrong", "broken"):
            with pytest.raises(Unavailable) as unknown:
                await asks.ask(address, act, "shop", "")
            assert not isinstance(unknown.value, NoWay)
        with pytest.raises(Unavailable, match="in time"):
            await asks.ask(address, "slow", "shop", "", 0.05)


async def test_a_process_that_ends_in_the_middle_of_a_request_is_found_out_at_once(tmp_path: Path) -> None:
    async with two(tmp_path) as (_, asks, answers, address, heard):
        asked = asyncio.create_task(asks.ask(address, "slow", "shop", "", 60))
        await until(lambda: bool(heard))
        await answers.close()
        with pytest.raises(NoWay):
            await asked
        with pytest.raises(NoWay):
            await asks.ask(address, "ask", "shop", "")


async def test_nobody_but_the_gateway_itself_is_heard(tmp_path: Path) -> None:
    async with two(tmp_path) as (operator, _, _, address, heard):
        stranger = made(operator, operator.files(merchant_urn("shop")))
        with pytest.raises(Unavailable):
            await stranger.ask(address, "ask", "shop", "x", 1.0)
        assert heard == []
        await stranger.close()


async def test_whoever_listens_with_a_merchants_certificate_gets_no_frame(tmp_path: Path) -> None:
    operator, heard = Operator(tmp_path), list[str]()
    asks, false = made(operator, operator.files(GATEWAY)), made(operator, operator.files(merchant_urn("shop")))

    async def serve(act: str, _name: str, _text: str) -> str:
        heard.append(act)
        return ""

    address = await false.listen("127.0.0.1", 0, serve)
    with pytest.raises(Unavailable):
        await asks.ask(address, "ask", "shop", "a notice", 1.0)
    assert heard == []
    await asks.close()
    await false.close()


async def test_a_frame_without_end_and_garbage_end_the_connection(tmp_path: Path) -> None:
    async with two(tmp_path) as (operator, asks, _, address, heard):
        files = operator.files(GATEWAY)
        host, _, port = address.rpartition(":")
        for garbage in ((neighbours.SIZE_MAX + 1).to_bytes(4), (7).to_bytes(4) + b"garbage", (2).to_bytes(4) + b"{}"):
            reader, writer = await asyncio.open_connection(host, int(port), ssl=files.client(), server_hostname="")
            writer.write(garbage)
            async with asyncio.timeout(20):
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1)
            writer.close()
        assert heard == []
        assert await asks.ask(address, "ask", "shop", "still there") == "STILL THERE"
