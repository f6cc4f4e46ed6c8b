"""Golden cases and the suite that scores them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from promptops.core.checks import CaseFacts, Check
from promptops.core.jsontext import Json
from promptops.core.judging import Mode
from promptops.core.knowledge import Passage
from promptops.core.outcome import OF_THE_MODEL

CATEGORY = "category"
JUDGE = "judge"
"""Name of the judge's verdict among the scores of an answer; `judge.<criterion>` are its parts."""
Estimand = Literal["cases", "population"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One golden example; `digest` covers what decides its score (category, inputs, expected)."""

    id: str
    category: str
    inputs: Mapping[str, Json]
    expected: Mapping[str, Json] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    line: int = 0
    digest: str = ""

    def facts(self, passages: tuple[Passage, ...]) -> CaseFacts:
        return CaseFacts(category=self.category, inputs=self.inputs, expected=self.expected, passages=passages)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """What verdicts are given for and what is tolerated; rates and p-values in 0..1. Defaults are those of docs/gate.md.

    `by`: category and slices, judged together. `draws`: draws a side in a final test. `estimand`: did these *cases* get
    worse, or would a *population* of such cases. The ratios limit how much
    slower or dearer an answer may become. `unanswered` says for refused, filtered, truncated and tool_call whether such an
    answer fails its case ("fail", the default) or leaves it without a score ("error"). `screen`, `confirm`: p above which a row passes after one and after three
    draws. `approvals`: people other than the authors who must sign off before a release. `guard`, `net_losing`: what the cases themselves must show before a row blocks.
    """

    by: tuple[str, ...] = (CATEGORY,)
    alpha: float = 0.05
    tolerance: float = 0.10
    tolerances: Mapping[str, float] = field(default_factory=dict)
    min_pass: float | None = None
    min_pass_by: Mapping[str, float] = field(default_factory=dict)
    draws: int = 5
    estimand: Estimand = "cases"
    block_on_broken: bool = False
    min_cases: int = 1
    approvals: int = 0
    max_p50_ratio: float | None = None
    max_p99_ratio: float | None = None
    max_cost_ratio: float | None = None
    unanswered: Mapping[str, str] = field(default_factory=dict)
    screen: float = 0.20
    confirm: float = 0.10
    screen_uncached: float = 0.50
    confirm_uncached: float = 0.15
    guard: float = 0.15
    net_losing: int = 3
    drift_alpha: float = 0.01

    def floor(self, name: str, *, is_category: bool) -> float | None:
        """Lowest accepted pass rate of a category (`billing`) or slice value (`lang=ja`)."""
        return self.min_pass_by.get(name, self.min_pass if is_category else None)

    def fails(self, outcome: str) -> bool:
        """Whether an answer that is none counts as a failed case: the model had its say. Infrastructure never does."""
        return outcome in OF_THE_MODEL and self.unanswered.get(outcome, "fail") == "fail"

    def tolerance_of(self, name: str) -> float:
        return self.tolerances.get(name, self.tolerance)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewPolicy:
    """How often people look at answers: within any `every_days` days, `sample` of them; `required` fails `review due` when it is late."""

    every_days: int
    sample: int = 40
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """How a suite has answers judged: by which rubric, by whom (none: whom the rubric names), how often, against what.

    `reference` is the JSON pointer of a right answer among the expected values. A category with more than `max_error_rate` answers
    that could not be judged is not evaluated. `params` are sent to the judge in place of the defaults.
    """

    rubric: str = ""
    models: tuple[str, ...] = ()
    votes: int | None = None
    mode: Mode = "reference_free"
    reference: str = "/reference"
    max_error_rate: float = 0.05
    params: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The checks of one prompt's cases. `settings` is what the subject digest covers, as parsed.

    `online` names the checks that also guard answers in a service; `runtime` is how the prompt is served; `weights` are the shares
    of the traffic by category, adding up to 1 (empty: none given); `monitor` is what findings about a canary call for. None of them decides a score or a verdict.
    """

    name: str
    prompt: str
    cases_path: str
    checks: tuple[Check, ...]
    by_category: Mapping[str, tuple[Check, ...]] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    rubric: str = ""
    judge: JudgeConfig | None = None
    gate: GatePolicy = field(default_factory=GatePolicy)
    review: ReviewPolicy | None = None
    settings: Mapping[str, Json] = field(default_factory=dict)
    online: frozenset[str] = frozenset()
    runtime: Mapping[str, Json] = field(default_factory=dict)
    monitor: Mapping[str, Mapping[str, Literal["hold", "rollback"]]] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    def checks_for(self, category: str) -> tuple[Check, ...]:
        return self.by_category.get(category, self.checks)


def is_judged(score: str) -> bool:
    """Whether a score of an answer is a judge's, as a whole or of one criterion."""
    return score == JUDGE or score.startswith(f"{JUDGE}.")


def slice_rows(tags: Mapping[str, str], slices: Iterable[str]) -> tuple[str, ...]:
    """Names of the rows a case counts in beside its category: `slice=value` for each of the slices it is tagged with."""
    return tuple(f"{name}={tags[name]}" for name in slices if name in tags)
