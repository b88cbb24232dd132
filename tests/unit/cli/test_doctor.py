"""`hanbit doctor`: one test for each thing that it must find; it says what to do, and changes nothing."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hanbit import settings
from hanbit.demo.world import Ports
from hanbit.folder import create
from hanbit.kernel.clock import SystemClock
from hanbit.upkeep import doctor
from hanbit.upkeep.doctor import book, machine, server
from hanbit.upkeep.doctor.findings import Finding, Patient
from tests.data.release import unpack
from tests.unit.cli.world import HANBIT, copy_of, installed, run, serving, told

DAY_S = 24 * 3600


def find(data: Path, *, after_s: int = 0) -> list[Finding]:
    """What it finds, so many seconds from now."""
    return list(doctor.examine(data, SystemClock().now() + after_s))


def wrong(data: Path, *, after_s: int = 0) -> list[Finding]:
    """What it calls wrong; each with an advice."""
    found = [finding for finding in find(data, after_s=after_s) if finding.severity == "wrong"]
    assert all(finding.advice for finding in found), found
    return found


def set_line(data: Path, name: str, value: str) -> None:
    """Change one setting by hand, as an operator would."""
    path = data / "hanbit.toml"
    lines = [f"{name} = {value}" if line.startswith(f"{name} =") else line for line in path.read_text("utf-8").splitlines()]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def edit_book(data: Path, *statements: str) -> None:
    """Somebody goes at the book with an editor of his own."""
    with contextlib.closing(sqlite3.connect(data / "book.sqlite")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def fingerprint(data: Path) -> dict[str, str]:
    """Every file of a folder with its content and mode, but for the empty log that SQLite lays beside a book which is read."""
    return {
        str(path.relative_to(data)): f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(data.rglob("*"))
        if path.is_file() and not (path.name.endswith("-shm") or (path.name.endswith("-wal") and path.stat().st_size == 0))
    }


def test_a_healthy_folder_is_called_so_and_left_as_it_is(pristine: Path, tmp_path: Path) -> None:
    data = copy_of(pristine, tmp_path / "data")
    before = fingerprint(data)
    result = run("doctor", "--data", data)
    assert result.exit_code == 1, result.output
    assert result.stdout.endswith("Nothing is wrong, but see →.\n")
    assert "root key: it lies in the folder, unencrypted" in result.stdout
    assert fingerprint(data) == before


def test_the_installed_command_prints_one_json_object(pristine: Path, tmp_path: Path) -> None:
    data = copy_of(pristine, tmp_path / "data")
    report = json.loads(installed("doctor", "--data", data, "--json").stdout)
    assert (report["healthy"], report["status"]) == (True, "warning")
    (data / "keys/pepper").chmod(0o644)
    result = installed("doctor", "--data", data, "--json")
    report = json.loads(result.stdout)
    assert (result.returncode, report["healthy"], report["status"]) == (2, False, "wrong")
    assert {"code": "open_to_others", "what": "permissions", "severity": "wrong"}.items() <= report["findings"][0].items()
    assert report["findings"][0]["advice"] == f"chmod 600 {data / 'keys/pepper'}"


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    assert [finding.what for finding in wrong(tmp_path / "nowhere")] == ["folder"]
    assert [finding.what for finding in wrong(tmp_path)][-1] == "settings"


SPOILED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "folder open to others": (lambda data: data.chmod(0o755), "permissions", "open to other users"),
    "key open to others": (lambda data: (data / "keys/line.key").chmod(0o640), "permissions", "line.key is open"),
    "key missing": (lambda data: (data / "keys/gateway-sign.key").unlink(), "keys", "gateway-sign.key is missing"),
    "key is garbage": (lambda data: (data / "keys/line.key").write_bytes(b"\x00\xff" * 99), "certificates", ""),
    "signing key is garbage": (lambda data: (data / "keys/gateway-sign.key").write_bytes(b"\x00\xff"), "keys", "not a PEM key"),
    "signing key is huge": (lambda data: (data / "keys/gateway-sign.key").write_bytes(b"a" * (1 << 20)), "keys", "too large"),
    "key is another's": (
        lambda data: (data / "keys/gateway-sign.key").write_bytes((data / "keys/line.key").read_bytes()),
        "keys",
        "",
    ),
    "pepper cut short": (lambda data: (data / "keys/pepper").write_bytes(b"salt"), "keys", "cut short"),
    "certificate is garbage": (lambda data: (data / "keys/line.pem").write_bytes(b"\xff"), "certificates", "line.pem"),
    "root is empty": (lambda data: (data / "keys/root.pem").write_bytes(b""), "keys", "root.pem"),
    "seal key of another name": (lambda data: (data / "keys/seal-now.key").write_bytes(b"x"), "keys", "seal-now"),
    "settings no TOML": (lambda data: (data / "hanbit.toml").write_bytes(b"operator ="), "settings", "hanbit.toml"),
    "settings no UTF-8": (lambda data: (data / "hanbit.toml").write_bytes(b'operator = "\xff"'), "settings", "hanbit.toml"),
    "settings huge": (lambda data: (data / "hanbit.toml").write_bytes(b"#" * (1 << 20)), "settings", "larger than"),
    "settings deep": (lambda data: (data / "hanbit.toml").write_bytes(b"a = " + b"[" * 5000), "settings", "hanbit.toml"),
    "settings long number": (lambda data: set_line(data, "listen_port", "9" * 5000), "settings", "hanbit.toml"),
    "settings twice": (lambda data: (data / "hanbit.toml").write_text('operator = "a"\noperator = "b"\n'), "settings", "hanbit.toml"),
    "unknown setting": (lambda data: (data / "hanbit.toml").write_text("debug = true\n"), "settings", "unknown setting 'debug'"),
    "wrong type": (lambda data: set_line(data, "listen_port", '"8400"'), "settings", "listen_port must be int"),
    "a flag for a number": (lambda data: set_line(data, "listen_port", "true"), "settings", "listen_port must be int"),
    "list of numbers": (lambda data: set_line(data, "checkouts", "[1]"), "settings", "checkouts must be a list of texts"),
    "unknown checkout": (lambda data: set_line(data, "checkouts", '["redirect", "card"]'), "settings", "checkouts"),
    "plain http": (lambda data: set_line(data, "public_url", '"http://bank.example"'), "settings", "public_url"),
    "no workers": (lambda data: set_line(data, "password_workers", "0"), "settings", "password_workers: 1 to 64"),
    "negative limit": (lambda data: set_line(data, "unsigned_limit_minor", "-1"), "settings", "unsigned_limit_minor"),
    "not a number": (lambda data: set_line(data, "notice_wait_s", "nan"), "settings", "notice_wait_s"),
    "other operator": (lambda data: set_line(data, "operator", '"other"'), "keys", ""),
    "book missing": (lambda data: (data / "book.sqlite").unlink(), "book", "is missing"),
    "book is garbage": (lambda data: (data / "book.sqlite").write_bytes(b"no book" * 999), "book", "cannot be read"),
    "book is empty": (lambda data: (data / "book.sqlite").write_bytes(b""), "book", "cannot be read"),
    "book of another schema": (lambda data: edit_book(data, "UPDATE book SET schema_version = 99"), "book", "newer than this program"),
    "book out of balance": (
        lambda data: edit_book(data, "UPDATE ledger_accounts SET debits_posted = 5 WHERE id = 'operator:cash:KRW'"),
        "book",
        "debits_equal_credits",
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_is_spoiled_is_named_with_an_advice(case: str, pristine: Path, tmp_path: Path) -> None:
    """And a server does not start on most of it: see the next test."""
    spoil, what, text = SPOILED[case]
    data = copy_of(pristine, tmp_path / "data")
    spoil(data)
    found = wrong(data)
    assert any(finding.what in {what, "keys"} and text in finding.found for finding in found), found


@pytest.mark.parametrize("case", [case for case in SPOILED if case not in {"folder open to others", "book out of balance"}])
def test_no_command_runs_on_what_is_spoiled_nor_shows_a_traceback(case: str, pristine: Path, tmp_path: Path) -> None:
    data = copy_of(pristine, tmp_path / "data")
    SPOILED[case][0](data)
    lines = told(run("customer", "list", "--data", data))
    assert not lines[0].startswith("Error: AssertionError")
    assert "HANBIT_TRACEBACK" not in lines[-1], lines


def test_certificates_that_end_are_told_before_and_after(pristine: Path) -> None:
    # Half a day off the edge, so that it does not matter in which second the folder was made.
    soon = [finding for finding in find(pristine, after_s=70 * DAY_S + DAY_S // 2) if finding.what == "certificates"]
    assert {finding.severity for finding in soon} == {"warning"}
    assert any("gateway-sign ends in 19 days" in finding.found for finding in soon)
    ended = [finding.found for finding in wrong(pristine, after_s=100 * DAY_S + DAY_S // 2) if finding.what == "certificates"]
    assert ended == ["gateway-sign has ended 10 days ago", "line has ended 10 days ago"]


def test_an_old_seal_key_is_the_servers_fault_only_while_it_runs(pristine: Path, served: Path) -> None:
    states = {
        data: [finding.severity for finding in find(data, after_s=2 * DAY_S) if finding.what == "seal key"] for data in (pristine, served)
    }
    assert states == {pristine: ["ok"], served: ["wrong"]}


def test_a_clock_behind_the_book_is_wrong(pristine: Path) -> None:
    found = [finding for finding in wrong(pristine, after_s=-3600) if finding.what == "clock"]
    assert "s behind the book's last commit" in found[0].found


def test_a_taken_port_is_named_with_its_setting(pristine: Path, tmp_path: Path) -> None:
    data = copy_of(pristine, tmp_path / "data")
    with socket.create_server(("127.0.0.1", settings.load(data).line_port)):
        found = wrong(data)
    assert [finding.what for finding in found] == ["ports"]
    assert "change line_port" in found[0].advice


def test_a_running_server_is_found_ready_and_without_merchants(pristine: Path, tmp_path: Path) -> None:
    with serving(copy_of(pristine, tmp_path / "data")) as data:
        found = {finding.what: finding for finding in find(data)}
        holder = (data / "lock").read_text().strip()
        assert run("doctor", "--data", data).exit_code == 1, "its root key lies there"
    assert found["server"].severity == "ok"
    assert found["server"].found.startswith(f"process {holder} is ready at 127.0.0.1:")
    assert (found["line"].severity, found["line"].found) == ("ok", "0 of 0 merchants, 0 connections")


def test_a_server_that_hangs_is_found(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process holds the folder and its port takes connections; nobody answers."""
    data = copy_of(pristine, tmp_path / "data")
    monkeypatch.setattr(server, "ANSWER_WITHIN_S", 0.2)
    code = "import time; from hanbit.folder import hold; from pathlib import Path\n"
    code += f"with hold(Path({str(data)!r})): print('held', flush=True); time.sleep(60)"
    with (
        socket.create_server(("127.0.0.1", settings.load(data).listen_port)),
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        found = wrong(data)
        process.send_signal(signal.SIGKILL)
    assert [finding.code for finding in found] == ["server_silent", "control_silent"]
    assert f"process {process.pid} holds the folder but does not answer" in found[0].found


def test_payments_and_outcomes_that_should_have_ended_are_told(pristine: Path, tmp_path: Path) -> None:
    data = copy_of(pristine, tmp_path / "data")
    edit_book(data, "INSERT INTO outbox VALUES ('h', 1, 'shop', 't', 1, 3, 1000, NULL)")
    found = [finding for finding in find(data) if finding.what == "outbox"]
    assert [finding.severity for finding in found] == ["warning"]
    assert found[0].found.startswith("shop has not acknowledged")


def test_little_room_on_the_disk_is_told(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, state in ((1 << 20, "wrong"), (1 << 30, "warning"), (1 << 40, "ok")):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
        assert [finding.severity for finding in find(pristine) if finding.what == "disk"] == [state]


MACHINES_OWN = {"clock_unsynchronized", "disk_low", "open_files_low"}
"""What may be so on the machine that runs the tests."""


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as an operator makes it for real money: the root's key is elsewhere, a backup was made."""
    folder = tmp_path_factory.mktemp("healthy")
    ports = Ports.free()
    own = settings.Settings(
        public_url=f"http://pay.localhost:{ports.pay}", listen_port=ports.pay, line_port=ports.line, metrics_port=ports.metrics
    )
    asyncio.run(create(folder / "data", own, SystemClock(), root_key=folder / "root.key", root_passphrase=b"kept apart"))
    assert run("backup", "--data", folder / "data", "-o", folder / "backup").exit_code == 0
    return folder / "data"


def codes(data: Path, *, after_s: int = 0) -> set[str]:
    """The codes of what is not good, but for what the machine is to blame for."""
    return {finding.code for finding in find(data, after_s=after_s) if finding.severity != "ok"} - MACHINES_OWN


def test_of_a_healthy_folder_there_is_nothing_to_say(healthy: Path) -> None:
    assert codes(healthy) == set()
    assert run("doctor", "--data", healthy).exit_code in (0, 1)
    assert all(finding.code and not finding.advice for finding in find(healthy) if finding.severity == "ok")


def leave_a_copy(data: Path) -> None:
    (data / "copying").mkdir(mode=0o700)


def use_tls(data: Path, *, host: str = "pay.mybank.example", days: int = 90, mode: int = 0o600) -> None:
    """A certificate of the customers' side, as openssl makes one."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"]
    command += [
        "-addext",
        f"subjectAltName=DNS:{host}",
        "-days",
        str(days),
        "-keyout",
        str(data / "site.key"),
        "-out",
        str(data / "site.pem"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (data / "site.pem").chmod(0o600)
    (data / "site.key").chmod(mode)
    set_line(data, "public_url", '"https://pay.mybank.example"')
    set_line(data, "tls_certificate", '"site.pem"')
    set_line(data, "tls_key", '"site.key"')


def lose_site_certificate(data: Path) -> None:
    use_tls(data)
    (data / "site.pem").unlink()


def swap_site_key(data: Path) -> None:
    use_tls(data)
    (data / "site.key").write_bytes((data / "keys/line.key").read_bytes())


BROKEN: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "a backup that was cut short": (leave_a_copy, {"copy_left_over"}),
    "https and nobody to end TLS": (lambda data: set_line(data, "public_url", '"https://pay.mybank.example"'), {"site_without_tls"}),
    "site's certificate": (use_tls, set()),
    "site's certificate ends soon": (lambda data: use_tls(data, days=10), {"site_certificate_ending"}),
    "site's certificate for another name": (lambda data: use_tls(data, host="shop.example"), {"site_certificate"}),
    "site's key open to others": (lambda data: use_tls(data, mode=0o640), {"site_damaged", "open_to_others"}),
    "site's key of another certificate": (swap_site_key, {"site_damaged"}),
    "site's certificate is missing": (lose_site_certificate, {"site_damaged"}),
    "book of an earlier release": (lambda data: edit_book(data, "UPDATE book SET schema_version = 1"), {"book_old"}),
    "book of a later release": (lambda data: edit_book(data, "UPDATE book SET schema_version = 99"), {"book_newer"}),
    "a log that cannot be extended": (
        lambda data: edit_book(data, """UPDATE settings SET value = '{"reason": "a later checkpoint is held"}' WHERE name = 'halted'"""),
        {"payments_halted"},
    ),
    "no backup for a week": (
        lambda data: edit_book(data, "UPDATE settings SET value = json_set(value, '$.at', 1) WHERE name = 'last_backup'"),
        {"backup_old"},
    ),
    "root key beside the book": (lambda data: (data / "keys/root.key").touch(mode=0o600), {"root_key_here"}),
    "a merchant's outcome": (
        lambda data: edit_book(data, "INSERT INTO outbox VALUES ('h', 1, 'shop', 't', 1, 3, 1000, NULL)"),
        {"outbox_waits"},
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_each_thing_that_is_broken_has_its_own_code(case: str, healthy: Path, tmp_path: Path) -> None:
    data = copy_of(healthy, tmp_path / "data")
    BROKEN[case][0](data)
    assert codes(data) == BROKEN[case][1]


def test_a_folder_without_a_backup_is_told_so_from_its_second_day_on(pristine: Path) -> None:
    assert "backup_never" not in codes(pristine)
    assert "backup_never" in codes(pristine, after_s=2 * DAY_S)


def test_few_inodes_are_told(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = os.statvfs(healthy).f_favail
    monkeypatch.setattr(machine, "INODES_WARNING", left * 2)
    assert codes(healthy) == {"inodes_low"}
    monkeypatch.setattr(machine, "INODES_LEAST", left * 2)
    assert codes(healthy) == {"inodes_full"}


def test_few_open_files_are_told(healthy: Path, tmp_path: Path) -> None:
    """Of the server too: it is asked what it may open."""
    found = subprocess.run(
        ["bash", "-c", f"ulimit -n 1000; exec {HANBIT} doctor --data {healthy} --json"], capture_output=True, check=False, timeout=30
    )
    assert "open_files_low" in {finding["code"] for finding in json.loads(found.stdout)["findings"]}


def test_python_without_asserts_does_not_even_look(healthy: Path) -> None:
    result = installed("doctor", "--data", healthy, env={**os.environ, "PYTHONOPTIMIZE": "1"})
    assert result.returncode == 2
    assert b"python -O" in result.stderr


def test_payments_that_should_be_final_are_the_servers_fault_while_it_runs(tmp_path: Path) -> None:
    """On the folder of the previous release, brought to this one: two payments were open when it stopped."""
    release = unpack(1, tmp_path / "release")
    assert run("upgrade", "--data", release.gateway, "--backup", tmp_path / "backup").exit_code == 0
    patient = Patient(release.gateway, settings.load(release.gateway), release.at + DAY_S, None)
    for holder, expected in ((None, "payments_wait"), (1, "payments_overdue")):
        found = {finding.code for finding in book.book(replace(patient, holder=holder)) if finding.severity != "ok"}
        assert expected in found


def line(*, up: bool = True, offset_s: int | None = 0, reason: str | None = None) -> dict[str, object]:
    return {"up": up, "connections": int(up), "offset_s": offset_s, "reason": reason}


LINES: dict[str, tuple[dict[str, dict[str, object]], set[str]]] = {
    "all there": ({"a": line(), "b": line(offset_s=29)}, set()),
    "nobody there": ({"a": line(up=False, offset_s=None)}, {"line_down"}),
    "one away": ({"a": line(), "b": line(up=False, offset_s=None, reason="silent")}, {"merchant_away"}),
    "many away": ({"a": line()} | {f"m{number}": line(up=False, offset_s=None) for number in range(9)}, {"merchant_away"}),
    "a merchant's clock": ({"a": line(), "b": line(offset_s=45), "c": line()}, {"merchant_clock"}),
    "our clock": ({"a": line(offset_s=-50), "b": line(offset_s=-48), "c": line(offset_s=-52)}, {"clock_offset"}),
}


@pytest.mark.parametrize("case", LINES)
def test_whose_line_is_down_and_whose_clock_is_wrong(case: str, healthy: Path) -> None:
    lines, expected = LINES[case]
    patient = Patient(healthy, settings.load(healthy), 0, 1)
    found = {finding.code for finding in server._lines(patient, lines) if finding.severity != "ok"}
    assert found == expected


def test_a_running_server_says_which_merchant_is_away(pristine: Path, tmp_path: Path) -> None:
    """Asked through its own socket: what only it knows."""
    about = ("--name", "Nobody", "--telephone", "02-555-0123", "--return-url", "https://shop.localhost/")
    with serving(copy_of(pristine, tmp_path / "data")) as data:
        assert run("merchant", "create", "absent", *about, "--data", data).exit_code == 0
        found = [finding for finding in find(data) if finding.what == "line"]
    assert [(finding.code, finding.found) for finding in found] == [("line_down", "no merchant is connected")]
