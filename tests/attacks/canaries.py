"""Secrets that are unmistakable, every spelling in which they could leak, and the places to look."""

import base64
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


@dataclass(frozen=True)
class Canary:
    """One secret; `home` is the one file where it must be, if any."""

    name: str
    secret: bytes
    home: Path | None = None


def spellings(secret: bytes) -> Iterator[bytes]:
    """As it is, in hex, in UTF-16, escaped, and in both alphabets of base64 wherever it begins inside something longer."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    if secret.isascii():
        yield secret.decode().encode("utf-16-le")
        yield secret[::-1]
    for shift in range(3):
        # Only the letters that depend on nothing but the secret.
        encoded = base64.b64encode(b"\0" * shift + secret).rstrip(b"=")
        inner = encoded[{0: 0, 1: 2, 2: 3}[shift] : -1]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))


def card_number(first_fifteen: str) -> str:
    """With its check digit."""
    digits = [int(digit) for digit in reversed(first_fifteen)]
    total = sum(digits[1::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[0::2])
    return f"{first_fifteen}{-total % 10}"


def keys_in(directory: Path) -> Iterator[Canary]:
    """Every private key and every file of random bytes below this folder, each with the file it belongs to."""
    for path in sorted(directory.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if b"PRIVATE KEY-----" in content:
            key = serialization.load_pem_private_key(content, None)
            assert isinstance(key, EllipticCurvePrivateKey)
            yield Canary(f"private key {path.name}", key.private_numbers().private_value.to_bytes(32, "big"), path)
        elif path.name in {"pepper", "server.key"}:
            yield Canary(path.name, content, path)


def leaks(canaries: list[Canary], places: Iterator[tuple[str, Path | None, bytes]]) -> list[str]:
    """Where a canary is found outside its home."""
    patterns = [(canary, re.compile(b"|".join(re.escape(form) for form in set(spellings(canary.secret))))) for canary in canaries]
    return [
        f"{canary.name} in {place}"
        for place, path, content in places
        for canary, pattern in patterns
        # A key file breaks its base64 into lines.
        if (path is None or path != canary.home) and (pattern.search(content) or pattern.search(content.replace(b"\n", b"")))
    ]


def files(directory: Path) -> Iterator[tuple[str, Path | None, bytes]]:
    """Every byte of every file: databases, their logs and journals, keys, temporary files."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(directory)), path, path.read_bytes()
            yield f"the name of {path.name}", None, os.fsencode(path)


def children() -> Iterator[int]:
    """The processes that this one has started."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                status = (process / "status").read_text("utf-8")
            except OSError:
                continue
            if f"\nPPid:\t{os.getpid()}\n" in status:
                yield int(process.name)


def command_lines() -> Iterator[tuple[str, Path | None, bytes]]:
    """What other users can read of our children."""
    for process in children():
        for name in ("cmdline", "environ"):
            yield f"{name} of {process}", None, (Path("/proc") / str(process) / name).read_bytes()
