"""PERMISSIONS: who may use which address of which console. What has no line here is not served at all: the server does not start.

PUBLIC    anybody: the pages by which one gets in
HALF      whoever has shown a password: the page that asks for the second factor
allow(…)  people with one of these roles and both factors; `fresh`: the second factor was shown in the last five minutes
"""

from dataclasses import dataclass
from typing import Final

from hanbit.parties.people import ADMIN, ROLES


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may; `roles` are those of the console that the address belongs to."""

    roles: frozenset[str] = frozenset()
    public: bool = False
    half: bool = False
    fresh: bool = False

    def allows(self, role: str) -> bool:
        """Whether somebody with this role and both factors may."""
        return self.public or self.half or role in self.roles


PUBLIC: Final = Rule(public=True)
HALF: Final = Rule(half=True)


def allow(*roles: str, fresh: bool = False) -> Rule:
    """These roles."""
    return Rule(frozenset(roles), fresh=fresh)


def _act(path: str, *roles: str) -> dict[str, Rule]:
    """A dangerous act: its form and the act itself, each with a fresh second factor."""
    return {f"{method} {path}": allow(*roles, fresh=True) for method in ("GET", "POST")}


_ENTRANCE: Final = {
    "GET /static/{version}/{name:path}": PUBLIC,
    "GET /login": PUBLIC,
    "POST /login": PUBLIC,
    "GET /set-up/{token}": PUBLIC,
    "POST /set-up/{token}": PUBLIC,
    "GET /second-factor": HALF,
    "POST /second-factor": HALF,
}
_STAFF: Final = ROLES["operator"]
_TEAM: Final = ROLES["merchant"]


def _own(roles: tuple[str, ...]) -> dict[str, Rule]:
    """What everybody does with himself: language, way out, and by what he gets in."""
    return {
        "POST /logout": allow(*roles),
        "POST /language": allow(*roles),
        "GET /me": allow(*roles),
        **_act("/me/password", *roles),
        **_act("/me/factor", *roles),
        **_act("/me/factors/{id}/remove", *roles),
        "POST /me/sessions": allow(*roles),
    }


PERMISSIONS: Final[dict[str, dict[str, Rule]]] = {
    "operator": {
        **_ENTRANCE,
        **_own(_STAFF),
        "GET /": allow(*_STAFF),
        # payments
        "GET /payments": allow(*_STAFF),
        "GET /payments/sheet": allow("support", ADMIN, "auditor"),
        "GET /payments/{id}": allow(*_STAFF),
        "GET /payments/{id}/messages/{hash}": allow("support", "admin", "auditor"),
        **_act("/payments/{id}/allow-refund", ADMIN),
        # merchants
        "GET /merchants": allow(*_STAFF),
        **_act("/merchants/register", ADMIN),
        "GET /merchants/{id}": allow(*_STAFF),
        **_act("/merchants/{id}/invite", ADMIN),
        **_act("/merchants/{id}/{act}", ADMIN),
        # customers and accounts
        "GET /customers": allow("support", ADMIN, "auditor"),
        **_act("/customers/open", "support", ADMIN),
        "GET /customers/{id}": allow("support", ADMIN, "auditor"),
        **_act("/customers/{id}/{act}", "support", ADMIN),
        **_act("/accounts/{id}/{act}", "support", ADMIN),
        # what two people stand behind
        "GET /proposals": allow("support", ADMIN, "auditor"),
        **_act("/proposals/{id}/withdraw", "support", ADMIN),
        **_act("/proposals/{id}/{act}", ADMIN),
        # settlement
        "GET /settlement": allow("support", ADMIN, "auditor"),
        **_act("/settlement/close", ADMIN),
        **_act("/settlement/continue", ADMIN),
        **_act("/settlement/reserve", ADMIN),
        "GET /settlement/balance": allow("support", ADMIN, "auditor"),
        "GET /settlement/days/{day}": allow("support", ADMIN, "auditor"),
        "GET /settlement/days/{day}/sheet": allow("support", ADMIN, "auditor"),
        "GET /settlement/days/{day}/{id}": allow("support", ADMIN, "auditor"),
        "GET /payouts": allow("support", ADMIN, "auditor"),
        **_act("/payouts/instructions", ADMIN),
        **_act("/payouts/reconcile", ADMIN),
        **_act("/payouts/{reference}/{act}", ADMIN),
        # how the operator shows itself
        "GET /brand": allow(*_STAFF),
        **_act("/brand/change", ADMIN),
        # what is watched
        "GET /exceptions": allow(*_STAFF),
        **_act("/exceptions/ask/{id}", "support", ADMIN),
        **_act("/exceptions/tell/{hash}", "support", ADMIN),
        **_act("/exceptions/send/{id}", "support", ADMIN),
        "GET /audit": allow("support", ADMIN, "auditor"),
        "GET /audit/sheet": allow(ADMIN, "auditor"),
        "GET /evidence": allow(*_STAFF),
        **_act("/evidence/{act}", ADMIN),
        # staff
        "GET /staff": allow(*_STAFF),
        "GET /staff/invite": allow(ADMIN, fresh=True),
        "POST /staff/invite": allow(ADMIN, fresh=True),
        "GET /staff/{id}": allow(ADMIN, "auditor"),
        "GET /staff/{id}/{act}": allow(ADMIN, fresh=True),
        "POST /staff/{id}/{act}": allow(ADMIN, fresh=True),
    },
    "merchant": {
        **_ENTRANCE,
        **_own(_TEAM),
        "GET /": allow(*_TEAM),
        # payments
        "GET /payments": allow(*_TEAM),
        "GET /payments/sheet": allow(*_TEAM),
        "GET /payments/{id}": allow(*_TEAM),
        **_act("/payments/{id}/refund", "cashier", ADMIN),
        "POST /requests/{id}/again": allow("cashier", ADMIN),
        "GET /payments/{id}/messages/{hash}": allow(*_TEAM),
        # what the shop's own program shows
        "GET /orders": allow(*_TEAM),
        **_act("/orders/{id}/looked", "cashier", ADMIN),
        "GET /callbacks": allow(*_TEAM),
        **_act("/callbacks/test", ADMIN),
        **_act("/callbacks/{id}/resend", "cashier", ADMIN),
        # settlement
        "GET /settlement": allow(*_TEAM),
        "GET /settlement/sheet": allow(*_TEAM),
        **_act("/settlement/account", ADMIN),
        "GET /settlement/{day}": allow(*_TEAM),
        "GET /settlement/{day}/sheet": allow(*_TEAM),
        # line and keys
        "GET /line": allow(*_TEAM),
        **_act("/certificates/{hash}/revoke", ADMIN),
        # people
        "GET /staff": allow(*_TEAM),
        "GET /staff/invite": allow(ADMIN, fresh=True),
        "POST /staff/invite": allow(ADMIN, fresh=True),
        "GET /staff/{id}": allow(ADMIN),
        "GET /staff/{id}/{act}": allow(ADMIN, fresh=True),
        "POST /staff/{id}/{act}": allow(ADMIN, fresh=True),
    },
}
"""Console → method and address → who may."""


def rule_of(face: str, method: str, path: str) -> Rule:
    """The line of an address; one without a line is our own bug, and stops the start."""
    rule = PERMISSIONS[face].get(f"{method} {path}")
    assert rule is not None, f"{face}: {method} {path} has no line in PERMISSIONS"
    return rule
