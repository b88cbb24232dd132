#!/usr/bin/env python3
"""Writes docs/gallery/README.md: every picture that `make screenshots` has taken, by face and page, both languages, desktop and phone."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the list of pages stands beside the tests that walk through it

from tests.faces.gallery import GALLERY  # noqa: E402 - behind the path

FOLDER = ROOT / "docs/gallery"
TOTAL_MAX = 7_700_000
"""Bytes of all pictures: a clone of the project carries them."""
FACES = {"customer": "What customers see", "operator": "The operator's console", "merchant": "A merchant's console"}
OPENING = """# Gallery

Every page in every state, in Korean and English, as a desktop and a phone show it. `make screenshots` takes the pictures anew from a real
site ([how](../adr/0032-one-list-of-pages.md)); this page is written with them.
"""


def main() -> None:
    """Pictures that are missing are left out; too many bytes are an error."""
    lines = [OPENING]
    for face, title in FACES.items():
        lines += [f"## {title}\n", "| page | 한국어 | English, phone | also |", "| --- | --- | --- | --- |"]
        lines += [row for entry in GALLERY if entry.face == face and (row := _row(entry.whole_name, entry.name))]
        lines.append("")
    (FOLDER / "README.md").write_text("\n".join(lines).rstrip() + "\n", "utf-8")
    total = sum(picture.stat().st_size for picture in FOLDER.glob("*.webp"))
    print(f"{total / 1e6:.1f} MB of pictures")
    if total > TOTAL_MAX:
        sys.exit(f"more than {TOTAL_MAX / 1e6:.0f} MB: take fewer, or smaller ones")


def _row(whole: str, name: str) -> str:
    names = [f"{whole}-{language}-{device}.webp" for language in ("ko", "en") for device in ("desktop", "phone")]
    if not all((FOLDER / one).is_file() for one in names):
        return ""
    korean, korean_phone, english, english_phone = names
    said = name.replace("_", " ").replace("-", " ")
    large = f'<img src="{korean}" width="420" alt="{said}, in Korean">'
    small = f'<img src="{english_phone}" width="150" alt="{said}, in English, on a phone">'
    return f"| {said} | {large} | {small} | [English]({english}) · [한국어, phone]({korean_phone}) |"


if __name__ == "__main__":
    main()
