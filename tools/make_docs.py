#!/usr/bin/env python3
"""Writes the generated parts of docs/: message tables, examples and diagrams, drawn from the code's own tables.

    .venv/bin/python tools/make_docs.py            write
    .venv/bin/python tools/make_docs.py examples   make new examples first: one payment of each kind, by the real roles; one of them
                                                   is the test vector of the dual-signature checkout too

A generated part stands between `<!-- begin: name -->` and `<!-- end: name -->`; the rest of a page is written by hand.
"""

import importlib
import json
import pkgutil
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

import hanbit.merchant
from hanbit.crypto import certificates, keys
from hanbit.crypto.certificates import Authority
from hanbit.kernel import ids
from hanbit.kernel.errors import Declined, HanbitError, NotAllowed, NotSignedIn, ProtocolViolation, Refused, TooManyTries
from hanbit.kernel.money import Money
from hanbit.merchant.agent import faults
from hanbit.merchant.agent.acts import ACTS
from hanbit.merchant.agent.table import ADDRESSES
from hanbit.merchant.probe.table import CASES
from hanbit.payments.close import OUTCOMES
from hanbit.payments.states import DECLINE_REASONS, FINAL, TABLE, State
from hanbit.protocols import console, line
from hanbit.protocols import keys as key_messages
from hanbit.protocols.cancellation import gateway as cancellation_gateway
from hanbit.protocols.cancellation import messages as cancellation
from hanbit.protocols.cancellation.gateway import Figures
from hanbit.protocols.cancellation.merchant import Merchant as Canceller
from hanbit.protocols.dual_signature import customer as buyer
from hanbit.protocols.dual_signature import gateway as purchase_gateway
from hanbit.protocols.dual_signature import merchant as purchase_merchant
from hanbit.protocols.dual_signature import messages as dual_signature
from hanbit.protocols.dual_signature.digests import joint_digest, oi_digest, pi_digest
from hanbit.protocols.dual_signature.merchant import Merchant as Shop
from hanbit.protocols.dual_signature.merchant import SessionFacts
from hanbit.protocols.fields import Message
from hanbit.protocols.redirect import gateway as gateway_role
from hanbit.protocols.redirect import messages as redirect
from hanbit.protocols.redirect.customer import Pin, read_redirect, verify_opening
from hanbit.protocols.redirect.gateway import SealKey
from hanbit.protocols.redirect.merchant import REFUSAL_REASONS, OrderFacts, hash_lines
from hanbit.protocols.redirect.merchant import Merchant as Seller
from hanbit.protocols.sealed import PurchaseCore, code_value, consent_challenge, typed_account
from hanbit.protocols.signed import PinnedTrust, SignedMessage, Signer, encode_der, head, sign, split
from hanbit.sandbox import magic

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs/protocol/examples"
MODELS = ROOT / "models"
VECTOR = ROOT / "tests/vectors/dual_signature.json"
EXAMPLE_AT = 1_790_000_000
EXAMPLE_OPERATOR = "example"
STEPS = {
    "hanbit-order": "R3",
    "hanbit-keys": "R4",
    "hanbit-consent": "R7",
    "hanbit-notice": "R8",
    "hanbit-confirmation": "R9",
    "hanbit-refusal": "R9",
    "hanbit-settled": "R11",
    "hanbit-voided": "R11",
    "hanbit-closed": "R11",
    "hanbit-receipt": "R12",
    "hanbit-inquiry": "RQ",
    "hanbit-status": "RQ",
    "hanbit-session-request": "D2",
    "hanbit-session": "D3",
    "hanbit-dual": "D5",
    "hanbit-authorization-request": "D6",
    "hanbit-authorization": "D7",
    "hanbit-result-request": "D8",
    "hanbit-result": "D8",
    "hanbit-key-record": "K1",
    "hanbit-key-record-confirmation": "K1",
    "hanbit-renewal": "K2",
    "hanbit-certificates": "K3",
    "hanbit-crl": "K4",
    "hanbit-session-authority-request": "K5",
    "hanbit-session-authority": "K5",
    "hanbit-cancel": "C1",
    "hanbit-cancel-confirmation": "C3",
    "hanbit-cancel-refusal": "C3",
}
PROBLEM_MODULES = ("hanbit.kernel.errors", "hanbit.merchant.agent.faults")
"""Where the codes of the agent's API stand; what the merchant's side adds below them has the code of its parent."""
NOT_THE_AGENTS = frozenset({Refused, NotSignedIn, NotAllowed, Declined, TooManyTries, ProtocolViolation})
"""Parents only, and what only the bank's own pages say; a violation by the payment server is told as `gateway_answer`."""
MEANS = {
    "bad_input": "A field, the query, a header or the body is not as `/openapi.json` describes it.",
    "not_found": "There is no such order, delivery or address here.",
    "wrong_state": "The order, or what was asked for, is elsewhere by now.",
    "error": "Something that must not happen has happened.",
}
REFUSED_WHAT_TO_DO = {
    "unknown_order": "The order was placed in another order book: look which folder the agent serves, and whether it was restored.",
    "amount_mismatch": "The amount was changed on the way. Let them order again; ask the operator where it is frequent.",
    "currency_mismatch": "As above, with the currency.",
    "order_mismatch": "As above, with the order itself.",
    "withdrawn": "You took it back before it was paid. Nothing to do.",
    "order_changed": "You replaced it; the customer comes back for the new one. Nothing to do.",
    "already_answered": "There is another payment for it. Read the order: it says what became of that one.",
    "expired": "The customer took too long. Let them order again.",
    "shop_refused": "Your `order.confirm` said no. Nothing to do.",
    "shop_silent": "Your `order.confirm` said nothing usable within three seconds: the agent's log has what came. Let them order again.",
}
WHAT_TO_DO = {
    "refused": ("Your side said no; the refusal's own reason is in the table above.", "Release the goods. No money moved."),
    "expired": (
        "The time was up: the customer's before he paid, or your side's answer did not come.",
        "Release the goods; let them order again.",
    ),
    "cancelled_by_customer": ("The customer pressed cancel at the bank.", "Release the goods."),
    "cancelled_by_merchant": ("You cancelled before it was paid.", "Nothing."),
    "declined": ("The last of five attempts was declined.", "Release the goods; offer another way to pay."),
}
DECLINED = {
    "wrong_factor": "The account, or its password, code or device, was not accepted. The customer tries again.",
    "factor_waits": "Too many wrong tries: this way of approving waits.",
    "unknown_account": "The typed number is nobody's; the customer reads the same as after a wrong password.",
    "no_funds": "There is not enough money. The customer chooses another account.",
    "account_suspended": "The customer asks the bank.",
    "customer_suspended": "The customer asks the bank.",
    "merchant_suspended": "The bank takes no payments for you at present: ask the operator.",
    "unsigned_limit": "Too much for a password: the customer approves with a passkey or the installed program.",
    "limit": "Above a limit of the account.",
    "merchant_limit": "Above what the bank lets you take with one payment, or in a day: ask the operator.",
}
CANCEL_WHAT_TO_DO = {
    "amount_differs": "Leave `amount` out, or wait for the outcome and give the part back then.",
    "remaining_differs": "The agent asks anew with the right figure; where it cannot, `look` says what somebody should compare.",
    "too_much": "Read `refunded` of the order and ask for no more than the rest.",
    "too_late": "Ask the operator to allow it (`hanbit payment allow-refund`).",
    "merchant_funds": "Pay in at the operator, then cancel again.",
}
COMMON = frozenset(Message.__struct_fields__)


