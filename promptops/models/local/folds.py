"""Learning from golden cases without looking at the answer: every case is predicted by what did not see it.

Cases that share a group or a text stay together, so that a case is never predicted from its twin. Further labelled rows are
learnt from in every fold and never predicted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from promptops.core.digest import digest
from promptops.core.errors import DataError
from promptops.core.jsontext import Json
from promptops.core.suite import Case
from promptops.models.base import ModelRequest
from promptops.models.local import input_text

MAX_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a learner knows of a case: the text it reads, and what is expected."""

    id: str
    text: str
    group: str
    expected: Mapping[str, Json]
    inputs: Mapping[str, Json]


def labelled(name: str, cases: Iterable[Case], text: tuple[str, ...]) -> list[Labelled]:
    """Cases in order of their id: folds depend on the order, the golden digest, by which answers are kept, does not.

    Raises DataError beyond 50,000 rows.
    """
    rows = sorted((case for case, _ in zip(cases, range(MAX_ROWS + 1), strict=False)), key=lambda case: case.id)
    if len(rows) > MAX_ROWS:
        raise DataError(f"local:{name} trains on at most {MAX_ROWS} cases", hint="use local:rules")
    return [
        Labelled(
            row.id, input_text(ModelRequest(messages=(), inputs=row.inputs), text), row.group, row.expected, row.inputs
        )
        for row in rows
    ]


def splits(name: str, rows: Sequence[Labelled], *, folds: int, seed: int) -> Iterator[tuple[list[int], list[int]]]:
    """(indexes to learn from, indexes to predict) of each fold. Raises DataError for fewer than two different cases."""
    import numpy as np
    from sklearn.model_selection import GroupKFold

    together = _together(rows)
    folds = min(folds, len(set(together)))
    if folds < 2:
        raise DataError(f"local:{name} needs at least two different cases", hint="add golden cases")
    splitter = GroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    for train, test in splitter.split(np.zeros(len(rows)), groups=together):
        yield [int(index) for index in train], [int(index) for index in test]


@contextmanager
def one_thread() -> Iterator[None]:
    """Numerical libraries keep to one thread: on small problems more of them only wait for each other (3 times the CPU)."""
    import sklearn.linear_model  # noqa: F401 - only libraries that are loaded can be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def text_key(text: str) -> str:
    return digest(text)


def _together(rows: Sequence[Labelled]) -> list[int]:
    """One label for each set of cases that may not be split between training and test: linked by a group or a text."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    first: dict[tuple[str, str], int] = {}
    links = [
        first.setdefault(key, index)
        for index, row in enumerate(rows)
        for key in (("text", row.text), ("group", row.group) if row.group else ("case", row.id))
    ]
    here = [index for index in range(len(rows)) for _ in range(2)]
    graph = csr_array(([1] * len(links), (here, links)), shape=(len(rows), len(rows)))
    return [int(label) for label in connected_components(graph, directed=False)[1]]
