"""Everything that one party has stored, logged and received, as whoever reads all of it sees it, and what he can confirm by guessing."""

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec

from hanbit.crypto.envelopes import mac
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput
from hanbit.protocols.dual_signature.digests import oi_digest, pi_digest
from hanbit.protocols.redirect.merchant import hash_lines
from hanbit.protocols.sealed import consent_challenge, typed_account
from tests.attacks.canaries import Canary, files, leaks

_RUN = re.compile(rb"[A-Za-z0-9_+/-]{20,}")
_SALT = re.compile(rb"[A-Za-z0-9_-]{43}")
_DEPTH = 4
"""A dual signature within a request within a frame within a file."""
DIGEST_BYTES = 32


@dataclass
class Captured:
    """One party's view: every byte, with where it was found."""

    party: str
    places: list[tuple[str, bytes]] = field(default_factory=list)

    def add(self, where: str, what: str | bytes) -> None:
        """One more thing that it has."""
        self.places.append((where, what.encode("utf-8", "surrogatepass") if isinstance(what, str) else what))

    def add_files(self, *folders: Path) -> None:
        """Every file below these folders, or these files: databases, their journals, keys, logs, whatever was left behind."""
        for folder in folders:
            found = files(folder) if folder.is_dir() else [(folder.name, folder, folder.read_bytes())]
            for where, _, content in found:
                self.add(where, content)

    @cached_property
    def readings(self) -> bytes:
        """All of it as it lies, and once more with every base64 within it decoded, however deep."""
        level = {content for _, content in self.places}
        everything: list[bytes] = []
        for _ in range(_DEPTH):
            everything += level
            level = {decoded for content in level for decoded in _decoded(content)}
        return b"\n".join(everything)

    @cached_property
    def tokens(self) -> frozenset[str]:
        """Whatever is spelled like a digest or a salt: what a commitment is compared with, and what it may be salted with."""
        windows = (run[at : at + 43] for run in re.findall(rb"[A-Za-z0-9_-]{43,64}", self.readings) for at in range(len(run) - 42))
        return frozenset(token.decode("ascii") for token in windows if _SALT.fullmatch(token))

    @cached_property
    def salts(self) -> list[str]:
        """The texts of 43 characters that stand alone: in a signature and in the middle of a certificate nobody has put one."""
        alone = re.findall(rb"(?<![A-Za-z0-9_+/-])([A-Za-z0-9_-]{43})(?![A-Za-z0-9_+/-])", self.readings)
        return sorted({token.decode("ascii") for token in alone if _raw(token.decode("ascii"))})

    def leaks(self, secrets: Iterable[Canary]) -> list[str]:
        """Where one of these is found, in whatever spelling."""
        places = [(where, None, content) for where, content in self.places]
        return leaks(list(secrets), iter([*places, ("what is encoded in it", None, self.readings)]))

    def commits_to(self, words: Iterable[bytes]) -> set[bytes]:
        """Those of these words of which an unsalted digest stands somewhere, or one under a key that anybody can know."""
        return {word for word in words if any(digest in self.readings for digest in _digests(word))}

    def confirms_payment_information(self, core: str, auth: str, number: str = "", *, salts: Iterable[str] = ()) -> set[str]:
        """What of PI a guesser can confirm who has guessed every word of it and lacks the salts, but for those that he has or is given."""
        known = [*self.salts, *salts, "", *NOTHING]
        found = set()
        cores = {_salted(core, salt): salt for salt in known}
        auths = {_salted(auth, salt): salt for salt in known}
        hashes = [ids.digest(text.encode()) for text in cores], [ids.digest(text.encode()) for text in auths]
        if not self.tokens.isdisjoint(hashes[0]):
            found.add("core")
        if not self.tokens.isdisjoint(ids.encode_base64url(consent_challenge(one)) for one in hashes[0]):
            found.add("consent")
        if not self.tokens.isdisjoint(hashes[1]):
            found.add("auth")
        if any(pi_digest(*both) in self.tokens for both in itertools.product(*hashes)):
            found.add("pimd")
        if number and any(typed_account(number, _raw(salt)).removeprefix("typed:") in self.tokens for salt in known):
            found.add("number")
        return found

    def confirms_order_information(self, oi: str, lines: str, *, salts: Iterable[str] = ()) -> set[str]:
        """The same of OI and of the lines that a signed order stands for."""
        known = [*self.salts, *salts, "", *NOTHING]
        found = set()
        if any(oi_digest(_salted(oi, salt)) in self.tokens for salt in known):
            found.add("oimd")
        if any(hash_lines(_raw(salt) or bytes(DIGEST_BYTES), lines.encode()) in self.tokens for salt in known):
            found.add("lines")
        return found


NOTHING = (ids.encode_base64url(bytes(DIGEST_BYTES)), ids.encode_base64url(b"\xff" * DIGEST_BYTES))
"""Salts of somebody who has not understood what they are for."""


def _decoded(content: bytes) -> Iterator[bytes]:
    for run in _RUN.findall(content.replace(b"\\/", b"/")):
        spelled = run.replace(b"+", b"-").replace(b"/", b"_")
        yield base64.urlsafe_b64decode(spelled[: len(spelled) - (len(spelled) % 4 == 1)] + b"=" * (-len(spelled) % 4 % 3))


def _salted(text: str, salt: str) -> str:
    """The very text, but for its salt."""
    said = json.loads(text)
    said["salt"] = salt
    return msgspec.json.encode(said).decode()


def _raw(salt: str) -> bytes:
    """The salt's bytes; none where it is no salt."""
    try:
        return ids.decode_base64url(salt)
    except BadInput:
        return b""


def _digests(word: bytes) -> Iterator[bytes]:
    prefixes = (b"", b"hanbit1 account\0", b"hanbit1 PI\0", b"hanbit1 OI\0", b"hanbit1 OI-lines\0", b"hanbit grant\0")
    raw = [hashlib.new(name, prefix + word).digest() for name in ("sha256", "sha512", "sha1", "md5") for prefix in prefixes]
    raw += [mac(key, word) for key in (b"hanbit", b"\0", bytes(DIGEST_BYTES))]
    for digest in raw:
        yield digest
        yield digest.hex().encode()
        yield base64.b64encode(digest).rstrip(b"=")
        yield base64.urlsafe_b64encode(digest).rstrip(b"=")
