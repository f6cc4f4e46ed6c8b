"""What commands that make several runs share: project, store, options, progress."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from promptops.core.errors import DataError

if TYPE_CHECKING:
    from promptops.evaluation.admission import SpendCap
    from promptops.evaluation.against import Session
    from promptops.evaluation.execute import Options
    from promptops.project.config import Config
    from promptops.project.store import Store, StoreAddress


def spend_cap(max_cost: str = "", max_calls: int | None = None) -> "SpendCap":
    """What all runs of a command may spend together. Raises DataError for an amount that is none."""
    from promptops.core.money import parse_usd
    from promptops.evaluation.admission import SpendCap

    try:
        most = parse_usd(max_cost) if max_cost else None
    except ValueError as error:
        raise DataError(f"--max-cost: {error}", hint="write dollars, as 2.50") from error
    return SpendCap(max_nanousd=most, max_calls=max_calls)


def run_options(
    config: "Config",
    *,
    cap: "SpendCap | None" = None,
    concurrency: int | None = None,
    reuse: bool = True,
    answers_of: str = "",
) -> "Options":
    """How runs are made, from the command line over the configuration."""
    from promptops.evaluation.execute import Options

    return Options(
        concurrency=concurrency or config.concurrency, reuse=reuse, reuse_judge=reuse, cap=cap or spend_cap(),
        outage_patience_s=config.outage_patience_s, answers_of=answers_of,
    )  # fmt: skip


@contextmanager
def opened_store(at: "StoreAddress") -> "Iterator[Store]":
    """The run store for a command that writes to it; says so where readers and the writer will wait for each other."""
    from promptops.cli.output import note
    from promptops.project.store import open_store

    with closing(open_store(at)) as store:
        if not store.can_write_while_read:
            note("note: the run store is on a disk without a write-ahead log: runs are slower, and reading them while one is written may fail; "
                 "a local disk is better")  # fmt: skip
        yield store


@contextmanager
def open_session(
    name: str, *, quiet: bool, cap: "SpendCap | None" = None, concurrency: int | None = None, reuse: bool = True
) -> "Iterator[Session]":
    """A session in the project around the current folder, closed at the end."""
    from promptops.cli.progress import watch
    from promptops.evaluation.against import Session
    from promptops.evaluation.plan import utc_now
    from promptops.project.project import open_project

    project = open_project(Path.cwd())
    options = run_options(project.config, cap=cap, concurrency=concurrency, reuse=reuse)
    with opened_store(project.store_at) as store, watch(name, quiet=quiet) as on_progress:
        yield Session(project=project, store=store, options=options, clock=utc_now, on_progress=on_progress)
