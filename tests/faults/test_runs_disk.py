"""Disks that are full, read-only, out of handles or odd: said with the place, before money where possible, and the store stays whole."""

import ctypes
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slow_server import Reply, a_row, paid_project

from conftest import PROMPT, Outcome, Sandbox

Call = Callable[..., Outcome]
LONG = '{"sentiment": "positive", "why": "' + "long " * 2000 + '"}'
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1


@pytest.fixture
def small_disk(sandbox: Sandbox) -> Iterator[Callable[[str], None]]:
    """Mounts a RAM disk of that size as `.promptops`; skips where that is not allowed."""
    folder = sandbox.path(".promptops")

    def mount(size: str) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True, check=False
        ).returncode:
            pytest.skip("no right to mount a small disk; the test with a limited file size covers the same code")

    yield mount
    subprocess.run(["umount", folder], capture_output=True, check=False)


def the_problem(outcome: Outcome) -> dict[str, Any]:
    (problem,) = outcome.json["error"]["problems"]
    return problem


def check_resumes(
    sandbox: Sandbox, call: Call, failed: Outcome, cases: int, what: str, calls: int, concurrency: int
) -> None:
    """What holds after a failed write: the message counts what is kept, the store opens, nothing more was paid."""
    shown = call("runs", "show", "latest", "--json").json
    kept, problem = shown["total"]["n"], the_problem(failed)
    assert (3, f"{what}, {kept} of {cases} results kept", ".promptops/store.sqlite3") == (
        failed.code, problem["what"], problem["where"],
    )  # fmt: skip
    assert f"promptops eval --resume {shown['run']}" in problem["hint"]
    assert 0 < kept < cases
    assert kept == shown["total"]["passed"]
    assert calls <= kept + concurrency


def test_S3_a_full_disk_keeps_what_was_written_and_pays_nothing_more(
    sandbox: Sandbox, call: Call, small_disk: Callable[[str], None]
):
    """`disk full, N results kept`, exit 3; after space is made the run goes on where it was."""
    cases, concurrency = 150, 4
    small_disk("1m")
    with paid_project(sandbox, cases=cases, latency_s=0.001, reply=lambda *_: Reply(text=LONG)) as server:
        sandbox.replace(f"golden/{PROMPT}.yaml", "  - {check: json_schema}\n", "")
        failed = call("eval", "--json", "--concurrency", str(concurrency))
        calls = server.calls
        subprocess.run(["mount", "-o", "remount,size=64m", sandbox.path(".promptops")], check=True)
        check_resumes(sandbox, call, failed, cases, "disk full", calls, concurrency)
        finished = call("eval", "--resume", "--json")

    assert (0, "complete", cases) == (
        finished.code,
        finished.json["runs"][0]["state"],
        finished.json["runs"][0]["total"]["n"],
    )


def test_S3_a_write_that_fails_anywhere_ends_in_a_message(sandbox: Sandbox, call: Call):
    """The same with a limit on the file size, which every system lets a test set; the place of the first failure varies."""
    cases, concurrency = 60, 4
    with paid_project(sandbox, cases=cases, latency_s=0.001, reply=lambda *_: Reply(text=LONG)) as server:
        sandbox.replace(f"golden/{PROMPT}.yaml", "  - {check: json_schema}\n", "")
        limits = resource.RLIMIT_FSIZE, (300_000, 300_000)
        failed = sandbox.run(
            "eval", "--json", "--concurrency", str(concurrency), preexec_fn=lambda: resource.setrlimit(*limits)
        )
        calls = server.calls
        check_resumes(sandbox, call, failed, cases, "the run store cannot be written", calls, concurrency)
        finished = call("eval", "--resume", "--json")

    assert (0, "complete") == (finished.code, finished.json["runs"][0]["state"])


@pytest.mark.parametrize("size", [1_000, 20_000, 60_000])
def test_S3_without_room_for_the_store_nothing_is_asked(sandbox: Sandbox, size: int):
    """A disk that cannot even take the empty store is said before the first call."""
    with paid_project(sandbox, cases=4) as server:
        failed = sandbox.run(
            "eval", "--json", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        )

    assert (3, 0) == (failed.code, server.calls), failed.out
    assert the_problem(failed)["where"].startswith(".promptops/")


