"""The documents say what the code says: generated parts, examples, links, help texts."""

import html
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from conftest import REPOSITORY
from promptops.core.jsontext import parse_json
from promptops.project.formats import format_problems
from promptops.project.yamltext import parse_yaml

DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
_EXAMPLE = re.compile(r"^```(?:yaml|json|toml) (\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_LISTED = re.compile(r"^  ([a-z][a-z-]*)  ", re.MULTILINE)


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", REPOSITORY / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli.md", "files.md", "scale.md"])
def test_generated_documents_are_up_to_date(name: str):
    """After a change of a command, a format or a check: `python docs/generate.py`."""
    path = REPOSITORY / "docs" / name

    assert generator().documents()[path] == path.read_text("utf-8")


def sections() -> dict[str, str]:
    text = (REPOSITORY / "docs" / "cli.md").read_text("utf-8")
    parts = re.split(r"^## (promptops.*)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def listed(text: str) -> list[str]:
    """The names under `Commands:` of a help text."""
    return _LISTED.findall(text.partition("Commands:")[2])


def test_every_command_has_a_section_and_a_place_in_the_readme(call):
    """What `--help` lists is what the reference explains and what the first page names."""
    below = {name: listed(call(name, "--help").out) for name in listed(call("--help").out)}
    names = [f"{name} {command}".rstrip() for name, commands in below.items() for command in commands or [""]]
    readme = (REPOSITORY / "README.md").read_text("utf-8")

    assert {"promptops", *(f"promptops {name}" for name in names)} == set(sections())
    assert [] == [name for name in names if not re.search(rf"`{name}[ `]", readme)]


@pytest.mark.parametrize("name", [name for name in sections() if name != "promptops"])
def test_the_reference_names_the_options_that_help_names(name: str, call):
    """The reference is made from the declarations; what a user sees is --help."""
    declared = re.findall(r"^\| (?:`-[a-z]`, )?`(--[a-z-]+)`", sections()[name], re.MULTILINE)
    lines = call(*name.split()[1:], "--help").out.partition("Options:")[2].splitlines()
    shown = [option for line in lines for option in _OPTION.findall(line[:24])]

    assert [*declared, "--help"] == shown


def examples() -> list[tuple[str, str, str]]:
    return [
        (f"{path.name}:{text.count(chr(10), 0, match.start()) + 1}", match[1], match[2])
        for path in DOCUMENTS
        for text in [path.read_text("utf-8")]
        for match in _EXAMPLE.finditer(text)
    ]


@pytest.mark.parametrize(("where", "kind", "text"), examples(), ids=[where for where, _, _ in examples()])
def test_examples_of_files_fit_their_formats(where: str, kind: str, text: str):
    """An example that is copied from the documentation is accepted."""
    match kind:
        case "config":
            value = tomllib.loads(text).get("tool", {}).get("promptops") or tomllib.loads(text)
            values = [value]
        case "case" | "label":
            values = [parse_json(line) for line in text.splitlines()]
        case _:
            values = [parse_yaml(text.removeprefix("---\n").partition("\n---\n")[0], where).value]

    assert [] == [str(problem) for value in values for problem in format_problems(kind, value, str)]


def test_there_is_an_example_of_every_format():
    """A reader finds one of each file to start from."""
    assert {"prompt", "suite", "case", "rubric", "label", "rules", "config", "readiness"} == {
        kind for _, kind, _ in examples()
    }


def anchors(path: Path) -> set[str]:
    text = _FENCE.sub("", path.read_text("utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", html.unescape(title).lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.name for path in DOCUMENTS])
def test_links_between_documents_lead_somewhere(path: Path):
    """A relative link names a file of the repository, and a heading in it."""
    text = _FENCE.sub("", path.read_text("utf-8"))
    broken = [
        target + anchor
        for target, anchor in _LINK.findall(text)
        if not target.startswith("https://")
        and not (
            (path.parent / target).exists() and (not anchor or anchor in anchors((path.parent / target).resolve()))
        )
    ]

    assert [] == broken


def test_the_site_is_built_without_a_broken_anchor(tmp_path: Path):
    """`make site` refuses what it cannot link, and a page is there for every document."""
    finished = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-f", "docs/site/mkdocs.yml", "-d", str(tmp_path)],
        cwd=REPOSITORY, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    pages = {path.name for path in tmp_path.glob("*.html")}
    assert (0, set()) == (
        finished.returncode,
        {f"{path.stem}.html" for path in (REPOSITORY / "docs").glob("*.md")} - pages,
    ), finished.stderr
