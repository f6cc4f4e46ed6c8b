"""The databases that a suite's checks run SQL answers on, connected before anything is asked."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from promptops.core.checks import Check, Only, Sql
from promptops.core.suite import Suite
from promptops.project.config import Config
from promptops.runtime.databases import Database, Databases, connected


def with_databases(suite: Suite, config: Config, root: Path, environment: Mapping[str, str] | None = None) -> Suite:
    """The suite with its checks connected. Raises DataError when nothing says where a database is, RefusedError for a file elsewhere."""
    wanted = set(_named(suite))
    if not wanted:
        return suite
    found = os.environ if environment is None else environment
    given = {alias: config.databases[alias].address(root, found) for alias in wanted if alias in config.databases}
    opened: Callable[[str], Database] = Databases(given, found)
    return replace(
        suite, checks=tuple(connected(check, opened) for check in suite.checks),
        by_category={name: tuple(connected(check, opened) for check in checks) for name, checks in suite.by_category.items()},
    )  # fmt: skip


def runs_sql(suite: Suite) -> bool:
    """Whether scoring an answer may wait for a database."""
    return next(_named(suite), None) is not None


def _named(suite: Suite) -> Iterator[str]:
    for checks in (suite.checks, *suite.by_category.values()):
        for check in checks:
            inner: Check = check.check if isinstance(check, Only) else check
            if isinstance(inner, Sql) and inner.database:
                yield inner.database
