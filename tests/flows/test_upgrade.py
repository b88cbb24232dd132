"""From the previous release to this one and back: real folders that its code wrote, its payments finished by ours."""

import asyncio
import hashlib
import os
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest

from hanbit.db import copying, migrations, schema
from hanbit.evidence.bundle import write
from hanbit.evidence.export import export
from hanbit.evidence.verify import verify
from hanbit.folder import hold
from hanbit.kernel.clock import ManualClock
from hanbit.kernel.errors import BadInput
from hanbit.merchant import files
from hanbit.payments import checkpoints, operations
from hanbit.upkeep.restore import restore
from hanbit.upkeep.upgrade import Upgraded, upgrade
from tests.data.release import SHOPS, Release, unpack
from tests.unit.cli.world import installed, run, run_json, told
from tests.world import OPERATOR, World, opened


@pytest.fixture
def old(tmp_path: Path) -> Release:
    return unpack(1, tmp_path / "release")


async def upgraded(old: Release, to: str = "before.hanbit") -> Upgraded:
    return await asyncio.to_thread(upgrade, old.gateway, old.folder / to, ManualClock(old.at))


def digests(folder: Path) -> dict[str, str]:
    """Every file with its content; the locks hold nothing."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock" and not path.name.startswith("seal-")
    }


def states(world: World) -> dict[str, int]:
    found = [row["state"] for row in world.rows("payments")]
    return {state: found.count(state) for state in set(found)}


async def test_what_the_previous_release_had_under_way_is_finished_by_this_one(old: Release) -> None:
    """Its open payment is paid, its holds end in the shop's own answer, its untold outcomes are told, and every promise holds."""
    done = await upgraded(old)
    assert (done.before, done.after) == (1, schema.SCHEMA_VERSION)
    async with opened(old.gateway, old.parties, {shop: old.order_book(shop) for shop in SHOPS}, at=old.at) as world:
        assert states(world) == old.payments
        await world.prove()
        for name in ("open", "placed"):
            visit = world.open(old.redirects[name])
            await visit.login()
            assert (await visit.pay()).state == "captured"
            assert (await world.shop_order(visit)).may_deliver
        await world.tick(31)
        for name in ("confirmed", "unheard"):
            assert world.open(old.redirects[name]).stored.state == "captured"
        await world.tick(3600)
        assert all(row["acknowledged_at"] is not None for row in world.rows("outbox"))
        assert states(world).get("open", 0) + states(world).get("authorized", 0) == 0
        # Today's acts on yesterday's rows: a new payment, a customer's code, the operator's switches.
        assert (await (await world.visit()).pay(method="code")).state == "captured"
        await operations.set_state(world.gateway, what="merchant", id="other", state="suspended")
        await world.prove()
        await world.restart()
        await world.prove()


async def test_the_backup_brings_back_the_old_folder_to_the_byte(old: Release, tmp_path: Path) -> None:
    """So that the previous program serves it again; what was paid in between is lost, and docs/operating.md says so."""
    before = digests(old.gateway)
    await upgraded(old)
    async with opened(old.gateway, old.parties, {shop: old.order_book(shop) for shop in SHOPS}, at=old.at) as world:
        await world.open(old.redirects["placed"]).pay()
    found = restore(old.folder / "before.hanbit", tmp_path / "back", passphrase=None, keys_folder=old.gateway / "keys")
    assert found["schema"] == 1
    assert digests(tmp_path / "back") == before
    assert migrations.version(tmp_path / "back" / "book.sqlite") == 1


def test_a_server_refuses_an_old_book_and_says_what_to_do(old: Release) -> None:
    result = installed("serve", "--data", old.gateway)
    assert result.returncode == 1
    assert f"hanbit upgrade --data {old.gateway}" in result.stderr.decode()
    assert migrations.version(old.gateway / "book.sqlite") == 1


