"""For test suites of applications: a prompt that became worse is a failed test."""

from pathlib import Path


def assert_no_regression(
    name: str, *, against: str, model: str = "", root: str | Path = ".", max_cost: str = ""
) -> None:
    """Evaluate a prompt and judge it against what it was at a git ref, as `promptops eval NAME --against REF`.

    Raises AssertionError with a sentence for everything that blocks; EvaluationError when a side could not be evaluated and
    DataError for wrong files or names, which pytest reports as errors of the test, not as a verdict.
    """
    from contextlib import closing

    from promptops.core.money import parse_usd
    from promptops.evaluation.admission import SpendCap
    from promptops.evaluation.against import Session, evaluate_against
    from promptops.evaluation.execute import Options
    from promptops.evaluation.plan import Selection, utc_now
    from promptops.project.project import open_project
    from promptops.project.store import open_store
    from promptops.report.comparison import sentence, verdict_line

    project = open_project(Path(root))
    cap = SpendCap(max_nanousd=parse_usd(max_cost) if max_cost else None)
    options = Options(
        concurrency=project.config.concurrency, outage_patience_s=project.config.outage_patience_s, cap=cap
    )
    with closing(open_store(project.store_at)) as store:
        session = Session(project=project, store=store, options=options, clock=utc_now, on_progress=lambda _: None)
        result = evaluate_against(session, name, against, model=model, candidate="", selection=Selection())
    comparison = result.found.comparison
    said = [sentence(verdict, comparison) for verdict in comparison.blocking]
    said += [f"the change weakens its own gate: {change.what}" for change in result.changes]
    if result.found.blocked or result.changes:
        raise AssertionError("\n".join(["", ": ".join(verdict_line(result.found)[::2]), *said]))


def bundle_for(name: str, folder: str | Path, *, root: str | Path = ".", model: str = "") -> Path:
    """A development bundle of a prompt as its files are now, in a new folder below `folder`; for `promptops.runtime.testing`.

    Raises DataError when the prompt does not load, or cannot run in a service.
    """
    from promptops.evaluation.clients import identify
    from promptops.evaluation.plan import utc_now
    from promptops.project.config import resolve_model
    from promptops.project.project import open_project
    from promptops.release.export import Served, Shipped, bundle_files, write_bundle

    project = open_project(Path(root))
    evaluable = project.load(name)
    config = resolve_model(project.config, model or evaluable.prompt.model or project.config.default_model)
    identity = identify(config, evaluable.prompt, evaluable.scan.digest)
    shipped = Shipped(
        version="v0.0.0", commit="", evaluable=evaluable, config=project.config, model=config, identity=identity,
        released_at=utc_now().isoformat(timespec="seconds"),
    )  # fmt: skip
    place = Path(folder) / f"{name}-bundle"
    write_bundle(bundle_files([Served(live=shipped)], channel="test", development=True), place, as_archive=False)
    return place
