"""What commands that make several runs share: project, store, options, progress."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from promptops.core.errors import DataError

if TYPE_CHECKING:
    from promptops.evaluation.against import Session
    from promptops.evaluation.execute import Options
    from promptops.project.config import Config


def run_options(
    config: "Config",
    *,
    max_cost: str = "",
    max_calls: int | None = None,
    concurrency: int | None = None,
    reuse: bool = True,
) -> "Options":
    """How runs are made, from the command line over the configuration. Raises DataError for an amount that is none."""
    from promptops.core.money import parse_usd
    from promptops.evaluation.execute import Options

    try:
        cap = parse_usd(max_cost) if max_cost else None
    except ValueError as error:
        raise DataError(f"--max-cost: {error}", hint="write dollars, as 2.50") from error
    return Options(
        concurrency=concurrency or config.concurrency, reuse=reuse, max_cost_nanousd=cap, max_calls=max_calls,
        outage_patience_s=config.outage_patience_s,
    )  # fmt: skip


@contextmanager
def open_session(
    name: str, *, quiet: bool, max_cost: str = "", concurrency: int | None = None, reuse: bool = True
) -> "Iterator[Session]":
    """A session in the project around the current folder, closed at the end."""
    from promptops.cli.progress import watch
    from promptops.evaluation.against import Session
    from promptops.evaluation.plan import utc_now
    from promptops.project.project import open_project
    from promptops.project.store import open_store

    project = open_project(Path.cwd())
    options = run_options(project.config, max_cost=max_cost, concurrency=concurrency, reuse=reuse)
    with closing(open_store(project.root)) as store, watch(name, quiet=quiet) as on_progress:
        yield Session(project=project, store=store, options=options, clock=utc_now, on_progress=on_progress)
