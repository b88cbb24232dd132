"""A backup that is made while real people pay, and a folder restored from it that goes on: real processes, real files."""

import asyncio
import json
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hanbit.db import copying, sqlite_file
from hanbit.demo.world import Ports
from hanbit.upkeep.backup import verify
from hanbit.upkeep.doctor.findings import holder
from tests import engine
from tests.flows.crash_processes import Site, site
from tests.unit.cli.world import installed

PASSPHRASE = b"a passphrase that is long enough\n"


pytestmark = pytest.mark.skipif(engine.is_postgresql(), reason="a database's backups are its own; see test_on_postgresql")


async def command(*arguments: str | Path, answers: bytes = b"") -> Any:
    """The installed command beside the servers; what it prints as JSON."""
    result: subprocess.CompletedProcess[bytes] = await asyncio.to_thread(installed, *arguments, "--json", answers=answers)
    assert result.returncode == 0, result.stderr.decode()
    return json.loads(result.stdout)


def count(book: Path, what: str) -> int:
    with closing(sqlite_file.open_for_reading(book)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {what}").fetchone()[0])  # noqa: S608 - our own names


async def pay_until(stop: asyncio.Event, s: Site) -> int:
    """A customer who buys one thing after the other."""
    paid, wallet = 0, s.wallet()
    while not stop.is_set():
        _, location = await s.order()
        assert (await s.pay(wallet, location)).state == "captured"
        paid += 1
    return paid


async def test_backups_made_under_load_are_each_a_whole_book(place: tuple[Path, Ports], tmp_path: Path) -> None:
    """Payments go on, each backup is one moment of the book, and nothing of a copy is left behind."""
    folder = place[0] / "gateway"
    async with site(*place) as s:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as customers:
            paying = [customers.create_task(pay_until(stop, s)) for _ in range(3)]
            before = count(folder / "book.sqlite", "entries")
            made = [await command("backup", "--data", folder, "-o", tmp_path / f"{number}.hanbit") for number in range(2)]
            after = count(folder / "book.sqlite", "entries")
            stop.set()
        assert all(task.result() > 0 for task in paying)
        assert before <= made[0]["entries"] < made[1]["entries"] <= after
        await s.proven()
        assert {"sha256": made[1]["sha256"]}.items() <= json.loads(last_backup(folder)).items()
    assert not (folder / copying.FOLDER).exists()
    for number in range(2):
        scratch = tmp_path / f"scratch-{number}"
        scratch.mkdir()
        manifest, proof = verify(tmp_path / f"{number}.hanbit", scratch)
        assert (proof.entries, manifest.made_at) == (made[number]["entries"], made[number]["made_at"])


def last_backup(folder: Path) -> str:
    with closing(sqlite_file.open_for_reading(folder / "book.sqlite")) as connection:
        return str(connection.execute("SELECT value FROM settings WHERE name = 'last_backup'").fetchone()[0])


async def test_a_payment_that_was_under_way_in_the_backup_becomes_final_after_the_restore(
    place: tuple[Path, Ports], tmp_path: Path
) -> None:
    """The shop dies with the notice in its hands; the restored folder holds the money and asks again."""
    folder, file = place[0] / "gateway", tmp_path / "backup.hanbit"
    async with site(*place, shop_fails_at="merchant.commit.before:2") as s:
        tid, location = await s.order()
        wallet = s.wallet()
        opened = await s.log_in(wallet, location)
        outcome = await wallet.submit(opened, s.device, account=s.accounts["bank"])
        assert outcome.state == "authorized"
        await s.shop.killed()
        await command("backup", "--data", folder, "-o", file, "--with-keys", "--passphrase-fd", "0", answers=PASSPHRASE)
        await s.gateway.kill()
        folder.rename(place[0] / "lost")
        await command("restore", file, "--data", folder, "--passphrase-fd", "0", answers=PASSPHRASE)
        await s.gateway.start()
        await s.shop.start()
        assert await s.final(tid) == "captured"
        await s.new_payment()
        await s.proven()


async def test_no_secret_is_in_a_backup_nor_in_its_keys_as_they_lie_there(place: tuple[Path, Ports], tmp_path: Path) -> None:
    folder = place[0] / "gateway"
    paths = [path for path in (folder / "keys").rglob("*") if path.suffix == ".key" or path.name == "pepper"]
    # Of a PEM file the two lines that hold the private number: the last one is public and stands in certificates.
    secrets = {part for path in paths for part in (path.read_bytes().split(b"\n")[1:3] if path.name != "pepper" else [path.read_bytes()])}
    secrets |= {(folder / "keys" / "server.key").read_bytes()}
    secrets = {secret for secret in secrets if len(secret) > 20}
    assert len(secrets) > 8
    await command("backup", "--data", folder, "-o", tmp_path / "plain")
    await command("backup", "--data", folder, "-o", tmp_path / "sealed", "--with-keys", "--passphrase-fd", "0", answers=PASSPHRASE)
    for name in ("plain", "sealed"):
        whole = (tmp_path / name).read_bytes()
        assert not any(secret in whole for secret in secrets)
        assert b"PRIVATE KEY" not in whole
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


async def test_what_must_not_be_written_over_is_not(place: tuple[Path, Ports], tmp_path: Path) -> None:
    folder, file = place[0] / "gateway", tmp_path / "backup"
    await command("backup", "--data", folder, "-o", file)
    before = file.read_bytes()
    for arguments, said in (
        (("backup", "--data", folder, "-o", file), "exists"),
        (("backup", "--data", folder, "-o", tmp_path / "nowhere" / "file"), "is no folder"),
        (("restore", file, "--data", folder, "--keys", folder / "keys"), "is not empty"),
        (("restore", file, "--data", tmp_path / "new"), "--keys"),
        (("restore", file, "--data", tmp_path / "new", "--keys", tmp_path), "no key of ours"),
    ):
        result = await asyncio.to_thread(installed, *arguments)
        assert result.returncode == 1
        assert said in result.stderr.decode()
    assert file.read_bytes() == before
    assert not (tmp_path / "new").exists()


async def test_a_backup_that_was_edited_restores_nothing(place: tuple[Path, Ports], tmp_path: Path) -> None:
    folder, file = place[0] / "gateway", tmp_path / "backup"
    await command("backup", "--data", folder, "-o", file)
    edited = bytearray(file.read_bytes())
    edited[5_000] ^= 1
    (tmp_path / "edited").write_bytes(edited)
    for arguments in (
        ("restore", tmp_path / "edited", "--data", tmp_path / "new", "--keys", folder / "keys"),
        ("backup", "verify", tmp_path / "edited"),
    ):
        result = await asyncio.to_thread(installed, *arguments)
        assert result.returncode == 1
        assert "book.sqlite is not what the manifest says" in result.stderr.decode()
    assert not (tmp_path / "new").exists()


async def test_a_restored_folder_can_be_filled_where_an_empty_one_waits(place: tuple[Path, Ports], tmp_path: Path) -> None:
    """As where the folder belongs to the service and its parent does not."""
    folder, file = place[0] / "gateway", tmp_path / "backup"
    await command("backup", "--data", folder, "-o", file)
    (tmp_path / "waits").mkdir(mode=0o755)
    await command("restore", file, "--data", tmp_path / "waits", "--keys", folder / "keys")
    assert sorted(path.name for path in (tmp_path / "waits").iterdir()) == ["book.sqlite", "hanbit.toml", "keys"]
    assert (tmp_path / "waits").stat().st_mode & 0o777 == 0o700
    assert holder(tmp_path / "waits") is None


async def test_one_backup_at_a_time(place: tuple[Path, Ports], tmp_path: Path) -> None:
    """The second is told, and the first is whole."""
    folder = place[0] / "gateway"
    async with site(*place):
        results = await asyncio.gather(
            *(asyncio.to_thread(installed, "backup", "--data", folder, "-o", tmp_path / f"{number}") for number in range(3))
        )
    good = [number for number, result in enumerate(results) if result.returncode == 0]
    assert good
    for number, result in enumerate(results):
        assert (tmp_path / f"{number}").exists() == (number in good)
        assert number in good or b"another backup of this folder" in result.stderr
