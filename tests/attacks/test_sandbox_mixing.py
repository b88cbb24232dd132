"""Live and test never mix: no folder becomes a sandbox or ceases to be one, whichever of its files is exchanged."""

import asyncio
import importlib
import json
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from hanbit import folder
from hanbit.crypto import certificates
from hanbit.db import sqlite_file
from hanbit.kernel.clock import ManualClock, SystemClock
from hanbit.kernel.errors import BadInput
from hanbit.settings import Settings, load
from hanbit.upkeep.doctor import examine
from tests.unit.cli.world import copy_of, make_folder, run, told


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("live") / "data")


@pytest.fixture(scope="module")
def test_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("test") / "data"
    result = run("init", data, "--sandbox", "--listen", "127.0.0.1:0", "--line", "127.0.0.1:0")
    assert result.exit_code == 0, result.output
    assert "TEST" in result.stdout
    return data


def serving_is_refused(data: Path, *, because: str) -> None:
    """The same word from the server, from a command and from the doctor; the book is not touched."""
    before = (data / "book.sqlite").read_bytes()
    done = subprocess.run([sys.executable, "-m", "hanbit", "serve", "--data", data], capture_output=True, check=False, timeout=60)
    assert done.returncode != 0
    assert because in done.stderr.decode()
    assert because in " ".join(told(run("customer", "list", "--data", data)))
    assert [finding for finding in examine(data, SystemClock().now()) if finding.severity == "wrong"]
    assert (data / "book.sqlite").read_bytes() == before


def with_settings(data: Path, **changed: str) -> None:
    """Somebody edits hanbit.toml."""
    path = data / "hanbit.toml"
    lines = path.read_text("utf-8").splitlines()
    for name, value in changed.items():
        assert any(line.startswith(f"{name} = ") for line in lines)
        lines = [f"{name} = {value}" if line.startswith(f"{name} = ") else line for line in lines]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def test_only_a_sandbox_has_an_id_that_ends_in_test() -> None:
    with pytest.raises(BadInput):
        Settings(operator="bank", sandbox=True)
    with pytest.raises(BadInput):
        Settings(operator="bank-test")
    assert Settings(operator="bank-test", sandbox=True).is_test


@pytest.mark.parametrize("operator", ["bank", "test", "bank-tests", "bank-test-1"])
def test_no_sandbox_is_made_under_another_id_and_nothing_is_left_behind(tmp_path: Path, operator: str) -> None:
    assert "-test" in " ".join(told(run("init", tmp_path / "data", "--sandbox", "--operator", operator)))
    assert not (tmp_path / "data").exists()


def test_no_live_operator_is_made_under_a_test_id(tmp_path: Path) -> None:
    assert "-test" in " ".join(told(run("init", tmp_path / "data", "--operator", "bank-test")))
    assert not (tmp_path / "data").exists()


def test_a_sandbox_whose_settings_say_live_does_not_start(test_bank: Path, tmp_path: Path) -> None:
    data = copy_of(test_bank, tmp_path / "data")
    with_settings(data, sandbox="false")
    serving_is_refused(data, because="-test")


def test_a_sandbox_whose_settings_are_wholly_live_does_not_start(test_bank: Path, tmp_path: Path) -> None:
    data = copy_of(test_bank, tmp_path / "data")
    with_settings(data, sandbox="false", operator='"sandbox"')
    serving_is_refused(data, because="urn:hanbit:sandbox")


def test_a_live_folder_whose_settings_say_sandbox_does_not_start(live: Path, tmp_path: Path) -> None:
    data = copy_of(live, tmp_path / "data")
    path = data / "hanbit.toml"
    path.write_text(path.read_text("utf-8").replace("sandbox = false", "sandbox = true"), "utf-8")
    serving_is_refused(data, because="-test")
    with_settings(data, operator='"demo-test"')
    serving_is_refused(data, because="urn:hanbit:demo-test")


