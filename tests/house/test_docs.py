"""The pages of the docs: links lead somewhere, and the code, commands, settings and data that they show are right.

That the reference tells of everything there is, is in `test_public`.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from callboard import settings
from callboard.cli import commands
from callboard.cluster import topology
from tools import reference

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md")])
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def test_every_generated_block_stands_in_a_page():
    text = "".join(page.read_text() for page in ROOT.glob("docs/reference/*.md"))
    assert [name for name in reference.BLOCKS if f"<!-- generated: {name} -->" not in text] == []


@pytest.mark.parametrize("page", sorted([*ROOT.glob("docs/*/*.md"), *ROOT.glob("docs/howto/*/*.md")]), ids=lambda path: path.name)
def test_every_page_can_be_found(page):
    """From the list of its folder, or the list of all."""
    lists = [ROOT / "docs/README.md", page.with_name("README.md")]
    assert page in lists or any(page in _targets(each) for each in lists if each.exists())


@pages
def test_links_lead_somewhere(page):
    for target in _LINK.findall(page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in _anchors(found), target


@pages
def test_python_in_the_docs_runs(page, tmp_path, monkeypatch):
    """Whole programs are compiled (the tutorial's are run elsewhere); everything else is also executed."""
    monkeypatch.chdir(tmp_path)
    for number, text in enumerate(_blocks(page, "python")):
        code = compile(text, f"{page.name}[{number}]", "exec")
        if not _is_a_program(text):
            exec(code, {"__name__": "example"})


@pages
def test_commands_in_the_docs_are_understood(page):
    for text in _blocks(page, "sh"):
        for tokens in _commands(text):
            commands.build(tokens).parse_args(tokens, print_error=False, exit_on_error=False)


@pages
def test_settings_in_the_docs_are_settings(page, tmp_path):
    for text in _blocks(page, "toml"):
        if "[servers." in text:
            topology.parse(text)
            continue
        tomllib.loads(text)
        (tmp_path / "callboard.toml").write_text(text)
        settings.load(tmp_path / "callboard.toml")


@pages
def test_json_in_the_docs_is_json(page):
    for text in _blocks(page, "json"):
        msgspec.json.decode(text)


def test_settings_in_the_examples_are_settings():
    known = {settings.PREFIX + name.replace(".", "_").upper() for name in settings.fields()}
    found = [name for page in ROOT.glob("examples/docker/*") for name in re.findall(r"\bCALLBOARD_\w+", page.read_text())]
    assert found and known.issuperset(found)


def test_decisions_are_numbered_without_gaps():
    numbers = sorted(int(page.name[:4]) for page in ROOT.glob("docs/decisions/0*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def _blocks(page: Path, language: str) -> Iterator[str]:
    for indent, found, text in _FENCE.findall(page.read_text()):
        if found == language:
            yield re.sub(f"^{indent}", "", text, flags=re.MULTILINE)


def _commands(text: str) -> Iterator[list[str]]:
    """The command lines of `callboard` in a piece of shell, those in `$(...)` too; not what it gives to other programs."""
    text = re.sub(r"^sudo .*$", "", re.sub(r"<<'(\w+)'\n.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL), flags=re.MULTILINE)
    nested = re.compile(r"\$\(([^)]*)\)")
    for line in [*nested.findall(text), *nested.sub("ID", text).splitlines()]:
        for found in re.findall(r"(?:^|[ =/])callboard ((?!-)[^|#&]*)", line):
            tokens = shlex.split(found.replace("…", ""))
            if tokens:
                yield tokens


def _is_a_program(text: str) -> bool:
    return "asyncio.run(" in text or "__main__" in text or "with SyncClient" in text


def _targets(page: Path) -> set[Path]:
    return {(page.parent / target.partition("#")[0]).resolve() for target in _LINK.findall(page.read_text())}


def _anchors(page: Path) -> set[str]:
    headings = _HEADING.findall(page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
