"""The shop's own evidence file of one order: what it signed and was told, what was ordered, and how its keys follow one another."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hanbit.crypto import certificates
from hanbit.evidence.bundle import Bundle, Kept, Lines, chains_of
from hanbit.merchant import files, records
from hanbit.merchant.order import Order
from hanbit.merchant.order_book import OrderBook
from hanbit.merchant.purchase import OF_AN_ORDER, ExchangeState
from hanbit.merchant.witness import Witness
from hanbit.protocols.redirect.messages import Receipt
from hanbit.protocols.signed import encode_der, peek_chain, peek_claims, peek_kid, peek_typ


async def collect(order: Order, book: OrderBook, witness: Witness) -> dict[str, Any]:
    """What the order book and the witness hold of an order, in words that travel as JSON."""
    messages = [{"typ": kept.typ, "at": kept.at, "compact": kept.compact} for kept in await book.messages(order.tid)]
    bought = [one for one in await book.exchanges(OF_AN_ORDER, order.tid) if one.state is ExchangeState.APPROVED]
    receipts = [(one.changed_at, one.receipt) for one in bought if one.receipt is not None]
    messages += [{"typ": Receipt.TYP, "at": at, "compact": receipt} for at, receipt in receipts]
    return {
        "tid": order.tid,
        "messages": messages,
        "lines": None if order.plain else {"salt": order.salt, "json": order.lines_json},
        "order_information": bought[0].oi if bought else None,
        "checkpoint": witness.compact,
    }


def assemble(directory: Path, collected: dict[str, Any]) -> Bundle:
    """The file's content; what is said of keys and certificates stands in the shop's folder."""
    registration = files.read_registration(directory)
    folders = files.generation_folders(directory)
    paths = [path for folder in folders if (path := files.chain_file(folder, "merchant-sign")).exists()]
    return bundle(
        collected,
        operator=registration.operator,
        merchant=registration.merchant_id,
        keys=records.about_keys(directory),
        chains=[certificates.load_chain_pem(path) for path in paths],
    )


def bundle(collected: dict[str, Any], *, operator: str, merchant: str, keys: Iterable[str], chains: Iterable[tuple[bytes, ...]]) -> Bundle:
    """The same from its parts: `keys` are the messages about keys, `chains` those of the keys that the shop ever signed with."""
    messages = tuple(Kept(**one) for one in collected["messages"])
    wanted = {peek_kid(kept.compact) for kept in messages if not peek_chain(kept.compact)}
    lines = collected["lines"]
    return Bundle(
        source="merchant",
        operator=operator,
        merchant=merchant,
        tid=collected["tid"],
        messages=messages,
        keys=tuple(map(_kept, keys)),
        certificates=chains_of([tuple(map(encode_der, chain)) for chain in chains if certificates.kid(chain[0]) in wanted]),
        checkpoint=collected["checkpoint"],
        lines=None if lines is None else Lines(**lines),
        order_information=collected["order_information"],
    )


def _kept(compact: str) -> Kept:
    """When a message about keys came is not written down: it is judged as of when it says that it was signed."""
    return Kept(typ=peek_typ(compact), at=int(peek_claims(compact)["iat"]), compact=compact)
