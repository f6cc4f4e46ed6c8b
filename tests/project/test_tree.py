"""Reading project files: from disk, from a commit, or with a candidate in front; never from outside."""

from pathlib import Path

import pytest

from conftest import Sandbox
from promptops.core.errors import DataError, RefusedError
from promptops.project.git import Git, GitTree
from promptops.project.tree import OverlayTree, Tree, WorkTree, decode_text, folder_files, read_text


@pytest.fixture(params=["work", "commit", "overlay"])
def tree(request: pytest.FixtureRequest, sandbox: Sandbox) -> Tree:
    """Every kind of tree, over the same files."""
    sandbox.write("prompts/a/one.md", "one\n")
    sandbox.write("prompts/a/sub/two.md", b"\xef\xbb\xbftwo\r\nlines\r\n")
    work = WorkTree(sandbox.root)
    if request.param == "commit":
        return GitTree(Git(sandbox.root), sandbox.commit_all())
    return work if request.param == "work" else OverlayTree(base=work, under="prompts/a", over="prompts/a/x")


def test_a_tree_reads_and_lists_files(tree: Tree):
    """Bytes as stored, names sorted, nothing for a folder that is not there; text comes with Unix line ends."""
    with tree.open("prompts/a/one.md") as file:
        streamed = file.read()

    assert (b"one\n", ["one.md", "sub"], [], "two\nlines\n", ["prompts/a/one.md"]) == (
        streamed, tree.names("prompts/a"), tree.names("prompts/none"), read_text(tree, "prompts/a/sub/two.md"),
        list(folder_files(tree, "prompts/a", ".md")),
    )  # fmt: skip


@pytest.mark.parametrize("path", ["prompts/a/none.md", "prompts/a", "prompts/a/one.md/x", "prompts/a/" + "x" * 300])
def test_what_is_no_file_is_a_problem_with_its_path(tree: Tree, path: str):
    """Missing, a folder, below a file, a name too long: the path, never a traceback."""
    with pytest.raises(DataError) as caught:
        read_text(tree, path, wanted_by="prompt.md:3")

    assert [path] == [problem.where for problem in caught.value.problems]


@pytest.mark.parametrize(
    "path",
    ["../x", "a/../../x", "/etc/passwd", "~/x", "~root/x", "file:///etc/passwd", "C:/x", "a\\..\\x", "a//b"],
)
def test_L11_a_path_that_leaves_the_project_is_refused(tree: Tree, path: str):
    """The same in every tree, for reading, streaming and listing."""
    for use in (tree.read, tree.open, tree.names):
        with pytest.raises(RefusedError):
            use(path)


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "sub/../../outside"])
def test_L11_a_link_out_of_the_project_is_refused(tmp_path: Path, target: str):
    """Where the file really is decides, whatever links lead there."""
    (tmp_path / "outside").write_text("secret", "utf-8")
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "link").symlink_to(target)
    (tmp_path / "root" / "folder").symlink_to(tmp_path)
    tree = WorkTree(tmp_path / "root")

    for path in ("link", "folder/outside"):
        with pytest.raises(RefusedError):
            tree.read(path)
    with pytest.raises(RefusedError):
        tree.names("folder")


def test_a_link_inside_the_project_is_followed(tmp_path: Path):
    """Sharing a file between prompts is no escape."""
    (tmp_path / "a").write_text("text", "utf-8")
    (tmp_path / "b").symlink_to("a")

    assert b"text" == WorkTree(tmp_path).read("b")


def test_a_loop_of_links_is_a_problem_not_a_hang(tmp_path: Path):
    """Two links to each other lead nowhere."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises(DataError, match="a: file not found"):
        read_text(WorkTree(tmp_path), "a")


def test_L11_a_committed_link_is_not_a_file(sandbox: Sandbox):
    """In a commit a link is text that names a path; it is never followed."""
    sandbox.path("prompts/link.md").symlink_to("/etc/passwd")
    tree = GitTree(Git(sandbox.root), sandbox.commit_all())

    with pytest.raises(FileNotFoundError):
        tree.read("prompts/link.md")
    assert ["feedback-sentiment"] == tree.names("prompts")


def test_a_project_in_a_sub_folder_of_a_repository(sandbox: Sandbox):
    """Paths are relative to the project, blanks and pattern signs in its folder's name included."""
    sandbox.write(" my [pro]ject/prompts/x.md", "below")
    sandbox.write("prompts/x.md", "above")
    commit = sandbox.commit_all()
    sandbox.write(" my [pro]ject/prompts/x.md", "changed")
    tree = GitTree(Git(sandbox.path(" my [pro]ject")), commit)

    assert (b"below", ["x.md"]) == (tree.read("prompts/x.md"), tree.names("prompts"))


def test_a_candidate_hides_the_files_of_its_prompt(tmp_path: Path):
    """What the candidate has is read from it, all else from the prompt; other folders are as they are."""
    for name, text in {"p/a": "base", "p/b": "base", "p/c/new/a": "new", "p/c/new/d": "new", "q/a": "other"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    tree = OverlayTree(base=WorkTree(tmp_path), under="p", over="p/c/new")

    assert {"p/a": b"new", "p/b": b"base", "p/d": b"new", "q/a": b"other"} == {
        path: tree.read(path) for path in ("p/a", "p/b", "p/d", "q/a")
    }
    assert (["a", "b", "c", "d"], ["a"]) == (tree.names("p"), tree.names("q"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\nb\xff\n", "f:2: not UTF-8, byte 0xff; save the file as UTF-8"),
        ("täxt".encode("utf-16"), "f:1: not UTF-8, byte 0xff; save the file as UTF-8"),
        (b"a\nb\n\xed\xa0\x80", "f:3: not UTF-8, byte 0xed; save the file as UTF-8"),
        (b"a\n\nb\x00", "f:3: NUL character; remove it"),
    ],
)
def test_bytes_that_are_no_text_are_refused_with_the_line(data: bytes, expected: str):
    """Latin-1, UTF-16, an encoded surrogate, NUL."""
    with pytest.raises(DataError) as caught:
        decode_text(data, "f")

    assert expected == str(caught.value)


@pytest.mark.parametrize("data", ["\ufeffa\r\nb\rc\n".encode(), b"a\nb\nc\n"])
def test_byte_order_mark_and_line_ends_do_not_matter(data: bytes):
    """A file saved on Windows is the same text."""
    assert "a\nb\nc\n" == decode_text(data, "f")
