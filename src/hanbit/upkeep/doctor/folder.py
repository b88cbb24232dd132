"""The folder itself, its keys, and certificates: the operator's own and the site's."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from hanbit.crypto import tls
from hanbit.crypto.certificates import load_chain_pem
from hanbit.db import copying
from hanbit.folder import KEYS_FOLDER
from hanbit.parties import keyring
from hanbit.settings import FILE
from hanbit.upkeep.backup import LOCK_FILE
from hanbit.upkeep.doctor.findings import DAY_S, Finding, Patient, good, is_locked, warning, wrong
from hanbit.web import certificate

CERTIFICATE_WARNING_S = 30 * DAY_S
"""Renewal begins 36 days before the end of a signing certificate: whatever is nearer to it was not renewed."""
SITE_WARNING_S = 14 * DAY_S
"""A public authority's certificate lives 47 to 90 days and is renewed in its last third."""


def permissions(folder: Path) -> Iterator[Finding]:
    """Nobody but the owner can read or write anything in the folder."""
    open_to_others = []
    for path in (folder, *sorted(folder.rglob("*"))):
        found = path.lstat()
        if found.st_uid != os.geteuid():
            advice = f"Run this as that user, or: chown {os.geteuid()} {path}"
            yield wrong("foreign_owner", "owner", f"{path} belongs to user {found.st_uid}", advice)
        if stat.S_IMODE(found.st_mode) & 0o077 and not stat.S_ISLNK(found.st_mode):
            open_to_others.append(path)
    for path in open_to_others:
        mode = "700" if path.is_dir() else "600"
        yield wrong("open_to_others", "permissions", f"{path} is open to other users", f"chmod {mode} {path}")
    if not open_to_others:
        yield good("permissions", "permissions", "only the owner can read the folder and its keys")


def keys(patient: Patient) -> Iterator[Finding]:
    """Every key is there and whole; the root's is not; sealing keys are of today."""
    folder = patient.folder / KEYS_FOLDER
    ring = keyring.load(folder, patient.settings)
    if (folder / "root.key").exists() and patient.settings.sandbox:
        yield good("root_key", "root key", "it lies in the folder, and a sandbox's may")
    elif (folder / "root.key").exists():
        advice = "Good for a trial only; for real money: hanbit init --root-key on another medium"
        yield warning("root_key_here", "root key", "it lies in the folder, unencrypted", advice)
    else:
        yield good("root_key", "root key", "not on this machine's data folder")
    if not ring.seals:
        if patient.holder is None:
            yield good("seal_key", "seal key", "none; the server makes one when it starts")
        else:
            yield wrong("seal_key_missing", "seal key", "there is none", "Restart the server and look at its log")
        return
    age_s = patient.at - max(made_at for made_at, _ in ring.seals.values())
    if age_s <= keyring.SEAL_LIFE_S or patient.holder is None:
        yield good("seal_key", "seal key", f"{age_s // 3600} hours old, {len(ring.seals)} kept")
    else:
        advice = "Restart the server and look at its log"
        yield wrong("seal_key_old", "seal key", f"{age_s // 3600} hours old: the server does not renew it", advice)


def certificates(patient: Patient) -> Iterator[Finding]:
    """The operator's own, of each purpose the newest."""
    ends: dict[str, int] = {}
    for path in sorted((patient.folder / KEYS_FOLDER).glob("*.pem")):
        purpose = re.sub(r"-\d+$", "", path.stem)
        if purpose != "seal":
            leaf = x509.load_der_x509_certificate(load_chain_pem(path)[0])
            ends[purpose] = max(ends.get(purpose, 0), int(leaf.not_valid_after_utc.timestamp()))
    for purpose, end in ends.items():
        yield from about_to_end(
            purpose, end, patient.at, "Renew it before it ends: without it no payment can be made; see the server's log"
        )
    first = min(ends.values())
    if first > patient.at + CERTIFICATE_WARNING_S:
        yield good("certificates", "certificates", f"the first of the operator's own ends in {(first - patient.at) // DAY_S} days")


def about_to_end(name: str, end: int, at: int, advice: str) -> Iterator[Finding]:
    """A certificate that has ended, or will before anybody expects it."""
    if end <= at:
        yield wrong("certificate_ended", "certificates", f"{name} has ended {(at - end) // DAY_S} days ago", advice)
    elif end <= at + CERTIFICATE_WARNING_S:
        yield warning("certificate_ending", "certificates", f"{name} ends in {(end - at) // DAY_S} days", advice)


def site(patient: Patient) -> Iterator[Finding]:
    """The certificate of the customers' side, where the server ends TLS itself."""
    own = patient.settings
    if not own.tls_certificate:
        if urlsplit(own.public_url).scheme == "https" and not own.trusted_proxies:
            advice = f"Set tls_certificate and tls_key, or trusted_proxies for the proxy that ends TLS, in {patient.folder / FILE}"
            yield warning("site_without_tls", "site", f"{own.public_url} is https, and nothing here ends TLS", advice)
        return
    chain, key = patient.folder / own.tls_certificate, patient.folder / own.tls_key
    facts = certificate.read(chain)
    certificate.check_key_file(key)
    tls.public_context(chain, key)  # the key fits the certificate
    host = urlsplit(own.public_url).hostname or ""
    advice = f"Put the right one in its place, or change tls_certificate in {patient.folder / FILE}; the server reads it again by itself"
    complaints = facts.complaints(host, patient.at)
    for complaint in complaints:
        yield wrong("site_certificate", "site", f"{chain}: {complaint}", advice)
    if complaints:
        return
    days = (facts.not_after - patient.at) // DAY_S
    if facts.not_after <= patient.at + SITE_WARNING_S:
        yield warning("site_certificate_ending", "site", f"{chain} ends in {days} days", "Renew it; the server reads it again by itself")
    else:
        yield good("site_certificate", "site", f"for {host}, ends in {days} days")


def left_over(patient: Patient) -> Iterator[Finding]:
    """What a backup or an upgrade that was cut short has left."""
    copy = patient.folder / copying.FOLDER
    if not copy.exists():
        return
    lock = patient.folder / LOCK_FILE
    if lock.exists():
        with lock.open("rb") as file:
            if is_locked(file.fileno()):
                return  # it is being used
    yield warning("copy_left_over", "backup", f"{copy} was left by a backup that was cut short", f"rm -r {copy}")
