"""docs/guide/merchant.md is walked as it stands: its commands in their order, by bash, against real processes, in Node and in PHP."""

import asyncio
import contextlib
import os
import re
import sys
from pathlib import Path

import pytest

from hanbit.demo.world import Ports
from tests import engine
from tests.flows.example_shops import KINDS, program
from tests.flows.sandbox_world import NO_CONSOLES

ROOT = Path(__file__).parent.parent.parent
GUIDE = ROOT / "docs/guide/merchant.md"
WALK_WITHIN_S = 240
LOGS = ("bank.log", "agent.log", "shop.log")
BLOCK = re.compile(r"(?:<!-- (\w+) -->\n)?```sh\n(.*?)```", re.DOTALL)


def commands(kind: str, ports: Ports) -> str:
    """The guide's commands for this kind of shop; only the ports are others, so that nothing else on the machine is in the way."""
    bank, line, agent, shop = ports.pay, ports.line, ports.metrics, ports.shops[0]
    found = BLOCK.findall(GUIDE.read_text("utf-8"))
    assert {mark for mark, _ in found} == {"", "once", *KINDS}
    text = "".join(block for mark, block in found if mark in {"", kind})
    listen = f"--public-url http://pay.localhost:{bank} --listen 127.0.0.1:{bank} --line 127.0.0.1:{line} {' '.join(NO_CONSOLES)}"
    listen += f" --database '{engine.database()}'" if engine.is_postgresql() else ""
    for old, new in (
        ("hanbit init ./bank --sandbox", f"hanbit init ./bank --sandbox {listen}"),
        ("hanbit merchant serve ./shop-keys", f"hanbit merchant serve ./shop-keys --listen 127.0.0.1:{agent}"),
        (":8400", f":{bank}"),
        (":8405", f":{agent}"),
        (":3000", f":{shop}"),
    ):
        assert old in text
        text = text.replace(old, new)
    # As at a terminal each command in the background is a job, which is a process group; none of them outlives the walk.
    jobs = "set -m\ntrap 'for job in $(jobs -p); do kill -- -$job 2> /dev/null || true; done' EXIT\n"
    return f"{jobs}export SHOP_URL=http://shop.localhost:{shop} SHOP_PORT={shop} HANBIT_AGENT=http://127.0.0.1:{agent}\n{text}"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_newcomer_sells_and_takes_back_a_song_by_the_guides_own_commands(tmp_path: Path, kind: str) -> None:
    program(kind, 0)  # skips where there is no such language
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = tmp_path / "guide.sh"
    script.write_text(commands(kind, Ports.free()), "utf-8")
    walk = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", str(script)),
        cwd=tmp_path,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"},
    )
    try:
        output, _ = await asyncio.wait_for(walk.communicate(), WALK_WITHIN_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            walk.terminate()
    said = output.decode("utf-8", "replace")
    logs = "".join(f"\n--- {name}\n{(tmp_path / name).read_text('utf-8', 'replace')[-1500:]}" for name in LOGS)
    assert walk.returncode == 0, said + logs
    for expected in (
        "before it is paid: 403",
        "아리랑 아리랑 아라리요",
        '"type":"order.settled"',
        "confirmed\n",
        "after it was cancelled: 403",
        "the relay: 200",
        "another visitor: 404",
    ):
        assert expected in said, said + logs
    assert re.search(r"data-state=.settled", (tmp_path / "state.html").read_text("utf-8")), said
    assert not list((ROOT / "examples").glob("**/shop-book*")), "a shop keeps its book where it was started"
