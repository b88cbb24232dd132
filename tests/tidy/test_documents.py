"""Documents are checked: generated parts are current, examples verify, links lead somewhere, traced functions exist."""

import importlib.util
import json
import re
from pathlib import Path

import click
import pytest

from hanbit.cli import main
from hanbit.protocols.cancellation import messages as cancellation
from hanbit.protocols.fields import Message
from hanbit.protocols.redirect import messages as redirect
from hanbit.protocols.signed import PinnedTrust, RegisteredKey, decode_chain, peek_claims, verify

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src/hanbit"


def _make_docs() -> object:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools/make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_current() -> None:
    tool = _make_docs()
    for page, parts in tool.generated().items():  # type: ignore[attr-defined]  # a script, not a package
        assert page.read_text("utf-8") == tool.fill(page.read_text("utf-8"), parts), f"run tools/make_docs.py: {page.name}"  # type: ignore[attr-defined]  # as above


@pytest.mark.parametrize(("name", "messages"), [("redirect", redirect.MESSAGES), ("cancellation", cancellation.MESSAGES)])
def test_every_example_verifies_with_the_root_beside_it(name: str, messages: tuple[type[Message], ...]) -> None:
    stored = json.loads((ROOT / f"docs/protocol/examples/{name}.json").read_text("utf-8"))
    chain = decode_chain(stored["merchant_chain"])
    pinned = PinnedTrust(decode_chain([stored["root"]])[0], stored["operator"])

    class WithOrders:
        def key(self, kid: str, unverified_chain: tuple[bytes, ...], at: int) -> RegisteredKey:
            return pinned.key(kid, unverified_chain or chain, at)

    kinds = {kind.TYP: kind for kind in messages}
    for item in stored["messages"]:
        audience = peek_claims(item["compact"])["aud"]
        verify(item["compact"], kinds[item["typ"]], trust=WithOrders(), audience=audience, at=stored["at"])
    assert {item["typ"] for item in stored["messages"]} == set(kinds)


def test_the_trace_of_one_payment_names_files_and_functions_that_exist() -> None:
    text = (ROOT / "docs/ARCHITECTURE.md").read_text("utf-8")
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_-]+\.(?:py|js))(?:: ([A-Za-z_., ]+))?`", text)
    assert len(named) > 20
    for path, functions in named:
        file = SOURCE / path
        assert file.exists(), path
        for name in filter(None, functions.replace(" ", "").split(",")):
            assert re.search(rf"\b(def|class|async def) {name.rpartition('.')[2]}\b|^{name}\b", file.read_text("utf-8"), re.MULTILINE), (
                path,
                name,
            )


def test_links_between_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} → {target}"


def _commands(text: str) -> list[str]:
    """Every `hanbit …` command that a page shows, in a code block or inline."""
    blocks = re.findall(r"^(?:```|    ).*?hanbit .*?$|`[^`\n]*hanbit [^`\n]*`", text, re.MULTILINE)
    fenced = [line for block in re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    lines = [line.strip(" `") for line in (*blocks, *fenced)]
    return [re.split(r"\s{3,}|#", line.partition("hanbit ")[2])[0].strip() for line in lines if re.search(r"(^|/)hanbit ", line)]


def test_every_command_that_a_page_shows_exists_with_its_options() -> None:
    seen = 0
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for shown in _commands(page.read_text("utf-8")):
            words = [word for word in shown.split() if word not in {"&", "…"}]
            command: click.Command = main
            while words and isinstance(command, click.Group) and not words[0].startswith("--"):
                name = words.pop(0).strip(",;")
                found = command.get_command(click.Context(command), name)
                assert found is not None, f"{page.name}: hanbit {shown}"
                command = found
            options = {option for parameter in command.params for option in parameter.opts}
            for word in words:
                if word.startswith("--"):
                    assert word.rstrip(",;") in options | {"--help", "--version"}, f"{page.name}: hanbit {shown}: {word}"
            seen += 1
    assert seen > 25