def message_table(kinds: tuple[type[Message], ...]) -> str:
    """One row a message: typ, who signs, with which key, what it says."""
    rows = ["| step | typ | signed by | with | claims besides v, iss, aud, jti, iat |", "| --- | --- | --- | --- | --- |"]
    for kind in kinds:
        claims = " ".join(
            f"{field.encode_name}{'?' if field.default is not msgspec.NODEFAULT else ''}"
            for field in msgspec.structs.fields(kind)
            if field.encode_name not in COMMON
        )
        purpose = f"`{kind.PURPOSE}`" if kind.PURPOSE else "the key that it names"
        rows.append(f"| {STEPS.get(kind.TYP, 'line')} | `{kind.TYP}` | {kind.SENDER} | {purpose} | {claims} |")
    return "\n".join(rows)


def examples(name: str, kinds: tuple[type[Message], ...]) -> str:
    """Each message of an example file: what it is, its claims, its bytes."""
    stored = json.loads((EXAMPLES / f"{name}.json").read_text("utf-8"))
    parts = []
    for item in stored["messages"]:
        kind = next(kind for kind in kinds if item["typ"] == kind.TYP)
        claims = json.dumps(json.loads(split(item["compact"])[1]), indent=2, ensure_ascii=False)
        parts.append(
            f"### {STEPS[kind.TYP]} `{kind.TYP}`\n\n{(kind.__doc__ or '').strip()}\n\n```json\n{claims}\n```\n\n"
            f"<details><summary>the bytes ({len(item['compact'])})</summary>\n\n```\n{item['compact']}\n```\n\n</details>"
        )
    return "\n\n".join(parts)


