"""promptops queue ...: requests that nobody could answer when they came."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptops.cli import service
from promptops.core.errors import DataError, EvaluationError, ExitCode

if TYPE_CHECKING:
    from promptops.runtime.queue import DurableQueue

Address = Annotated[
    str,
    typer.Option("--queue", metavar="ADDRESS", help="sqlite:FILE or redis://host:port/db; default: $PROMPTOPS_QUEUE."),
]
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_jobs(
    queue: Address = "",
    most: Annotated[int, typer.Option("--most", metavar="N", min=1, help="Oldest N.")] = 20,
    as_json: service.Json = False,
) -> int:
    """Show how many requests wait, and the oldest of them.

    No text of a customer is shown.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.report.show import show
    from promptops.report.tables import table
    from promptops.runtime.state import StateError

    opened = _open(queue)
    try:
        counts, jobs = opened.counts(), opened.jobs(most)
    except StateError as error:
        raise _unusable(error) from error
    finally:
        opened.close()
    rows: list[dict[str, Any]] = [
        {"id": job.id, "state": job.state, "tries": job.tries, "waited_s": round(job.waited_s, 1), "bytes": len(job.payload), "reason": job.reason}
        for job in jobs
    ]  # fmt: skip
    if as_json:
        emit_json({"waiting": counts.waiting, "taken": counts.taken, "dead": counts.dead, "jobs": rows})
        return ExitCode.OK
    emit(show(f"{counts.waiting} waiting, {counts.taken} being answered, {counts.dead} put aside"))
    if rows:
        shown = table("job", "state", "tries>", "waited>", "bytes>?", "last reason")
        for row in rows:
            shown.add_row(
                *(
                    show(text)
                    for text in (
                        row["id"],
                        row["state"],
                        str(row["tries"]),
                        f"{row['waited_s']} s",
                        str(row["bytes"]),
                        row["reason"],
                    )
                )
            )
        emit(shown)
    return ExitCode.OK


@app.command("drain")
def drain_queue(
    bundle: service.Bundle,
    queue: Address = "",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Append answers here instead of stdout.")
    ] = None,
    most: Annotated[int, typer.Option("--most", metavar="N", min=1, help="Take at most N jobs.")] = 1_000_000,
    deadline_s: Annotated[
        float, typer.Option("--deadline", metavar="SECONDS", min=0.1, max=600, help="For each answer.")
    ] = 30.0,
    base_url: service.BaseUrl = "",
    api_key_env: service.KeyVariable = "",
    models: service.Models = None,
    trusted_keys: service.TrustedKeys = None,
    digest: service.Digest = "",
    allow_unsigned: service.Unsigned = False,
    state: service.State = "memory",
    flags: service.Flags = "",
    as_json: service.Json = False,
) -> int:
    """Answer what the queue kept, one JSON line each.

    What still gets no whole answer is given back (exit 3). A job is done once its answer is written: after a crash an answer may come twice, never not at all.
    """
    from promptops.cli.output import emit_json, note
    from promptops.runtime.drain import drain
    from promptops.runtime.state import StateError

    if as_json and output is None:
        raise DataError("--json prints the summary", hint="name a file for the answers with -o")
    opened, switch = _open(queue), service.make_switch(flags)
    runtime = service.load_runtime(
        bundle, base_url=base_url, api_key_env=api_key_env, models=models, trust=service.stated_trust(bundle, trusted_keys, digest, unsigned=allow_unsigned),
        state=state, switch=switch, observers=[],
    )  # fmt: skip
    try:
        done = drain(opened, runtime, lambda answer: _write(answer, output), most=most, deadline_s=deadline_s)
        counts = opened.counts()
    except StateError as error:
        raise _unusable(error) from error
    finally:
        runtime.close()
        switch.close()
        opened.close()
    if as_json:
        emit_json(
            {
                "answered": done.answered,
                "given_back": done.given_back,
                "waiting": counts.waiting,
                "dead": counts.dead,
                "file": str(output),
            }
        )
    note(f"{done.answered} answered, {done.given_back} given back, {counts.waiting} waiting, {counts.dead} put aside")
    return ExitCode.NOT_EVALUATED if done.given_back else ExitCode.OK


def _write(answer: dict[str, Any], output: Path | None) -> None:
    """One line, on the disk or handed to the pipe before the job counts as done."""
    import json

    line = json.dumps(answer, ensure_ascii=True, separators=(",", ":")) + "\n"
    if output is None:
        sys.stdout.write(line)
        sys.stdout.flush()
        return
    try:
        with output.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise EvaluationError("the answer cannot be written", where=str(output), why=error.strerror or "",
                              hint="its job stays in the queue") from error  # fmt: skip


def _open(address: str) -> "DurableQueue":
    from promptops.runtime.queue import open_queue

    found = address or os.environ.get("PROMPTOPS_QUEUE", "")
    if not found:
        raise DataError(
            "nothing says which queue",
            hint="name it with --queue or PROMPTOPS_QUEUE: sqlite:FILE, redis://host:port/db",
        )
    return open_queue(found)


def _unusable(error: Exception) -> EvaluationError:
    return EvaluationError("the queue cannot be used", why=str(error), hint="nothing was lost; try again")
