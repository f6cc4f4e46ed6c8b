"""A plan by value, for processes that share its run: files as they were read, no key, no list of cases."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace

from promptops.core.errors import DataError, EvaluationError
from promptops.core.version import __version__
from promptops.evaluation.admission import SpendCap
from promptops.evaluation.databases import with_databases
from promptops.evaluation.execute import Options
from promptops.evaluation.judge import OFF, JudgeSetup, set_up_judge
from promptops.evaluation.plan import Plan
from promptops.models.base import Client
from promptops.models.local import LEARN_FROM_CASES, LocalClient
from promptops.models.replay import StoredOnlyClient
from promptops.project.config import Config
from promptops.project.golden import GoldenScan
from promptops.project.project import Evaluable, Project
from promptops.project.prompts import load_prompt
from promptops.project.rubrics import load_rubric
from promptops.project.snapshot import RecordedTree, SnapshotTree
from promptops.project.store import RunHeader, Store, StoreAddress, open_store
from promptops.project.suites import load_suite
from promptops.project.tree import Tree

_STORE_VARIABLE = "PROMPTOPS_STORE"
SHARE_LINES, SHARE_BYTES = 512, 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Some cases of a run, as numbered lines of the golden file."""

    number: int
    lines: tuple[tuple[int, bytes], ...]


def cut(plan: Plan, most_lines: int = SHARE_LINES) -> Iterator[Share]:
    """The selected cases as shares, in file order; one at a time is in memory."""
    lines: list[tuple[int, bytes]] = []
    size = number = 0
    for line in plan.lines():
        lines.append(line)
        size += len(line[1])
        if len(lines) >= most_lines or size >= SHARE_BYTES:
            yield Share(number=number, lines=tuple(lines))
            lines, size, number = [], 0, number + 1
    if lines:
        yield Share(number=number, lines=tuple(lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """All that a process on another host needs to take shares of a run; its keys it has from its own environment.

    `client` answers where nobody is asked: a local model that learnt from the cases, or the answers in the store.
    """

    files: SnapshotTree
    config: Config
    scan: GoldenScan
    plan: Plan
    header: RunHeader
    options: Options
    judge: str
    client: Client | None
    store: StoreAddress
    store_in_environment: bool
    version: str = __version__
    host: str = ""


def pack(plan: Plan, client: Client, project: Project, header: RunHeader, options: Options) -> Workload:
    """The plan of a run as a value that can be sent; nothing in it is secret."""
    tree = RecordedTree(plan.evaluable.tree)
    judge = plan.judge.choice if plan.judge else OFF
    _load(tree, plan.evaluable.prompt.name, plan.evaluable.scan, project.config, judge)
    sent = isinstance(client, StoredOnlyClient) or (isinstance(client, LocalClient) and client.name in LEARN_FROM_CASES)
    chosen = "store" in project.config.chosen and bool(project.store_at.url)
    return Workload(
        files=tree.snapshot(), config=replace(project.config, store="local"), scan=plan.evaluable.scan,
        plan=replace(plan, evaluable=None, judge=None, more=()),  # type: ignore[arg-type]  # put in again where it is unpacked
        header=header, options=replace(options, cap=SpendCap()), judge=judge, client=client if sent else None,
        store=replace(project.store_at, url="") if chosen else project.store_at, store_in_environment=chosen, host=socket.gethostname(),
    )  # fmt: skip


def _load(tree: Tree, name: str, scan: GoldenScan, config: Config, judge: str) -> tuple[Evaluable, JudgeSetup | None]:
    """What a plan is made of, from files."""
    prompt = load_prompt(tree, name)
    suite = load_suite(tree, name, prompt)
    rubric = load_rubric(tree, suite.rubric, wanted_by=f"golden/{name}.yaml", categories=tuple(scan.categories)) if suite.rubric else None  # fmt: skip
    evaluable = Evaluable(prompt=prompt, suite=suite, scan=scan, rubric=rubric, tree=tree)
    return evaluable, set_up_judge(config, evaluable, judge)


def unpack(load: Workload) -> Plan:
    """The plan again. Raises DataError when another version of promptops sent it, or the prompt uses what is not installed here."""
    if load.version != __version__:
        raise DataError(f"promptops {__version__} is installed on {socket.gethostname()}, and {load.version} sent the work",
                        hint="install the same version on every node")  # fmt: skip
    evaluable, judge = _load(load.files, load.header.prompt, load.scan, load.config, load.judge)
    suite = with_databases(evaluable.suite, load.config, load.store.root)
    return replace(load.plan, evaluable=replace(evaluable, suite=suite), judge=judge)


def open_shared_store(load: Workload) -> Store:
    """The store of the run, as this process reaches it. Raises EvaluationError where it is not the one the run is in."""
    address = load.store
    if load.store_in_environment:  # its address may hold a password, so it is not sent
        url = os.environ.get(_STORE_VARIABLE, "")
        if not url:
            raise EvaluationError(f"{_STORE_VARIABLE} is not set on {socket.gethostname()}", why="the store of the run is named there",
                                  hint="set it on every node before `ray start`")  # fmt: skip
        address = replace(address, url=url)
    if not address.exists:
        raise EvaluationError(f"{socket.gethostname()} does not have the run store", where=load.store.shown,
                              why=f"it is a file of {load.host}", hint='share it: store = "postgresql://..."; see docs/scale.md')  # fmt: skip
    store = open_store(address)
    if not store.has_run(load.header.id):
        store.close()
        raise EvaluationError(f"the run store of {socket.gethostname()} does not have run {load.header.id}", where=load.store.shown,
                              why=f"it is another store than that of {load.host}", hint="let both name the same")  # fmt: skip
    return store
