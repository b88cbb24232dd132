"""The rules of the guard by themselves: which writes are ours, what a page may load, what a reference looks like."""

import re

import pytest
from starlette.datastructures import Headers

from hanbit.kernel.errors import NotAllowed
from hanbit.kernel.ids import new_reference
from hanbit.web.security import check_same_origin, content_security_policy

ORIGIN = "https://pay.example"
REFERENCE = re.compile(r"[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}")


@pytest.mark.parametrize(
    "said",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://pay.example"},
        {"origin": "https://pay.example.evil.example"},
        {"origin": ORIGIN, "sec-fetch-site": "cross-site"},
        {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
        {"origin": ""},
    ],
)
def test_a_write_from_another_site_is_refused(said: dict[str, str]) -> None:
    with pytest.raises(NotAllowed):
        check_same_origin("POST", Headers(said), ORIGIN)
    check_same_origin("GET", Headers(said), ORIGIN)


@pytest.mark.parametrize(
    "said", [{}, {"origin": ORIGIN}, {"sec-fetch-site": "same-origin"}, {"origin": ORIGIN, "sec-fetch-site": "same-origin"}]
)
def test_a_write_from_our_own_page_or_from_no_browser_is_taken(said: dict[str, str]) -> None:
    check_same_origin("POST", Headers(said), ORIGIN)


def test_the_policy_of_a_page_allows_one_script_and_no_form() -> None:
    policy = dict(part.partition(" ")[::2] for part in content_security_policy("N").split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'nonce-N'"
    assert policy["form-action"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert not any("unsafe" in value or "*" in value or "http" in value for value in policy.values())


def test_a_reference_can_be_read_out_and_hardly_ever_repeats() -> None:
    made = {new_reference() for _ in range(1000)}
    assert len(made) == 1000
    assert all(REFERENCE.fullmatch(reference) for reference in made)
