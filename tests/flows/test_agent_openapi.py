"""The agent's OpenAPI description against a real agent: whatever it allows or forbids is answered as it says, and never with a 5xx."""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from hanbit.demo.world import Ports
from hanbit.kernel.clock import SystemClock
from hanbit.merchant.agent import openapi
from hanbit.merchant.agent.table import ADDRESSES
from tests.flows.crash_processes import PATIENCE_S
from tests.flows.crash_world import make_folder
from tests.flows.test_agent import agent_site
from tests.unit.merchant.agent.support import receiver

EXAMPLES = 15
"""Random calls of each kind an address; schemathesis adds the boundary values of every field."""
# Lines must add up to the amount and a text be printable, which JSON Schema cannot say: not every body that fits the schema is an order.
# What is longer than any body may be is answered 413 before it is looked at; schemathesis counts on the other refusals only.
NOT_EVERY_BODY = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429]

[[operations]]
include-method = "POST"
include-path-regex = "^/orders"
checks.positive_data_acceptance.enabled = false
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ports]:
    """A payment server and a shop, enrolled."""
    folder, ports = tmp_path_factory.mktemp("described"), Ports.free()
    asyncio.run(make_folder(folder, SystemClock(), ports))
    return folder, ports


def configuration(known: dict[str, list[str]]) -> str:
    """Half of all ids are those of real orders and deliveries, so that more than "not found" is answered; nobody waits long."""
    lists = [f"[dictionaries.{name}]\nvalues = {json.dumps(values)}\n" for name, values in {**known, "wait": [0, 1]}.items()]
    bindings = [f'"path.{name}" = {{ dictionary = "{name}", probability = 0.5 }}\n' for name in known]
    return "".join([*lists, "[parameters]\n", *bindings, '"query.wait" = { dictionary = "wait" }\n', NOT_EVERY_BODY])


async def test_every_address_behaves_as_it_is_described(place: tuple[Path, Ports], tmp_path: Path) -> None:
    program = shutil.which("schemathesis", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert program is not None
    async with receiver() as shop, agent_site(place, shop) as (s, pages):
        tids = [(await pages.order("phone", quantity))[0] for quantity in (1, 2, 3)]
        await pages.call("POST", f"/orders/{tids[2]}/withdraw", key="withdraw")
        _, _, tested = await pages.call("POST", "/callbacks/test", {}, key="test")
        known = {"tid": tids, "id": [one["id"] for one in tested["deliveries"]]}
        (tmp_path / "schemathesis.toml").write_text(configuration(known), "ascii")
        token = (s.folder / "shop/agent.token").read_text("ascii").strip()
        arguments = ["--config-file", "schemathesis.toml", "run", f"{pages.url}/openapi.json", "--header", f"Authorization: Bearer {token}"]
        arguments += ["--request-timeout", "40", "--max-examples", str(EXAMPLES), "--no-color", "--generation-deterministic"]
        run = await asyncio.create_subprocess_exec(
            program, *arguments, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await asyncio.wait_for(run.communicate(), 10 * PATIENCE_S)
        assert run.returncode == 0, said.decode()
        assert f"Operations:       {len(ADDRESSES)} selected / {len(ADDRESSES)} total" in said.decode()
        assert '"level": "error"' not in (s.folder / "agent.log").read_text("utf-8").replace('":"', '": "')


def test_the_description_names_every_address_and_call_back() -> None:
    document = openapi.document()
    named = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert named == {(address.method, address.path) for address in ADDRESSES}
    assert {"order.settled", "order.voided", "order.closed", "order.cancelled", "order.refunded", "order.confirm"} <= set(
        document["webhooks"]
    )
    assert json.loads(openapi.description()) == document
