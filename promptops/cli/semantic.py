"""promptops cache ...: may an old answer serve a new question?"""

from pathlib import Path
from typing import Annotated

import typer

from promptops.core.errors import DataError, ExitCode

Name = Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("calibrate")
def calibrate(
    name: Name,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Labels (JSONL): rows {text, answer} or {a, b, same}; default: golden cases."
        ),
    ] = None,
    max_error: Annotated[float, typer.Option(metavar="SHARE", help="Most hits that may be wrong, 0 to 1.")] = 0.02,
    as_json: Json = False,
) -> int:
    """Learn when a cached answer may be served, so that at most --max-error of hits are wrong, with 95 % confidence.

    Writes prompts/NAME/cache.json. Too little evidence means off; it says how many labels are missing.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.project.project import open_project
    from promptops.release.cache_calibration import (
        calibrate_pairs,
        calibrate_texts,
        golden_labels,
        read_labels,
        save_matcher,
    )
    from promptops.report.semantic import calibration_json, render_calibration

    if not 0 < max_error < 0.5:
        raise DataError("--max-error is a share above 0 and below 0.5", hint="write 0.02 for 2 %")
    project = open_project(Path.cwd())
    rows, inputs = golden_labels(project.load(name))
    labelled, paired = read_labels(pairs) if pairs else (rows, [])
    if paired:
        found = calibrate_pairs(paired, max_error=max_error, text_inputs=inputs)
    else:
        found = calibrate_texts(labelled, max_error=max_error, text_inputs=inputs)
    path = save_matcher(project.root, name, found.matcher)
    if as_json:
        emit_json({"cache": path.relative_to(project.root).as_posix(), **calibration_json(found)})
    else:
        emit(render_calibration(found, name))
    return ExitCode.OK


@app.command("show")
def show(name: Name, as_json: Json = False) -> int:
    """The matcher of a prompt, and on what evidence it serves."""
    from promptops.cli.output import emit, emit_json
    from promptops.project.project import open_project
    from promptops.release.cache_calibration import load_matcher
    from promptops.report.semantic import matcher_json, render_matcher

    project = open_project(Path.cwd())
    project.load(name)
    matcher = load_matcher(project.root, name)
    if as_json:
        emit_json(matcher_json(matcher))
    else:
        emit(render_matcher(matcher, name))
    return ExitCode.OK
