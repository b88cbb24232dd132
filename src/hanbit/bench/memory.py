"""`hanbit bench memory`: what the parties hold while customers go on paying; flat, or it says how steep.

Whole checkouts (R3 to R12, or D1 to D8) of logged-in customers for as long as asked for. Each party's resident memory is read every
few seconds; the slope is that of the line through the second half of the samples, when every cache has what it will have.
"""

import asyncio
import statistics
from collections.abc import Callable
from typing import Any, Final

from hanbit.bench import figures
from hanbit.bench.run import STEPS
from hanbit.bench.world import Plan, World, drained
from hanbit.kernel.clock import Clock

SAMPLES: Final = 60
"""In one run, so that ten minutes are looked at every ten seconds."""


async def measure(world: World, plan: Plan, clock: Clock, latest: float, say: Callable[[str], None]) -> dict[str, Any]:
    """The memory of each party over the run; how long that is, the plan says alone."""
    del latest
    say(f"whole checkouts ({STEPS[plan.protocol][2]}) for {plan.seconds} s")
    started, samples = clock.monotonic(), [(0.0, world.rss_mb())]
    paying = asyncio.create_task(world.customer.ask("checkout", seconds=plan.seconds, concurrency=plan.concurrency))
    try:
        while not paying.done():
            await asyncio.wait({paying}, timeout=plan.seconds / SAMPLES)
            samples.append((clock.monotonic() - started, world.rss_mb()))
    finally:
        paying.cancel()  # nothing where it is done; whoever is told to end does not leave it waiting for an answer
        await asyncio.wait({paying})
    paid = await paying
    await drained(world, clock)
    return {
        "checkouts_per_s": figures.rate(paid["checkouts"], paid["seconds"]),
        "checkouts": paid["checkouts"],
        "memory": [{"party": party} | summary([(at, held[party]) for at, held in samples]) for party in samples[0][1]],
    }


def summary(samples: list[tuple[float, float]]) -> dict[str, float | int]:
    """MiB at the start, half way, at the end and at most, and MiB an hour in the second half; samples are (seconds, MiB)."""
    half = samples[len(samples) // 2 :]
    slope = statistics.linear_regression([at for at, _ in half], [held for _, held in half]).slope if len(half) > 1 else 0.0
    return {
        "first_mb": round(samples[0][1], 1),
        "half_mb": round(half[0][1], 1),
        "last_mb": round(samples[-1][1], 1),
        "max_mb": round(max(held for _, held in samples), 1),
        "mb_per_hour": round(slope * 3600, 2),
        "samples": len(samples),
    }
