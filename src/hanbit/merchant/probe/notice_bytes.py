"""Notices whose bytes are wrong: the signature's form, the header's members, the JSON's spelling, what stands around it."""

from typing import Final

from hanbit.crypto import keys, signatures
from hanbit.kernel import ids
from hanbit.merchant.probe.case import CHOSEN, FORGER, Case, changed_notice, forged_notice
from hanbit.merchant.probe.forge import Draft, der_signature, jwk, mac_signature
from hanbit.merchant.probe.shop_side import PlacedOrder
from hanbit.merchant.probe.stage import Stage
from hanbit.protocols.signed import MESSAGE_MAX

_TWO_READERS: Final = "two readers of one text see two amounts: one compares, the other books"
_WIDE_ZERO: Final = 0xFF10
"""FULLWIDTH DIGIT ZERO, as Korean and Japanese keyboards give it."""


# --- how it is signed -------------------------------------------------------------------------------------------------------------------


def _altered(stage: Stage, order: PlacedOrder) -> str:
    """The signature of a notice over another amount."""
    right = stage.notice(order)
    signed = right.but(amount=str(int(order.amount) - 1)).compact()
    return f"{right.compact().rpartition('.')[0]}.{signed.rpartition('.')[2]}"


def _mac(algorithm: str) -> Case:
    does = f"{algorithm} with the gateway's public key as the secret"
    return Case(
        algorithm.lower(),
        "notice",
        does,
        "alg pinned to ES256",
        "the public key is public: anybody signs",
        forged_notice(
            lambda stage, order: (
                stage.notice(order)
                .headed(alg=algorithm)
                .compact(signature=mac_signature(stage.operator.gateway.key.public_key(), algorithm))
            )
        ),
    )


def _extra(name: str, does: str, **header: object) -> Case:
    return Case(
        f"header_{name}",
        "notice",
        does,
        "header exactly alg, typ, kid, x5c",
        CHOSEN,
        changed_notice(lambda _, draft: draft.headed(**header)),
    )


def _own_jwk(_: Stage, draft: Draft) -> Draft:
    key = keys.new_key()
    return draft.headed(jwk=jwk(key)).by(key)


def _unencoded(stage: Stage, order: PlacedOrder) -> str:
    """RFC 7797: the signature is over the payload's own bytes."""
    draft = stage.notice(order).headed(b64=False, crit=["b64"])
    first, second, _ = draft.compact().split(".")
    made = signatures.sign(draft.key, f"{first}.".encode() + ids.decode_base64url(second))
    return f"{first}.{second}.{ids.encode_base64url(made)}"


SIGNATURES: Final = (
    Case(
        "altered", "notice", "the payload was changed after it was signed", "signature over the bytes sent", FORGER, forged_notice(_altered)
    ),
    Case(
        "alg_none",
        "notice",
        'alg is "none", the signature empty',
        "alg pinned to ES256",
        FORGER,
        forged_notice(lambda stage, order: stage.notice(order).headed(alg="none").compact(signature=lambda _: b"")),
    ),
    Case(
        "alg_none_signed",
        "notice",
        'alg is "none", with 64 bytes where the signature stands',
        "alg pinned to ES256",
        FORGER,
        forged_notice(lambda stage, order: stage.notice(order).headed(alg="none").compact(signature=lambda _: bytes(range(64)))),
    ),
    Case(
        "alg_small",
        "notice",
        'alg is "es256", rightly signed',
        "alg pinned to ES256",
        CHOSEN,
        changed_notice(lambda _, draft: draft.headed(alg="es256")),
    ),
    _mac("HS256"),
    _mac("HS512"),
    Case(
        "signature_zero",
        "notice",
        "r and s are zero",
        "r and s within 1 … n − 1",
        "signatures of nobody verify under every key",
        forged_notice(lambda stage, order: stage.notice(order).compact(signature=lambda _: bytes(64))),
    ),
    Case(
        "signature_der",
        "notice",
        "the signature is ASN.1 DER",
        "64 bytes, r ‖ s",
        "one signature has many spellings",
        forged_notice(lambda stage, order: stage.notice(order).compact(signature=der_signature(stage.operator.gateway.key))),
    ),
    Case(
        "header_jwk",
        "notice",
        "the header brings its own public key",
        "header exactly alg, typ, kid, x5c",
        CHOSEN,
        changed_notice(_own_jwk),
    ),
    _extra("jku", "the header says where the key is to be fetched", jku="https://keys.example/jwks.json"),
    _extra("x5u", "the header says where the certificate is to be fetched", x5u="https://keys.example/chain.pem"),
    _extra("crit", "`crit` names an extension that nobody knows", crit=["hanbit-unknown"], **{"hanbit-unknown": True}),
    _extra("zip", "`zip` is set", zip="DEF"),
    Case(
        "header_b64",
        "notice",
        "`b64` is false: the signature is over unencoded bytes (RFC 7797)",
        "header exactly alg, typ, kid, x5c",
        CHOSEN,
        forged_notice(_unencoded),
    ),
    Case(
        "header_twice",
        "notice",
        "`alg` stands twice in the header",
        "no duplicate names",
        CHOSEN,
        forged_notice(
            lambda stage, order: stage.notice(order).compact(header=lambda text: text.replace(b'{"alg"', b'{"alg":"none","alg"', 1))
        ),
    ),
    Case(
        "typ_settled",
        "notice",
        "a notice's claims under the typ of a settled message",
        "typ fits the place",
        "one kind of message passes for another",
        changed_notice(lambda _, draft: draft.headed(typ="hanbit-settled")),
    ),
    Case(
        "typ_receipt",
        "notice",
        "a notice's claims under the typ of a receipt",
        "typ fits the place",
        "one kind of message passes for another",
        changed_notice(lambda _, draft: draft.headed(typ="hanbit-receipt")),
    ),
    Case(
        "typ_jwt",
        "notice",
        'typ is "JWT"',
        "typ fits the place",
        "one kind of message passes for another",
        changed_notice(lambda _, draft: draft.headed(typ="JWT")),
    ),
    Case(
        "typ_missing",
        "notice",
        "there is no typ",
        "typ on every message",
        "one kind of message passes for another",
        changed_notice(lambda _, draft: draft.headed(typ=None)),
    ),
)


