"""A crowd of slow connections of each kind at once, and honest payments beside them that they must not slow.

Everything is a real process: `hanbit serve` ending TLS by itself with its default limits, the demo shop, and the slow peers; and all of it
but the peers once more, to pay at the same moments where nobody is slow.
"""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from hanbit.demo.world import Ports
from hanbit.settings import load
from tests.flows.crash_processes import Site, prepare_with_tls, site, trusting
from tests.flows.slow_peers import KINDS

PAYMENTS = 20
LONGEST_S = 30.0
"""For one honest payment, however busy the machine is; it takes a tenth of a second on two cores that do nothing else."""
SLOWER_MAX = 8.0
"""How many times as long the median payment may take as at a server that nobody besets; it is one to three times."""
LARGEST_FILE = "/static/0/fonts/pretendard-bold.woff2"
"""270 kB that every page asks for; a page of another version gets them too."""
PEERS_START_S = 300


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ports]:
    return prepare_with_tls(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def unbeset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ports]:
    """Another such site, at which nobody is slow."""
    return prepare_with_tls(tmp_path_factory.mktemp("unbeset"))


@asynccontextmanager
async def slow_peers(s: Site, ca: Path | None, kinds: tuple[str, ...], count: int) -> AsyncIterator[dict[str, Any]]:
    """They run beside the block; what they have met stands in the dictionary when it has ended."""
    settings = load(s.folder / "gateway")
    arguments = [
        "-m",
        "tests.flows.slow_peers",
        str(settings.listen_port),
        "" if ca is None else str(ca),
        ",".join(kinds),
        str(count),
        LARGEST_FILE,
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    met: dict[str, Any] = {}
    try:
        async with asyncio.timeout(PEERS_START_S):
            met["at first"] = json.loads(await process.stdout.readline())["up"]
        yield met
        process.stdin.close()
        async with asyncio.timeout(PEERS_START_S):
            met.update(json.loads(await process.stdout.readline()))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def pay(s: Site) -> float:
    """Seconds of one whole payment: a new browser opens the page, logs in, pays, and sees the receipt."""
    _, location = await s.order()
    began = time.monotonic()
    async with asyncio.timeout(LONGEST_S):
        assert (await s.pay(s.wallet(), location)).state == "captured"
    return time.monotonic() - began


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.long)])
async def test_slow_connections_of_every_kind_do_not_slow_an_honest_payment(
    prepared: tuple[Path, Ports], unbeset: tuple[Path, Ports], tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    (folder, ports), (other, its_ports) = prepared, unbeset
    shutil.copytree(folder, tmp_path / "site")
    shutil.copytree(other, tmp_path / "unbeset")
    async with (
        site(tmp_path / "site", ports, tls=trusting(folder / "site.pem")) as s,
        site(tmp_path / "unbeset", its_ports, tls=trusting(other / "site.pem")) as quiet,
    ):
        async with slow_peers(s, folder / "site.pem", KINDS, count) as met:
            # In turn, so that whatever else the machine does slows both alike.
            beside, alone = zip(*[(await pay(s), await pay(quiet)) for _ in range(PAYMENTS)], strict=True)
        with capsys.disabled():
            figures = f"median {median(alone):.3f} s alone, {median(beside):.3f} s beside {count} slow connections of each kind"
            sys.stdout.write(f"\n{figures}; these met {met}\n")
        assert median(beside) < median(alone) * SLOWER_MAX
        assert "Traceback" not in (s.folder / "gateway.log").read_text("utf-8")
        await s.proven()
