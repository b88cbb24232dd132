"""Reading what a browser sends to the demo shop: forms with each field once, and targets that stay on this site."""

from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request

from hanbit.kernel.errors import BadInput

_FIELDS_MAX: Final = 8


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, each once; the guard has bounded the body."""
    try:
        fields = parse_qs((await request.body()).decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS_MAX, errors="strict")
    except (UnicodeError, ValueError) as error:
        raise BadInput("form") from error
    if any(len(values) > 1 for values in fields.values()):
        raise BadInput("form: a field twice")
    return {name: values[0] for name, values in fields.items()}


def local(target: str) -> str:
    """Only a path of this very site: never an open redirect."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable() else "/"
