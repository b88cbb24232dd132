"""What merchants are told to dial is a setting of its own."""

import pytest

from hanbit.kernel.errors import BadInput
from hanbit.settings import Settings


def test_merchants_dial_the_public_host_where_there_is_one() -> None:
    assert Settings().line_dialled == "127.0.0.1"
    assert Settings(line_host="0.0.0.0", line_public_host="line.bank.example").line_dialled == "line.bank.example"  # noqa: S104 - the case at hand
    with pytest.raises(BadInput, match="line_public_host"):
        Settings(line_public_host="not a host")
