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
DIALOGUE = Path(__file__).parents[1] / "node/dual-signature.mjs"
MODULES = ("payment-program.js", "dual-signature.js", "pin.js")
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
    lay_out(folder, gateway_urn=gateway_urn, root=root)
    pinned = [{"pin": pin_of(gateway_urn, root), **call} for call in calls]
    done = subprocess.run([node, HARNESS, folder], input=json.dumps(pinned), capture_output=True, text=True, timeout=RUN_S, check=False)
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(answers) == len(calls)
    return answers


def lay_out(folder: Path, *, gateway_urn: str, root: bytes) -> None:
    """The modules as the server serves them."""
    assets = Assets(gateway_urn=gateway_urn, root_point=root_point(root))
    for name in MODULES:
        (folder / name).write_bytes(assets.read(name).content)
    (folder / "package.json").write_text('{"type": "module"}')


class Dialogue:
    """One run of the program, act by act: kc and all that it knows stay inside, as they do in a window."""

    def __init__(self, node: str, folder: Path, *, gateway_urn: str, root: bytes, at: int) -> None:
        lay_out(folder, gateway_urn=gateway_urn, root=root)
        self._common: dict[str, Any] = {"pin": pin_of(gateway_urn, root), "at": at}
        self._process = subprocess.Popen([node, DIALOGUE, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def act(self, act: str, **call: Any) -> dict[str, Any]:
        """{"value": …} or {"untrusted": rule}; a bug of the program fails the test."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"act": act, **self._common, **call}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "bug" not in answer, answer["bug"]
        return answer

    def value(self, act: str, **call: Any) -> Any:
        """What the act answers where nothing is wrong."""
        answer = self.act(act, **call)
        assert "value" in answer, answer
        return answer["value"]

    def close(self) -> None:
        """End the program."""
        self._process.communicate(timeout=RUN_S)


def base64_of(chain: Sequence[bytes]) -> list[str]:
    """Certificates for the harness."""
    return [base64.b64encode(der).decode("ascii") for der in chain]
