"""The forged notices (R8): each is right in all but one respect, so that only the check for that one can find it."""

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from hanbit.crypto import certificate_profile as profile
from hanbit.crypto import certificates, keys
from hanbit.kernel import ids
from hanbit.merchant.probe.case import CHOSEN, FORGER, Case, Play, changed_notice, forged_notice
from hanbit.merchant.probe.forge import Draft, mirrored
from hanbit.merchant.probe.shop_side import PlacedOrder
from hanbit.merchant.probe.stage import Stage
from hanbit.protocols.signed import encode_der

_PAYS_LESS: Final = "the customer pays less than the order says, and the goods are delivered"


# --- what it says -----------------------------------------------------------------------------------------------------------------------


async def _order_hash(stage: Stage) -> None:
    order, other = await stage.order(), await stage.order()
    await stage.offer(stage.notice(order).but(order=other.hash, prev=other.hash).compact(), order=order)


async def _second_payment(stage: Stage) -> None:
    exchange = await stage.confirmed()
    await stage.offer(stage.notice(exchange.order).compact(), order=exchange.order)


async def _payment_after_the_end(stage: Stage) -> None:
    exchange = await stage.confirmed()
    await stage.acknowledged(stage.settled(exchange).compact())
    await stage.offer(stage.notice(exchange.order).compact(), order=exchange.order)


async def _payment_of_a_closed_order(stage: Stage) -> None:
    order = await stage.order()
    await stage.acknowledged(stage.closed(order).compact())
    await stage.offer(stage.notice(order).compact(), order=order)


async def _number_again(stage: Stage) -> None:
    first = stage.notice(await stage.order())
    await stage.confirmed_draft(first)
    order = await stage.order()
    await stage.offer(stage.notice(order).but(jti=first.claims["jti"]).compact(), order=order)


async def _mirrored(stage: Stage) -> None:
    exchange = await stage.confirmed()
    await stage.offer(mirrored(exchange.notice), order=exchange.order)


async def _reflected(stage: Stage) -> None:
    exchange = await stage.confirmed()
    await stage.offer(exchange.confirmation.compact, order=exchange.order)


async def _reflected_order(stage: Stage) -> None:
    order = await stage.order()
    await stage.offer(order.compact, order=order)


def _less(order: PlacedOrder) -> str:
    return str(int(order.amount) - 1)


def _unknown(stage: Stage, order: PlacedOrder) -> str:
    return stage.notice(order).but(tid=ids.new_token()).compact()


