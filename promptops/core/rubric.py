"""A rubric: what is asked of an answer that no exact check can decide, and when such an answer passes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from promptops.core.digest import digest
from promptops.core.jsontext import Json

Scale = Literal["pass_fail", "1..5"]
CriterionScore = bool | int
"""true or false for `pass_fail`, 1 to 5 for `1..5`."""
PASS_AT = 0.7
PASS_FROM = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One question of a rubric. On a 1..5 scale, `pass_from` is the lowest point that passes; `hard`: failing it fails the answer."""

    id: str
    question: str
    scale: Scale
    anchors: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0
    hard: bool = False
    pass_from: int = PASS_FROM

    def allows(self, score: object) -> bool:
        """Whether `score` is one of the scale's values; 1 is not true, and 3.0 is not 3."""
        if self.scale == "pass_fail":
            return isinstance(score, bool)
        return isinstance(score, int) and not isinstance(score, bool) and 1 <= score <= 5

    def value(self, score: CriterionScore) -> float:
        """The score in 0..1."""
        return float(score) if self.scale == "pass_fail" else (score - 1) / 4

    def passes(self, score: CriterionScore) -> bool:
        return bool(score) if self.scale == "pass_fail" else score >= self.pass_from

    def as_json(self) -> list[Json]:
        """What a digest covers."""
        return [self.id, self.question, self.scale, dict(self.anchors), float(self.weight), self.hard, self.pass_from]


@dataclass(frozen=True, slots=True, kw_only=True)
class RubricExample:
    """A judged answer the judge is shown; `verdicts` are (score, reason) by criterion, `category` '' is any."""

    input: str
    answer: str
    verdicts: Mapping[str, tuple[CriterionScore, str]]
    reference: str = ""
    category: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rubric:
    """Criteria for judges and reviewers; `by_category` replaces them for some categories, `document` is what the subject covers.

    An answer passes when no hard criterion fails and the weighted mean of all criteria reaches `pass_at`.
    """

    name: str
    criteria: tuple[Criterion, ...]
    by_category: Mapping[str, tuple[Criterion, ...]] = field(default_factory=dict)
    examples: tuple[RubricExample, ...] = ()
    pass_at: float = PASS_AT
    model: str = ""
    votes: int = 1
    document: Mapping[str, Json] = field(default_factory=dict)

    def criteria_for(self, category: str) -> tuple[Criterion, ...]:
        return self.by_category.get(category, self.criteria)

    def examples_for(self, category: str) -> tuple[RubricExample, ...]:
        return tuple(example for example in self.examples if example.category in ("", category))

    def digest_for(self, category: str) -> str:
        """What a person who labels an answer of this category was asked: criteria and pass mark, not the judge's examples or model."""
        return digest([[criterion.as_json() for criterion in self.criteria_for(category)], float(self.pass_at)])

    def grade(self, category: str, scores: Mapping[str, CriterionScore]) -> "Grade":
        """Pass or fail, and the weighted mean. Raises KeyError when a criterion has no score."""
        return grade(self.criteria_for(category), scores, self.pass_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """An answer as a whole: `value` is the weighted mean of its criteria in 0..1, `failed` are the criteria it fails."""

    passed: bool
    value: float
    failed: tuple[str, ...]


def grade(criteria: tuple[Criterion, ...], scores: Mapping[str, CriterionScore], pass_at: float) -> Grade:
    """Pass or fail of an answer from the scores of its criteria. Raises KeyError when one has no score."""
    total = sum(criterion.weight for criterion in criteria)
    value = sum(criterion.weight * criterion.value(scores[criterion.id]) for criterion in criteria) / total
    failed = tuple(criterion.id for criterion in criteria if not criterion.passes(scores[criterion.id]))
    hard = any(criterion.hard and criterion.id in failed for criterion in criteria)
    return Grade(passed=not hard and value >= pass_at - 1e-9, value=value, failed=failed)
