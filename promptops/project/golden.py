"""golden/<name>.jsonl, read twice as a stream: once to check and digest every row, once to run the cases.

No list of all cases is ever made; the scan keeps about 100 bytes a row for the digest, the second reading nothing.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptops.core.checks import Check
from promptops.core.digest import digest
from promptops.core.errors import DataError, Problem, did_you_mean
from promptops.core.jsontext import Json, JsonError, at_pointer, canonical_json, parse_json
from promptops.core.prompt import Prompt
from promptops.core.suite import Case, Suite, slice_rows
from promptops.project.formats import format_problems, format_schema
from promptops.project.jsonlines import MAX_PROBLEMS, take_rows
from promptops.project.row_files import tree_rows
from promptops.project.spill import SortedRecords
from promptops.project.tree import Tree

_MAX_ROWS = 200_000
_ID_END = -41  # before NUL, 32 bytes of content hash, 8 of line number


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenScan:
    """What one pass over the rows found; `digest` is independent of row order and line ends."""

    path: str
    digest: str
    count: int
    categories: Mapping[str, int]
    slices: Mapping[str, int] = field(default_factory=dict)
    lines_digest: bytes = field(default=b"", repr=False, compare=False)


def scan_golden(tree: Tree, suite: Suite, prompt: Prompt, *, max_case_bytes: int) -> GoldenScan:
    """Check every row. Raises DataError that lists every bad line (at most 1000), or says that there is no case."""
    stream = tree_rows(tree, suite.cases_path)
    scanner = _Scanner(suite, prompt, max_case_bytes, stream.where)
    seen = hashlib.sha256()
    for number, line in stream:
        seen.update(line + b"\n")
        scanner.add(number, line)
    return scanner.finish(seen.digest())


def read_cases(tree: Tree, suite: Suite, expected: GoldenScan) -> Iterator[Case]:
    """The cases in file order, one at a time; the file must be as scanned. Raises DataError when it changed meanwhile."""
    return (read_case(suite, number, line) for number, line in read_case_lines(tree, suite, expected))


def read_case_lines(tree: Tree, suite: Suite, expected: GoldenScan) -> Iterator[tuple[int, bytes]]:
    """The lines of cases, numbered, for `read_case`. Raises DataError when they are not those that were scanned, at the end."""
    seen = hashlib.sha256()
    for number, line in tree_rows(tree, suite.cases_path):
        seen.update(line + b"\n")
        yield number, line
    if seen.digest() != expected.lines_digest:
        raise _changed(suite)


def read_case(suite: Suite, number: int, line: bytes) -> Case:
    """The case of a line that was scanned before. Raises DataError for one that cannot have been."""
    try:
        return _case(parse_json(line), number)
    except (JsonError, LookupError, TypeError, AttributeError):
        raise _changed(suite) from None


def _changed(suite: Suite) -> DataError:
    return DataError("the golden file changed during the run", where=suite.cases_path, hint="run again")


def first_cases(tree: Tree, suite: Suite) -> Iterator[Case]:
    """The cases in file order without a scan before; a row that cannot be read ends them. Raises DataError without the file."""
    for number, line in tree_rows(tree, suite.cases_path):
        try:
            yield _case(parse_json(line), number)
        except (JsonError, LookupError, TypeError, AttributeError):
            return


def read_ids(tree: Tree, path: str) -> dict[str, str]:
    """Category by case id, of a file that need not fit the suite of today. Raises DataError for rows that are no cases."""
    try:
        rows = [parse_json(line) for _, line in tree_rows(tree, path)]
        return {str(row["id"]): str(row["category"]) for row in rows}
    except (JsonError, LookupError, TypeError) as error:
        raise DataError("not golden rows", where=path, why=str(error)) from error


def _case(row: Mapping[str, Any], number: int) -> Case:
    inputs, expected = row["inputs"], row.get("expected", {})
    content = hashlib.sha256(canonical_json([row["category"], inputs, expected])).hexdigest()[:32]
    return Case(id=row["id"], category=row["category"], inputs=inputs, expected=expected, tags=row.get("tags", {}),
                group=row.get("group", ""), line=number, digest=content)  # fmt: skip


def _record(row: Mapping[str, Json], number: int) -> bytes:
    """Sorts by id; ends as `_ID_END` says."""
    name: str = row["id"]
    return name.encode() + b"\0" + hashlib.sha256(canonical_json(row)).digest() + number.to_bytes(8)


class _Scanner:
    def __init__(self, suite: Suite, prompt: Prompt, max_case_bytes: int, place: Callable[[int], str]) -> None:
        self.suite, self.prompt, self.max_case_bytes, self.place = suite, prompt, max_case_bytes, place
        self.where = suite.cases_path
        self.schema = format_schema("case")
        self.input_schema, self.input_names = prompt.input_schema, prompt.input_names
        self.problems: list[Problem] = []
        self.more_problems = 0
        self.records = SortedRecords()
        self.categories: Counter[str] = Counter()
        self.slices: Counter[str] = Counter()
        self.examples = {digest(dict(example.inputs)) for example in prompt.examples}
        self.unseen = {pointer: check.name for check in _every_check(suite) for pointer in _pointers(check)}

    def add(self, number: int, line: bytes) -> None:
        try:
            row = self._parse(line)
        except JsonError as error:
            self._problem(number, "not a valid row", why=str(error))
            return
        if not self.schema.accepts(row):
            for problem in format_problems("case", row, lambda _: self.place(number)):
                self._add_problem(problem)
            return
        self._check_row(number, row)
        self.records.add(_record(row, number))
        category, tags = row["category"], row.get("tags", {})
        self.categories[category] += 1
        self.slices.update(slice_rows(tags, self.suite.slices))
        if self.unseen:
            self._note_expected(row.get("expected", {}))

    def finish(self, lines_digest: bytes) -> GoldenScan:
        digest_of_rows = self.find_duplicates()
        if not self.records.count and not self.problems:
            self.problems.append(Problem(what="no cases", where=self.where, hint="write at least one golden case"))
        if not self.problems:
            for pointer, name in self.unseen.items():
                self.problems.append(Problem(what=f"check {name!r} never applies", where=f"golden/{self.suite.name}.yaml:1",
                                             why=f"no case states expected{pointer}", hint="fix the pointer, or remove the check"))  # fmt: skip
            least = self.suite.gate.min_cases
            for category, count in self.categories.items():
                if count < least:
                    self._add_problem(Problem(what=f"category {category!r} has {count} cases", where=self.where,
                                              why=f"gate.min_cases is {least}", hint="write more, or merge it with another"))  # fmt: skip
            for category in self.suite.categories:
                if category not in self.categories:
                    self.problems.append(Problem(what=f"category {category!r} has no case", where=self.where,
                                                 hint="add cases, or remove it from the suite"))  # fmt: skip
        if self.more_problems:
            self.problems.append(Problem(what=f"and {self.more_problems} more problems", where=self.where))
        if self.problems:
            raise DataError(problems=self.problems)
        return GoldenScan(path=self.where, digest=digest_of_rows, count=self.records.count,
                          categories=dict(sorted(self.categories.items())), slices=dict(sorted(self.slices.items())),
                          lines_digest=lines_digest)  # fmt: skip

    def _parse(self, line: bytes) -> Json:
        if len(line) > self.max_case_bytes:
            raise JsonError(f"{len(line)} bytes, more than max_case_bytes = {self.max_case_bytes}")
        if b"\\u0000" in line:
            raise JsonError("NUL character")
        return parse_json(line)

    def _check_row(self, number: int, row: Mapping[str, Any]) -> None:
        if self.suite.categories and row["category"] not in self.suite.categories:
            self._problem(
                number,
                f"unknown category {row['category']!r}",
                hint=did_you_mean(row["category"], self.suite.categories),
            )
        inputs = row["inputs"]
        if not (inputs.keys() <= self.input_names and self.input_schema.accepts(inputs)):
            for problem in self.prompt.input_problems(inputs):
                self._problem(number, problem.what, hint=problem.hint)
        if self.examples and digest(inputs) in self.examples:
            self._problem(number, f"case {row['id']!r} is also a few-shot example", why="it would test what the prompt was shown",
                          hint="remove one of them")  # fmt: skip

    def _note_expected(self, expected: Mapping[str, Json]) -> None:
        for pointer in list(self.unseen):
            try:
                at_pointer(expected, pointer)
            except KeyError:
                continue
            del self.unseen[pointer]

    def find_duplicates(self) -> str:
        """The digest of all rows, in order of their ids, without line numbers; equal ids are neighbours there."""
        whole = hashlib.sha256()
        lines: dict[bytes, list[int]] = {}
        before, previous = b"", None
        for record in self.records:
            name = record[:_ID_END]
            if name == previous:
                lines.setdefault(name, [int.from_bytes(before[-8:])]).append(int.from_bytes(record[-8:]))
            whole.update(record[:-8])
            before, previous = record, name
        self.records.close()
        for name, found in lines.items():
            first, *others = sorted(found)
            for number in others:
                self._problem(number, f"duplicate id {name.decode()!r}", why=f"{self._also(first)} has it too",
                              hint="give each case its own id")  # fmt: skip
        return "sha256:" + whole.hexdigest()

    def _also(self, number: int) -> str:
        """Another place in the same file is its line."""
        where, _, line = self.place(number).rpartition(":")
        return f"line {line}" if where == self.where else f"{where}:{line}"

    def _problem(self, number: int, what: str, *, why: str = "", hint: str = "") -> None:
        self._add_problem(Problem(what=what, where=self.place(number), why=why, hint=hint))

    def _add_problem(self, problem: Problem) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)
        else:
            self.more_problems += 1


def _every_check(suite: Suite) -> Iterator[Check]:
    yield from suite.checks
    for checks in suite.by_category.values():
        yield from checks


def _pointers(check: Check) -> Iterator[str]:
    """Expected values a check compares with; it applies only to cases that state them."""
    pointer = getattr(check, "expected", "") or (getattr(check, "path", "") if check.kind == "equals" else "")
    if pointer:
        yield pointer


def read_rows(path: Path, prompt: Prompt) -> list[Case]:
    """Labelled rows of a file that is no golden set, in the form of golden rows; their categories may be any.

    Raises DataError with every bad line (at most 1000), or for more than 200,000 rows.
    """
    rows: list[Case] = []
    schema = format_schema("case")

    def take(row: Json, where: str) -> Iterator[Problem]:
        if not schema.accepts(row):
            yield from format_problems("case", row, lambda _: where)
            return
        found: Any = row
        problems = list(prompt.input_problems(found["inputs"]))
        yield from (Problem(what=item.what, where=where, hint=item.hint) for item in problems)
        if not problems:
            rows.append(_case(found, int(where.rpartition(":")[2])))

    take_rows(
        path, take, what="not a valid row", most=_MAX_ROWS, hint="write one JSON object a line, as in a golden file"
    )
    return rows


def check_rows(
    suite: Suite, prompt: Prompt, rows: Iterable[tuple[str, Mapping[str, Json]]], *, max_case_bytes: int
) -> tuple[Problem, ...]:
    """What is wrong with each row of another file (`where` is `file:line`) as a case of this suite; nothing is said of the set."""
    scanner = _Scanner(suite, prompt, max_case_bytes, lambda number: f"{scanner.where}:{number}")
    for where, row in rows:
        scanner.where, _, number = where.rpartition(":")
        scanner.add(int(number), canonical_json(dict(row)))
    scanner.find_duplicates()
    return tuple(scanner.problems)