def checks(module: ModuleType, beginning: str) -> str:
    """The numbered list in a role's docstring that this sentence introduces."""
    text = (module.__doc__ or "").partition(beginning)[2].partition("\n\n")[2].partition("\n\n")[0]
    found = re.findall(r"^ *\d+\. (.*(?:\n +(?!\d+\.).*)*)", text, re.MULTILINE)
    return "\n".join(f"{number}. {' '.join(check.split())}" for number, check in enumerate(found, 1))


def drawing(module: ModuleType) -> str:
    """The indented part of a role's docstring, as it stands there."""
    lines = (module.__doc__ or "").partition("\n\n")[2].rstrip().splitlines()
    return "\n".join(["```", *lines, "```"])


def state_diagram() -> str:
    """The life of a payment, from `payments/states.py`."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> new"]
    for state, rows in TABLE.items():
        for event, row in rows.items():
            rule = f" ({row.rule})" if row.rule else ""
            lines.append(f"    {state} --> {row.to}: {event}{rule}")
    lines += [f"    {state} --> [*]" for state in State if state in FINAL]
    return "\n".join([*lines, "```"])


def state_table() -> str:
    """The same as a table, with what proves each step."""
    rows = ["| in state | event | next state | journal rule | messages stored with it |", "| --- | --- | --- | --- | --- |"]
    for state, transitions in TABLE.items():
        rows.extend(
            f"| {state} | {event} | **{row.to}** | {row.rule or '–'} | {', '.join(row.evidence)} |" for event, row in transitions.items()
        )
    return "\n".join(rows)


def refusal_table() -> str:
    """Why a cancellation is refused."""
    rows = ["| reason | what it says |", "| --- | --- |"]
    rows.extend(f"| `{reason}` | {words} |" for reason, words in cancellation.REFUSALS.items())
    return "\n".join(rows)


def cancellation_table() -> str:
    """What C1 does in each state: the rows of `payments/states.py` that a cancellation brings about."""
    rows = ["| state | event | next state | journal rule | messages stored with it |", "| --- | --- | --- | --- | --- |"]
    rows.extend(
        f"| {state} | {event} | **{row.to}** | {row.rule or '–'} | {', '.join(row.evidence)} |"
        for state, transitions in TABLE.items()
        for event, row in transitions.items()
        if "cancel" in row.evidence
    )
    return "\n".join(rows)


def agent_addresses() -> str:
    """Every address of the merchant's agent, from the table that also routes."""
    rows = ["| call | what it does | answers |", "| --- | --- | --- |"]
    for address in ADDRESSES:
        names = "&".join(field.name for field in msgspec.structs.fields(address.query))
        query = f"?{names}" if names else ""
        rows.append(f"| `{address.method} {address.path}{query}` | {address.summary} | {address.status} `{address.answer.__name__}` |")
    return "\n".join(rows)


def agent_acts() -> str:
    """What `can` lists in each state of an order."""
    rows = ["| state | `can` |", "| --- | --- |"]
    rows.extend(f"| {state} | {', '.join(acts) or '–'} |" for state, acts in ACTS.items())
    return "\n".join(rows)


def errors_below(kind: type[HanbitError]) -> Iterator[type[HanbitError]]:
    """Every class of the tree, those of the merchant's side too."""
    for child in kind.__subclasses__():
        yield child
        yield from errors_below(child)


def agent_problems() -> str:
    """Every code that the agent's API may answer: all of the tree but what only the bank's pages say."""
    for module in pkgutil.walk_packages(hanbit.merchant.__path__, "hanbit.merchant."):
        importlib.import_module(module.name)
    told = {kind.code: kind for kind in errors_below(HanbitError) if kind.__module__ in PROBLEM_MODULES and kind not in NOT_THE_AGENTS}
    rows = ["| HTTP | `code` | what it means | what to do |", "| --- | --- | --- | --- |"]
    for code, kind in sorted(told.items(), key=lambda item: (item[1].status, item[0])):
        means = MEANS.get(code) or (kind.__doc__ or "").strip().splitlines()[0]
        rows.append(f"| {kind.status} | `{code}` | {means} | {faults.advice_of(kind)} |")
    return "\n".join(rows)