def test_the_command_upgrades_and_a_second_time_has_nothing_to_do(old: Release) -> None:
    found = run_json("upgrade", "--data", old.gateway, "--backup", old.folder / "kept")
    assert (found["from"], found["to"], found["backup"]) == (1, schema.SCHEMA_VERSION, str(old.folder / "kept"))
    assert found["entries"] > 0
    assert found["messages"] > 0
    assert (old.folder / "kept").stat().st_mode & 0o777 == 0o600
    again = run("upgrade", "--data", old.gateway)
    assert again.exit_code == 0
    assert again.stdout.endswith("There is nothing to do.\n")
    assert run("ledger", "check", "--data", old.gateway).exit_code == 0


def test_a_held_folder_and_a_name_that_is_taken_are_left_alone(old: Release) -> None:
    before = digests(old.gateway)
    with hold(old.gateway):
        assert "is held by process" in told(run("upgrade", "--data", old.gateway))[0]
    (old.folder / "taken").write_bytes(b"something else")
    assert "exists" in told(run("upgrade", "--data", old.gateway, "--backup", old.folder / "taken"))[0]
    assert (old.folder / "taken").read_bytes() == b"something else"
    assert digests(old.gateway) == before


def test_a_newer_book_is_said_to_be_newer(old: Release) -> None:
    upgrade(old.gateway, old.folder / "kept", ManualClock(old.at))
    with sqlite3.connect(old.gateway / "book.sqlite") as connection:
        connection.execute("UPDATE book SET schema_version = 99")
    connection.close()
    for command in (("upgrade",), ("customer", "list"), ("ledger", "check")):
        assert "newer than this program" in told(run(*command, "--data", old.gateway))[0]


@pytest.mark.parametrize("point", ["before", "after"])
def test_whoever_pulls_the_plug_leaves_the_old_book_or_the_new_one(point: str, old: Release) -> None:
    environment = {**os.environ, "HANBIT_FAIL_AT": f"gateway.upgrade.{point}"}
    died = installed("upgrade", "--data", old.gateway, "--backup", old.folder / "first", env=environment)
    assert died.returncode == -signal.SIGKILL
    assert migrations.version(old.gateway / "book.sqlite") == (1 if point == "before" else schema.SCHEMA_VERSION)
    assert run("upgrade", "--data", old.gateway, "--backup", old.folder / "second").exit_code == 0
    assert run("ledger", "check", "--data", old.gateway).exit_code == 0
    assert not (old.gateway / "copying").exists()


def test_a_book_that_is_broken_is_not_upgraded(old: Release) -> None:
    """Money that does not add up is found before the book has its new name; the old one stays, and so does the backup."""
    with sqlite3.connect(old.gateway / "book.sqlite") as connection:
        connection.execute("UPDATE ledger_accounts SET debits_posted = debits_posted + 1 WHERE id = 'operator:cash:KRW'")
    connection.close()
    before = digests(old.gateway)
    with pytest.raises(BadInput, match="debits_equal_credits"):
        upgrade(old.gateway, old.folder / "kept", ManualClock(old.at))
    assert digests(old.gateway) == before


def test_a_disk_without_room_is_said_to_be_so(old: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "RESERVE_BYTES", shutil.disk_usage(old.folder).total)
    before = digests(old.gateway)
    assert "MiB free" in told(run("upgrade", "--data", old.gateway, "--backup", old.folder / "kept"))[0]
    assert digests(old.gateway) == before
    assert not (old.folder / "kept").exists()


def test_a_shops_own_folder_is_where_it_was(old: Release) -> None:
    """What a shop enrolled under the previous release is read by this one."""
    for shop in SHOPS:
        registration = files.read_registration(old.folder / shop)
        assert files.load_signer(old.folder / shop, registration).urn == old.parties.merchants[shop].urn


async def test_payments_from_before_the_log_can_be_shown_and_judged(old: Release) -> None:
    """Their messages stand in the log's first leaves, with many others: the file names how many it does not show."""
    await upgraded(old)
    async with opened(old.gateway, old.parties, {shop: old.order_book(shop) for shop in SHOPS}, at=old.at) as world:
        await checkpoints.sign_checkpoint(world.gateway)
        judged = 0
        for payment in world.rows("payments"):
            if payment["state"] == "captured":
                made = export(world.gateway.reader, operator=OPERATOR, merchant=payment["merchant"], tid=payment["tid"])
                report = verify(write(made), root=world.parties.root)
                assert report.verified, report.steps[-1]
                judged += 1
        assert judged
