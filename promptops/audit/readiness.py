"""Is a prompt ready for production? Each item of the checklist with the evidence it was judged by, at one commit."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from promptops.audit.checklist import CHECKLIST, Finding, finding, read_promises
from promptops.audit.simulate import Seen, kill, malformed, outage, retry_loop
from promptops.core.errors import DataError, RefusedError
from promptops.release.desk import Desk, open_desk
from promptops.release.evidence import TEST_RESULT, read_evidence
from promptops.release.export import Served, Shipped, bundle_files, shipped_at, write_bundle

if TYPE_CHECKING:
    from promptops.core.suite import Case
    from promptops.project.project import Project

MIN_CASES, MIN_CATEGORY, MIN_INJECTION, ASKED = 100, 10, 5, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """The checklist of one prompt at one commit; `live` is the version its channel serves ('' when none)."""

    prompt: str
    channel: str
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


def audit(project: "Project", name: str, *, channel: str, at: str, model: str, events: str, environment: Mapping[str, str]) -> Readiness:  # fmt: skip
    """Look at everything, and simulate what can go wrong on a bundle of that commit. Raises DataError for a prompt that does not load."""
    from promptops.evaluation.judge import subject_of
    from promptops.evaluation.plan import utc_now

    shipped = shipped_at(project, name, at=at, version=f"dev-{project.git.commit(at)[:12]}", model=model)
    promises = read_promises(shipped.evaluable.tree, name)
    desk = open_desk(project, clock=utc_now, environment=environment, need_rules=False)
    subject = subject_of(shipped.config, shipped.evaluable, shipped.identity)
    with tempfile.TemporaryDirectory(prefix="promptops-readiness-") as folder:
        look = _Look(project=project, name=name, shipped=shipped, desk=desk, channel=channel, subject=subject, p99_s=promises.p99_s, events=events, bundle=Path(folder) / "bundle")  # fmt: skip
        now = utc_now()
        findings = []
        for item in CHECKLIST:
            seen = look.checks[item.id]()
            findings.append(finding(item, passed=seen.passed, evidence=seen.what, waiver=promises.waivers.get(item.id), today=now.date()))  # fmt: skip
    live = look.state.live if look.state else None
    prompt = shipped.evaluable.prompt
    return Readiness(prompt=name, channel=channel, commit=shipped.commit, subject=subject, model=f"{shipped.model.alias} ({shipped.model.model or 'local'})",
                     live=str(live or ""), at=now.isoformat(timespec="seconds"), description=prompt.description, owners=tuple(prompt.owners), findings=tuple(findings))  # fmt: skip


class _Look:
    """One method an item; each says what it saw."""

    def __init__(self, *, project: "Project", name: str, shipped: Shipped, desk: Desk, channel: str, subject: str, p99_s: float | None,
                 events: str, bundle: Path) -> None:  # fmt: skip
        from promptops.project.golden import read_cases
        from promptops.release.ledger import read_ledger

        self.project, self.name, self.shipped, self.desk, self.channel = project, name, shipped, desk, channel
        self.subject, self.p99_s, self.events, self.place = subject, p99_s, events, bundle
        evaluable = shipped.evaluable
        self.suite, self.scan, self.prompt, self.settings = evaluable.suite, evaluable.scan, evaluable.prompt, shipped.settings  # fmt: skip
        self.cases: list[Case] = list(read_cases(evaluable.tree, self.suite, self.scan))
        self.ledger = read_ledger(desk.git, name)
        self.state = self.ledger.state(name, channel) if self.ledger.events else None
        self.checks: dict[str, Callable[[], Seen]] = {
            "cases": self._cases, "coverage": self._coverage, "gate": self._gate, "judge": self._judge, "review": self._review,
            "schema": self._schema, "malformed": lambda: self._simulated(malformed), "cost": self._cost, "fallback": self._fallback,
            "kill-switch": lambda: self._simulated(kill), "rollback": self._rollback, "audit-trail": self._trail, "model": self._model,
            "alternative": self._alternative, "injection": self._injection, "slo": self._slo, "monitoring": self._monitoring,
        }  # fmt: skip

    @cached_property
    def _bundle(self) -> Path | str:
        """The exported bundle, or why there is none."""
        try:
            write_bundle(bundle_files([Served(live=self.shipped)], channel="", development=True), self.place, as_archive=False)  # fmt: skip
        except DataError as error:
            problem = error.problems[0]
            return f"not simulated, as it cannot be exported: {problem.what}" + (
                f" (to do: {problem.hint})" if problem.hint else ""
            )
        return self.place

    def _simulated(self, simulation: Callable[..., Seen], *more: object) -> Seen:
        if isinstance(self._bundle, str):
            return Seen(passed=False, what=self._bundle)
        return simulation(self._bundle, self.name, self.cases[0].inputs, *more)

    def _cases(self) -> Seen:
        return Seen(passed=self.scan.count >= MIN_CASES, what=f"{self.scan.count} cases in {self.scan.path}")

    def _coverage(self) -> Seen:
        thin = [f"{name} {self.scan.categories.get(name, 0)}" for name in dict.fromkeys((*self.suite.categories, *self.scan.categories))
                if self.scan.categories.get(name, 0) < MIN_CATEGORY]  # fmt: skip
        what = f"{len(self.scan.categories)} categories, slices by {', '.join(self.suite.slices) or 'nothing'}"
        return Seen(passed=not thin and bool(self.suite.slices), what=what + (f"; too few: {', '.join(thin)}" if thin else ""))  # fmt: skip

    def _gate(self) -> Seen:
        found = [item for item in read_evidence(self.desk.git, self.desk.trust, [self.subject], self.desk.clock()) if item.kind == TEST_RESULT]  # fmt: skip
        good = [item for item in found if item.counts]
        if good:
            return Seen(passed=True, what=f"evidence {good[-1].digest[:19]} by {good[-1].actor}, {good[-1].at[:10]}")
        why = f"{len(found)} statements, none counts: {found[-1].fault or found[-1].signature.why}" if found else "no evidence of a passed gate for this content"  # fmt: skip
        return Seen(passed=False, what=why)

    def _judge(self) -> Seen:
        from promptops.evaluation.judge import set_up_judge

        setup = set_up_judge(self.shipped.config, self.shipped.evaluable)
        if setup is None:
            return Seen(passed=True, what="no judge: exact checks alone decide")
        return Seen(passed=setup.standing.may_block, what=f"{setup.name}: {setup.standing.why}")

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
        if model.provider == "local" and not any(rule.requests or rule.tokens for rule in rules):
            return Seen(passed=True, what=f"{model.alias} runs in the service and costs nothing; budgets: {', '.join(rule.name for rule in rules)}")  # fmt: skip
        return self._simulated(retry_loop, rules)

    def _fallback(self) -> Seen:
        ladder = " > ".join(step.step for step in self.settings.fallback) or "none"
        if isinstance(self._bundle, str):
            return Seen(passed=False, what=self._bundle)
        seen = outage(self._bundle, self.name, [case.inputs for case in islice(self.cases, ASKED)])
        return Seen(passed=seen.passed, what=f"{seen.what}; ladder: {ladder}")

    def _rollback(self) -> Seen:
        if self.state is None or self.state.live is None:
            return Seen(passed=False, what=f"nothing was promoted to {self.channel}")
        good = self.state.last_good(self.state.live)
        return Seen(passed=good is not None, what=f"{self.channel} serves {self.state.live}; " + (f"a rollback lands on {good}" if good else "there is nothing before it"))  # fmt: skip

    def _trail(self) -> Seen:
        from promptops.release.status import read_status

        try:
            status = read_status(self.desk, self.name, offline=True)
        except (DataError, RefusedError) as error:
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
        found = sum("injection" in case.category or any("injection" in text for pair in case.tags.items() for text in pair) for case in self.cases)  # fmt: skip
        return Seen(passed=found >= MIN_INJECTION, what=f"{found} cases with injected instructions; untrusted: {', '.join(sorted(self.prompt.untrusted))}")  # fmt: skip

    def _slo(self) -> Seen:
        if self.p99_s is None:
            return Seen(passed=False, what="no p99 is promised")
        return Seen(passed=self.settings.deadline_s <= self.p99_s, what=f"p99 {self.p99_s:g} s promised, every request ends at {self.settings.deadline_s:g} s")  # fmt: skip

    def _monitoring(self) -> Seen:
        from promptops.audit.sources import read_traffic

        if not self.events:
            return Seen(passed=False, what="no events file was named")
        try:
            traffic = read_traffic(self.events)
        except DataError as error:
            return Seen(passed=False, what=f"{error.problems[0].what} ({error.problems[0].why or self.events})")
        seen = sum(tally.requests for key, tally in traffic.totals("prompt").items() if self.name in key[1:])
        last = max(traffic.buckets, default="")
        return Seen(passed=seen > 0, what=f"{seen} requests of {self.name} in the events, latest {last}")


def todo(found: Finding, name: str) -> str:
    """What to do about an item."""
    return found.item.todo.format(name=name)


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {state: sum(item.state == state for item in findings) for state in ("PASS", "FAIL", "WAIVED")}
