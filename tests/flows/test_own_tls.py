"""`hanbit serve` as a process that ends TLS itself: a payment through it, its certificate renewed while it runs, its headers."""

import asyncio
import shutil
import signal
from pathlib import Path

import aiohttp
import pytest

from hanbit.demo.world import Ports
from hanbit.kernel.errors import Unavailable
from hanbit.loopback import LoopbackResolver
from tests.faces.test_site_certificate import make_site_certificate
from tests.flows.crash_processes import Site, insist, prepare_with_tls, site, trusting

RELOADS_WITHIN_S = 10


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ports]:
    return prepare_with_tls(tmp_path_factory.mktemp("prepared"))


async def serves(s: Site, certificate: Path) -> bool:
    """Whether a new connection is served with this very certificate."""
    connector = aiohttp.TCPConnector(resolver=LoopbackResolver(), ssl=trusting(certificate))
    async with aiohttp.ClientSession(connector=connector) as http:
        try:
            async with http.get(s.gateway.url) as answer:
                return answer.status == 200
        except aiohttp.ClientConnectorCertificateError:
            return False


async def said(s: Site, what: str) -> None:
    if what not in s.gateway.log_end():
        raise Unavailable


async def until_served(s: Site, certificate: Path, within_s: float) -> None:
    async def now() -> None:
        if not await serves(s, certificate):
            raise Unavailable

    async with asyncio.timeout(within_s):
        await insist(now)


async def test_a_payment_over_our_own_tls_and_a_certificate_that_is_renewed_meanwhile(prepared: tuple[Path, Ports], tmp_path: Path) -> None:
    folder, ports = prepared
    shutil.copytree(folder, tmp_path / "site")
    before = tmp_path / "before.pem"
    shutil.copy(folder / "site.pem", before)
    async with site(tmp_path / "site", ports, tls=trusting(before)) as s:
        await s.new_payment()
        async with s.http.get(s.gateway.url) as answer:
            assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
            assert (answer.version or (0, 0)) == (1, 1)
        (folder / "site.key").write_bytes(b"no key")
        s.gateway.process.send_signal(signal.SIGHUP)  # a bad pair: refused, and the server goes on
        await insist(lambda: said(s, "site_certificate_refused"))
        assert await serves(s, before)
        make_site_certificate(folder, "pay.localhost", "127.0.0.1")
        await until_served(s, folder / "site.pem", RELOADS_WITHIN_S)  # nobody said so: the files were looked at
        assert not await serves(s, before)
        make_site_certificate(folder, "pay.localhost", "127.0.0.1")
        s.gateway.process.send_signal(signal.SIGHUP)
        await until_served(s, folder / "site.pem", RELOADS_WITHIN_S)
        assert await s.gateway.stop() == 0
        assert "Traceback" not in (s.folder / "gateway.log").read_text("utf-8")
