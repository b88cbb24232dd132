"""A run of the kit: each case on a stage of its own, judged by what the merchant signed, then and later.

accepted_wrongly   a confirmation or an acknowledgement names what was forged, or the shop's own view of the order moved by it
refused            the merchant refused it, or hung up
no_answer          nothing came in time, and nothing came later
passed, control_failed   of the honest controls
not_tried          the way to the case did not open: an honest step before it failed, or it does not fit this merchant
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError, ProtocolViolation, Unavailable
from hanbit.merchant.probe.case import Case, Group
from hanbit.merchant.probe.chores import Chores
from hanbit.merchant.probe.parties import Operator
from hanbit.merchant.probe.shop_side import ShopSide
from hanbit.merchant.probe.stage import Failed, Seen, Stage, Waits
from hanbit.merchant.probe.ways import Way
from hanbit.protocols.line import Acknowledgement
from hanbit.protocols.redirect.messages import Confirmation
from hanbit.protocols.signed import peek_claims, peek_typ

Verdict = Literal["accepted_wrongly", "refused", "no_answer", "passed", "control_failed", "not_tried"]
ACCEPTANCES: Final = frozenset({Confirmation.TYP, Acknowledgement.TYP})
"""What binds a merchant: whoever gets one of these for a forgery has been believed."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one case ended."""

    name: str
    group: Group
    verdict: Verdict
    detail: str
    evidence: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole run."""

    results: tuple[Result, ...]

    @property
    def wrong(self) -> tuple[Result, ...]:
        """What the merchant wrongly accepted, and the honest things that it did not do."""
        return tuple(result for result in self.results if result.verdict in {"accepted_wrongly", "control_failed"})


@dataclass(slots=True)
class Run:
    """Plays cases one after another."""

    operator: Operator
    way: Way
    chores: Chores
    shop: ShopSide
    clock: Clock
    waits: Waits
    dials: bool
    """Whether the merchant keeps a connection (else it takes POST)."""
    on_result: Callable[[Result], None] = lambda _: None
    _away: bool = field(default=False, init=False)

    async def play(self, cases: Sequence[Case]) -> Outcome:
        """Wait for the merchant, play every case, and look back at what came late; Unavailable if the merchant never comes."""
        await self.way.ready(self.waits.first_s)
        played = []
        for case in cases:
            stage = Stage(self.operator, self.way, self.chores, self.shop.place, self.shop.state, self.shop.inquire, self.clock, self.waits)
            result = await self._play(case, stage)
            self.on_result(result)
            played.append((case, stage, result))
        return Outcome(tuple(self._late(case, stage, result) for case, stage, result in played))

    async def _play(self, case: Case, stage: Stage) -> Result:
        if case.dials and not self.dials:
            return Result(case.name, case.group, "not_tried", "only for a merchant that keeps a connection", ())
        verdict: Verdict = "control_failed" if case.group == "control" else "not_tried"
        if self._away:
            return Result(case.name, case.group, verdict, "the merchant has not come back", ())
        try:
            async with asyncio.timeout(self.waits.case_s):
                await self.way.ready(self.waits.dial_s)
                await case.play(stage)
        except Failed as failed:
            detail = failed.detail
        except TimeoutError:
            detail = f"not done within {self.waits.case_s:g} s"
        except Unavailable as error:
            self._away = "line" in error.detail and not stage.seen
            detail = error.detail
        except HanbitError as error:
            detail = str(error)
        else:
            return self._judged(case, stage, "passed", "")
        # What was offered before it broke off is judged all the same.
        return self._judged(case, stage, verdict, detail)

    def _judged(self, case: Case, stage: Stage, otherwise: Verdict, detail: str) -> Result:
        evidence = tuple(stage.seen)
        if case.group == "control":
            return Result(case.name, case.group, otherwise, detail, evidence)
        accepted = self._acceptances(stage)
        if accepted or stage.changed:
            said = [f"it signed {peek_typ(frame)}" for frame in accepted]
            return Result(case.name, case.group, "accepted_wrongly", "; ".join((*said, *stage.changed)), evidence)
        forged = [seen for seen in stage.seen if seen.forged]
        if detail and (not forged or case.group == "network"):
            return Result(case.name, case.group, "not_tried", detail, evidence)
        answers = [_said(seen) for seen in forged]
        verdict: Verdict = "refused" if any(answers) else "no_answer"
        return Result(case.name, case.group, verdict, ", ".join(dict.fromkeys(filter(None, answers))), evidence)

    def _late(self, case: Case, stage: Stage, result: Result) -> Result:
        if case.group == "control" or result.verdict == "accepted_wrongly":
            return result
        late = self._acceptances(stage)
        if not late:
            return result
        frames = (*result.evidence, Seen("", late, "later", forged=True))
        return Result(case.name, case.group, "accepted_wrongly", f"it signed {peek_typ(late[0])}, later", frames)

    def _acceptances(self, stage: Stage) -> tuple[str, ...]:
        return tuple(frame for frame in self.way.heard.answers(stage.offered) if _typ(frame) in ACCEPTANCES)


def _said(seen: Seen) -> str:
    for frame in seen.frames:
        try:
            claims = peek_claims(frame)
        except ProtocolViolation:
            continue
        return str(claims.get("reason") or claims.get("code") or _typ(frame))[:80]
    return seen.end


def _typ(frame: str) -> str:
    try:
        return peek_typ(frame)
    except ProtocolViolation:
        return ""
