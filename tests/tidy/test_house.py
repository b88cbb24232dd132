"""What a stranger needs on the first day is there: targets, licence, notice, executable scripts."""

import os
import subprocess

import pytest

from tests.tidy.files import ROOT, project_files

TARGETS = ("demo", "test", "test-long", "check", "bench", "lock", "clean")


def test_make_alone_lists_the_targets() -> None:
    listed = subprocess.run(["make", "--silent"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert [target for target in TARGETS if f"make {target} " not in listed] == []


def test_scripts_can_be_started() -> None:
    scripts = [path for path in project_files() if path.parent in {ROOT / "tools", ROOT / ".ci"}]
    assert ROOT / ".ci/run" in scripts
    assert [path.name for path in scripts if not os.access(path, os.X_OK)] == []


@pytest.mark.parametrize(
    "fact", ["KR 2000-0012391", "1999-12-02", "1998", "KR 101171798 B1", "2008-09-26", "2028-09-26", 'checkouts = ["redirect"]']
)
def test_notice_states_what_is_known_of_both_documents(fact: str) -> None:
    assert fact in (ROOT / "NOTICE").read_text(encoding="utf-8")


def test_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
