"""Golden cases as pandas data frames: text cells, so that `001`, `NA` and `{{x}}` stay what they are."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from promptops.project.golden_import import Imported


def golden_frame(name: str, *, root: str | Path = ".") -> "pd.DataFrame":
    """The golden cases of a prompt, a row each, every cell text; columns as in `promptops golden export --format csv`.

    An empty cell is no value; columns whose name ends in `:json` hold JSON. Raises DataError when the set does not load.
    """
    import pandas as pd

    from promptops.project.golden_import import read_golden
    from promptops.project.golden_table import to_table
    from promptops.project.project import open_project

    table = to_table(read_golden(open_project(Path(root)), name))
    return pd.DataFrame([list(row) for row in table.rows], columns=list(table.columns), dtype=object)


def import_frame(
    frame: "pd.DataFrame", name: str, *, root: str | Path = ".", replace: bool = False, update: bool = False
) -> "Imported":
    """Write the rows of a data frame into the golden set of a prompt, as `promptops golden import` does.

    A cell that is neither text nor missing is refused: it may have been read as something else than what the file said. Read
    files with `pandas.read_csv(file, dtype=str, keep_default_na=False)`. Raises DataError, and then nothing was written.
    """
    import pandas as pd

    from promptops.core.errors import DataError, Problem
    from promptops.project.golden_import import Rows, import_rows
    from promptops.project.golden_table import from_table
    from promptops.project.project import open_project

    columns = [str(column) for column in frame.columns]
    where = [f"frame:{number}" for number in range(len(frame))]
    problems: list[Problem] = []
    rows: list[list[str]] = []
    for place, values in zip(where, frame.itertuples(index=False, name=None), strict=True):
        cells: list[str] = []
        for column, value in zip(columns, values, strict=True):
            missing = value is None or value is pd.NA or (isinstance(value, float) and value != value)  # noqa: PLR0124 - NaN
            if not (missing or isinstance(value, str)):
                problems.append(Problem(what=f"column {column!r} holds {type(value).__name__}, not text", where=place,
                                        hint="read with dtype=str, keep_default_na=False; write other values as JSON in a column named `...:json`"))  # fmt: skip
            cells.append(value if isinstance(value, str) else "")
        rows.append(cells)
    if problems:
        raise DataError(problems=problems[:1000])
    found = Rows(values=tuple(from_table(columns, rows, where)), where=tuple(where))
    return import_rows(open_project(Path(root)), name, found, replace=replace, update=update)
