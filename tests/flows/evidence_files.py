"""Evidence files of a world's payments: exported as the operator and the shop would, altered as an attacker would."""

import json
from collections.abc import Callable
from typing import Any

from hanbit.evidence import export as exporting
from hanbit.evidence.bundle import Bundle, write
from hanbit.evidence.verify import Report, verify
from hanbit.kernel import ids
from hanbit.payments import checkpoints
from tests.world import OPERATOR, Visit, World

Json = dict[str, Any]


async def exported(world: World, visit: Visit, held: str | None = None) -> Bundle:
    """The payment server's file of this visit's payment, under a fresh checkpoint."""
    await checkpoints.sign_checkpoint(world.gateway)
    clear = visit.redirect
    return exporting.export(world.gateway.reader, operator=OPERATOR, merchant=clear.merchant_id, tid=clear.tid, held=held)


async def export_and_verify(world: World, visit: Visit, **options: Any) -> Report:
    """Both at once."""
    return judge(world, await exported(world, visit), **options)


def judge(world: World, bundle: Bundle, **options: Any) -> Report:
    """What a stranger makes of it who has the root and nothing else."""
    return verify(write(bundle), root=world.parties.root, **options)


def resealed(bundle: Bundle, change: Callable[[Json], object]) -> bytes:
    """The file after somebody has changed it and made its digest and spelling good again."""
    content: Json = json.loads(write(bundle))
    change(content)
    content["digest"] = ""
    content["digest"] = ids.digest(spelled(content))
    return spelled(content)


def spelled(content: Json) -> bytes:
    """The one spelling of a content."""
    return (json.dumps(content, ensure_ascii=False, sort_keys=True, indent=1) + "\n").encode()


def codes(report: Report) -> list[str]:
    """What was concluded."""
    return [one.code for one in report.conclusions]


def failure(report: Report) -> str:
    """What the first step that failed says."""
    assert report.failed is not None, [step.detail for step in report.steps]
    step = report.steps[report.failed - 1]
    assert step.number == report.failed
    return f"{step.what}: {step.detail}"