def without_root_rights() -> None:
    """Root reads and writes everything; without this capability file modes hold for it as for everybody."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


@pytest.mark.parametrize("made_before", [False, True])
def test_S4_a_read_only_folder_is_said_before_anything_is_paid(sandbox: Sandbox, call: Call, *, made_before: bool):
    """Exit 3 with the place, whether the store is to be made or only to be written."""
    with paid_project(sandbox, cases=4) as server:
        shutil.rmtree(sandbox.path(".promptops"))
        if made_before:
            call("eval")
        calls = server.calls
        sandbox.write_rows([a_row(number, f"New text {number}.") for number in range(4)])
        locked = sandbox.path(".promptops") if made_before else sandbox.root
        files = [locked, *locked.iterdir()] if made_before else [locked]
        for path in files:
            path.chmod(0o500 if path.is_dir() else 0o400)
        try:
            failed = sandbox.run("eval", "--json", preexec_fn=without_root_rights)
        finally:
            for path in files:
                path.chmod(0o700 if path.is_dir() else 0o600)

    assert (3, calls) == (failed.code, server.calls), failed.out
    assert the_problem(failed)["where"].startswith(".promptops/")
    assert "Traceback" not in failed.err


@pytest.mark.parametrize("handles", [8, 12, 18])
def test_S4_too_few_file_handles_are_said_before_anything_is_paid(sandbox: Sandbox, call: Call, handles: int):
    """EMFILE is exit 3 and one line, however few there are; with enough handles the evaluation works."""
    with paid_project(sandbox, cases=8) as server:
        limit = resource.RLIMIT_NOFILE, (handles, handles)
        failed = sandbox.run("eval", preexec_fn=lambda: resource.setrlimit(*limit))
        calls = server.calls
        worked = call("eval", "--json")

    assert (3, 0, 1) == (failed.code, calls, len(failed.err.splitlines())), failed.err
    assert "Too many open files" in failed.err
    assert (0, 8) == (worked.code, server.calls)


def test_S7_an_export_that_fails_leaves_the_old_file(sandbox: Sandbox, call: Call):
    """An export is the old file or the new one, whole; nothing is left beside it."""
    call("eval")
    call("runs", "export", "latest", "-o", "run.jsonl")
    old = sandbox.path("run.jsonl").read_bytes()
    call("eval", "--repeat", "20")
    names = set(sandbox.root.iterdir())
    limit = resource.RLIMIT_FSIZE, (100_000, 100_000)
    failed = sandbox.run("runs", "export", "latest", "-o", "run.jsonl", preexec_fn=lambda: resource.setrlimit(*limit))

    assert (3, old, names) == (failed.code, sandbox.path("run.jsonl").read_bytes(), set(sandbox.root.iterdir()))
    assert failed.err.startswith("error: run.jsonl: cannot write the export")


def test_S7_an_export_is_on_disk_before_it_has_its_name(sandbox: Sandbox, call: Call, tmp_path: Path):
    """The file is synced, renamed, and its folder synced: after a power cut there is the old file or the new one."""
    call("eval")
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-y", "-o", str(trace), "-e", "trace=fsync,rename"]
    export = [sys.executable, "-m", "promptops", "runs", "export", "latest", "-o", "run.jsonl"]
    subprocess.run([*strace, *export], cwd=sandbox.root, check=True, capture_output=True)
    lines = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]
    steps = [line for line in lines if "run.jsonl" in line or f"{sandbox.root}>" in line]

    assert ["fsync", "rename", "fsync"] == [step.partition("(")[0] for step in steps], steps
    assert ".run.jsonl." in steps[0]
    assert f"{sandbox.root}>" in steps[2]


def test_S13_where_shared_memory_cannot_be_had_nothing_is_paid(sandbox: Sandbox):
    """SQLite's shared index cannot be made (as on some network disks): said at once, never after paid work."""
    with paid_project(sandbox, cases=4) as server:
        sandbox.path(".promptops/store.sqlite3-shm").mkdir(parents=True)
        failed = sandbox.run("eval", "--json")

    assert (3, 0, ".promptops/store.sqlite3") == (failed.code, server.calls, the_problem(failed)["where"])


def test_S13_a_disk_without_a_write_ahead_log_is_said(sandbox: Sandbox, call: Call, monkeypatch: pytest.MonkeyPatch):
    """SQLite goes without it silently there; the run is made all the same, and a person knows why it is slow."""
    connect = sqlite3.connect

    def elsewhere(path: Path, **options: Any) -> sqlite3.Connection:
        return connect(f"file:{path}?vfs=unix-dotfile", uri=True, **options)

    monkeypatch.setattr(sqlite3, "connect", elsewhere)
    with paid_project(sandbox, cases=4) as server:
        finished = call("eval", "--json")

    assert (0, 4, 1) == (finished.code, server.calls, finished.err.count("without a write-ahead log"))
