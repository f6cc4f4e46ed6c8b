"""Run the ```console blocks of README and docs as written; `python docs/console.py` puts what they print today into the files.

The info string says where: `console new` in an empty folder, `console repo` in a committed copy of the shipped prompts.
Blocks of one place in one file share that place, one after the other. `$ ` starts a command, `> ` continues it, `...`
stands for lines left out. Run ids, digests and latencies differ from run to run and are not compared.
"""  # noqa: INP001

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", *sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md")))
_BLOCK = re.compile(r"^```console (new|repo)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_ANY_BLOCK = re.compile(r"^```console\b", re.MULTILINE)
_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
_VOLATILE = (
    (_RUN_ID, "RUN"),
    (re.compile(r"\b(?=\w*\d)[0-9a-f]{12}\b"), "DIGEST"),
    (re.compile(r" (?:(?:<1|\d+) ms|\d+\.\d\d s)(?= |$)"), " TIME"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d\b"), "WHEN"),
    (re.compile(r"─+"), "─"),
)
_PROGRESS = re.compile(r"\S+: \d+/\d+, .* s left, .*")  # on a slow machine
_LEFT_OUT = "..."
_ALIKE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command with the lines the document shows below it; `line` is where its block begins."""

    line: int
    place: str
    command: str
    shown: tuple[str, ...]


def steps(text: str) -> list[Step]:
    """The commands of a document in order. Raises ValueError for a console block that does not say where it runs."""
    blocks = list(_BLOCK.finditer(text))
    if len(blocks) != len(_ANY_BLOCK.findall(text)):
        raise ValueError("write `console new` or `console repo`")
    return [step for block in blocks for step in _steps_of(block, text.count("\n", 0, block.start()) + 1)]


def _steps_of(block: re.Match[str], line: int) -> Iterator[Step]:
    for part in re.split(r"^\$ ", block[2], flags=re.MULTILINE)[1:]:
        command, *shown = part.splitlines()
        while shown and shown[0].startswith("> "):
            command += "\n" + shown.pop(0).removeprefix("> ")
        yield Step(line=line, place=block[1], command=command, shown=tuple(shown))


def plain(line: str) -> str:
    """A line without what differs from run to run, and without the width of columns."""
    for pattern, name in _VOLATILE:
        line = pattern.sub(name, line)
    return " ".join(line.split())


def refreshed(shown: tuple[str, ...], printed: list[str], *, keep: bool = True) -> list[str]:
    """The shown lines, each that was not printed in its place replaced by what was; equal to `shown` when all is well.

    Without `keep`, a line that differs in blanks or in what changes from run to run is replaced as well.
    """
    result: list[str] = []
    rest = [line.rstrip() for line in printed]
    while rest and not rest[-1]:
        rest.pop()
    gap = False
    for line in shown:
        if line.strip() == _LEFT_OUT:
            gap = True
            result.append(line)
            continue
        index = _place_of(line, rest, gap=gap)
        if index is not None:
            result.append(line if keep and plain(line) == plain(rest[index]) else rest[index])
            rest, gap = rest[index + 1 :], False
    return result if gap else result + rest


def _place_of(line: str, printed: list[str], *, gap: bool) -> int | None:
    """Which printed line a shown line stands for: the next one, or after a gap the first equal or else the most alike."""
    wanted = plain(line)
    found = [plain(other) for other in (printed if gap else printed[:1])]
    if wanted in found:
        return found.index(wanted)
    if not gap:
        return 0 if found else None
    ratios = [SequenceMatcher(None, wanted, other).ratio() for other in found]
    best = max(ratios, default=0.0)
    return ratios.index(best) if best >= _ALIKE else None


@dataclass(slots=True)
class Shell:
    """A person at a terminal: one folder, one `$?`, and the run ids of today for those in the document."""

    folder: Path
    code: int = 0
    ids: dict[str, str] = field(default_factory=dict)

    def run(self, command: str) -> list[str]:
        """What the command prints on both streams, line by line."""
        for written, real in self.ids.items():
            command = command.replace(written, real)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PROMPTOPS_")}
        environment |= {"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "Author",
                        "GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": "author@example.com"}  # fmt: skip
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with tempfile.NamedTemporaryFile("r", prefix="place-") as place:
            script = f'(exit {self.code}); {command}\ncode=$?; pwd > "$PLACE"; exit $code'
            finished = subprocess.run(  # noqa: S603 - the commands of our own documents
                ["bash", "-c", script], cwd=self.folder, env=environment | {"PLACE": place.name}, check=False, timeout=300,  # noqa: S607
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            self.folder, self.code = Path(place.read().strip()), finished.returncode
        return [line for line in finished.stdout.decode().splitlines() if not _PROGRESS.fullmatch(line)]

    def as_written(self, printed: list[str]) -> list[str]:
        """What was printed, with the run ids of the document."""
        names = {real: written for written, real in self.ids.items()}
        return [_RUN_ID.sub(lambda match: names.get(match[0], match[0]), line) for line in printed]

    def learn(self, shown: Sequence[str], printed: list[str]) -> None:
        """Remember which run ids of today stand for those of the document."""
        for line in shown:
            written = _RUN_ID.findall(line)
            same = next((other for other in printed if written and plain(other) == plain(line)), "")
            self.ids.update(zip(written, _RUN_ID.findall(same), strict=False))


def open_shell(place: str, folder: Path) -> Shell:
    """A shell in a new folder: empty, or with the shipped prompts in one commit on main."""
    folder.mkdir()
    if place == "repo":
        for name in ("prompts", "golden", "rubrics"):
            shutil.copytree(REPOSITORY / name, folder / name)
        shutil.copy(REPOSITORY / "pyproject.toml", folder)
        shutil.copy(REPOSITORY / "docs" / "stand_in.py", folder)
        (folder / ".gitignore").write_text(".promptops/\n")
        identity = "-c user.name=Author -c user.email=author@example.com -c commit.gpgsign=false"
        script = f"git init -q -b main && git add -A && git {identity} commit -q -m Shipped"
        subprocess.run(["bash", "-c", script], cwd=folder, check=True)  # noqa: S603, S607 - a constant
    return Shell(folder)


def play(text: str, folder: Path) -> Iterator[tuple[Step, list[str], list[str]]]:
    """Run a document: each step, its lines as they should be, and all that was printed, with the run ids of the document."""
    shells: dict[str, Shell] = {}
    for step in steps(text):
        if step.place not in shells:
            shells[step.place] = open_shell(step.place, folder / step.place)
        shell = shells[step.place]
        printed = shell.run(step.command)
        shell.learn(step.shown, printed)
        yield step, refreshed(step.shown, printed), shell.as_written(printed)


def main() -> None:
    """Write what the blocks print today into the documents."""
    for document in DOCUMENTS:
        path = REPOSITORY / document
        text = path.read_text("utf-8")
        with tempfile.TemporaryDirectory() as folder:
            for step, lines, printed in play(text, Path(folder)):
                if list(step.shown) == lines:
                    continue
                lines = refreshed(step.shown, printed, keep=False)  # noqa: PLW2901
                head = "$ " + step.command.replace("\n", "\n> ") + "\n"
                before, after = ("".join(line + "\n" for line in found) for found in (step.shown, lines))
                path.write_text(path.read_text("utf-8").replace(head + before, head + after, 1), "utf-8")
        sys.stdout.write(f"ran {document}\n")


if __name__ == "__main__":
    main()
