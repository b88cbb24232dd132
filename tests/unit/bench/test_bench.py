"""The bench counts what it says it counts: percentiles, batches, floors, its own transport, and an audit that sees what is broken."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner

from hanbit.bench import audit, cluster, figures, floors, memory, processes
from hanbit.bench.relay import BODY_MAX, Relay
from hanbit.bench.transport import LeanHttp
from hanbit.bench.world import until_ready
from hanbit.cli import main
from hanbit.db.sqlite import BOOK_FILE, create_book
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import BadInput, NotFound, Unavailable
from hanbit.merchant.shop import Shop
from hanbit.metrics import merged
from hanbit.settings import Settings
from hanbit.wallet.client import Origin

PAGES_MAX_S = 300
PARTIES = ("gateway", "merchant", "customer")
BEFORE = 'hanbit_commit_batch_changes_bucket{le="1.0"} 5.0\nhanbit_commit_batch_changes_bucket{le="2.0"} 5.0\n'
AFTER = (
    'hanbit_commit_batch_changes_bucket{le="1.0"} 7.0\n'
    'hanbit_commit_batch_changes_bucket{le="2.0"} 8.0\n'
    'hanbit_commit_batch_changes_bucket{le="32.0"} 15.0\n'
    'hanbit_commit_batch_changes_bucket{le="+Inf"} 15.0\n'
    "hanbit_commit_batch_largest_changes 29.0\n"
)


@pytest.mark.parametrize(("percent", "expected"), [(1, 1.0), (50, 50.0), (99, 99.0), (100, 100.0)])
def test_a_percentile_is_the_nearest_rank(percent: int, expected: float) -> None:
    assert figures.percentile_ms([place / 1000 for place in range(1, 101)], percent) == expected


def test_nothing_measured_is_no_figure() -> None:
    assert figures.Latencies().summary() == {"p50_ms": None, "p99_ms": None}
    assert figures.rate(0, 1.0) is None
    assert figures.commit_batch("", "") == {"p50": None, "max": None}
    assert figures.cpu_ms(dict.fromkeys(PARTIES, 0.0), dict.fromkeys(PARTIES, 1.0), 0) == dict.fromkeys(PARTIES)


def test_the_median_commit_is_that_of_the_run_alone() -> None:
    assert figures.commit_batch(BEFORE, AFTER) == {"p50": 32, "max": 29}


def test_the_figures_of_several_processes_are_added_up() -> None:
    before, after = (merged(dict.fromkeys((1, 2), "# HELP hanbit_commit_batch Commits\n" + page)).decode() for page in (BEFORE, AFTER))
    assert figures.read_batches(after) == {size: 2 * count for size, count in figures.read_batches(AFTER).items()}
    assert figures.commit_batch(before, after) == {"p50": 32, "max": 29}
    assert (figures.processes(AFTER), figures.processes(after)) == (0, 2)


def test_the_processor_time_of_a_party_is_that_of_its_children_too() -> None:
    command = [sys.executable, "-c", "import sys; sum(range(3_000_000)); print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        assert child.pid in processes.children(os.getpid())
        assert processes.cpu_s(child.pid) > 0
        assert processes.rss_mb(child.pid) > 1
        child.stdin.close()


def test_cpu_is_told_a_payment() -> None:
    after = {"gateway": 2.0, "merchant": 1.5, "customer": 1.25}
    assert figures.cpu_ms(dict.fromkeys(PARTIES, 1.0), after, 1000) == {"gateway": 1.0, "merchant": 0.5, "customer": 0.25}


def test_the_table_shows_every_figure() -> None:
    shown = figures.table(
        {"payments_per_s": 1234.5, "p50_ms": None, "floors": {"commit_us": 300.0}, "factor": "device", "again": False, "cpu_us": {}}
    )
    assert shown.splitlines() == [
        "payments_per_s       1,234.5",
        "p50_ms               -",
        "floors               commit_us 300.0",
        "factor               device",
        "again                no",
        "cpu_us               -",
    ]


def test_floors_are_measured_where_the_book_will_lie(tmp_path: Path) -> None:
    found = floors.measure(tmp_path, SystemClock())
    assert set(found) == {"fdatasync_us", "commit_us", "p256_sign_us", "p256_verify_us"}
    assert all(value > 0 for value in found.values())
    assert not (tmp_path / "floor").exists()


def test_a_folder_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(floors, "file_system", lambda _: "tmpfs")
    with pytest.raises(BadInput, match="durable"):
        floors.check_disk(tmp_path)


async def test_the_lean_client_reads_answers_in_pieces_and_keeps_servers_apart() -> None:
    ended = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError):
            while b"POST /pay" in await reader.readuntil(b"\r\n\r\n"):
                assert await reader.readexactly(2) == b"{}"
                port = str(writer.get_extra_info("sockname")[1]).encode()
                for piece in (b"HTTP/1.1 200 OK\r\nContent-", b"Type: application/json; x\r\nSet-Cookie: __Host-hanbit=abc; Path=/\r\n"):
                    writer.write(piece)
                    await writer.drain()
                writer.write(b"Content-Length: %d\r\n\r\n" % len(port) + port)
        writer.close()
        await writer.wait_closed()

    servers = [await asyncio.start_server(serve, "127.0.0.1", 0) for _ in range(2)]
    async with LeanHttp() as http:
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        for port in ports * 2:
            answer = await http.exchange(Origin("http", "localhost", port), "POST", "/pay", {"Accept": "*/*"}, b"{}")
            assert (answer.status, answer.content_type, answer.content, answer.cookie) == (
                200,
                "application/json",
                str(port).encode(),
                "abc",
            )
        with pytest.raises(Unavailable):
            await http.exchange(Origin("http", "localhost", ports[0]), "GET", "/elsewhere", {}, None)
    await asyncio.gather(*(task for task in ended if task is not None))
    for server in servers:
        server.close()
        await server.wait_closed()


def test_orders_that_the_shop_may_deliver_are_counted_from_its_own_book(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "orders.sqlite")) as book:
        book.execute("CREATE TABLE orders (state TEXT, refunded_minor INTEGER)")
        rows = [("settled", 0), ("settled", 500), ("placed", 0), ("cancelled", 1_000), ("cancelled", 0)]
        book.executemany("INSERT INTO orders VALUES (?, ?)", rows)
        book.commit()
    assert audit.settled_orders(tmp_path / "orders.sqlite") == 3


def test_a_run_with_cancellations_times_the_refunds_and_audits_them_in_both_books() -> None:
    asked = ["bench", "payments", "--seconds", "1", "--concurrency", "2", "--with-cancellations", "--every", "2", "--json"]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["errors"] == 0
    assert report["refunds"] == report["payments"] // 2 * 2  # half, then the rest, of every second one
    assert report["refund_p50_ms"] <= report["refund_p99_ms"]


def test_refunds_that_only_one_book_knows_are_found(tmp_path: Path) -> None:
    create_book(tmp_path / BOOK_FILE, "bank", 1)
    with closing(sqlite3.connect(tmp_path / "orders.sqlite")) as book:
        book.execute("CREATE TABLE orders (refunded_minor INTEGER)")
        book.execute("CREATE TABLE cancellations (state TEXT)")
        book.commit()
        assert audit.refunds_agree(tmp_path, tmp_path / "orders.sqlite") == []
        book.execute("INSERT INTO orders VALUES (500)")
        book.execute("INSERT INTO cancellations VALUES ('confirmed')")
        book.commit()
    (found,) = audit.refunds_agree(tmp_path, tmp_path / "orders.sqlite")
    assert found == "the gateway gave back 0 in 0 refunds, the shop knows of 500 in 1"


def test_purchases_that_only_one_book_approved_are_found_and_so_are_envelopes_that_stay(tmp_path: Path) -> None:
    create_book(tmp_path / BOOK_FILE, "bank", 1)
    with closing(sqlite3.connect(tmp_path / "orders.sqlite")) as book:
        book.execute("CREATE TABLE exchanges (state TEXT, envelope TEXT)")
        book.commit()
        assert audit.purchases_agree(tmp_path, tmp_path / "orders.sqlite", 0) == []
        book.executemany("INSERT INTO exchanges VALUES (?, ?)", [("approved", None), ("declined", None), ("asked", "a.b.c.d.e")])
        book.commit()
    assert audit.purchases_agree(tmp_path, tmp_path / "orders.sqlite", 0) == [
        "0 captured, of 0 that the gateway approved and 1 that the shop knows of",
        "the shop still holds 1 envelopes",
    ]


async def test_the_relay_answers_only_what_the_customers_program_asks() -> None:
    class NoSuchOrder:
        async def open_session(self, tid: str, session_request: str) -> None:
            assert session_request == "x"
            raise NotFound(tid)

    shop = cast(Shop, NoSuchOrder())  # what a real one answers is in every run below
    server = await asyncio.get_running_loop().create_server(lambda: Relay(shop), "127.0.0.1", 0)
    origin = Origin("http", "localhost", server.sockets[0].getsockname()[1])
    async with LeanHttp() as http:
        asked = [("/t/sessions", b'{"session_request":"x"}'), ("/t/sessions", b"{}"), ("/t/elsewhere", b"{}"), ("/t", b"{}")]
        answers = [await http.exchange(origin, "POST", target, {}, body) for target, body in asked]
        with pytest.raises(Unavailable):
            await http.exchange(origin, "POST", "/t/sessions", {}, bytes(BODY_MAX + 1))
    assert [answer.status for answer in answers] == [404, 400, 400, 400]
    assert answers[0].content == b'{"code":"not_found"}'
    server.close()
    await server.wait_closed()


async def test_workers_that_do_not_answer_yet_are_waited_for() -> None:
    tries = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n") and tries > 1:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = Settings(operator="bench", listen_port=port, metrics_port=port)
    here = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        async with LeanHttp() as http:
            await until_ready(http, settings, 1, processes.Party(here, Path("log")), SystemClock())
    finally:
        here.kill()
        await here.wait()
    assert tries > 1
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("protocol", ["redirect", "dual-signature"])
def test_a_short_run_pays_is_audited_and_prints_one_object(protocol: str) -> None:
    result = CliRunner().invoke(main, ["bench", "payments", "--seconds", "1", "--concurrency", "2", "--protocol", protocol, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["errors"] == 0
    assert report["protocol"] == protocol
    assert report["payments"] > 0
    promised = "payments_per_s openings_per_s checkouts_per_s p50_ms p99_ms cpu_ms_per_payment commit_batch factor errors floors"
    assert set(promised.split()) <= set(report)
    assert None not in report.values()
    assert set(report["cpu_ms_per_payment"]) == {"gateway", "merchant", "customer"}
    assert set(report["commit_batch"]) == {"p50", "max"}
    assert {"fdatasync_us", "p256_sign_us", "p256_verify_us"} <= set(report["floors"])


def test_payments_that_begin_at_their_own_moments_go_to_several_shops_of_a_book_that_is_not_empty() -> None:
    asked = [
        "bench",
        "payments",
        "--seconds",
        "1",
        "--concurrency",
        "2",
        "--open-loop",
        "5",
        "--merchants",
        "2",
        "--preload",
        "30",
        "--logins",
        "10",  # by two people: whoever is due again before he is in waits for himself
        "--json",
    ]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["errors"] == 0
    assert 0 < report["payments"] <= 3, "beside the logins, in the second half"
    assert 0 < report["open_loop_s"] <= 1
    assert report["logins_per_s"] > 0
    assert (report["open_loop_per_s"], report["merchants"], report["preload"]) == (5, 2, 30)


def test_the_slope_of_memory_is_that_of_the_second_half() -> None:
    growing = [(float(at), 100.0 if at < 10 else 100.0 + (at - 10) / 60) for at in range(21)]
    assert memory.summary(growing) == {
        "first_mb": 100.0, "half_mb": 100.0, "last_mb": 100.2, "max_mb": 100.2, "mb_per_hour": 60.0, "samples": 21,
    }  # fmt: skip
    assert memory.summary([(0.0, 5.0)])["mb_per_hour"] == 0


def test_a_short_run_looks_at_every_partys_memory() -> None:
    result = CliRunner().invoke(main, ["bench", "memory", "--seconds", "2", "--concurrency", "2", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [party["party"] for party in report["memory"]] == ["gateway", "merchant", "customer"]
    assert all(party["last_mb"] > 1 and party["samples"] > 2 for party in report["memory"])
    assert report["checkouts"] > 0


@pytest.mark.processes
def test_two_workers_on_postgresql_pay_and_are_counted_with_the_database() -> None:
    try:
        cluster.binaries()
    except Unavailable:
        pytest.skip("there is no PostgreSQL here")
    asked = ["bench", "payments", "--seconds", "1", "--concurrency", "2", "--store", "postgresql", "--workers", "2", "--preload", "30"]
    result = CliRunner().invoke(main, [*asked, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["errors"], report["store"], report["workers"]) == (0, "postgresql", 2)
    assert report["payments"] > 0
    assert set(report["cpu_ms_per_payment"]) == {"gateway", "merchant", "customer", "database"}
    assert report["commit_batch"]["max"] >= 1


@pytest.mark.parametrize("also", ["--workers=2", "--database=postgresql:///bench"])
def test_what_needs_postgresql_is_refused_on_sqlite(also: str) -> None:
    result = CliRunner().invoke(main, ["bench", "payments", also])
    assert result.exit_code == 2
    assert "--store postgresql" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as somebody else")
def test_a_folder_that_postgresql_cannot_enter_is_named(disk: Path) -> None:
    try:
        cluster.binaries()
    except Unavailable:
        pytest.skip("there is no PostgreSQL here")
    disk.chmod(0o700)
    result = CliRunner().invoke(main, ["bench", "ledger", "--seconds", "1", "--store", "postgresql", "--directory", str(disk)])
    assert result.exit_code == 1
    assert f"Error: {disk} is closed to " in result.stderr
    assert not list(disk.iterdir())


@pytest.mark.parametrize(
    ("asked", "needed"),
    [(("payments", "--every=5"), "--with-cancellations"), (("ledger", "--database=postgresql:///bench"), "--store postgresql")],
)
def test_an_option_that_would_do_nothing_is_refused(asked: tuple[str, ...], needed: str) -> None:
    result = CliRunner().invoke(main, ["bench", *asked])
    assert result.exit_code == 2
    assert needed in result.stderr


@pytest.mark.parametrize("also", ["--hot-merchant", "--with-cancellations", "--protocol=dual-signature"])
def test_what_goes_with_one_merchant_is_refused_with_more(also: str) -> None:
    result = CliRunner().invoke(main, ["bench", "payments", "--merchants", "2", also])
    assert result.exit_code == 2
    assert "go with one merchant" in result.stderr


def test_pages_of_a_filled_book_are_all_pages_and_none_is_too_large() -> None:
    command = [sys.executable, "-m", "hanbit", "bench", "pages", "--payments", "1000", "--json"]  # a process of its own: it sets up the log
    result = subprocess.run(command, capture_output=True, text=True, timeout=PAGES_MAX_S, check=False)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["payments"] == 1000
    assert {name.split(":")[0] for name in report["pages"]} == {"operator", "merchant", "customer"}
    assert all(page["p50_ms"] > 0 and page["kb"] < 100 for page in report["pages"].values())
    assert set(report["too_slow"]) | set(report["too_dear"]) <= set(report["pages"])
