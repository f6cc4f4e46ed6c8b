"""The readiness checklist as data: what each item asks, why, what to do, and its functions in the NIST AI RMF."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from promptops.core.errors import DataError, Problem, did_you_mean
from promptops.project.formats import format_problems
from promptops.project.tree import Tree, read_text
from promptops.project.yamltext import parse_yaml

State = Literal["PASS", "FAIL", "WAIVED"]
Function = Literal["govern", "map", "measure", "manage"]
FUNCTIONS: tuple[Function, ...] = ("govern", "map", "measure", "manage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question of the checklist; `todo` is what to do when the answer is no, with `{name}` for the prompt."""

    id: str
    title: str
    functions: tuple[Function, ...]
    todo: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """An item that may fail until the end of a day (UTC): who answers for it, and why."""

    item: str
    by: str
    why: str
    until: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The state of an item and what it was seen from; `waiver` is the one that counts or ran out."""

    item: Item
    state: State
    evidence: str
    waiver: Waiver | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    """prompts/<name>/readiness.yaml: the promised p99 (None: none) and the waivers by item."""

    p99_s: float | None
    waivers: Mapping[str, Waiver]


CHECKLIST = (
    Item(id="cases", title="At least 100 golden cases", functions=("measure",),
         todo="add cases to golden/{name}.jsonl (`promptops golden import`)"),
    Item(id="coverage", title="Each category has 10 cases, and slices are declared", functions=("map", "measure"),
         todo="add cases to the thin categories; declare `slices:` in golden/{name}.yaml"),
    Item(id="gate", title="The gate passed on exactly this content", functions=("measure", "manage"),
         todo="promptops eval {name}, then promptops approve {name}"),
    Item(id="judge", title="The judge, if there is one, is calibrated", functions=("measure",),
         todo="promptops review label {name}, then promptops judge calibrate {name}"),
    Item(id="review", title="People look at answers, and are not late", functions=("govern", "measure"),
         todo="state `review: {{every_days: 30}}` in golden/{name}.yaml, then promptops review label {name}"),
    Item(id="schema", title="Every answer is checked for its form online", functions=("measure", "manage"),
         todo="give the output a schema in prompts/{name}/prompt.md, or mark a check `online: true`"),
    Item(id="malformed", title="Malformed answers reach nobody", functions=("measure", "manage"),
         todo="the evidence says which answer came through, if any; reject it with a check marked `online: true`"),
    Item(id="cost", title="A tenant in a retry loop is stopped", functions=("manage",),
         todo="state a budget per tenant with `usd` under `runtime: budgets:` in golden/{name}.yaml, and the price of the model"),
    Item(id="fallback", title="Every request is answered when the provider is down", functions=("manage",),
         todo="end `runtime: fallback:` in golden/{name}.yaml with {{step: text, text: ...}}"),
    Item(id="kill-switch", title="The kill switch stops all model calls", functions=("govern", "manage"),
         todo="see docs/service.md"),
    Item(id="rollback", title="There is an earlier good version to go back to", functions=("manage",),
         todo="release and promote this prompt twice: promptops release {name}, promptops promote {name}@VERSION"),
    Item(id="audit-trail", title="Every step of the release is recorded and adds up", functions=("govern",),
         todo="promptops release {name}; what does not add up: promptops audit-log {name}, promptops doctor"),
    Item(id="model", title="The model is pinned to a dated snapshot", functions=("map",),
         todo="name a dated snapshot in the configuration of the model"),
    Item(id="alternative", title="A simpler alternative was tried on these cases", functions=("map", "measure"),
         todo="promptops alternatives {name}"),
    Item(id="injection", title="Injected instructions are among the cases", functions=("map", "measure"),
         todo="add at least 5 cases whose category or tag names `injection`"),
    Item(id="slo", title="A p99 is promised, and the deadline keeps it", functions=("govern", "manage"),
         todo="state `slo: {{p99_s: 3}}` in prompts/{name}/readiness.yaml, not below `runtime: deadline_s`"),
    Item(id="monitoring", title="Events of this prompt arrive", functions=("measure", "manage"),
         todo="give the file that services write: --events FILE"),
)  # fmt: skip
BY_ID = {item.id: item for item in CHECKLIST}


def read_promises(tree: Tree, name: str) -> Promises:
    """What is promised and waived. Raises DataError with every problem of the file; without a file nothing is."""
    where = f"prompts/{name}/readiness.yaml"
    if "readiness.yaml" not in tree.names(f"prompts/{name}"):
        return Promises(p99_s=None, waivers={})
    document = parse_yaml(read_text(tree, where), where)
    problems = list(format_problems("readiness", document.value, lambda path: f"{where}:{document.line(path)}"))
    if problems:
        raise DataError(problems=problems)
    value: Mapping[str, Any] = document.value
    waivers: dict[str, Waiver] = {}
    for number, entry in enumerate(value.get("waivers", ())):
        at, item = f"{where}:{document.line(('waivers', number))}", entry["item"]
        if item not in BY_ID:
            problems.append(Problem(what=f"no item {item!r}", where=at, hint=did_you_mean(item, BY_ID)))
        if item in waivers:
            problems.append(Problem(what=f"{item!r} is waived twice", where=at, hint="keep one of them"))
        try:
            until = date.fromisoformat(entry["until"])
        except ValueError:
            problems.append(Problem(what=f"{entry['until']!r} is no day", where=at, hint="write YYYY-MM-DD"))
            continue
        waivers[item] = Waiver(item=item, by=entry["by"], why=entry["why"], until=until)
    if problems:
        raise DataError(problems=problems)
    return Promises(p99_s=value.get("slo", {}).get("p99_s"), waivers=waivers)


def finding(item: Item, *, passed: bool, evidence: str, waiver: Waiver | None, today: date) -> Finding:
    """A waiver turns a failure into WAIVED until its day is over; it never touches what passes."""
    if passed:
        return Finding(item=item, state="PASS", evidence=evidence)
    counts = waiver is not None and today <= waiver.until
    return Finding(item=item, state="WAIVED" if counts else "FAIL", evidence=evidence, waiver=waiver)
