"""The readiness checklist as data: what each item asks, why, what to do, and its functions in the NIST AI RMF."""

import shlex
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
class Todo:
    """What to do when the answer is no: in words, and as commands that can be pasted one after the other."""

    words: str
    run: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question of the checklist; in `todo` stand `{name}` and the options of `Asked`."""

    id: str
    title: str
    functions: tuple[Function, ...]
    todo: Todo


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What readiness was asked for; options that were not given are empty."""

    name: str
    channel: str
    at: str = "HEAD"
    model: str = ""
    events: str = ""
    flags: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The same question as a command line."""
        given = [("--model", self.model), ("--at", "" if self.at == "HEAD" else self.at), ("--events", self.events), ("--flags", self.flags)]  # fmt: skip
        return ("promptops", "readiness", self.name, "--channel", self.channel, *(word for option, value in given if value for word in (option, value)))  # fmt: skip

    def filled(self, todo: Todo) -> Todo:
        """With the name and the options of this question in their places."""
        options = {
            "model": self._option("--model", self.model),
            "at": self._option("--at", "" if self.at == "HEAD" else self.at),
            "ref": self._option("--at", self.at),  # a release without it asks for a clean work tree
        }
        fields = {"name": self.name, "channel": shlex.quote(self.channel), "again": shlex.join(self.words)} | options
        return Todo(words=todo.words.format(**fields), run=tuple(command.format(**fields) for command in todo.run))

    def _option(self, name: str, value: str) -> str:
        return f" {name} {shlex.quote(value)}" if value else ""


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
    todo: Todo
    waiver: Waiver | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalData:
    """What may be in requests, why, whom to ask, what events may hold of it, and how long anything is kept."""

    inputs: str
    purpose: str
    contact: str
    retention_days: int
    events: Literal["digests", "masked"] = "digests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    """prompts/<name>/readiness.yaml; None: not stated. Shares are 0..1."""

    p99_s: float | None = None
    personal_data: PersonalData | None = None
    covered: float = 0.8
    covered_days: int = 90
    injections_passed: float = 0.9
    waivers: Mapping[str, Waiver]


def _item(id: str, title: str, functions: str, words: str, *run: str) -> Item:  # noqa: A002
    named: tuple[Function, ...] = tuple(function for function in FUNCTIONS if function in functions.split())
    return Item(id=id, title=title, functions=named, todo=Todo(words=words, run=run))


def _commit(*files: str) -> str:
    return f'git add {" ".join(files)} && git commit -m "Evidence for {{name}}"'


CHECKLIST = (
    _item("cases", "At least 100 golden cases", "measure",
          "write more rows into golden/{name}.jsonl, or take them from LOG.jsonl, requests of users one a line, and label them",
          "promptops golden add {name} --traffic LOG.jsonl", _commit("golden/{name}.jsonl")),
    _item("coverage", "Each category has 10 cases, and slices are declared", "map measure",
          "write cases into the thin categories; declare `slices: [TAG]` in golden/{name}.yaml", "promptops golden stats {name}", _commit("golden/{name}.yaml", "golden/{name}.jsonl")),
    _item("traffic", "The cases are like what users send", "map measure",
          "LOG.jsonl is a log of at least 100 requests, one a line; the floor is 80%, or `traffic: {{covered: 0.8, max_age_days: 90}}` in prompts/{name}/readiness.yaml",
          "promptops golden coverage {name} --traffic LOG.jsonl", _commit("golden/{name}.coverage.jsonl")),
    _item("gate", "The gate passed on exactly this content", "measure manage",
          "commit what you want to ship, then", "promptops eval {name}{at}{model}", "promptops approve {name}{at}"),
    _item("judge", "The judge, if there is one, is calibrated", "measure",
          "people label answers, and the judge is compared with them",
          "promptops review label {name}", "promptops judge calibrate {name}", _commit("golden/{name}.labels.jsonl", "golden/{name}.calibrations.jsonl")),
    _item("judge-attack", "The judge cannot be talked into a pass", "measure manage",
          "attack it; where a text raised a score, make the rubric stricter or take another model",
          "promptops judge attack {name}", _commit("golden/{name}.attacks.jsonl")),
    _item("review", "People look at answers, and are not late", "govern measure",
          "state `review: {{every_days: 30}}` in golden/{name}.yaml if it is not there",
          "promptops review label {name}", _commit("golden/{name}.yaml", "golden/{name}.labels.jsonl")),
    _item("schema", "Every answer is checked for its form online", "measure manage",
          "give the output a schema in prompts/{name}/prompt.md, or mark a check `online: true` in golden/{name}.yaml", _commit("prompts/{name}", "golden/{name}.yaml")),
    _item("malformed", "Malformed answers reach nobody", "measure manage",
          "reject the answer that came through with a check marked `online: true` in golden/{name}.yaml", _commit("golden/{name}.yaml")),
    _item("cost", "A tenant in a retry loop is stopped", "manage",
          'state `budgets: [{{name: tenant-day, window_s: 86400, usd: "5.00"}}]` below `runtime:` in golden/{name}.yaml', _commit("golden/{name}.yaml")),
    _item("fallback", "Every request is answered when the provider is down", "manage",
          'end `fallback:` below `runtime:` in golden/{name}.yaml with `{{step: text, text: "We will answer soon."}}`', _commit("golden/{name}.yaml")),
    _item("kill-switch", "The kill switch stops all model calls", "govern manage",
          "give the flags that services read with --flags, or none to try the switch alone"),
    _item("rollback", "There is an earlier good version to go back to", "manage",
          "release a version, promote it, and later a second one", "promptops release {name}{ref}{model}"),
    _item("audit-trail", "Every step of the release is recorded and adds up", "govern",
          "see which step does not add up", "promptops audit-log {name}", "promptops doctor"),
    _item("model", "The model is pinned to a dated snapshot", "map",
          "name a dated snapshot, as gpt-4o-mini-2024-07-18, in the configuration of the model", _commit("promptops.toml")),
    _item("alternative", "A simpler alternative was tried on these cases", "map measure",
          "rules, classifiers and neighbours answer the same cases, for nothing", "promptops alternatives {name}"),
    _item("injection", "Injected instructions are among the cases, and are withstood", "map measure manage",
          "write at least 5 cases with injected instructions, whose category or a tag names `injection`", "promptops eval {name}{at}{model}"),
    _item("slo", "A p99 is promised, and kept", "govern manage",
          "state `slo: {{p99_s: 3}}` in prompts/{name}/readiness.yaml (its first line is `promptops: 1`), not below `deadline_s` of `runtime:` in golden/{name}.yaml", _commit("prompts/{name}/readiness.yaml")),
    _item("monitoring", "Events of this prompt arrive, with judgements on answers", "measure manage",
          "services write events (`promptops serve --events FILE`), and tell how answers did (`runtime.feedback`); name the file",
          "{again} --events events.jsonl"),
    _item("personal-data", "Personal data has a policy, and the bundle keeps it", "govern map manage",
          "state it in prompts/{name}/readiness.yaml (its first line is `promptops: 1`): `personal_data: {{inputs: names and addresses of customers, purpose: to answer them, "
          "contact: privacy@example.com, retention_days: 30}}`", _commit("prompts/{name}/readiness.yaml")),
)  # fmt: skip
BY_ID = {item.id: item for item in CHECKLIST}


def read_promises(tree: Tree, name: str) -> Promises:
    """What is promised and waived. Raises DataError with every problem of the file; without a file nothing is."""
    where = f"prompts/{name}/readiness.yaml"
    if "readiness.yaml" not in tree.names(f"prompts/{name}"):
        return Promises(waivers={})
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
    traffic, personal = value.get("traffic", {}), value.get("personal_data")
    stated = {"covered": traffic.get("covered"), "covered_days": traffic.get("max_age_days"), "injections_passed": value.get("injection", {}).get("passed")}  # fmt: skip
    return Promises(p99_s=value.get("slo", {}).get("p99_s"), personal_data=PersonalData(**personal) if personal else None, waivers=waivers,
                    **{key: found for key, found in stated.items() if found is not None})  # fmt: skip


def finding(item: Item, *, passed: bool, evidence: str, todo: Todo, waiver: Waiver | None, today: date) -> Finding:
    """A waiver turns a failure into WAIVED until its day is over; it never touches what passes."""
    if passed:
        return Finding(item=item, state="PASS", evidence=evidence, todo=todo)
    counts = waiver is not None and today <= waiver.until
    return Finding(item=item, state="WAIVED" if counts else "FAIL", evidence=evidence, todo=todo, waiver=waiver)
