"""One payment can be followed through browser, gateway, line and merchant by its ids; metrics are valid and of bounded cardinality."""

import asyncio
import contextlib
import io
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import structlog
from prometheus_client.parser import text_string_to_metric_families

from hanbit import logs
from hanbit.demo.world import Ports, World, demo_world
from hanbit.folder import place_at
from hanbit.kernel.clock import SystemClock
from hanbit.loopback import LoopbackResolver
from hanbit.metrics import CONTENT_TYPE
from hanbit.payments import recovery
from hanbit.wallet.pay import Device
from hanbit.web import application
from tests import engine
from tests.faces.site import client, running_site

pytestmark = pytest.mark.asyncio(loop_scope="module")
LABELS = {"kind", "reason", "route", "status", "le", "certificate"}
AN_ID = re.compile(r"[A-Za-z0-9_-]{22}|[0-9A-Z]{4}-[0-9A-Z]{4}|[0-9]{5,}")


@dataclass
class Watched:
    """A world with one payment in it, and its logs."""

    world: World
    directory: Path
    http: aiohttp.ClientSession
    payment: str

    def lines(self, process: str) -> list[dict[str, Any]]:
        return [
            json.loads(line) for line in (self.directory / f"logs/{process}.log").read_text("utf-8").splitlines() if line.startswith("{")
        ]

    async def lines_of(self, reference: str) -> list[dict[str, Any]]:
        """The gateway's lines of one request; they are written when its answer has left, so further requests may come before them."""
        for _ in range(100):
            if found := [line for line in self.lines("gateway") if line.get("reference") == reference]:
                return found
            await self.get("/healthz")
        return []

    async def get(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        async with self.http.get(self.world.settings.public_url + path, headers=headers) as answer:
            await answer.read()
            return answer

    async def metrics(self) -> str:
        async with self.http.get(f"http://127.0.0.1:{self.world.settings.metrics_port}/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == CONTENT_TYPE
            return await answer.text()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    """Real processes, one purchase by device key."""
    directory = tmp_path_factory.mktemp("watched")
    connector = aiohttp.TCPConnector(resolver=LoopbackResolver())
    async with (
        demo_world(directory, Ports.free(), SystemClock(), lambda _: None, engine.database()) as world,
        aiohttp.ClientSession(connector=connector) as http,
    ):
        who = world.customers["hong"]
        tid, location = await world.shops["shop"].order("phone")
        opened = await who.wallet.open(location)
        await who.wallet.login(opened, who.login, who.password)
        outcome = await who.wallet.pay(opened, Device(who.enrolment.device), account=who.accounts["bank"])
        assert outcome.state == "captured"
        assert (await world.shops["shop"].state(tid, wait=True))["may_deliver"]
        yield Watched(world, directory, http, outcome.payment)


async def test_one_payment_is_followed_through_every_part(watched: Watched) -> None:
    gateway, shop = watched.lines("gateway"), watched.lines("shop")
    submitted = [line for line in gateway if line.get("route") == "/pay/submit"]
    assert [line["payment"] for line in submitted] == [watched.payment]
    reference = submitted[0]["reference"]
    # Whatever that request did stands under its reference: also the decision, which the line's answer brought.
    decided = [line for line in gateway if line["event"] == "decided"]
    assert [(line["reference"], line["payment"], line["state"]) for line in decided] == [(reference, watched.payment, "captured")]
    # The merchant knows the payment by the same id.
    of_the_merchant = [line["event"] for line in shop if line.get("payment") == watched.payment]
    assert any("notice answered" in event for event in of_the_merchant), shop
    assert any("outcome stored" in event for event in of_the_merchant), shop


async def test_the_browsers_reference_stands_in_the_log(watched: Watched) -> None:
    for path, route, payment in (
        (f"/payments/{watched.payment}", "/payments/{id}", watched.payment),
        ("/nowhere", "none", None),
        ("/pay?MID=x", "/pay", None),
    ):
        answer = await watched.get(path, Accept="text/html")
        lines = await watched.lines_of(answer.headers["X-Reference"])
        assert [(line["event"], line["route"], line["status"], line.get("payment")) for line in lines] == [
            ("request", route, answer.status, payment)
        ]


async def test_every_log_line_is_json_with_a_time_and_a_level(watched: Watched) -> None:
    for process in ("gateway", "shop", "plain-shop"):
        lines = watched.lines(process)
        assert lines or process == "plain-shop"
        for line in lines:
            assert {"event", "level", "logger", "timestamp"} <= set(line), line
        assert not [line for line in lines if line["level"] in {"warning", "error", "critical"}]
    beside = [line for line in (watched.directory / "logs/gateway.log").read_text("utf-8").splitlines() if not line.startswith("{")]
    assert [line for line in beside if not line.startswith("serving http")] == []


async def test_the_metrics_are_valid_and_tell_what_happened(watched: Watched) -> None:
    text = await watched.metrics()
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["hanbit_line_connections", ()] == 2
    assert samples["hanbit_book_waiting_changes", ()] == 0
    assert samples["hanbit_line_pending_requests", ()] == 0
    assert samples["hanbit_commit_batch_changes_count", ()] > 5
    assert samples["hanbit_outcomes_total", (("kind", "event"), ("reason", "merchant_confirmed"))] == 1
    assert samples["hanbit_outcomes_total", (("kind", "login"), ("reason", "ok"))] == 1
    assert samples["hanbit_request_seconds_count", (("route", "/pay/submit"), ("status", "200"))] == 1
    assert ("hanbit_line_round_trip_seconds", ()) in samples


async def test_no_metric_carries_an_id_and_strangers_cannot_add_to_them(watched: Watched) -> None:
    for path in ("/a", "/b/c", f"/payments/{'A' * 22}", "/payments/x/y/z", "/static/x/y", "/%00", "/pay?MID=garam&TID=" + "t" * 22):
        await watched.get(path)
    reader, writer = await asyncio.open_connection("127.0.0.1", watched.world.settings.listen_port)
    writer.write(b"no request\r\n\r\n")
    assert (await reader.read(100)).startswith(b"HTTP/1.1 400")
    writer.close()
    for family in text_string_to_metric_families(await watched.metrics()):
        for sample in family.samples:
            assert set(sample.labels) <= LABELS, sample
            assert not any(AN_ID.fullmatch(value) for name, value in sample.labels.items() if name != "le"), sample
            assert not sample.labels.get("route", "").startswith(("/a", "/b")), sample
    assert 'route="none",status="400"' in await watched.metrics()
    before = len((await watched.metrics()).splitlines())
    for number in range(20):
        await watched.get(f"/unknown/{number}")
        await watched.get(f"/payments/{number:022}")
    assert len((await watched.metrics()).splitlines()) - before <= 15, "a label grows with what strangers ask"


async def test_it_is_alive_and_ready(watched: Watched) -> None:
    assert (await watched.get("/healthz")).status == 200
    assert (await watched.get("/readyz")).status == 200


async def test_a_book_that_cannot_be_read_is_not_ready_but_alive(tmp_path: Path) -> None:
    """And the background does not die of it: it reads again when the book can be read again."""
    async with running_site(tmp_path) as site, client() as http:
        connection = site.gateway.reader._connection
        broken = site.gateway.reader.__class__(place_at(tmp_path / "data"))
        broken.close()
        site.gateway.reader._connection = broken._connection
        async with http.get(f"{site.base}/readyz") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"]
            assert (await answer.json(content_type="application/problem+json"))["code"] == "unavailable"
        async with http.get(f"{site.base}/payments/{'A' * 22}") as answer:
            assert answer.status == 503
        async with http.get(f"{site.base}/healthz") as answer:
            assert answer.status == 200
        background = asyncio.create_task(recovery.run(site.gateway, recovery.JOBS))
        await asyncio.sleep(0)
        site.gateway.reader._connection = connection
        assert not background.done()
        background.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await background
        async with http.get(f"{site.base}/readyz") as answer:
            assert answer.status == 200


async def test_it_is_not_ready_when_the_background_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = application.create
    monkeypatch.setattr(
        application, "create", lambda gateway, metrics, *, is_ready: create(gateway, metrics, is_ready=lambda: not is_ready())
    )
    async with running_site(tmp_path) as site, client() as http, http.get(f"{site.base}/readyz") as answer:
        assert answer.status == 503


# --- the log's own rules ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """What is written to standard error; the process's own logging comes back afterwards."""
    written = io.BytesIO()
    monkeypatch.setattr(logs, "_write", lambda line: written.write(line + b"\n"))
    root = logging.getLogger()
    handlers, level, structlog_config = root.handlers[:], root.level, structlog.get_config()
    levels = {name: logging.getLogger(name).level for name in ("uvicorn.access", "asyncio", "uvicorn.error")}
    logs.configure()
    structlog.configure(cache_logger_on_first_use=False)
    try:
        yield written
    finally:
        root.handlers[:], root.level = handlers, level
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)
        structlog.configure(**structlog_config)
        structlog.contextvars.clear_contextvars()


async def test_secrets_by_name_are_dropped_and_a_text_cannot_forge_a_line(lines: io.BytesIO) -> None:
    structlog.contextvars.bind_contextvars(reference="7KQ4-M2XD")
    structlog.get_logger("hanbit.test").info(
        "one", password="p", card_number="4", Authorization="x", text='a\n{"event":"forged"}', long="x" * 999
    )
    logging.getLogger("hanbit.test").warning("two %s", "\x1b[31m", extra={"session_token": "t", "payment": "p"})
    try:
        int("a bug")
    except ValueError:
        structlog.get_logger("hanbit.test").exception("three")
        logging.getLogger("hanbit.test").exception("four")
    written = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert len(written) == 4
    assert written[0]["event"] == "one"
    assert set(written[0]) == {"event", "reference", "text", "long", "level", "logger", "timestamp"}
    assert len(written[0]["long"]) == logs.TEXT_MAX
    assert "session_token" not in str(written[1])
    for line in written[2:]:
        assert (line["level"], line["reference"], line["logger"]) == ("error", "7KQ4-M2XD", "hanbit.test")
        assert "ValueError: invalid literal" in line["exception"]
    assert b"\x1b" not in lines.getvalue()
    # Half of a surrogate pair cannot be written as UTF-8; the line comes all the same.
    assert b"ud800" in logs.render(None, "", {"event": "\ud800"})
