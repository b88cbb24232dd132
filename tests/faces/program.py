"""The browser's payment program run by Node, as the server serves it."""

import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from hanbit.crypto.keys import public_point
from hanbit.kernel import ids
from hanbit.web.assets import Assets

HARNESS = Path(__file__).parents[1] / "node/payment-program.mjs"
RUN_S = 60


def pin_of(gateway_urn: str, root: bytes) -> dict[str, str]:
    """What `pin.js` holds."""
    return {"gateway": gateway_urn, "root": ids.encode_base64url(root_point(root))}


def root_point(root: bytes) -> bytes:
    """The root's public key as the program pins it."""
    key = x509.load_der_x509_certificate(root).public_key()
    assert isinstance(key, EllipticCurvePublicKey)
    return public_point(key)


def run(node: str, folder: Path, calls: Sequence[dict[str, Any]], *, gateway_urn: str, root: bytes) -> list[dict[str, Any]]:
    """What the program answers to each call: {"value": …}, {"untrusted": rule}, or {"bug": stack}."""
    assets = Assets(gateway_urn=gateway_urn, root_point=root_point(root))
    for name in ("payment-program.js", "dual-signature.js", "pin.js"):
        (folder / name).write_bytes(assets.read(name).content)
    (folder / "package.json").write_text('{"type": "module"}')
    pinned = [{"pin": pin_of(gateway_urn, root), **call} for call in calls]
    done = subprocess.run([node, HARNESS, folder], input=json.dumps(pinned), capture_output=True, text=True, timeout=RUN_S, check=False)
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(answers) == len(calls)
    return answers


def base64_of(chain: Sequence[bytes]) -> list[str]:
    """Certificates for the harness."""
    return [base64.b64encode(der).decode("ascii") for der in chain]
