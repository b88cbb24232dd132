"""The database crashes, refuses connections, takes no writes, is full, locked, or loses an answer, at each commit of a payment.

Meanwhile the customer hears 503 and when to try again; afterwards nobody has to do anything, and each payment happened once.
"""

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hanbit.db import postgres
from hanbit.kernel import fail_points
from hanbit.kernel.errors import Unavailable
from hanbit.wallet.client import Answer, GatewayRefused, Http, Origin
from tests import cluster as clusters
from tests.cluster import OWNER, Cluster
from tests.flows.crash_proof import agreed, is_final, pays_again, proven, same_bytes_same_answer
from tests.flows.crash_scenarios import let_it_end
from tests.flows.crash_world import Memo, Parties, make_folder_now, parties
from tests.wire import Wire

COMMITS = 4
"""More than the gateway makes for one payment; a round in which the trouble never comes is simply a payment."""
PATIENCE_S = 90.0
SMALL_MB = 40
"""Of a disk that has room for a book and little else."""
BEFORE = "gateway.commit.before"


@pytest.fixture(scope="module")
def own(postgresql_bin: Path) -> Iterator[Cluster]:
    """A server that these tests may crash."""
    made = clusters.start(postgresql_bin)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def prepared(own: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of which each accident gets a copy, and the name of its database."""
    folder, name = tmp_path_factory.mktemp("prepared"), own.create()
    make_folder_now(folder, own.url(name))
    return folder, name


class Trouble:
    """Something that is wrong with the database for a while; `reads`: whether it can still be read."""

    reads = False

    def __init__(self, own: Cluster) -> None:
        self.own = own

    def begin(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError

    def cut(self) -> None:
        """Whoever is connected no longer is."""
        self.own.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hanbit'")


class Crash(Trouble):
    """An immediate shutdown, and a start that recovers."""

    def begin(self) -> None:
        self.own.crash()

    def end(self) -> None:
        self.own.launch()


class ReadOnly(Trouble):
    """Every server that answers takes no writes, as a standby before it takes over."""

    def begin(self) -> None:
        self.own.sql(f"ALTER ROLE {OWNER} SET default_transaction_read_only = on")
        self.cut()

    def end(self) -> None:
        self.own.sql(f"ALTER ROLE {OWNER} RESET default_transaction_read_only")


class TooManyConnections(Trouble):
    """The connections were cut, and others have taken their places."""

    def begin(self) -> None:
        self.own.sql(f"ALTER ROLE {OWNER} CONNECTION LIMIT 0")
        self.cut()

    def end(self) -> None:
        self.own.sql(f"ALTER ROLE {OWNER} CONNECTION LIMIT -1")


class Held(Trouble):
    """Somebody's own transaction keeps the book's row longer than anybody waits for it."""

    reads = True
    database = ""

    def begin(self) -> None:
        command = [str(self.own.binaries / "psql"), "-Xqt", "-d", self.own.url(self.database, owner=clusters.SUPERUSER)]
        self._other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._other.stdin is not None
        assert self._other.stdout is not None
        self._other.stdin.write(b"BEGIN; LOCK TABLE log IN EXCLUSIVE MODE;\n\\echo held\n")  # behind the book's row: who has it may go on
        self._other.stdin.flush()
        assert self._other.stdout.readline() == b"held\n"

    def end(self) -> None:
        self._other.communicate(b"ROLLBACK;\n", PATIENCE_S)


TROUBLES: dict[str, type[Trouble]] = {"crash": Crash, "read_only": ReadOnly, "too_many_connections": TooManyConnections, "held": Held}


@asynccontextmanager
async def payers(
    own: Cluster, prepared: tuple[Path, str], tmp_path: Path, address: Callable[[str], str], name: str = ""
) -> AsyncIterator[Parties]:
    """All parties on a copy of the folder and of its database, which is reached by what `address` makes of it."""
    folder = tmp_path / "copy"
    shutil.copytree(prepared[0], folder)
    name = name or own.create(template=prepared[1])
    settings = folder / "gateway" / "hanbit.toml"
    settings.write_text(settings.read_text("utf-8").replace(own.url(prepared[1]), address(own.url(name))), "utf-8")
    try:
        async with parties(folder, Memo(folder / "memo")) as p:
            yield p
            await proven(p)
    finally:
        own.drop(name)


class Heard:
    """Every answer that the customer's program gets: where it is an error of the server it is a 503 that says when to try again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.unavailable = 0
        exchange = Http.exchange

        async def listen(http: Http, origin: Origin, method: str, target: str, *more: Any) -> Answer:
            answer = await exchange(http, origin, method, target, *more)
            if answer.status >= 500:
                assert answer.status == 503, answer
                assert int(answer.retry_after) > 0
                self.unavailable += 1
            return answer

        monkeypatch.setattr(Http, "exchange", listen)


async def attempt(p: Parties) -> None:
    """A customer who gives up at the first 503."""
    p.wallet.client._cookie = ""
    with contextlib.suppress(Unavailable):
        await p.order()
        await p.submit(await p.open())


async def goes_on(p: Parties, tid: str) -> None:
    """His program sends the same bytes until there is a last word; had he sealed none yet, he loads the page again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            body = next((body for body in p.memo.all("submit") if body["tid"] == tid), None)
            with contextlib.suppress(Unavailable):
                if body is not None:
                    if is_final((await p.wallet.send(body)).state):
                        return
                else:
                    with contextlib.suppress(GatewayRefused):  # logged in before and not told so: that page is used up
                        await p.submit(await p.open())
            p.clock.advance(1)
            await asyncio.sleep(0.05)


async def status(p: Parties, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{p.running.pay_port}{path}") as answer:
        return answer.status, answer.headers.get("Retry-After", "")


async def until_status(p: Parties, wanted: int) -> str:
    """Until /readyz says so, which reads the book; its Retry-After."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found, retry_after = await status(p, "/readyz")
            if found == wanted:
                return retry_after
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", TROUBLES)
async def test_whatever_happens_to_the_database_each_payment_happens_once_and_nobody_has_to_do_anything(
    name: str, own: Cluster, prepared: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble = TROUBLES[name](own)
    monkeypatch.setitem(postgres.SESSION, "lock_timeout", "300")
    heard, came = Heard(monkeypatch), 0
    database = own.create(template=prepared[1])
    if isinstance(trouble, Held):
        trouble.database = database
    async with payers(own, prepared, tmp_path, str, database) as p:
        for count in range(1, COMMITS + 1):
            began = arm(monkeypatch, BEFORE, count, trouble.begin)
            paying = asyncio.create_task(attempt(p))
            await asyncio.wait([paying, asyncio.create_task(began.wait())], return_when=asyncio.FIRST_COMPLETED)
            if began.is_set():
                came += 1
                if not trouble.reads:
                    assert int(await until_status(p, 503)) > 0
                else:
                    await asyncio.wait([paying], timeout=PATIENCE_S)
                await asyncio.to_thread(trouble.end)
            await paying
            monkeypatch.setattr(fail_points, "reach", _pass)
            await until_status(p, 200)
            await ends_well(p)
        assert came >= 3, "a payment is not one commit"
        assert heard.unavailable, "somebody was told to try again"
        await pays_again(p)


def arm(monkeypatch: pytest.MonkeyPatch, point: str, count: int, act: Callable[[], None]) -> asyncio.Event:
    """At the `count`th time that this point is come by, `act` happens there and then; set from there on."""
    left, began = [count], asyncio.Event()

    def reach(name: str) -> None:
        if name == point:
            left[0] -= 1
            if left[0] == 0:
                act()
                began.set()

    monkeypatch.setattr(fail_points, "reach", reach)
    return began


def _pass(_name: str) -> None:
    """Nothing happens any more."""


async def ends_well(p: Parties) -> None:
    """The payment that was cut is made with the customer's same bytes, once."""
    if p.memo.last("order") is None:
        return
    tid = p.memo.last("order")[0]
    await goes_on(p, tid)
    await let_it_end(p, tid)
    payment = await agreed(p, tid)
    assert payment is not None
    assert payment.state == "captured"
    await same_bytes_same_answer(p, payment)


async def test_a_commit_whose_answer_is_lost_on_the_wire_is_one_payment(
    own: Cluster, prepared: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each commit of a payment; nobody but the log notices, for the book itself is asked what became of it."""
    with contextlib.closing(Wire(own)) as wire:
        async with payers(own, prepared, tmp_path, wire.to) as p:
            await pays_again(p)  # COMMIT is prepared, and known by its name from here on
            for count in range(1, COMMITS + 1):
                lost = wire.lost
                arm(monkeypatch, BEFORE, count, partial(setattr, wire, "lose_answer_to", b"commit_"))
                await attempt(p)
                monkeypatch.setattr(fail_points, "reach", _pass)
                await ends_well(p)
                wire.lose_answer_to = b""
                await pays_again(p)
                assert wire.lost - lost <= 1
            assert wire.lost >= 3


@pytest.fixture
def small_disk(own: Cluster) -> Iterator[Path]:
    """A file system with room for little more than a book; not below pytest's folders, which every other run closes to the database."""
    folder = Path(tempfile.mkdtemp(prefix="hanbit-small-"))
    folder.chmod(0o711)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_MB}m", "tmpfs", str(folder)], check=False, capture_output=True)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("a small file system can only be mounted by root")
    place = folder / "space"
    place.mkdir()
    folder.chmod(0o711)
    if own.user is not None:
        shutil.chown(place, own.user.pw_uid, own.user.pw_gid)
    own.sql(f"CREATE TABLESPACE small LOCATION '{place}'")
    yield folder
    own.sql("DROP TABLESPACE small")
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


async def test_a_full_disk_is_a_clear_no_and_with_room_again_every_payment_is_made_once(
    own: Cluster, prepared: tuple[Path, str], tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard(monkeypatch)
    name = "on_a_small_disk"
    own.sql(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {prepared[1]} TABLESPACE small")
    async with payers(own, prepared, tmp_path, str, name) as p:
        ballast = small_disk / "ballast"
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 65536)
                file.flush()
        async with asyncio.timeout(PATIENCE_S):
            while not heard.unavailable:  # pages that are there already take a few payments yet
                await attempt(p)
        assert (await status(p, "/readyz"))[0] == 200, "what is there can still be read"
        ballast.unlink()
        await ends_well(p)
        await pays_again(p)
