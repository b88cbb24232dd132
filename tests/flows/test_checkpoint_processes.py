"""An older copy of the book is put back under real processes: the shop's hello stops payments until the operator lets them go on."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hanbit.db.reading import Reader
from hanbit.demo.world import Ports
from hanbit.folder import place_at
from hanbit.kernel import ids
from hanbit.kernel.clock import SystemClock
from tests import engine
from tests.flows.crash_processes import PATIENCE_S, PAUSE_S, Child, Site, site
from tests.flows.crash_world import make_folder
from tests.unit.cli.world import installed


class FiveMinutesAgo(SystemClock):
    """The machine's clock, as it was."""

    def now(self) -> int:
        return super().now() - 300


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ports]:
    """Parties that were enrolled five minutes ago, so that the log is signed again as soon as the gateway runs."""
    folder, ports = tmp_path_factory.mktemp("prepared"), Ports.free()
    asyncio.run(make_folder(folder, FiveMinutesAgo(), ports))
    return folder, ports


async def run(*arguments: str | Path) -> tuple[int, Any]:
    """The installed command beside the running servers: its exit status, and what it prints."""
    done = await asyncio.to_thread(installed, *arguments, "--json")
    return done.returncode, json.loads(done.stdout)


def checkpoints(data: Path) -> set[str]:
    """What the book has signed so far; nobody has it open for long."""
    reader = Reader(place_at(data))
    try:
        return {str(row[0]) for row in reader.all("SELECT hash FROM checkpoints")}
    finally:
        reader.close()


async def is_held(s: Site, output: Path, known: set[str]) -> None:
    """Wait until the running shop holds a checkpoint that the older book does not know; it is written out by the shop itself."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            command = ("merchant", "checkpoint", "-o", output, "--directory", s.folder / "shop")
            done = await asyncio.to_thread(installed, *command)
            if done.returncode == 0 and _name(output) not in known:
                return
            await asyncio.sleep(PAUSE_S)


def _name(checkpoint: Path) -> str:
    return ids.digest(checkpoint.read_bytes().strip())


async def shown(s: Site, location: str, status: int, words: str) -> tuple[str, str | None]:
    """The page of a payment once it has this status and says this, and its Retry-After."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with s.http.get(location.replace("lang=ko", "lang=en"), headers={"Accept": "text/html"}) as page:
                    text = await page.text()
                    if page.status == status and words in text:
                        return text, page.headers.get("Retry-After")
            await asyncio.sleep(PAUSE_S)


async def test_an_older_copy_takes_no_payments_until_the_operator_answers_for_it(place: tuple[Path, Ports], tmp_path: Path) -> None:
    folder, ports = place
    data, held, older = folder / "gateway", tmp_path / "shop.checkpoint", tmp_path / "older"
    known = checkpoints(data)
    engine.keep(data, older)
    async with site(folder, ports) as s:
        await is_held(s, held, known)
        await s.new_payment()
        status, found = await run("evidence", "check", "--data", data, "--checkpoint", held)
        assert (status, found["first"]) == (0, None), "while it serves"
        await _stop(s.gateway)
        engine.put_back(data, older)
        status, found = await run("evidence", "check", "--data", data)
        assert (status, found["whole"]) == (0, True), "from inside nobody can tell"
        status, found = await run("evidence", "check", "--data", data, "--checkpoint", held)
        assert (status, "it is an older copy" in found["first"]) == (1, True)

        await s.gateway.start()
        await s.gateway.ready(s.http)
        _, location = await s.order()
        page, retry = await shown(s, location, 503, "No payments are being taken right now")
        assert "No money has been taken" in page
        assert retry == "300"
        status, report = await run("doctor", "--data", data)
        assert (status, "payments_halted" in [finding["code"] for finding in report["findings"]]) == (2, True)

        status, resumed = await run("evidence", "resume", "--data", data, "--reason", "a test put it back")
        assert (status, resumed["halted"]["reason"]) == (0, "older_copy")
        await shown(s, location, 200, "")
        await s.new_payment()
        status, found = await run("evidence", "check", "--data", data)
        assert (status, found["whole"]) == (0, True)


async def _stop(child: Child) -> None:
    assert await child.stop() == 0
