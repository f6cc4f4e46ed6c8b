"""Baselines of a team, as git refs beside the code: `refs/promptops/baselines/<prompt>/<run>` holds an exported run."""

import tempfile
from pathlib import Path

from promptops.core.errors import DataError
from promptops.core.names import is_name, is_run_id
from promptops.project.git import Git
from promptops.project.store import Run, Store
from promptops.project.transfer import export_run, import_run

PREFIX = "refs/promptops/baselines"


def push_baselines(git: Git, store: Store, runs: list[Run], remote: str) -> list[str]:
    """Write each baseline to a ref of its own and push those; the refs. A ref is never moved: its name is the run.

    Raises EvaluationError when git or the remote refuses.
    """
    refs: list[str] = []
    for run in runs:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "baseline.jsonl"
            export_run(store, run, file)
            blob = git.run("hash-object", "-w", "--no-filters", "--", str(file)).decode().strip()
        refs.append(f"{PREFIX}/{run.header.prompt}/{run.id}")
        git.run("update-ref", refs[-1], blob)
    if refs:
        git.exchange("push", remote, [f"{ref}:{ref}" for ref in refs])
    return refs


def fetch_baselines(git: Git, store: Store, remote: str, prompt: str = "") -> tuple[list[Run], list[str]]:
    """Fetch the baselines of a remote (of one prompt) and read those that are not here; (runs, notices).

    Raises EvaluationError when git or the remote refuses, DataError for a ref that holds no exported run.
    """
    below = f"{PREFIX}/{prompt}/*" if prompt else f"{PREFIX}/*"
    git.exchange("fetch", remote, [f"+{below}:{below}"])
    listing = git.run("for-each-ref", "--format=%(objectname) %(refname)", f"{PREFIX}/{prompt}".rstrip("/")).decode()
    runs: list[Run] = []
    notices: list[str] = []
    for line in listing.splitlines():
        blob, _, ref = line.partition(" ")
        name, _, run_id = ref.removeprefix(PREFIX + "/").partition("/")
        if not (is_name(name) and is_run_id(run_id)):
            raise DataError("a ref that is no baseline", where=ref, hint=f"delete it with `git update-ref -d {ref}`")
        if store.has_run(run_id):
            continue
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "baseline.jsonl"
            file.write_bytes(git.run("cat-file", "blob", blob))
            run, said = import_run(store, file)
        if run.id != run_id or run.header.kind != "baseline":
            raise DataError("the ref holds another run than it says", where=ref, why=f"it holds {run.id}")
        runs.append(run)
        notices += said
    return runs, notices
