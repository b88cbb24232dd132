"""The merchant whose people are here: everything that this console shows is its own."""

from starlette.requests import Request

from hanbit.parties import merchants
from hanbit.parties.merchants import Merchant
from hanbit.web.consoles import Console


def own_merchant(console: Console, request: Request) -> Merchant:
    """The merchant of whoever asks."""
    mine = console.merchant(request)
    assert mine is not None, "a person of this console belongs to a merchant"
    found = merchants.by_id(console.gateway.reader, mine)
    assert found is not None, mine
    return found