def reason_table(reasons: Iterable[str]) -> str:
    """A reason, what it means and what to do; a reason without its words stops this program."""
    rows = ["| `reason` | what it means | what to do |", "| --- | --- | --- |"]
    rows.extend(f"| `{reason}` | {WHAT_TO_DO[reason][0]} | {WHAT_TO_DO[reason][1]} |" for reason in reasons)
    return "\n".join(rows)


def refused_table() -> str:
    """Why the shop's side says no to a notice, with the words that the customer reads."""
    rows = ["| `reason` | what the customer reads | what to do |", "| --- | --- | --- |"]
    rows.extend(f"| `{reason}` | {words.en} | {REFUSED_WHAT_TO_DO[reason]} |" for reason, words in REFUSAL_REASONS.items())
    return "\n".join(rows)


def written_in(pattern: str) -> list[str]:
    """The reasons that the gateway's own code writes into a message, in the order of its files."""
    sources = (path.read_text("utf-8") for path in sorted((ROOT / "src/hanbit/payments").glob("*.py")))
    return list(dict.fromkeys(reason for source in sources for reason in re.findall(pattern, source)))


def decline_table() -> str:
    """Why an attempt at the bank was declined."""
    rows = ["| `reason` | what it means |", "| --- | --- |"]
    rows.extend(f"| `{reason}` | {DECLINED[reason]} |" for reason in DECLINE_REASONS)
    return "\n".join(rows)


def cancellation_refusals() -> str:
    """Why a cancellation is refused, and what then."""
    rows = ["| `refusal` | what it means | what to do |", "| --- | --- | --- |"]
    rows.extend(f"| `{reason}` | {words} | {CANCEL_WHAT_TO_DO[reason]} |" for reason, words in cancellation.REFUSALS.items())
    return "\n".join(rows)


