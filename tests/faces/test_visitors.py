"""Who the client is behind proxies of ours and of others, and how many places one address may take."""

from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanbit.kernel.errors import BadInput
from hanbit.settings import Settings, dump, load
from hanbit.web.visitors import NOBODY, Places, Proxies, Refusal, network_of
from tests.faces.site import Site, client, running_site

OURS = Proxies(["10.0.0.0/8", "127.0.0.1", "2001:db8:1::/48"])
CUSTOMER, OTHER = "203.0.113.9", "198.51.100.7"


@pytest.mark.parametrize(
    ("peer", "said", "client_address"),
    [
        (CUSTOMER, [], CUSTOMER),
        (CUSTOMER, [OTHER], CUSTOMER),  # a stranger's word is nothing
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [CUSTOMER], CUSTOMER),
        ("127.0.0.1", [f"{OTHER}, {CUSTOMER}"], CUSTOMER),  # what the customer himself wrote stands to the left
        ("127.0.0.1", [OTHER, CUSTOMER], CUSTOMER),
        ("127.0.0.1", [f"{CUSTOMER}, 10.1.2.3"], CUSTOMER),  # two proxies of ours
        ("127.0.0.1", [f"{CUSTOMER}:4711"], CUSTOMER),
        ("127.0.0.1", ["[2001:db8:2::9]:4711"], "2001:db8:2::9"),
        ("127.0.0.1", ["2001:db8:2::9"], "2001:db8:2::9"),
        ("2001:db8:1::5", [f"::ffff:{CUSTOMER}"], CUSTOMER),
        ("::ffff:127.0.0.1", [CUSTOMER], CUSTOMER),
        ("127.0.0.1", [f"{CUSTOMER}, unknown"], "127.0.0.1"),  # nothing beyond what cannot be read is believed
        ("127.0.0.1", [f"{CUSTOMER}, , 10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", ["10.1.2.3, 10.1.2.4"], "10.1.2.3"),
        ("127.0.0.1", [f"{CUSTOMER}, " + ", ".join(["10.1.2.3"] * 500)], "10.1.2.3"),
        (NOBODY, [CUSTOMER], NOBODY),
    ],
)
def test_only_our_own_proxies_say_who_the_client_is(peer: str, said: list[str], client_address: str) -> None:
    assert OURS.client(peer, said) == client_address


@given(st.lists(st.text(max_size=60), max_size=30))
def test_whatever_a_header_says_gives_an_address(said: list[str]) -> None:
    network_of(OURS.client("127.0.0.1", said))


def test_one_address_cannot_take_every_place_and_a_proxy_may() -> None:
    places = Places(5, 2, OURS)
    assert [places.take(CUSTOMER) for _ in range(3)] == [None, None, Refusal.ADDRESS]
    assert [places.take("10.0.0.1") for _ in range(3)] == [None] * 3
    assert places.take(OTHER) is Refusal.FULL
    places.leave(CUSTOMER)
    assert places.take(OTHER) is None
    assert places.taken == 5
    for address in (CUSTOMER, OTHER, *["10.0.0.1"] * 3):
        places.leave(address)
    assert (places.taken, len(places._by_network)) == (0, 0)
    places.is_stopping = True
    assert places.take(CUSTOMER) is Refusal.STOPPING


def test_a_household_in_ipv6_counts_as_one_address() -> None:
    assert network_of("2001:db8:7:8::1") == network_of("2001:db8:7:8:ffff::2") != network_of("2001:db8:7:9::1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"trusted_proxies": ["10.0.0.1/8"]},
        {"trusted_proxies": ["proxy.example"]},
        {"trusted_proxies": [""]},
        {"tls_certificate": "site.pem"},
        {"tls_key": "site.key"},
        {"tls_certificate": "site.pem", "tls_key": "site.key", "public_url": "http://pay.localhost"},
        {"connections_max": 0},
        {"connections_per_address": 0},
        {"handshakes_max": 1},
    ],
)
def test_settings_that_cannot_serve_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong)) if len(wrong) == 1 else "public_url"):
        Settings(**wrong)  # type: ignore[arg-type]  # the wrong values are the case


def test_the_settings_survive_their_file(tmp_path: Path) -> None:
    settings = Settings(
        public_url="https://pay.bank.example", tls_certificate="site.pem", tls_key="/run/site.key", trusted_proxies=["10.0.0.0/8", "::1"]
    )
    (tmp_path / "hanbit.toml").write_text(dump(settings), "utf-8")
    assert load(tmp_path) == settings


# --- through a listener --------------------------------------------------------------------------------------------------------------


async def _told_apart(site: Site, http: aiohttp.ClientSession, capsys: pytest.CaptureFixture[str], **headers: str) -> str:
    capsys.readouterr()
    async with http.get(f"{site.base}/nowhere", headers=headers) as answer:
        assert answer.status == 404
    return capsys.readouterr().out


async def test_a_refused_request_is_logged_with_the_clients_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"X-Forwarded-For": f"{OTHER}, {CUSTOMER}"}
    async with running_site(tmp_path / "behind", trusted_proxies=["127.0.0.1"]) as site, client() as http:
        assert f"client={CUSTOMER}" in await _told_apart(site, http, capsys, **said)
        async with http.get(f"{site.base}/healthz", headers=said) as answer:
            assert answer.status == 200
        assert CUSTOMER not in capsys.readouterr().out  # who did nothing wrong is not written down
    async with running_site(tmp_path / "alone") as site, client() as http:
        line = await _told_apart(site, http, capsys, **said)
        assert "client=127.0.0.1" in line
        assert CUSTOMER not in line


async def test_what_our_proxy_took_in_clear_is_refused_where_the_site_is_https(tmp_path: Path) -> None:
    async with running_site(tmp_path, trusted_proxies=["127.0.0.1"]) as site, client() as http:
        async with http.get(f"{site.base}/healthz", headers={"X-Forwarded-Proto": "http"}) as answer:
            assert answer.status == 200  # the site of this test is http
        guard = site.app.middleware_stack._app  # type: ignore[union-attr]  # the layer below `Forwarded`
        guard._origin = "https://pay.bank.example"
        for said, status in (("https", 200), ("http", 403), ("gopher", 200), ("http, https", 200)):
            async with http.get(f"{site.base}/healthz", headers={"X-Forwarded-Proto": said}) as answer:
                assert answer.status == status, said


async def test_one_address_cannot_have_every_request(tmp_path: Path) -> None:
    """Behind a proxy connections say nothing; the requests of one client are counted, and others' go on."""
    async with running_site(tmp_path, trusted_proxies=["127.0.0.1"], connections_per_address=2) as site, client() as http:

        async def ask(address: str) -> int:
            async with http.get(f"{site.base}/healthz", headers={"X-Forwarded-For": address}) as answer:
                if answer.status == 429:
                    assert answer.headers["Retry-After"] == "2"
                    assert (await answer.json(content_type=None))["code"] == "too_many_requests"
                return answer.status

        limits = site.app.middleware_stack._app._app  # type: ignore[union-attr]  # below the guard
        limits._by_address[CUSTOMER] = 2
        assert (await ask(CUSTOMER), await ask(OTHER)) == (429, 200)
        limits._by_address[CUSTOMER] = 1
        assert await ask(CUSTOMER) == 200
        assert limits._by_address == {CUSTOMER: 1}
