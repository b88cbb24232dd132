"""The project's files as the tidy tests see them: what git tracks or would track."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def project_files() -> tuple[Path, ...]:
    """Every file that is tracked, or new and not ignored; absolute paths, sorted."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return tuple(sorted(ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()))


def texts(*suffixes: str, under: str = "") -> list[tuple[str, str]]:
    """(path from the root, content) of every text file below a folder, with one of the suffixes if any are given."""
    found = []
    for path in project_files():
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(under) or (suffixes and path.suffix not in suffixes):
            continue
        try:
            found.append((name, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue  # a font or a picture
    return found
