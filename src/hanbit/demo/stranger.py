"""One payment's evidence as a file, judged as a stranger would with the operator's root and the shop's key card; altered copies too."""

from typing import Any

from msgspec.structs import replace

from hanbit.crypto import certificates
from hanbit.crypto.keys import thumbprint
from hanbit.db.reading import Reader
from hanbit.demo.world import World
from hanbit.evidence import bundle as files
from hanbit.evidence import export as exporting
from hanbit.evidence.bundle import Bundle
from hanbit.evidence.verify import verify
from hanbit.folder import KEYS_FOLDER, place_at
from hanbit.merchant import files as shop_files


async def export_and_verify(world: World, shop_id: str, tid: str) -> dict[str, Any]:
    """Export, verify, alter and verify again; what of it held, and what the file lets be concluded."""
    await world.command("sign_checkpoint")
    reader = Reader(place_at(world.data), patient=True)
    try:
        bundle = exporting.export(reader, operator=world.settings.operator, merchant=shop_id, tid=tid)
    finally:
        reader.close()
    file = files.write(bundle)
    directory = world.shops[shop_id].folder
    card = thumbprint(shop_files.load_signer(directory, shop_files.read_registration(directory)).key.public_key())
    root = certificates.load_chain_pem(world.data / KEYS_FOLDER / "root.pem")[0]
    report = verify(file, root=root, card=card)
    altered = [verify(copy, root=root, card=card) for copy in _altered(bundle, file)]
    return {
        "verified": report.verified,
        "tampered_copy_refused": not any(found.verified for found in altered),
        "tampered_copies": [{"failed": found.failed, "detail": found.steps[-1].detail} for found in altered],
        "tid": tid,
        "bytes": len(file),
        "steps": len(report.steps),
        "conclusions": [conclusion.text("en") for conclusion in report.conclusions],
    }


def _altered(bundle: Bundle, file: bytes) -> tuple[bytes, ...]:
    """One letter exchanged in the middle; and by somebody who writes a proper file, but leaves the last signed word out."""
    middle = len(file) // 2
    letter = b"A" if file[middle : middle + 1] != b"A" else b"B"
    return file[:middle] + letter + file[middle + 1 :], files.write(replace(bundle, messages=bundle.messages[:-1]))