# --- how it is written ------------------------------------------------------------------------------------------------------------------


def _amount_as(name: str, does: str, spell: str, why: str = "a lenient reader finds an amount that nobody signed") -> Case:
    """The amount in another spelling; `{}` is the right one."""

    def make(stage: Stage, order: PlacedOrder) -> str:
        right, wrong = f'"amount":"{order.amount}"'.encode(), f'"amount":{spell.format(order.amount)}'.encode()
        return stage.notice(order).compact(payload=lambda text: text.replace(right, wrong, 1))

    return Case(f"amount_{name}", "notice", does, "strict JSON; amounts have one spelling", why, forged_notice(make))


def _wide(stage: Stage, order: PlacedOrder) -> str:
    return stage.notice(order).but(amount="".join(chr(_WIDE_ZERO + int(digit)) for digit in order.amount)).compact()


WRITING: Final = (
    _amount_as("twice_first", "`amount` stands twice: first one unit, then the right one", '"1","amount":"{}"', _TWO_READERS),
    _amount_as("twice_last", "`amount` stands twice: first the right one, then one unit", '"{}","amount":"1"', _TWO_READERS),
    _amount_as("number", "the amount is a JSON number", "{}"),
    _amount_as("float", "the amount is a number with a fraction", "{}.0"),
    _amount_as("padded", "the amount has a leading zero", '"0{}"'),
    _amount_as("signed", "the amount has a plus sign", '"+{}"'),
    _amount_as("spaced", "the amount has a space before it", '" {}"'),
    Case(
        "amount_wide",
        "notice",
        "the amount is written in full-width digits",
        "strict JSON; amounts have one spelling",
        "a lenient reader finds an amount that nobody signed",
        forged_notice(_wide),
    ),
    Case(
        "two_values",
        "notice",
        "a second JSON object follows the first",
        "strict JSON",
        _TWO_READERS,
        forged_notice(lambda stage, order: stage.notice(order).compact(payload=lambda text: text + b'{"amount":"1"}')),
    ),
    Case(
        "not_utf8",
        "notice",
        "a byte that is no UTF-8 stands in the payload",
        "strict JSON, UTF-8",
        _TWO_READERS,
        forged_notice(lambda stage, order: stage.notice(order).compact(payload=lambda text: text[:-1] + b',"x":"\xff"}')),
    ),
    Case(
        "oversize",
        "notice",
        "more than 32 KiB, of which all but a little is white space",
        "size first",
        "one message fills memory and disk",
        forged_notice(lambda stage, order: stage.notice(order).compact(payload=lambda text: b"{" + b" " * MESSAGE_MAX + text[1:])),
    ),
    Case(
        "base64_padded",
        "notice",
        "the payload's base64url is padded",
        "one spelling of base64url",
        "one message has many hashes",
        forged_notice(lambda stage, order: _padded(stage.notice(order))),
    ),
    Case(
        "trailing_envelope",
        "notice",
        "something follows the message after a line feed",
        "nothing follows the signature",
        "what follows is read by somebody",
        forged_notice(lambda stage, order: stage.notice(order).compact() + "\neyJ4IjoxfQ.a.b.c.d"),
    ),
    Case(
        "trailing_text",
        "notice",
        "bytes follow the signature",
        "nothing follows the signature",
        "one message has many hashes",
        forged_notice(lambda stage, order: stage.notice(order).compact() + " "),
    ),
)


def _padded(draft: Draft) -> str:
    header, payload, _ = draft.compact().split(".")
    payload += "=" * (-len(payload) % 4 or 4)
    made = draft.sign(f"{header}.{payload}".encode("ascii"))
    return f"{header}.{payload}.{ids.encode_base64url(made)}"