def probe_cases() -> str:
    """What `hanbit merchant probe` does, in the order in which it does it."""
    rows = [
        "| case | | what the probe does | rule | what a merchant shows by passing it, or loses by taking it |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows.extend(f"| `{case.name}` | {case.group} | {case.does} | {case.rule} | {case.why} |" for case in CASES)
    return "\n".join(rows)


def sandbox_people() -> str:
    """The customers of a sandbox."""
    rows = ["| ID | password | what he does |", "| --- | --- | --- |"]
    rows += [f"| `{one.login}` | `{one.password}` | {one.does.en} |" for one in magic.PEOPLE]
    return "\n".join(rows)


def sandbox_accounts() -> str:
    """Their accounts."""
    rows = ["| number | kind | of | account password | what it does |", "| --- | --- | --- | --- | --- |"]
    rows += [f"| `{one.number}` | {one.kind} | `{one.login}` | `{one.password}` | {one.does.en} |" for one in magic.ACCOUNTS]
    return "\n".join([*rows, f"| each | | | {magic.WRONG_PASSWORD.en.partition(':')[0]} |{magic.WRONG_PASSWORD.en.partition(':')[2]} |"])


def sandbox_amounts() -> str:
    """The amounts that do something."""
    rows = ["| amount | what it does |", "| --- | --- |"]
    return "\n".join([*rows, *(f"| …{one.ending} | {one.does.en} |" for one in magic.AMOUNTS)])


def defence_table(name: str) -> str:
    """Each defence of a model: what it says, which attack is found without it, where the check is, which tests notice its absence."""
    model = tomllib.loads((MODELS / "expected.toml").read_text("utf-8"))[name]
    mutants = tomllib.loads((MODELS / "mutants.toml").read_text("utf-8"))["mutants"]
    rows = ["| defence | what it says | without it | the check | tests that fail without it |", "| --- | --- | --- | --- | --- |"]
    for defence, says in model["defences"].items():
        mutant = next(mutant for mutant in mutants if f"{name}.{defence}" in mutant["defences"])
        checks = dict.fromkeys(f"`{cut['file']}: {cut['function']}`" for cut in mutant["cuts"])
        tests = (test.rpartition("::") for test in mutant["tests"])
        told = ", ".join(f"[`{test}`](../../{path})" for path, _, test in tests)
        rows.append(f"| **{defence}** | {says} | {without_defence(model, defence)} | {', '.join(checks)} | {told} |")
    return "\n".join(rows)


def without_defence(model: dict[str, Any], defence: str) -> str:
    """What the model finds without it; a mode is named where another one finds something else."""
    bad = {attack: goal["says"] for attack, goal in model["attacks"].items()} | {"stuck": model.get("final", {}).get("says")}
    told: dict[str, list[str]] = {}
    for one in model["sets"]:
        if defence in one["without"]:
            others = [other for other in one["without"] if other != defence]
            also = f"Only with {' and '.join(others)} off too: " if others else ""
            told.setdefault(f"{also}{one['how']} → *{'*; *'.join(bad[attack] for attack in one['finds'])}*", []).append(one["mode"])
    modes = {mode for mode, defences in model["modes"].items() if defence in defences}
    parts = []
    for text, found in told.items():
        only = "" if set(found) == set(model["modes"]) else f"({', '.join(found)}) "
        parts.append(f"{only}{text}")
    needless = modes - {mode for found in told.values() for mode in found}
    return "; ".join([*parts, *(f"({mode}) nothing" for mode in sorted(needless))])


def searched() -> str:
    """How far the models were searched, and how long that took where it was measured last."""
    expected = tomllib.loads((MODELS / "expected.toml").read_text("utf-8"))
    rows = [
        "| model | mode | states with every defence on | bound | minimal sets | seconds, all searches |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in json.loads((MODELS / "searched.json").read_text("utf-8")).items():
        model = expected[name]
        rows.extend(
            f"| `{model['file']}` | {mode} | {looked['states']:,} | {model['states_max']:,} | {len(looked['ways'])} | {found['seconds']} |"
            for mode, looked in found["modes"].items()
        )
    return "\n".join(rows)


def ways() -> str:
    """A shortest way to each attack, in the model's own steps."""
    rows = ["| model | mode | without | attack | steps |", "| --- | --- | --- | --- | --- |"]
    for name, found in json.loads((MODELS / "searched.json").read_text("utf-8")).items():
        rows.extend(
            f"| {name} | {mode} | {off} | `{attack}` | {steps} |"
            for mode, looked in found["modes"].items()
            for off, attacks in looked["ways"].items()
            for attack, steps in attacks.items()
        )
    return "\n".join(rows)


def generated() -> dict[Path, dict[str, str]]:
    """Page → name of each generated part → its text."""
    return {
        ROOT / "docs/protocol/redirect.md": {
            "messages": message_table(redirect.MESSAGES),
            "line-messages": message_table((*line.MESSAGES, *console.MESSAGES)),
            "examples": examples("redirect", redirect.MESSAGES),
        },
        ROOT / "docs/protocol/dual-signature.md": {
            "messages": message_table(dual_signature.MESSAGES),
            "session-checks": checks(buyer, "`verify_session` checks"),
            "purchase-checks": checks(purchase_merchant, "`verify_purchase` compares"),
            "gateway-checks": drawing(purchase_gateway),
            "examples": examples("dual_signature", (redirect.Order, *dual_signature.MESSAGES, redirect.Receipt)),
        },
        ROOT / "docs/protocol/cancellation.md": {
            "cancellation-messages": message_table(cancellation.MESSAGES),
            "refusals": refusal_table(),
            "cancellation-states": cancellation_table(),
            "examples": examples("cancellation", cancellation.MESSAGES),
        },
        ROOT / "docs/protocol/defences.md": {
            "redirect": defence_table("redirect"),
            "dual-signature": defence_table("dual_signature"),
            "life": defence_table("life"),
            "searched": searched(),
            "ways": ways(),
        },
        ROOT / "docs/protocol/keys.md": {"key-messages": message_table(key_messages.MESSAGES)},
        ROOT / "docs/ARCHITECTURE.md": {"states": state_diagram(), "state-table": state_table()},
        ROOT / "docs/guide/error-codes.md": {
            "problems": agent_problems(),
            "refused": refused_table(),
            "voided": reason_table(written_in(r'make_voided\([^)]*reason="(\w+)"')),
            "closed": reason_table(dict.fromkeys([*OUTCOMES.values(), *written_in(r'make_closed\([^)]*outcome="(\w+)"')])),
            "declined": decline_table(),
            "cancellation-refusals": cancellation_refusals(),
        },
        ROOT / "docs/sandbox.md": {"people": sandbox_people(), "accounts": sandbox_accounts(), "amounts": sandbox_amounts()},
        ROOT / "docs/agent.md": {"addresses": agent_addresses(), "acts": agent_acts()},
        ROOT / "docs/conformance.md": {"cases": probe_cases()},
    }


def fill(text: str, parts: dict[str, str]) -> str:
    """The page with its generated parts as they must be now."""
    for name, content in parts.items():
        pattern = re.compile(rf"(<!-- begin: {name} -->\n).*?(<!-- end: {name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)
        if count != 1:
            raise SystemExit(f"the page has no part {name!r}")
    return text


class Example:
    """A throw-away operator with a shop; the private keys are not kept."""

    def __init__(self) -> None:
        root_key = keys.new_key()
        self.root = certificates.make_root(EXAMPLE_OPERATOR, root_key, EXAMPLE_AT - 100)
        self._top = Authority.of_root(root_key, self.root)
        self._gateways, self._merchants = self._authority("gateway", 0), self._authority("merchant", 1)
        self.gateway = self.signer("gateway-sign", "gateway")
        self.shop = self.signer("merchant-sign", "merchant", "shop")

    def _authority(self, name: str, depth: int) -> Authority:
        key = keys.new_key()
        made = certificates.make_authority(self._top, EXAMPLE_OPERATOR, name, key.public_key(), depth, EXAMPLE_AT - 100)
        return Authority.below_root(key, [made])

    def session_authority(self) -> Authority:
        """The shop's own authority for its customers' sessions."""
        key = keys.new_key()
        made = certificates.make_authority(self._merchants, EXAMPLE_OPERATOR, "session:shop", key.public_key(), 0, EXAMPLE_AT - 100)
        return Authority.below_root(key, [made, *self._merchants.chain])

    def signer(self, purpose: str, *name: str) -> Signer:
        """A key with its certificate."""
        key, urn = keys.new_key(), ids.urn(EXAMPLE_OPERATOR, *name)
        issuer = self._merchants if purpose == "merchant-sign" else self._gateways
        leaf = certificates.make_leaf(issuer, urn=urn, purpose=purpose, public=key.public_key(), at=EXAMPLE_AT, lifetime_s=86_400)
        return Signer(urn=urn, purpose=purpose, kid=certificates.kid(leaf), chain=(leaf, *issuer.chain), key=key)

    def write(self, name: str, *made: SignedMessage[Message]) -> None:
        """The example file of a protocol."""
        stored = {
            "at": EXAMPLE_AT,
            "operator": EXAMPLE_OPERATOR,
            "root": encode_der(self.root),
            "merchant_chain": [encode_der(der) for der in self.shop.chain],
            "messages": [{"typ": message.claims.TYP, "compact": message.compact} for message in made],
        }
        (EXAMPLES / f"{name}.json").write_text(json.dumps(stored, indent=1) + "\n", "utf-8")


def make_cancellation_examples() -> None:
    """A part that goes back, and one that is refused."""
    example, at = Example(), EXAMPLE_AT
    gateway, shop = example.gateway, example.shop
    role = Canceller(shop, gateway.urn, PinnedTrust(example.root, EXAMPLE_OPERATOR, urn=gateway.urn))
    asked = {
        "payment": ids.new_token(),
        "tid": ids.new_token(),
        "amount": Money(20_000, "KRW"),
        "reason": "one of two was broken",
        "prev": ids.digest(b"settled"),
    }
    cancel = role.make_cancel(cancellation=ids.new_token(), remaining=Money(220_000, "KRW"), **asked, at=at)
    confirmation = cancellation_gateway.make_confirmation(cancel, Figures(20_000, 200_000), signer=gateway, at=at)
    again = role.make_cancel(cancellation=ids.new_token(), remaining=Money(220_000, "KRW"), **asked, at=at)
    refusal = cancellation_gateway.make_refusal(again, Figures(20_000, 200_000), "remaining_differs", signer=gateway, at=at)
    example.write("cancellation", cancel, confirmation, refusal)


def make_dual_signature_examples() -> None:
    """One purchase that is approved, from D1 to D8; whoever writes a reader of his own finds each value in the vector."""
    example, at = Example(), EXAMPLE_AT
    gateway, shop, sealing = example.gateway, example.shop, example.signer("gateway-seal", "gateway")
    any_customer, pin = ids.urn(EXAMPLE_OPERATOR, "customer"), Pin(example.root, EXAMPLE_OPERATOR)
    lines, salt = '[{"item":"휴대폰 IM-1100","quantity":1,"price_minor":220000}]', bytes(range(32))
    trust = PinnedTrust(example.root, EXAMPLE_OPERATOR, urn=gateway.urn)
    order = Seller(shop, gateway.urn, trust).make_order(
        tid=ids.new_token(),
        amount=Money(220_000, "KRW"),
        oi=hash_lines(salt, lines.encode("utf-8")),
        text="휴대폰 IM-1100",
        return_url="https://shop.example/return",
        pay_by=at + 1800,
        refund_by=None,
        at=at,
    )
    offer = gateway_role.signed_offer(order, merchant="shop", merchant_urn=shop.urn, at=at)
    seal_key = SealKey(sealing.kid, sealing.chain[0], sealing.key)
    opened = gateway_role.make_keys(
        offer, signer=gateway, seal=seal_key, server_key=b"k" * 32, customer=any_customer, payee="무지개 상점", at=at
    )
    shown = {
        "gateway": gateway.urn,
        "merchant": {"id": "shop", "urn": shop.urn, "name": "무지개 상점"},
        "tid": order.claims.tid,
        "amount": "220000",
        "currency": "KRW",
        "order": order.compact,
        "order_hash": order.hash,
        "keys": opened.compact,
        "merchant_chain": [encode_der(der) for der in shop.chain],
    }
    address = read_redirect(f"MID=shop&TID={order.claims.tid}&AMOUNT=220000&CUR=KRW&ORDER={order.compact}")
    opening = verify_opening(msgspec.json.encode(shown), redirect=address, pin=pin, at=at)
    asking = buyer.make_session_request(opening, at=at)
    facts = OrderFacts(order.claims.tid, Money(220_000, "KRW"), order.hash, at + 1800, barred=None, plain=False)
    seller = Shop(shop, gateway.urn, trust, example.root)
    answered = seller.answer_session_request(asking.request, facts, example.session_authority(), at=at)
    session = buyer.verify_session(answered.answer, asking, pin=pin, at=at)
    oi = buyer.make_order_information(session, lines)
    core = buyer.make_core(session, account="3HqXb0m7TgmB1Zb3v0kA9w", grant=ids.new_token(), oi=oi)
    auth = buyer.auth_code(core, bytes(range(32)))
    purchase = buyer.make_purchase(session, oi=oi, core=core, auth=auth, at=at)
    purchased = seller.verify_purchase(
        purchase, SessionFacts(answered.session.claims, answered.session.hash, used=False), facts, lines, at=at
    )
    request = seller.make_authorization_request(purchased, at=at)
    approved = purchase_gateway.make_authorization(request, signer=gateway, payment=ids.new_token(), reason=None, at=at)
    declined = purchase_gateway.make_authorization(request, signer=gateway, payment=None, reason="declined", at=at)
    receipt = purchase_gateway.make_receipt(approved, signer=gateway, customer=any_customer, payee="무지개 상점", at=at)
    asked = buyer.make_result_request(session, at=at)
    result = purchase_gateway.make_result(
        asked, signer=gateway, customer=any_customer, state="captured", reason=None, message="", receipt=receipt.compact, at=at
    )
    example.write(
        "dual_signature", order, asking.request, answered.session, purchased.dual, request, approved, declined, receipt, asked, result
    )
    core_hash, binding = ids.digest(core.encode()), msgspec.json.decode(core, type=PurchaseCore).code_binding
    vector = {
        "at": at,
        "operator": EXAMPLE_OPERATOR,
        "root": encode_der(example.root),
        "opening": shown,
        "lines": {"lines": lines, "salt": ids.encode_base64url(salt), "oi": order.claims.oi},
        "session_request": asking.request.compact,
        "thumbprint": {"key": keys.public_jwk(asking.key.public_key()), "thumbprint": asking.request.kid},
        "answer": msgspec.to_builtins(answered.answer),
        "purchase": msgspec.to_builtins(purchase),
        "digests": {
            "core": core,
            "auth": auth,
            "core_hash": core_hash,
            "auth_hash": ids.digest(auth.encode()),
            "oimd": oi_digest(oi),
            "pimd": pi_digest(core_hash, ids.digest(auth.encode())),
            "pomd": joint_digest(purchase.pimd, oi_digest(oi)),
        },
        "consent_challenge": ids.encode_base64url(consent_challenge(core_hash)),
        "code": {
            "secret": ids.encode_base64url(bytes(range(32))),
            "salt": ids.encode_base64url(binding.salt),
            "info": binding.info.decode("ascii"),
            "value": code_value(bytes(range(32)), binding, core_hash),
        },
        "typed_account": {
            "number": "11012345678890",
            "salt": ids.encode_base64url(salt),
            "account": typed_account("11012345678890", salt),
        },
        "seal": {**keys.public_jwk(sealing.key.public_key()), "d": _private_part(sealing)},
        "request": request.compact,
        "authorization": approved.compact,
        "receipt": receipt.compact,
        "result_request": asked.compact,
        "result": result.compact,
    }
    VECTOR.write_text(json.dumps(vector, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _private_part(signer: Signer) -> str:
    return ids.encode_base64url(signer.key.private_numbers().private_value.to_bytes(32, "big"))


def make_examples() -> None:
    """One payment that is paid and the other ends."""
    example, at = Example(), EXAMPLE_AT
    gateway, shop = example.gateway, example.shop
    gateway_urn, merchant_urn, any_customer = gateway.urn, shop.urn, ids.urn(EXAMPLE_OPERATOR, "customer")
    device = example.signer("customer-sign", "customer", "2hZk0w3bQ1ePmZs9Xx7C4Q")
    seal = example.signer("gateway-seal", "gateway")
    tid, payment = ids.new_token(), ids.new_token()
    figures: dict[str, Any] = {"tid": tid, "amount": "220000", "currency": "KRW"}
    order = sign(
        redirect.Order(
            **head(shop, gateway_urn, at),
            **figures,
            oi=ids.digest(b"salted lines"),
            text="휴대폰 IM-1100",
            return_url="https://shop.example/return",
            pay_by=at + 1800,
        ),
        shop,
    )
    offer = gateway_role.signed_offer(order, merchant="shop", merchant_urn=merchant_urn, at=at)
    opened = gateway_role.make_keys(
        offer,
        signer=gateway,
        seal=SealKey(seal.kid, seal.chain[0], seal.key),
        server_key=b"k" * 32,
        customer=any_customer,
        payee="무지개 상점",
        at=at,
    )
    consent = sign(redirect.Consent(**head(device, gateway_urn, at), core=ids.digest(b"core"), order=order.hash), device)
    notice = gateway_role.make_notice(offer, signer=gateway, payment=payment, at=at)
    answer = {**figures, "payment": payment, "order": order.hash, "req": notice.hash}
    confirmation = sign(redirect.Confirmation(**head(shop, gateway_urn, at), **answer), shop)
    words = redirect.Words(ko="방금 다 팔렸습니다.", en="It has just sold out.")
    refusal = sign(redirect.Refusal(**head(shop, gateway_urn, at), **answer, reason="shop_refused", message=words), shop)
    settled = gateway_role.make_settled(confirmation, signer=gateway, at=at)
    receipt = gateway_role.make_receipt(settled, signer=gateway, customer=any_customer, payee="무지개 상점", at=at)
    voided = gateway_role.make_voided(notice, signer=gateway, prev=refusal.hash, reason="refused", at=at)
    closed = gateway_role.make_closed(
        signer=gateway, merchant_urn=merchant_urn, tid=tid, order_hash=order.hash, outcome="cancelled_by_customer", at=at
    )
    inquiry = sign(redirect.Inquiry(**head(shop, gateway_urn, at), tid=tid, exp=at + 120), shop)
    status = gateway_role.make_status(inquiry, signer=gateway, state="settled", outcome=settled.compact, at=at)
    made = (order, opened, consent, notice, confirmation, refusal, settled, voided, closed, receipt, inquiry, status)
    assert Money(220_000, "KRW").text == figures["amount"]
    example.write("redirect", *made)


def main() -> None:
    """Write the pages."""
    if sys.argv[1:] == ["examples"]:
        make_examples()
        make_cancellation_examples()
    if sys.argv[1:] in (["examples"], ["purchase"]):
        make_dual_signature_examples()
    for page, parts in generated().items():
        page.write_text(fill(page.read_text("utf-8"), parts), "utf-8")


if __name__ == "__main__":
    main()