def test_a_sandbox_with_a_live_book_does_not_start(live: Path, test_bank: Path, tmp_path: Path) -> None:
    data = copy_of(test_bank, tmp_path / "data")
    shutil.copy(live / "book.sqlite", data / "book.sqlite")
    serving_is_refused(data, because="is a live book")
    codes = {finding.code for finding in examine(data, SystemClock().now())}
    assert "sandbox_mixed" in codes


def test_a_live_folder_with_a_sandbox_book_does_not_start(live: Path, test_bank: Path, tmp_path: Path) -> None:
    data = copy_of(live, tmp_path / "data")
    shutil.copy(test_bank / "book.sqlite", data / "book.sqlite")
    serving_is_refused(data, because="is a sandbox's book")
    assert "sandbox_mixed" in {finding.code for finding in examine(data, SystemClock().now())}


def test_a_live_book_into_which_the_row_was_written_contradicts_its_log(live: Path, tmp_path: Path) -> None:
    data = copy_of(live, tmp_path / "data")
    with closing(sqlite_file.open_for_writing(data / "book.sqlite")) as connection:
        connection.execute("INSERT INTO settings VALUES ('sandbox', 1, '0')")
    serving_is_refused(data, because="is a sandbox's book")


def test_every_certificate_of_a_sandbox_names_it(test_bank: Path) -> None:
    root = certificates.load_chain_pem(test_bank / "keys/root.pem")[0]
    for name in ("gateway-sign.pem", "line.pem"):
        chain = certificates.load_chain_pem(test_bank / "keys" / name)
        leaf = certificates.verify_chain(chain, root=root, at=SystemClock().now(), operator="sandbox-test")
        assert leaf.urn == "urn:hanbit:sandbox-test:gateway"


def test_a_sandbox_writes_down_what_it_is(test_bank: Path) -> None:
    written = json.loads((test_bank / "sandbox.json").read_text("utf-8"))
    assert (written["test"], written["operator"]) == (True, "sandbox-test")
    assert load(test_bank).is_test
    assert "TEST" in (test_bank / "keys/READ-ME.txt").read_text("ascii")
    assert "sandbox" in {finding.code for finding in examine(test_bank, SystemClock().now())}


def test_a_live_server_never_loads_the_sandbox(live: Path, tmp_path: Path) -> None:
    data = copy_of(live, tmp_path / "data")
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from hanbit import server\n"
        "from hanbit.kernel.clock import SystemClock\n"
        "async def main():\n"
        f"    async with server.running(Path({str(data)!r}), SystemClock()):\n"
        "        print([name for name in sys.modules if 'sandbox' in name])\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=60)
    assert done.stdout.decode().strip().splitlines()[-1:] == ["[]"], done.stderr.decode()[-2000:]


def test_a_sandbox_is_restored_as_one_and_a_live_folder_as_live(live: Path, test_bank: Path, tmp_path: Path) -> None:
    for name, data in (("live", live), ("test", test_bank)):
        source = copy_of(data, tmp_path / name)
        assert run("backup", "--data", source, "-o", tmp_path / f"{name}.hanbit").exit_code == 0
        target = tmp_path / f"{name}-again"
        restored = run("restore", tmp_path / f"{name}.hanbit", "--data", target, "--keys", source / "keys")
        assert restored.exit_code == 0, restored.output
        assert load(target).sandbox == (name == "test")
        assert (folder.offset_of(target) is not None) == (name == "test")


def test_the_magic_rows_are_real_and_the_book_is_whole(test_bank: Path, tmp_path: Path) -> None:
    magic = importlib.import_module("hanbit.sandbox.magic")
    data = copy_of(test_bank, tmp_path / "data")
    listed = json.loads(run("account", "list", "--data", data, "--json").stdout)["accounts"]
    assert len(listed) == len(magic.ACCOUNTS)
    assert {row["state"] for row in listed} == {"active", "suspended"}
    assert run("ledger", "check", "--data", data).exit_code == 0

    async def clock_is_its_own() -> None:
        with folder.hold(data):
            gateway = folder.open_gateway(data, ManualClock(1_900_000_000))
            assert gateway.clock.now() == 1_900_000_000
            await folder.close_gateway(gateway)

    asyncio.run(clock_is_its_own())
