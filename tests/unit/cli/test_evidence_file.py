"""`hanbit evidence export`, `verify` and `hanbit merchant evidence` as a person types them, with the base install where that must do."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hanbit.db.change import Change, Put
from hanbit.kernel import ids
from hanbit.payments import checkpoints
from tests.unit.cli.world import copy_of, run, run_json, told
from tests.world import OPERATOR, Visit, World, open_world

ENROLLED = Path(__file__).parents[2] / "data" / "release-1" / "shop"
WITHOUT_THE_SERVERS_PACKAGES = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split():
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
from hanbit.cli import main
main(sys.argv[2:])
"""
PACKAGES = "alembic argon2 babel httptools jinja2 prometheus_client pysqlite3 segno sqlalchemy starlette uvicorn uvloop webauthn"


@pytest.fixture
async def paid(tmp_path: Path) -> tuple[Path, Path, str]:
    """A folder with one payment under a checkpoint, its root, the tid."""
    async with open_world(tmp_path / "world") as world:
        visit = await _paid(world)
        root = tmp_path / "root.pem"
        root.write_bytes(x509.load_der_x509_certificate(world.parties.root).public_bytes(Encoding.PEM))
        return copy_of(world.folder, tmp_path / "copy"), root, visit.redirect.tid


async def _paid(world: World) -> Visit:
    visit = await world.visit()
    await visit.pay()
    await checkpoints.sign_checkpoint(world.gateway)
    return visit


def test_exported_file_is_verified_by_the_base_install_alone(paid: tuple[Path, Path, str], tmp_path: Path) -> None:
    data, root, tid = paid
    out = tmp_path / "payment.evidence"
    assert run_json("evidence", "export", tid, "--data", data, "-o", out)["merchant"] == "shop"
    command = [sys.executable, "-c", WITHOUT_THE_SERVERS_PACKAGES, PACKAGES, "evidence", "verify", str(out), "--root", str(root)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[0].startswith("  1  ok      the file: ")
    assert ended.stdout.splitlines()[-1] == "verified"
    korean = run_json("evidence", "verify", out, "--root", root, "--language", "ko")
    assert korean["verified"]
    assert any("부인할 수 없습니다" in one["text"] for one in korean["conclusions"])


def test_changed_file_ends_with_the_number_of_the_step(paid: tuple[Path, Path, str], tmp_path: Path) -> None:
    data, root, tid = paid
    out = tmp_path / "payment.evidence"
    run("evidence", "export", tid, "--data", data, "-o", out)
    out.write_bytes(out.read_bytes().replace(b"220000", b"220001"))
    result = run("evidence", "verify", out, "--root", root)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "NOT VERIFIED: step 1"
    as_json = json.loads(run("evidence", "verify", out, "--root", root, "--json").stdout)
    assert (as_json["verified"], as_json["failed"], as_json["conclusions"]) == (False, 1, [])


def test_unknown_tid_and_files_that_are_none_are_refused_in_words(paid: tuple[Path, Path, str], tmp_path: Path) -> None:
    data, root, tid = paid
    out = tmp_path / "x.evidence"
    assert run("evidence", "export", "A" * 22, "--data", data, "-o", out).exit_code == 1
    assert "is missing" in told(run("evidence", "export", tid, "--data", tmp_path, "-o", out))[0]
    assert not out.exists()
    assert run("evidence", "export", tid, "--data", data, "-o", out, "--lines", root).exit_code == 1
    assert run("evidence", "export", tid, "--data", data, "-o", out, "--checkpoint", root).exit_code == 1
    assert not out.exists()
    assert run("evidence", "verify", root, "--root", root).exit_code == 1
    assert run("evidence", "export", tid, "--data", data, "-o", out).exit_code == 0
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    for no_root in (out, tmp_path / "bytes"):
        assert run("evidence", "verify", out, "--root", no_root).exit_code == 1
    assert run("evidence", "verify", out, "--root", root, "--checkpoint", root).exit_code == 1
    assert run("evidence", "verify", out, "--root", root, "--key-card", "no thumbprint").exit_code == 1


async def test_tid_of_two_merchants_is_asked_back(tmp_path: Path) -> None:
    async with open_world(tmp_path / "world") as world:
        visit = await _paid(world)
        (row,) = world.rows("payments")
        twin: dict[str, Any] = row | {"merchant": "other", "id": ids.new_token()}
        await world.gateway.book.commit(Change(puts=(Put("payments", twin, 0),)))
        out, data = tmp_path / "x.evidence", world.folder
        asked = run("evidence", "export", visit.redirect.tid, "--data", data, "-o", out)
        assert asked.exit_code == 2
        assert "other, shop" in asked.stderr
        assert run_json("evidence", "export", visit.redirect.tid, "--merchant", "shop", "--data", data, "-o", out)["merchant"] == "shop"
        assert OPERATOR in out.read_text("utf-8")


def test_shop_writes_its_own_half_and_says_so_where_it_has_no_such_order(tmp_path: Path) -> None:
    directory, out = copy_of(ENROLLED, tmp_path / "shop"), tmp_path / "order.evidence"
    for path in (directory / "keys").iterdir():
        path.chmod(0o600)
    with closing(sqlite3.connect(directory / "orders.db")) as book:
        book.executescript((directory / "orders.sql").read_text("utf-8"))
        (tid,) = book.execute("SELECT tid FROM orders WHERE state = 'settled' LIMIT 1").fetchone()
    assert run("merchant", "evidence", "A" * 22, "--directory", directory, "-o", out).exit_code == 1
    assert not out.exists()
    assert run_json("merchant", "evidence", tid, "--directory", directory, "-o", out)["tid"] == tid
    report = run_json("evidence", "verify", out, "--root", directory / "root.pem")
    assert report["verified"], report
    assert {"merchant_confirmed", "gateway_settled", "only_one_side"} <= {one["code"] for one in report["conclusions"]}
