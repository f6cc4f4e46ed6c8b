"""A stratified sample of logs of any size: in each stratum the inputs with the smallest keyed hashes, whoever reads which file.

The sample depends on the inputs and the seed alone: parts merge exactly, and the order of rows and the number of processes change nothing
(bottom-k sketches: Cohen and Kaplan 2007, PODC).
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Any

from promptops.core.errors import DataError
from promptops.core.jsontext import Json, JsonError, canonical_json, parse_json
from promptops.core.prompt import Prompt
from promptops.evaluation.traffic import UnusableRowError, read_request
from promptops.project.prompts import load_prompt
from promptops.project.row_files import RowFile, read_row_file
from promptops.project.snapshot import RecordedTree, SnapshotTree
from promptops.project.tree import Tree

MAX_STRATA = 1_000


Spread = Callable[..., Iterator[Any]]
"""`map`, or what applies a function to each item in other processes and gives the results in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSpec:
    """`by` names what a stratum is: a column (`channel`), or a member (`inputs.lang`, `tags.lang`); '' is one stratum."""

    by: str = ""
    per_stratum: int = 20
    seed: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Drawn:
    """One input of the sample; its hash comes first, and decides."""

    hash: bytes
    source: str = field(compare=False)
    inputs: Mapping[str, Json] = field(compare=False)


@dataclass(slots=True, kw_only=True)
class Sample:
    """`strata` holds up to `per_stratum` different inputs each, smallest hash first; `rows` counts what was read of each."""

    strata: dict[str, dict[bytes, Drawn]] = field(default_factory=dict)
    rows: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    first_bad: str = ""

    def chosen(self) -> Iterator[tuple[str, Drawn]]:
        for stratum in sorted(self.strata):
            for item in sorted(self.strata[stratum].values()):
                yield stratum, item

    def merge(self, other: "Sample", spec: SampleSpec) -> None:
        for stratum, items in other.strata.items():
            self.strata.setdefault(stratum, {}).update(
                {key: item for key, item in items.items() if key not in self.strata[stratum]}
            )
            _keep_smallest(self.strata[stratum], spec.per_stratum)
        self.rows += other.rows
        self.skipped += other.skipped
        self.first_bad = self.first_bad or other.first_bad
        _check_strata(self, spec)


def sample_logs(
    files: Sequence[RowFile], tree: Tree, name: str, spec: SampleSpec, *, max_case_bytes: int, spread: Spread = map
) -> Sample:
    """The sample of all rows of the files that are requests to a prompt; the same input counts once.

    Raises DataError for files that cannot be read, without a usable row, or with more than 1,000 strata.
    """
    recorded = RecordedTree(tree)
    load_prompt(recorded, name)
    found = Sample()
    read = partial(_sample_file, tree=recorded.snapshot(), name=name, spec=spec, max_case_bytes=max_case_bytes)
    for part in spread(read, files):
        found.merge(part, spec)
    if not found.strata:
        reason = found.skipped.most_common(1)[0][0] if found.skipped else "the files are empty"
        raise DataError("no row is a request to this prompt", where=found.first_bad or files[0].name, why=reason,
                        hint="a row needs `inputs`, or a column for each input of the prompt")  # fmt: skip
    return found


def _sample_file(file: RowFile, *, tree: SnapshotTree, name: str, spec: SampleSpec, max_case_bytes: int) -> Sample:
    prompt, found = load_prompt(tree, name), Sample()
    key = spec.seed.to_bytes(8)
    for number, line in read_row_file(file, as_log=True):
        try:
            inputs, stratum, weight = _read(line, prompt, spec, max_case_bytes)
        except UnusableRowError as error:
            found.skipped[str(error)] += 1
            found.first_bad = found.first_bad or f"{file.name}:{number}"
            continue
        found.rows[stratum] += weight
        kept = found.strata.setdefault(stratum, {})
        mark = blake2b(canonical_json(dict(inputs)), digest_size=16, key=key).digest()
        known = kept.get(mark)
        if known is None:
            kept[mark] = Drawn(mark, f"{file.name}:{number}", inputs)
            if len(kept) >= 2 * spec.per_stratum + 64:
                _keep_smallest(kept, spec.per_stratum)
        if len(found.strata) > MAX_STRATA:
            _check_strata(found, spec)
    for kept in found.strata.values():
        _keep_smallest(kept, spec.per_stratum)
    return found


def _read(line: bytes, prompt: Prompt, spec: SampleSpec, max_case_bytes: int) -> tuple[Mapping[str, Json], str, int]:
    inputs, weight, _ = read_request(line, prompt, max_case_bytes)
    return inputs, _stratum(parse_json(line), spec.by) if spec.by else "", weight


def _stratum(row: Any, by: str) -> str:
    """The value of a column or member as text; '' where a row has none."""
    value = row.get(by)
    if value is None:
        table, _, member = by.partition(".")
        held = row.get(table)
        value = held.get(member) if isinstance(held, dict) and member else None
    if value is None:
        return ""
    try:
        return value if isinstance(value, str) else canonical_json(value).decode()
    except JsonError:
        return ""


def _keep_smallest(kept: dict[bytes, Drawn], most: int) -> None:
    if len(kept) > most:
        smallest = heapq.nsmallest(most, kept)
        items = [kept[key] for key in smallest]
        kept.clear()
        kept.update(zip(smallest, items, strict=True))


def _check_strata(found: Sample, spec: SampleSpec) -> None:
    if len(found.strata) > MAX_STRATA:
        raise DataError(f"more than {MAX_STRATA} different values of {spec.by!r}", why="each would be a stratum of its own",
                        hint="sample by something with few values, such as a language or a channel")  # fmt: skip
