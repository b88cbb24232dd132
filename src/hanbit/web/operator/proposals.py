"""What waits for a second person: GET /proposals, and /proposals/{id}/{act} to approve, refuse or withdraw one."""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from hanbit.kernel.errors import NotFound
from hanbit.payments import actors, proposals
from hanbit.payments.proposals import Proposal
from hanbit.web import deeds
from hanbit.web.consoles import Console
from hanbit.web.deeds import Deed
from hanbit.web.forms import ROWS

ACTS: Final = ("approve", "refuse")
"""What a second person may do; who proposed it may withdraw it, at an address of its own."""


class ProposalPages:
    """The handlers."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        console.route("GET", "/proposals", self.show_list)
        console.route("GET", "/proposals/{id}/withdraw", self.show_act)
        console.route("POST", "/proposals/{id}/withdraw", self.act)
        console.route("GET", "/proposals/{id}/{act}", self.show_act)
        console.route("POST", "/proposals/{id}/{act}", self.act)

    async def show_list(self, request: Request) -> Response:
        """What is open, then what was decided lately."""
        reader = self.gateway.reader
        waiting, decided = proposals.waiting(reader), proposals.decided(reader, ROWS)
        shown = [*waiting, *decided]
        return self.console.page(
            request,
            "operator/proposals.html",
            waiting=waiting,
            decided=decided,
            about={one.id: proposals.about(reader, one) for one in shown},
            actors=actors.named(reader, (actor for one in shown for actor in (one.proposed_by, one.decided_by))),
        )

    async def show_act(self, request: Request) -> Response:
        """What is about to be decided, and why, is asked for."""
        return deeds.show(self.console, request, self._deed(request))

    async def act(self, request: Request) -> Response:
        """It is decided, and where it was approved, done."""
        return await deeds.carry_out(self.console, request, self._deed(request))

    def _deed(self, request: Request) -> Deed:
        proposal = self._proposal(request)
        name = "withdraw" if "act" not in request.path_params else self.console.matched(request, "act", ACTS.__contains__)

        async def do(by: str, form: Mapping[str, str]) -> Response:
            decide = {"approve": proposals.approve, "refuse": proposals.refuse, "withdraw": proposals.withdraw}[name]
            await decide(self.gateway, by, proposal, reason=form["reason"])
            return self.console.see("/proposals", f"operator.deed.done.proposal_{name}")

        reader, language = self.gateway.reader, self.console.language(request)
        by = actors.named(reader, (proposal.proposed_by,))[proposal.proposed_by].name
        moved = "" if proposal.money is None else language.amount(proposal.money)
        raised = ", ".join(
            f"{language.say(f'operator.limit.{name}')}: {language.say('operator.limit.none') if money is None else language.amount(money)}"
            for name, money in proposal.limits.items()
        )
        told = (str(language.say(f"operator.proposal.{proposal.act}")), proposals.about(reader, proposal), moved, raised)
        what = " ".join(filter(None, told))
        about = {"what": what, "by": by, "why": proposal.reason}
        second = (
            ((lambda who: who == proposal.proposed_by or proposals.may_approve(reader, who, proposal), "console.staff.one_hand"),)
            if name == "approve"
            else ()
        )
        return Deed(f"operator.deed.proposal_{name}", "/proposals", (), do, about, second)

    def _proposal(self, request: Request) -> Proposal:
        proposal = proposals.find(self.gateway.reader, self.console.token(request))
        if proposal is None:
            raise NotFound("no such proposal")
        return proposal
