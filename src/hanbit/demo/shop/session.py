"""The demo shop's own login (A23): an id and a password, and a signed cookie that outlives a restart of the shop."""

import hashlib
import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any, Final

from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.merchant.files import write_private

COOKIE: Final = "__Host-rainbow"
LANGUAGE_COOKIE: Final = "__Host-rainbow-language"
STAFF_COOKIE: Final = "__Host-rainbow-staff"
STAFF: Final = "staff:"
"""Whom the staff's cookie names; no customer can have such an account."""
LIFETIME_S: Final = 12 * 3600
ACCOUNTS: Final = {"minji": "rainbow", "junho": "umbrella"}
"""The sample customers, printed on the login page: what is bought here is not real."""
_COOKIES_MAX: Final = 4096


class Sessions:
    """Makes and reads the cookie: account, expiry and a random part under an HMAC key that lies in the shop's folder."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        path = folder / "session.key"
        if not path.exists():
            write_private(path, secrets.token_bytes(32))
        self._key = path.read_bytes()
        if len(self._key) != 32:  # noqa: PLR2004 - 256 bits; an empty key would let everybody in
            raise AssertionError(f"{path} is damaged")
        self._clock = clock

    def log_in(self, account: str, password: str) -> str | None:
        """The cookie's value, new at each login; None where they do not match."""
        expected = ACCOUNTS.get(account, "")
        if not hmac.compare_digest(expected.encode(), password.encode()) or not expected:
            return None
        return self._issue(account)

    def for_staff(self) -> str:
        """The staff cookie's value, for whoever has shown the token of the shop's folder."""
        return self._issue(STAFF)

    def account(self, scope: Any) -> str | None:
        """Whose request this is, None for a visitor."""
        account = self._read(cookie(scope, COOKIE))
        return account if account in ACCOUNTS else None

    def is_staff(self, scope: Any) -> bool:
        """Whether one of the shop's staff asks."""
        return self._read(cookie(scope, STAFF_COOKIE)) == STAFF

    def _issue(self, account: str) -> str:
        text = f"{account}.{self._clock.now() + LIFETIME_S}.{ids.new_token()}"
        return f"{text}.{self._mac(text)}"

    def _read(self, value: str) -> str | None:
        """Whom a cookie names, if this shop made it and it is not too old."""
        text, dot, mac = value.rpartition(".")
        if not dot or not hmac.compare_digest(mac.encode(), self._mac(text).encode()):
            return None
        account, expires_at, _ = text.split(".")
        return account if int(expires_at) >= self._clock.now() else None

    def _mac(self, text: str) -> str:
        return ids.encode_base64url(hmac.new(self._key, text.encode(), hashlib.sha256).digest())


def cookie(scope: Any, name: str) -> str:
    """One cookie of a request; empty where there is none."""
    for header, value in scope["headers"]:
        if header == b"cookie" and len(value) <= _COOKIES_MAX:
            try:
                found = SimpleCookie(value.decode("latin-1")).get(name)
            except CookieError:
                continue
            if found is not None:
                return found.value
    return ""