CONTENT: Final = (
    Case(
        "amount_lower",
        "notice",
        "the amount is one unit lower than the order's",
        "R9: amount compared",
        _PAYS_LESS,
        forged_notice(lambda stage, order: stage.notice(order).but(amount=_less(order)).compact()),
    ),
    Case(
        "amount_higher",
        "notice",
        "the amount is ten times the order's",
        "R9: amount compared",
        "the customer pays more than he ordered for",
        forged_notice(lambda stage, order: stage.notice(order).but(amount=f"{order.amount}0").compact()),
    ),
    Case(
        "currency",
        "notice",
        "the currency is another one",
        "R9: currency compared",
        "220,000 of a lesser currency buy the goods",
        forged_notice(lambda stage, order: stage.notice(order).but(currency="XXX").compact()),
    ),
    Case(
        "order_hash",
        "notice",
        "the order hash is that of another order of the same shop",
        "R9: order hash compared",
        "the customer has agreed to another order than the one that is delivered",
        _order_hash,
    ),
    Case(
        "order_hash_random",
        "notice",
        "the order hash is of no order at all",
        "R9: order hash compared",
        "the customer has agreed to nothing that this shop wrote",
        changed_notice(lambda _, draft: draft.but(order=ids.digest(b"no order"), prev=ids.digest(b"no order"))),
    ),
    Case(
        "prev",
        "notice",
        "`prev` continues another message than the order",
        "R8: prev = order",
        "the chain of evidence does not hold together before a court",
        changed_notice(lambda _, draft: draft.but(prev=ids.digest(b"something else"))),
    ),
    Case(
        "unknown_tid",
        "notice",
        "the tid is of no order",
        "R9: tid compared",
        "the shop confirms what it never sold",
        forged_notice(_unknown),
    ),
    Case(
        "second_payment",
        "notice",
        "a second payment for an order that is confirmed already",
        "one payment a tid",
        "the customer pays twice for one delivery",
        _second_payment,
    ),
    Case(
        "payment_after_settled",
        "notice",
        "a second payment for an order that is settled",
        "one payment a tid; final is final",
        "the customer pays twice for one delivery",
        _payment_after_the_end,
    ),
    Case(
        "payment_after_closed",
        "notice",
        "a payment for an order that was closed",
        "R11: final is final",
        "goods that were released are sold once more",
        _payment_of_a_closed_order,
    ),
    Case(
        "expired_notice",
        "notice",
        "`exp` has passed",
        "Times: exp bounds the first acceptance",
        "the hold is gone: what is confirmed now is never captured",
        changed_notice(lambda stage, draft: draft.but(exp=stage.at - 60)),
    ),
    Case(
        "no_exp",
        "notice",
        "there is no `exp`",
        "Times: every claim of the typ",
        "an old notice is good for ever",
        changed_notice(lambda _, draft: draft.but(exp=None)),
    ),
    Case(
        "future",
        "notice",
        "`iat` lies an hour ahead",
        "Times: iat within the tolerance",
        "notices are made in advance with a borrowed key",
        changed_notice(lambda stage, draft: draft.but(iat=stage.at + 3600, exp=stage.at + 7200)),
    ),
    Case(
        "aud_other_merchant",
        "notice",
        "it is addressed to another merchant",
        "aud = me",
        "what another shop was told counts here",
        changed_notice(lambda stage, draft: draft.but(aud=stage.party("other-merchant").urn)),
    ),
    Case(
        "aud_gateway",
        "notice",
        "it is addressed to the gateway",
        "aud = me",
        "messages of the other direction are turned round",
        changed_notice(lambda stage, draft: draft.but(aud=stage.operator.gateway.urn)),
    ),
    Case(
        "iss_merchant",
        "notice",
        "`iss` is another merchant, under the gateway's key",
        "iss = owner of the key and peer of the line",
        FORGER,
        changed_notice(lambda stage, draft: draft.but(iss=stage.party("other-merchant").urn)),
    ),
    Case(
        "version",
        "notice",
        "the version is 2",
        "v = 1",
        "what means something else in a later version is read as today's",
        changed_notice(lambda _, draft: draft.but(v=2)),
    ),
    Case(
        "jti_again",
        "notice",
        "the number `jti` of an earlier notice, with other bytes",
        "(iss, jti) never seen with other bytes",
        "one number stands for two acts",
        _number_again,
    ),
    Case(
        "signature_mirrored",
        "notice",
        "a confirmed notice with its other valid signature (n − s)",
        "known by the hash of its bytes",
        "one notice is counted twice",
        _mirrored,
    ),
    Case(
        "reflected_confirmation",
        "notice",
        "the merchant's own confirmation comes back to it",
        "typ fits the place; sender",
        "the shop's own words count as the payment server's",
        _reflected,
    ),
    Case(
        "reflected_order",
        "notice",
        "the merchant's own order comes back to it",
        "typ fits the place; sender",
        "the shop's own words count as the payment server's",
        _reflected_order,
    ),
)


# --- who signed it ----------------------------------------------------------------------------------------------------------------------


def _signed_by(name: str) -> Case:
    """A notice in the gateway's name, with the certificate and key of somebody else."""
    does, rule = {
        "customer": ("a customer's device key signed it", "purpose: gateway-sign"),
        "other-merchant": ("another merchant's signing key signed it", "purpose: gateway-sign"),
        "gateway-line": ("the gateway's key for the line signed it", "purpose: gateway-sign"),
        "gateway-seal": ("the gateway's sealing key signed it", "purpose: gateway-sign"),
        "expired": ("the gateway's certificate has expired", "dates of every certificate"),
        "early": ("the gateway's certificate is not valid yet", "dates of every certificate"),
        "revoked": ("the gateway's certificate has been revoked", "the list of revoked certificates"),
        "false-gateway": ("a second root with the very same names issued the certificate", "path to the pinned root"),
    }[name]
    return Case(
        f"by_{name.replace('-', '_')}",
        "notice",
        does,
        f"key selected: {rule}",
        FORGER,
        changed_notice(lambda stage, draft: draft.headed(**_named(stage, name)).by(stage.party(name).key)),
    )


def _named(stage: Stage, name: str) -> dict[str, object]:
    signer = stage.party(name)
    return {"kid": signer.kid, "x5c": [encode_der(der) for der in signer.chain]}


def _of_a_stranger(stage: Stage, order: PlacedOrder) -> str:
    return stage.notice(order, "stranger").compact()


