"""No file of the project says where it was made or which registry served its packages."""

import re

import pytest

from tests.tidy.files import ROOT, texts

# Spelled in parts, so that this file keeps the rule too.
REGISTRIES = tuple(
    ".".join(parts)
    for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("yarnpkg", "com"), ("crates", "io"))
)
MACHINE_PATH = re.compile(r"(?<![\w.$}~/-])/(?:root|work|home|Users)/\w")
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")
PINNED = re.compile(r"[a-z0-9][a-z0-9.-]*==[^\s;]+(?: ; [^\\]+)? \\")
HASH = re.compile(r" {4}--hash=sha256:[0-9a-f]{64}(?: \\)?")


def test_no_file_names_a_package_registry() -> None:
    found = [f"{name}: {host}" for name, text in texts() for host in REGISTRIES if host in text.lower()]
    assert not found, "\n".join(found)


def test_no_file_names_a_path_of_the_machine_that_it_was_written_on() -> None:
    found = [f"{name}: {match.group()}" for name, text in texts() for match in MACHINE_PATH.finditer(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_versions_and_hashes_and_nothing_else(lock: str) -> None:
    lines = (ROOT / lock).read_text(encoding="ascii").splitlines()
    assert lines
    assert [line for line in lines if not PINNED.fullmatch(line) and not HASH.fullmatch(line)] == []


def test_lock_files_agree_on_every_version() -> None:
    versions = {lock: dict(re.findall(r"(?m)^([a-z0-9.-]+)==(\S+)", (ROOT / lock).read_text(encoding="ascii"))) for lock in LOCKS}
    everything = versions["requirements-dev.lock"]
    for lock in LOCKS:
        assert {name: everything.get(name) for name in versions[lock]} == versions[lock]


def test_lock_of_the_node_oracles_holds_no_address() -> None:
    text = (ROOT / "tests/node/package-lock.json").read_text(encoding="utf-8")
    assert "://" not in text
    assert text.count('"integrity": "sha512-') == text.count('"node_modules/')
