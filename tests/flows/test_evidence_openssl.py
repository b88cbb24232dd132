"""The commands of docs/evidence.md, as they stand there: openssl alone finds a true file true, and each kind of change."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hanbit.evidence.bundle import write
from tests.flows.cancelling import Canceller
from tests.flows.evidence_files import exported, resealed
from tests.purchases import buying, open_session
from tests.world import World

DOCUMENT = Path(__file__).parents[2] / "docs" / "evidence.md"
TIMEOUT_S = 120


def commands() -> str:
    """Every command of the document, in its order."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) > 3
    return "".join(blocks)


def run(folder: Path, world: World, evidence: bytes) -> str:
    """What the commands print of a file."""
    (folder / "payment.evidence").write_bytes(evidence)
    root = x509.load_der_x509_certificate(world.parties.root)
    (folder / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    ended = subprocess.run(["sh", "-u"], input=commands(), capture_output=True, cwd=folder, text=True, timeout=TIMEOUT_S, check=False)
    return ended.stdout + ended.stderr


async def test_openssl_alone_finds_a_true_file_true(world: World, tmp_path: Path) -> None:
    visit = await world.visit()
    await visit.pay()
    assert (await Canceller(world).cancel(visit, 20_000))[0] == "confirmed"
    said = run(tmp_path, world, write(await exported(world, visit)))
    assert not re.search("BROKEN|error|No such", said), said
    for line in ("digest ok", "approved: {", "hanbit-settled by urn:hanbit:bank:gateway under purpose", "hanbit-cancel is in the log"):
        assert line in said, said
    assert re.search(r"^leaf [0-9]+ ok$", said, re.MULTILINE)
    assert re.search(r'^ *4 "amount":"220000"$', said, re.MULTILINE)


def _other_letter(text: str, place: int) -> str:
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


CHANGES: dict[str, Callable[[Any], object]] = {
    "signature": lambda bad: bad["messages"][4].update(compact=_other_letter(bad["messages"][4]["compact"], -40)),
    "link": lambda bad: bad["messages"].pop(3),
    "row": lambda bad: bad["messages"][1].update(at=bad["messages"][1]["at"] + 1),
    "path": lambda bad: bad["leaves"][0]["path"].reverse(),
    "leaf": lambda bad: bad["leaves"][0].update(data=bad["leaves"][0]["data"].replace("1800000000", "1800000001")),
    "approval": lambda bad: bad["approval"]["attempt"].update(core=bad["approval"]["attempt"]["core"].replace("220000", "220001")),
    "place": lambda bad: bad["messages"].reverse(),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_openssl_alone_finds_what_was_changed(world: World, tmp_path: Path, change: str) -> None:
    visit = await world.visit()
    await visit.pay()
    assert "BROKEN" in run(tmp_path, world, resealed(await exported(world, visit), CHANGES[change]))


async def test_openssl_alone_finds_an_altered_digest(world: World, tmp_path: Path) -> None:
    visit = await world.visit()
    await visit.pay()
    good = write(await exported(world, visit))
    assert "BROKEN digest" in run(tmp_path, world, good.replace(b'"kind": "hold"', b'"kind": "void"'))


async def test_openssl_alone_finds_both_halves_under_one_signature(world: World, tmp_path: Path) -> None:
    session = await buying(world)
    assert (await session.buy(account="emoney")).told == "declined"
    again = await open_session(session.visit)
    assert (await again.buy()).told == "approved"
    file = await exported(world, session.visit)
    said = run(tmp_path, world, write(file))
    assert not re.search("BROKEN|error|No such", said), said
    for line in ("digest ok", "approved: {", f"both halves signed by urn:hanbit:bank:temporary:shop:{again.sid}"):
        assert line in said, said
    assert re.search(r'^ *3 "amount":"220000"$', said, re.MULTILINE)
    changed = resealed(file, lambda bad: bad["approval"]["attempt"].update(auth_hash="A" * 43))
    assert "BROKEN halves" in run(tmp_path, world, changed)
