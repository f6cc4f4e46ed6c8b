"""`init`: a starter project that is sound, and never overwrites anything."""

from pathlib import Path

import pytest

from conftest import PROMPT
from promptops.core.errors import DataError, EvaluationError, RefusedError
from promptops.project.formats import FORMATS, format_text
from promptops.project.project import open_project
from promptops.project.scaffold import scaffold

FILES = [
    f"golden/{PROMPT}.jsonl", f"golden/{PROMPT}.yaml", "promptops.toml", f"prompts/{PROMPT}/input.schema.json", f"prompts/{PROMPT}/output.schema.json",
    f"prompts/{PROMPT}/prompt.md", f"prompts/{PROMPT}/rules.yaml",
]  # fmt: skip


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_starter_is_a_sound_project(tmp_path: Path):
    """Its one prompt loads with its suite and all its cases; the folder is made when missing."""
    made = scaffold(tmp_path / "a" / "b")
    evaluable = open_project(tmp_path / "a" / "b").load(PROMPT)

    assert (FILES, 22, ("delivery", "product")) == (made, evaluable.scan.count, evaluable.suite.categories)


def test_editors_find_the_schemas_that_the_files_name(tmp_path: Path):
    """Every format is beside the run store, as published, and outdated ones are renewed."""
    scaffold(tmp_path)
    stale = tmp_path / ".promptops" / "schemas" / "suite.schema.json"
    stale.write_text("{}", "utf-8")
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / ".promptops").rename(other / ".promptops")
    scaffold(other)

    assert {f"{name}.schema.json": format_text(name) for name in FORMATS} == {
        path.name: path.read_text("utf-8") for path in (other / ".promptops" / "schemas").iterdir()
    }
    for name in FILES:
        head = (other / name).read_text("utf-8")
        _, found, rest = head.partition("yaml-language-server: $schema=")
        assert not found or (other / name).parent.joinpath(rest.partition("\n")[0]).is_file()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_nothing_is_written_when_a_file_exists(tmp_path: Path, name: str, kind: str):
    """Not the taken file, not the others, and nothing behind a link."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    place = root / name
    place.parent.mkdir(parents=True)
    if kind == "file":
        place.write_bytes(b"mine")
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(outside)
    before = files_in(root)

    with pytest.raises(DataError, match=f"{name} exists already, nothing was written; choose an empty folder"):
        scaffold(root)
    assert (before, False) == (files_in(root), outside.exists())


def test_a_configured_pyproject_is_not_contradicted(tmp_path: Path):
    """promptops.toml beside a [tool.promptops] would be an error in every command."""
    (tmp_path / "pyproject.toml").write_text("[tool.promptops]\n", "utf-8")

    with pytest.raises(DataError, match=r"pyproject\.toml has a \[tool\.promptops\] already, nothing was written"):
        scaffold(tmp_path)
    assert ["pyproject.toml"] == sorted(files_in(tmp_path))


def test_another_tools_pyproject_is_no_obstacle(tmp_path: Path):
    """Most repositories have one."""
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n", "utf-8")

    assert FILES == scaffold(tmp_path)


def test_a_folder_that_cannot_be_written_says_why(tmp_path: Path):
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("", "utf-8")

    with pytest.raises(EvaluationError, match="cannot write the project"):
        scaffold(tmp_path / "file")


def test_S12_a_linked_store_folder_is_refused(tmp_path: Path):
    """`init` in somebody's folder writes nothing outside of it."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ".promptops").symlink_to(tmp_path / "outside")

    with pytest.raises(RefusedError):
        scaffold(tmp_path / "root")
    assert ({}, [".promptops"]) == (
        files_in(tmp_path / "outside"),
        [path.name for path in (tmp_path / "root").iterdir()],
    )
