"""Static files, held in memory under an address that names their content, with the pin of the payment program among them.

All files share one folder `/static/<digest of them all>/`: a page and the modules and fonts that it names are always of one version,
a browser may keep them for a year, and the payment program finds its pin beside it by a relative import. The pin is a module of its
own, so that the program's bytes are the same for every operator and can be compared with the release.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from hanbit.kernel import ids
from hanbit.kernel.errors import NotFound

CONTENT_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
    "txt": "text/plain; charset=utf-8",
}
PIN_NAME: Final = "pin.js"
STYLE_NAME: Final = "style.css"
STYLE: Final = ("tokens", "pages", "forms", "payment", "consoles", "lists", "screens")
"""The parts of the one stylesheet (`style/*.css`) in their order: a page asks once, a reader finds his way."""
_VERSION_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent."""

    content: bytes
    content_type: str


class Assets:
    """Every static file of the pages."""

    def __init__(self, *, gateway_urn: str, root_point: bytes) -> None:
        """`root_point` is the root's public key as the 65 bytes of an uncompressed P-256 point."""
        self._files = dict(_read(resources.files("hanbit.web").joinpath("static"), ""))
        parts = resources.files("hanbit.web").joinpath("style")
        style = b"\n".join(parts.joinpath(f"{part}.css").read_bytes() for part in STYLE)
        self._files[STYLE_NAME] = Asset(style, CONTENT_TYPES["css"])
        pin = f"export const GATEWAY = {json.dumps(gateway_urn)};\nexport const ROOT = {json.dumps(ids.encode_base64url(root_point))};\n"
        self._files[PIN_NAME] = Asset(pin.encode("ascii"), CONTENT_TYPES["js"])
        whole = hashlib.sha256()
        for name, asset in sorted(self._files.items()):
            whole.update(f"{name}\0{len(asset.content)}\0".encode())
            whole.update(asset.content)
        self.version = ids.encode_base64url(whole.digest())[:_VERSION_CHARACTERS]

    def address(self, name: str) -> str:
        """Where this file is served; a file that is not there is our bug."""
        assert name in self._files, name
        return f"/static/{self.version}/{name}"

    def read(self, name: str) -> Asset:
        """The file itself."""
        return self._files[name]

    async def serve(self, request: Request) -> Response:
        """`GET /static/{version}/{name:path}`; a page of an older version gets the present file, but is told not to keep it."""
        asset = self._files.get(request.path_params["name"])
        if asset is None:
            raise NotFound("no such file")
        present = request.path_params["version"] == self.version
        keep = "public, max-age=31536000, immutable" if present else "no-store"
        return Response(asset.content, media_type=asset.content_type, headers={"Cache-Control": keep})


def _read(folder: Traversable, prefix: str) -> list[tuple[str, Asset]]:
    found: list[tuple[str, Asset]] = []
    for entry in folder.iterdir():
        ending = entry.name.rpartition(".")[2]
        if entry.is_dir():
            found += _read(entry, f"{prefix}{entry.name}/")
        elif ending in CONTENT_TYPES:
            found.append((prefix + entry.name, Asset(entry.read_bytes(), CONTENT_TYPES[ending])))
    return found
