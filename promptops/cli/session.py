"""What commands that make several runs share: project, store, options, progress."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from promptops.core.errors import DataError

if TYPE_CHECKING:
    from promptops.evaluation.against import Session


@contextmanager
def open_session(
    name: str, *, quiet: bool, model: str = "", max_cost: str = "", concurrency: int | None = None, reuse: bool = True
) -> "Iterator[Session]":
    """A session in the project around the current folder, closed at the end."""
    from promptops.cli.progress import watch
    from promptops.core.money import parse_usd
    from promptops.evaluation.against import Session
    from promptops.evaluation.clients import limit_key
    from promptops.evaluation.execute import Options
    from promptops.evaluation.plan import utc_now
    from promptops.project.config import resolve_model
    from promptops.project.project import open_project
    from promptops.project.store import open_store

    project = open_project(Path.cwd())
    chosen = resolve_model(project.config, model or project.config.default_model)
    try:
        cap = parse_usd(max_cost) if max_cost else None
    except ValueError as error:
        raise DataError(f"--max-cost: {error}", hint="write dollars, as 2.50") from error
    options = Options(concurrency=concurrency or project.config.concurrency, reuse=reuse, max_cost_nanousd=cap, limit_key=limit_key(chosen),
                      outage_patience_s=project.config.outage_patience_s)  # fmt: skip
    with closing(open_store(project.root)) as store, watch(name, quiet=quiet) as on_progress:
        yield Session(project=project, store=store, options=options, clock=utc_now, on_progress=on_progress)