def _issued_by_a_leaf(stage: Stage, draft: Draft) -> Draft:
    """Basic constraints: a merchant's own certificate is no authority, though its signature under another one verifies."""
    above, key = stage.party("other-merchant"), keys.new_key()
    urn = profile.Urn.read(stage.operator.gateway.urn)
    content = profile.Content(urn, "gateway-sign", key.public_key(), 1 << 126 | 1, stage.at - 120, stage.at + 3600)
    identifier = profile.key_identifier(above.key.public_key())
    leaf = profile.builder(content, above.urn, identifier).sign(above.key, SHA256()).public_bytes(Encoding.DER)
    return draft.headed(kid=certificates.kid(leaf), x5c=[encode_der(der) for der in (leaf, *above.chain)]).by(key)


def _self_issued(stage: Stage, draft: Draft) -> Draft:
    key = keys.new_key()
    urn = profile.Urn.read(stage.operator.gateway.urn)
    content = profile.Content(urn, "gateway-sign", key.public_key(), 1 << 126 | 1, stage.at - 120, stage.at + 3600)
    leaf = profile.builder(content, urn.text, profile.key_identifier(key.public_key())).sign(key, SHA256()).public_bytes(Encoding.DER)
    return draft.headed(kid=certificates.kid(leaf), x5c=[encode_der(leaf)]).by(key)


def _after_a_list(make: Callable[[Stage], str]) -> Play:
    """A list that does not name the revoked certificate, and then a notice under that one; in the end the right list again."""

    async def play(stage: Stage) -> None:
        order = await stage.order()
        await stage.way.tell(make(stage))
        await stage.offer(stage.notice(order, "revoked").compact(), order=order)
        for told in stage.chores.new_lists():
            await stage.way.tell(told)

    return play


def _old_list(stage: Stage) -> str:
    return stage.chores.gateway_list(stage.chores.number - 1, empty=True)


def _false_list(stage: Stage) -> str:
    return stage.chores.gateway_list(stage.chores.number + 1, empty=True, authority=stage.operator.false_authority)


SIGNERS: Final = (
    *map(_signed_by, ("customer", "other-merchant", "gateway-line", "gateway-seal", "expired", "early", "revoked", "false-gateway")),
    Case(
        "by_stranger",
        "notice",
        "another operator's gateway, with a root of its own, signed it in its own name",
        "pinned gateway",
        FORGER,
        forged_notice(_of_a_stranger),
    ),
    Case(
        "issued_by_a_leaf",
        "notice",
        "a merchant's own certificate issued the signing certificate",
        "path: only authorities issue",
        FORGER,
        changed_notice(_issued_by_a_leaf),
    ),
    Case(
        "self_issued",
        "notice",
        "the signing certificate is its own issuer",
        "path to the pinned root",
        FORGER,
        changed_notice(_self_issued),
    ),
    Case(
        "key_swapped",
        "notice",
        "the gateway's kid and certificates, signed with another key",
        "signature under the selected key",
        FORGER,
        changed_notice(lambda _, draft: draft.by(keys.new_key())),
    ),
    Case(
        "x5c_swapped",
        "notice",
        "the gateway's kid over the chain of a false root",
        "kid and x5c are one certificate",
        CHOSEN,
        changed_notice(lambda stage, draft: draft.headed(x5c=_named(stage, "false-gateway")["x5c"]).by(stage.party("false-gateway").key)),
    ),
    Case(
        "kid_swapped",
        "notice",
        "a false kid over the gateway's chain, rightly signed",
        "kid is the hash of the leaf",
        CHOSEN,
        changed_notice(lambda stage, draft: draft.headed(kid=stage.party("false-gateway").kid)),
    ),
    Case(
        "no_x5c",
        "notice",
        "no x5c in the header",
        "header exactly alg, typ, kid, x5c",
        CHOSEN,
        changed_notice(lambda _, draft: draft.headed(x5c=None)),
    ),
    Case(
        "list_rolled_back",
        "notice",
        "an older list that revokes nothing, then a notice under the revoked certificate",
        "lists of the revoked: the number grows",
        "whoever stole a key puts the list of before the theft back",
        _after_a_list(_old_list),
    ),
    Case(
        "list_of_false_root",
        "notice",
        "a newer list that revokes nothing, by a second root's authority, then a notice under the revoked certificate",
        "lists of the revoked: signed by their authority",
        "whoever stole a key makes a list of his own",
        _after_a_list(_false_list),
    ),
)
