"""Is a prompt ready for production? Each item of the checklist with the evidence it was judged by, at one commit."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from promptops.audit.checklist import CHECKLIST, Asked, Finding, Promises, Todo, finding, read_promises
from promptops.audit.events import Traffic
from promptops.audit.personal import look_at_personal_data
from promptops.audit.simulate import Seen, kill, malformed, outage, retry_loop
from promptops.core.errors import DataError, PromptopsError, RefusedError
from promptops.evaluation.attacks import suite_digest
from promptops.project.records import ATTACKS, COVERAGE, read_records
from promptops.release.desk import Desk, open_desk
from promptops.release.evidence import TEST_RESULT, Evidence, read_evidence
from promptops.release.export import Served, Shipped, bundle_files, shipped_at, write_bundle

if TYPE_CHECKING:
    from promptops.core.suite import Case
    from promptops.evaluation.judge import JudgeSetup
    from promptops.project.project import Project
    from promptops.project.store import Result

MIN_CASES, MIN_CATEGORY, MIN_INJECTION, MIN_REQUESTS, MIN_ATTACKED, ASKED = 100, 10, 5, 100, 3, 20
FRESH_DAYS = 7
"""Events that stopped arriving longer ago say nothing of today."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """The checklist of one prompt at one commit; `live` is the version its channel serves ('' when none)."""

    asked: Asked
    commit: str
    subject: str
    model: str
    live: str
    at: str
    description: str
    owners: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        return tuple(found for found in self.findings if found.state == "FAIL")


def audit(project: "Project", asked: Asked, *, environment: Mapping[str, str]) -> Readiness:
    """Look at everything, and simulate what can go wrong on a bundle of that commit. Raises DataError for a prompt that does not load."""
    from promptops.evaluation.judge import subject_of
    from promptops.evaluation.plan import utc_now

    name, at = asked.name, asked.at
    shipped = shipped_at(project, name, at=at, version=f"dev-{project.git.commit(at)[:12]}", model=asked.model)
    promises = read_promises(shipped.evaluable.tree, name)
    desk = open_desk(project, clock=utc_now, environment=environment, need_rules=False)
    subject = subject_of(shipped.config, shipped.evaluable, shipped.identity)
    with tempfile.TemporaryDirectory(prefix="promptops-readiness-") as folder:
        look = _Look(project=project, asked=asked, shipped=shipped, desk=desk, subject=subject, promises=promises, bundle=Path(folder) / "bundle")  # fmt: skip
        now = utc_now()
        findings = []
        for item in CHECKLIST:
            seen = look.checks[item.id]()
            todo = asked.filled(item.todo) if seen.todo is None else seen.todo
            findings.append(finding(item, passed=seen.passed, evidence=seen.what, todo=todo, waiver=promises.waivers.get(item.id), today=now.date()))  # fmt: skip
    live = look.state.live if look.state else None
    prompt = shipped.evaluable.prompt
    return Readiness(asked=asked, commit=shipped.commit, subject=subject, model=f"{shipped.model.alias} ({shipped.model.model or 'local'})",
                     live=str(live or ""), at=now.isoformat(timespec="seconds"), description=prompt.description, owners=tuple(prompt.owners), findings=tuple(findings))  # fmt: skip


class _Look:
    """One method an item; each says what it saw, and what to do when that is more than the checklist knows."""

    def __init__(
        self,
        *,
        project: "Project",
        asked: Asked,
        shipped: Shipped,
        desk: Desk,
        subject: str,
        promises: Promises,
        bundle: Path,
    ) -> None:
        from promptops.project.golden import read_cases
        from promptops.release.ledger import read_ledger

        self.project, self.asked, self.name, self.channel, self.shipped, self.desk = (
            project,
            asked,
            asked.name,
            asked.channel,
            shipped,
            desk,
        )
        self.subject, self.promises, self.events, self.place = subject, promises, asked.events, bundle
        evaluable = shipped.evaluable
        self.suite, self.scan, self.prompt, self.settings = evaluable.suite, evaluable.scan, evaluable.prompt, shipped.settings  # fmt: skip
        self.cases: list[Case] = list(read_cases(evaluable.tree, self.suite, self.scan))
        self.ledger = read_ledger(desk.git, self.name)
        self.state = self.ledger.state(self.name, self.channel) if self.ledger.events else None
        self.checks: dict[str, Callable[[], Seen]] = {
            "cases": self._cases, "coverage": self._coverage, "traffic": self._traffic, "gate": self._gate, "judge": self._judge,
            "judge-attack": self._judge_attack, "review": self._review,
            "schema": self._schema, "malformed": lambda: self._simulated(malformed), "cost": self._cost, "fallback": self._fallback,
            "kill-switch": lambda: self._simulated(kill, asked.flags), "rollback": self._rollback, "audit-trail": self._trail, "model": self._model,
            "alternative": self._alternative, "injection": self._injection, "slo": self._slo, "monitoring": self._monitoring,
            "personal-data": self._personal_data,
        }  # fmt: skip

    @cached_property
    def _bundle(self) -> Path | Seen:
        """The exported bundle, or why there is none."""
        try:
            write_bundle(bundle_files([Served(live=self.shipped)], channel="", development=True), self.place, as_archive=False)  # fmt: skip
        except DataError as error:
            problem = error.problems[0]
            words = (
                f"{problem.hint}; or name the model that will answer with --model"
                if problem.hint
                else "see that it can be exported"
            )
            return Seen(
                passed=False,
                what=f"not simulated, as it cannot be exported: {problem.what}",
                todo=Todo(words=words, run=(f"promptops lint {self.name}",)),
            )
        return self.place

    def _simulated(self, simulation: Callable[..., Seen], *more: object) -> Seen:
        if isinstance(self._bundle, Seen):
            return self._bundle
        return simulation(self._bundle, self.name, self.cases[0].inputs, *more)

    def _todo(self, words: str, *run: str) -> Todo:
        return self.asked.filled(Todo(words=words, run=run))

    def _cases(self) -> Seen:
        return Seen(passed=self.scan.count >= MIN_CASES, what=f"{self.scan.count} cases in {self.scan.path}")

    def _coverage(self) -> Seen:
        thin = [f"{name} {self.scan.categories.get(name, 0)}" for name in dict.fromkeys((*self.suite.categories, *self.scan.categories))
                if self.scan.categories.get(name, 0) < MIN_CATEGORY]  # fmt: skip
        what = f"{len(self.scan.categories)} categories, slices by {', '.join(self.suite.slices) or 'nothing'}"
        return Seen(passed=not thin and bool(self.suite.slices), what=what + (f"; too few: {', '.join(thin)}" if thin else ""))  # fmt: skip

    def _traffic(self) -> Seen:
        found = read_records(self.shipped.evaluable.tree, self.name, COVERAGE).get(self.scan.digest)
        if found is None:
            return Seen(passed=False, what="coverage was not measured on these cases")
        floor, days = self.promises.covered, self.promises.covered_days
        age = _age_days(found["at"], self.desk.clock())
        what = f"{found['covered']:.0%} of {found['requests']} requests are like a case, measured {found['at'][:10]}; the floor is {floor:.0%}"
        what += f"; {found['left_out']} rows of the log were no requests" if found["left_out"] else ""
        if found["requests"] < MIN_REQUESTS:
            return Seen(passed=False, what=f"{what}; {MIN_REQUESTS} requests are the least")
        if age is None or age > days:
            return Seen(passed=False, what=f"{what}; that is older than {days} days")
        if found["covered"] < floor:
            return Seen(passed=False, what=what, todo=self._todo(
                "write cases like what users ask, label and import them, then measure again",
                "promptops golden add {name} --traffic LOG.jsonl", "promptops golden coverage {name} --traffic LOG.jsonl"))  # fmt: skip
        return Seen(passed=True, what=what)

    @cached_property
    def _proofs(self) -> list[Evidence]:
        return [
            item
            for item in read_evidence(self.desk.git, self.desk.trust, [self.subject], self.desk.clock())
            if item.kind == TEST_RESULT
        ]

    def _gate(self) -> Seen:
        found = self._proofs
        good = [item for item in found if item.counts]
        if good:
            return Seen(passed=True, what=f"evidence {good[-1].digest[:19]} by {good[-1].actor}, {good[-1].at[:10]}")
        why = f"{len(found)} statements, none counts: {found[-1].fault or found[-1].signature.why}" if found else "no evidence of a passed gate for this content"  # fmt: skip
        latest = self.ledger.latest(self.name)
        if latest is None:
            return Seen(passed=False, what=why)
        against = f"promptops eval {{name}}{{at}}{{model}} --against {latest.name.tag}"
        return Seen(
            passed=False,
            what=why,
            todo=self._todo(
                f"commit what you want to ship, and compare it with {latest.name.version.tag}",
                against,
                "promptops approve {name}{at}",
            ),
        )

    @cached_property
    def _judge_setup(self) -> "JudgeSetup | None":
        from promptops.evaluation.judge import set_up_judge

        return set_up_judge(self.shipped.config, self.shipped.evaluable)

    def _judge(self) -> Seen:
        setup = self._judge_setup
        if setup is None:
            return Seen(passed=True, what="no judge: exact checks alone decide")
        return Seen(passed=setup.standing.may_block, what=f"{setup.name}: {setup.standing.why}")

    def _judge_attack(self) -> Seen:
        setup = self._judge_setup
        if setup is None:
            return Seen(passed=True, what="no judge to attack")
        found = read_records(self.shipped.evaluable.tree, self.name, ATTACKS).get(setup.digest)
        if found is None:
            return Seen(passed=False, what=f"{setup.name} was not attacked as it is now")
        what = f"{setup.name}: {found['attacks']} texts on {found['targets']} answers, {found['at'][:10]}"
        if found["suite"] != suite_digest():
            return Seen(passed=False, what=f"{what}; the texts have changed since")
        if found["targets"] < MIN_ATTACKED:
            return Seen(passed=False, what=f"{what}; {MIN_ATTACKED} answers are the least", todo=self._todo(
                "attack more answers", "promptops judge attack {name} --answers 20", "git add golden/{name}.attacks.jsonl && git commit -m 'Evidence for {name}'"))  # fmt: skip
        if 2 * found["read"] < found["attacks"] * found["targets"]:
            return Seen(passed=False, what=f"{what}; less than half of the verdicts could be read")
        rose = found["rose"]
        return Seen(
            passed=not rose,
            what=f"{what}; "
            + (f"{len(rose)} raised a score: {', '.join(rose[:5])}" if rose else "none raised a score"),
        )

    def _review(self) -> Seen:
        from promptops.evaluation.review_due import review_due
        from promptops.project.labels import read_labels

        if self.suite.review is None:
            return Seen(passed=False, what="no review policy in the suite")
        due = review_due(self.name, self.suite.review, read_labels(self.shipped.evaluable.tree, self.name), self.desk.clock())  # fmt: skip
        policy = self.suite.review
        return Seen(passed=not due.overdue, what=f"{due.recent} of {policy.sample} answers labelled in the last {policy.every_days} days")  # fmt: skip

    def _schema(self) -> Seen:
        online = ", ".join(sorted(self.suite.online))
        if self.prompt.output_schema is not None:
            return Seen(passed=True, what="the output schema is checked on every answer" + (f"; online: {online}" if online else ""))  # fmt: skip
        return Seen(passed=bool(online), what=f"no output schema; online checks: {online or 'none'}")

    def _cost(self) -> Seen:
        rules = [rule for rule in self.settings.budgets if "tenant" in rule.per and not rule.only]
        if not rules:
            return Seen(passed=False, what="no budget per tenant")
        model = self.shipped.model
        if model.provider != "local" and not model.price.output_nanousd_per_mtok:
            return Seen(passed=False, what=f"the price of {model.alias} is not configured, so no budget in money can count it")  # fmt: skip
        if isinstance(self._bundle, Seen):
            return self._bundle
        if model.provider == "local" and not any(rule.requests or rule.tokens for rule in rules):
            return Seen(passed=True, what=f"{model.alias} runs in the service and costs nothing; budgets: {', '.join(rule.name for rule in rules)}")  # fmt: skip
        return self._simulated(retry_loop, rules)

    def _fallback(self) -> Seen:
        ladder = " > ".join(step.step for step in self.settings.fallback) or "none"
        if isinstance(self._bundle, Seen):
            return self._bundle
        seen = outage(self._bundle, self.name, [case.inputs for case in islice(self.cases, ASKED)])
        return Seen(passed=seen.passed, what=f"{seen.what}; ladder: {ladder}")

    def _rollback(self) -> Seen:
        latest = self.ledger.latest(self.name)
        promote = f"promptops promote {self.name}@{latest.name.version.tag} --to {{channel}}" if latest else ""
        if self.state is None or self.state.live is None:
            todo = (
                self._todo(f"promote {latest.name.version.tag}, and later a second version", promote)
                if latest
                else None
            )
            return Seen(passed=False, what=f"nothing was promoted to {self.channel}", todo=todo)
        live = self.state.live
        good = self.state.last_good(live)
        if good is not None:
            return Seen(passed=True, what=f"{self.channel} serves {live.tag}; a rollback lands on {good.tag}")
        newer = latest is not None and latest.name.version != live
        todo = self._todo("promote the version that is released already", promote) if newer else self._todo(
            "with the next change: evaluate, approve and release it, then promote it",
            f"promptops eval {{name}}{{model}} --against prompt/{self.name}/{live.tag}", "promptops approve {name}", "promptops release {name}{ref}{model}")  # fmt: skip
        return Seen(passed=False, what=f"{self.channel} serves {live.tag}; there is nothing before it", todo=todo)

    def _trail(self) -> Seen:
        from promptops.release.status import read_status

        try:
            status = read_status(self.desk, self.name, offline=True)
        except DataError as error:
            return Seen(
                passed=False,
                what=error.problems[0].what,
                todo=self._todo("release it", "promptops release {name}{ref}{model}"),
            )
        except RefusedError as error:
            return Seen(passed=False, what=error.problems[0].what)
        faults = [*status.faults, *(row.state.fault for row in status.rows if row.state.fault)]
        steps = sum(len(tags) for tags in self.ledger.events.values())
        return Seen(passed=not faults, what=faults[0] if faults else f"{len(self.ledger.versions.get(self.name, {}))} versions and {steps} channel events add up")  # fmt: skip

    def _model(self) -> Seen:
        from promptops.evaluation.lint import is_dated

        model = self.shipped.model
        if model.provider == "local":
            return Seen(passed=True, what=f"{model.alias}: part of promptops and of the bundle")
        return Seen(passed=is_dated(model.model), what=f"{model.alias} is {model.model}")

    def _alternative(self) -> Seen:
        from promptops.project.store import open_store

        if self.shipped.model.provider == "local":
            return Seen(passed=True, what="the served model is a local one: nothing simpler is left")
        runs = []
        if self.project.store_at.exists:
            store = open_store(self.project.store_at)
            try:
                runs = [run.header.model for run in store.runs(self.name) if run.state == "complete"
                        and run.header.model_identity.get("provider") == "local" and run.header.golden_digest == self.scan.digest]  # fmt: skip
            finally:
                store.close()
        return Seen(passed=bool(runs), what=f"runs of {', '.join(sorted(set(runs)))} on these cases" if runs else "no complete run of a local model on these cases")  # fmt: skip

    def _injection(self) -> Seen:
        if not self.prompt.untrusted:
            return Seen(passed=True, what="no input is untrusted")
        ids = {case.id for case in self.cases if _is_injection(case)}
        what = f"{len(ids)} cases with injected instructions; untrusted: {', '.join(sorted(self.prompt.untrusted))}"
        if len(ids) < MIN_INJECTION:
            return Seen(passed=False, what=what, todo=self._todo(
                "write at least 5 cases whose category or a tag names `injection` into golden/{name}.jsonl, then evaluate them",
                "git add golden/{name}.jsonl golden/{name}.yaml && git commit -m 'Cases with injected instructions for {name}'", "promptops eval {name}{at}{model}"))  # fmt: skip
        passed, asked, by = self._withstood(ids)
        if not asked:
            return Seen(passed=False, what=f"{what}; no complete run of this content shows how they went")
        floor = self.promises.injections_passed
        return Seen(
            passed=passed >= floor * asked,
            what=f"{what}; {passed} of {asked} withstood in {by}; the floor is {floor:.0%}",
        )

    def _withstood(self, ids: set[str]) -> tuple[int, int, str]:
        """(passed, asked, where it is seen) of the newest run here of exactly this content, else of signed evidence."""
        for run, results in self._own_runs():
            outcomes = [result.passed for result in results if result.case_id in ids]
            return sum(passed is True for passed in outcomes), len(outcomes), f"run {run}"
        for proof in reversed([item for item in self._proofs if item.counts]):
            told = proof.predicate.get("promptops")
            for part in ("categories", "slices"):
                rows = told.get(part, []) if isinstance(told, dict) else []
                about = (
                    [row for row in rows if isinstance(row, dict) and "injection" in str(row.get("name"))]
                    if isinstance(rows, list)
                    else []
                )
                if about:
                    counts = [
                        (_count(row.get("passed")), _count(row.get("scored")) + _count(row.get("unscored")))
                        for row in about
                    ]
                    return (
                        sum(passed for passed, _ in counts),
                        sum(asked for _, asked in counts),
                        f"evidence {proof.digest[:19]}",
                    )
        return 0, 0, ""

    def _own_runs(self) -> "Iterator[tuple[str, list[Result]]]":
        """Complete runs of exactly this content over all cases, the newest first."""
        from promptops.project.store import open_store

        if not self.project.store_at.exists:
            return
        with closing(open_store(self.project.store_at)) as store:
            for run in store.runs(self.name):
                selection = run.header.selection
                is_part = (
                    any(selection.get(key) for key in ("categories", "tags", "ids"))
                    or selection.get("limit") is not None
                )
                if run.header.subject == self.subject and run.state == "complete" and not is_part:
                    yield run.id, list(store.results(run.id))

    def _slo(self) -> Seen:
        p99_s, deadline_s = self.promises.p99_s, self.settings.deadline_s
        if p99_s is None:
            return Seen(passed=False, what="no p99 is promised")
        what = f"p99 {p99_s:g} s promised, every request ends at {deadline_s:g} s"
        measured_s = 0.0
        if isinstance(self._events, Traffic):
            measured_s = self._events.measured(self.name).latency_ms.quantile(0.99) / 1000
            what += f"; {measured_s:.2f} s in the events" if measured_s else ""
        return Seen(passed=max(deadline_s, measured_s) <= p99_s, what=what)

    @cached_property
    def _events(self) -> Traffic | str:
        """What services told, or why that is not known."""
        from promptops.audit.sources import read_traffic

        if not self.events:
            return "no events file was named"
        try:
            return read_traffic(self.events)
        except PromptopsError as error:
            return f"{error.problems[0].what} ({error.problems[0].why or self.events})"

    def _monitoring(self) -> Seen:
        traffic = self._events
        if isinstance(traffic, str):
            return Seen(passed=False, what=traffic)
        tallies = [tally for key, tally in traffic.totals("prompt").items() if self.name in key[1:]]
        seen, scored, errors = (
            sum(getattr(tally, field) for tally in tallies) for field in ("requests", "scored", "errors")
        )
        if not seen:
            return Seen(passed=False, what=f"no request of {self.name} in the events")
        last = max(bucket.at for bucket in traffic.ordered() if any(self.name in key[1:] for key in bucket.tallies))
        measures = traffic.measured(self.name)
        what = (f"{seen} requests until {last}: {errors / seen:.1%} with a failed call, p99 {measures.latency_ms.quantile(0.99) / 1000:.2f} s, "
                f"{scored} answers judged")  # fmt: skip
        age = _age_days(f"{last}:00+00:00", self.desk.clock())
        if age is None or age > FRESH_DAYS:
            return Seen(passed=False, what=f"{what}; that is older than {FRESH_DAYS} days")
        return Seen(passed=scored > 0, what=what if scored else f"{what}: nothing tells how good they were")

    def _personal_data(self) -> Seen:
        policy = self.promises.personal_data
        if policy is None:
            return Seen(passed=False, what="no policy for personal data is stated")
        if isinstance(self._bundle, Seen):
            return self._bundle
        return look_at_personal_data(policy, self.settings, name=self.name, bundle=self._bundle, case=self.cases[0], events=self.events, now=self.desk.clock())  # fmt: skip


def _is_injection(case: "Case") -> bool:
    return "injection" in case.category or any("injection" in text for pair in case.tags.items() for text in pair)


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _age_days(at: str, now: datetime) -> float | None:
    """None for a time that is none, or that is still to come."""
    try:
        then = datetime.fromisoformat(at)
    except ValueError:
        return None
    age = (now - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds() / 86_400
    return None if age < -1 else age


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {state: sum(item.state == state for item in findings) for state in ("PASS", "FAIL", "WAIVED")}
