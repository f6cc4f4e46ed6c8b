"""The gate: draw once, test every row, draw both sides again only where it looks worse, and correct for all rows.

The algorithm, its targets and its sources are in docs/gate.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from promptops.core.suite import GatePolicy
from promptops.gate.draws import CaseDraws, DrawMore, Side, Unit, units
from promptops.gate.stats import (
    Interval,
    holm,
    mean_interval,
    paired_rate_interval,
    redraw_interval,
    sign_flip_p,
    weighted_interval,
    within_case_p,
)
from promptops.gate.verdict import CaseChange, CategoryVerdict, Comparison, Verdict, WeightedTotal

_FIRST_REDRAW = 3
_FIRST_REDRAW_STAGE = 2
_TIE = 1e-9
Draws = dict[str, tuple[float, ...]]


def decide(
    baseline: Sequence[CaseDraws], candidate: Sequence[CaseDraws], *, policy: GatePolicy | None = None,
    draw_more: DrawMore | None = None, keep_first: bool = True, seed: int = 0, flip_rate: float = 0.0,
    weights: Mapping[str, float] | None = None,
) -> Comparison:  # fmt: skip
    """A verdict for every category and slice of the cases that both sides have.

    More than one baseline draw a case means that they were drawn earlier, with an older provider perhaps: they screen, and
    the final test is of fresh draws only; say `keep_first=False` when those of the candidate were drawn earlier as well.
    Without `draw_more` the draws given decide. `flip_rate` is how often who scores an answer would score it otherwise the next
    time: it lessens what could have been seen. `weights` are shares of the traffic by category, for a total that decides nothing. Deterministic for a seed (and what `draw_more` gives); independent of the
    order of cases. Raises ValueError without common cases, or for a case given twice.
    """
    evidence = _Evidence.of(baseline, candidate, policy or GatePolicy(), seed, flip_rate)
    evidence.weights = weights or {}
    if draw_more is None:
        return _decide_with_what_is_there(evidence)
    return _decide_in_stages(evidence, draw_more, keep_first=keep_first)


@dataclass(slots=True, kw_only=True)
class _Evidence:
    """The paired draws so far, and the rows they count in. `fresh` are baseline draws made for this comparison."""

    policy: GatePolicy
    seed: int
    rows: dict[str, list[str]]
    groups: dict[str, str | None]
    cached: Draws
    candidate: Draws
    fresh: Draws = field(default_factory=dict)
    unpaired: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    flip_rate: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)
    categories: Mapping[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        baseline: Sequence[CaseDraws],
        candidate: Sequence[CaseDraws],
        policy: GatePolicy,
        seed: int,
        flip_rate: float,
    ) -> "_Evidence":
        before, after = _by_id(baseline), _by_id(candidate)
        common = sorted(before.keys() & after.keys())
        if not common:
            raise ValueError("no case is on both sides")
        rows: dict[str, list[str]] = {}
        for case_id in common:
            for row in after[case_id].rows:
                rows.setdefault(row, []).append(case_id)
        categories: dict[str, list[str]] = {}
        for case_id in common:
            categories.setdefault(after[case_id].category, []).append(case_id)
        gone = {row for case in baseline for row in case.rows} - rows.keys()
        return cls(
            policy=policy, seed=seed, flip_rate=flip_rate, rows=dict(sorted(rows.items())), groups={case_id: after[case_id].group for case_id in common},
            cached={case_id: before[case_id].draws for case_id in common}, candidate={case_id: after[case_id].draws for case_id in common},
            unpaired=tuple(sorted(before.keys() ^ after.keys())), vanished=tuple(sorted(gone)), categories=categories,
        )  # fmt: skip

    @property
    def has_cache(self) -> bool:
        return any(len(draws) > 1 for draws in self.cached.values())

    def before(self, case_ids: Sequence[str]) -> Draws:
        """The baseline draws that count: fresh ones where all of these cases have them."""
        fresh = all(case_id in self.fresh for case_id in case_ids)
        return {case_id: self.fresh[case_id] if fresh else self.cached[case_id] for case_id in case_ids}

    def units(self, row: str, baseline: Draws | None = None, candidate: Draws | None = None) -> list[Unit]:
        ids = self.rows[row]
        return units(ids, self.groups, baseline or self.before(ids), candidate or self.candidate)


def _by_id(cases: Sequence[CaseDraws]) -> dict[str, CaseDraws]:
    found = {case.case_id: case for case in cases}
    if len(found) != len(cases):
        raise ValueError("a case is given twice")
    return found


def _worse_p(evidence: _Evidence, found: Sequence[Unit]) -> float:
    """The test of the policy's estimand, one-sided towards worse."""
    if evidence.policy.estimand == "population":
        return sign_flip_p([unit.difference for unit in found], seed=evidence.seed)
    return within_case_p([unit.baseline for unit in found], [unit.candidate for unit in found], seed=evidence.seed)


def _mirrored(found: Sequence[Unit]) -> list[Unit]:
    """Sides exchanged: what got better becomes what got worse."""
    return [Unit(baseline=unit.candidate, candidate=unit.baseline) for unit in found]


def _decide_in_stages(evidence: _Evidence, draw_more: DrawMore, *, keep_first: bool) -> Comparison:
    policy = evidence.policy
    cache = evidence.has_cache
    screen, confirm = (policy.screen, policy.confirm) if cache else (policy.screen_uncached, policy.confirm_uncached)
    stage = dict.fromkeys(evidence.rows, 1)
    raw = dict.fromkeys(evidence.rows, 1.0)
    if not cache:
        evidence.fresh = dict(evidence.cached)
    calls: dict[int, int] = {1: _count(evidence.candidate) + _count(evidence.fresh)}
    suspicious = [row for row in evidence.rows if _worse_p(evidence, evidence.units(row)) <= screen]
    first_cached = dict(evidence.cached) if cache else {}
    for number, wanted in ((_FIRST_REDRAW_STAGE, min(_FIRST_REDRAW, policy.draws)), (3, policy.draws)):
        if not suspicious:
            break
        if number == _FIRST_REDRAW_STAGE and not keep_first:
            evidence.candidate |= {case_id: () for row in suspicious for case_id in evidence.rows[row]}
        calls[number] = _draw(evidence, suspicious, wanted, draw_more)
        tested = {row: _worse_p(evidence, evidence.units(row)) for row in suspicious}
        stage |= dict.fromkeys(suspicious, number)
        last = wanted == policy.draws
        suspicious = [row for row in suspicious if last or tested[row] <= confirm]
        if last:
            raw |= tested
            break
    adjusted = dict(zip(evidence.rows, holm([raw[row] for row in evidence.rows]), strict=True))
    drifted = _drifted(evidence, first_cached) if cache else set()
    verdicts = [
        _judge(evidence, row, raw[row], adjusted[row], stage[row], drifted=row in drifted) for row in evidence.rows
    ]
    method = f"one draw, then both sides again up to {policy.draws} draws where it looked worse; Holm over {len(verdicts)} rows"
    return _comparison(evidence, verdicts, method, calls)


def _draw(evidence: _Evidence, rows: Sequence[str], wanted: int, draw_more: DrawMore) -> int:
    """Bring both sides of these rows' cases to `wanted` fresh draws; the number of draws made."""
    ids = sorted({case_id for row in rows for case_id in evidence.rows[row]})
    made = 0
    sides: tuple[tuple[Side, Draws], ...] = (("baseline", evidence.fresh), ("candidate", evidence.candidate))
    for side, draws in sides:
        short: dict[int, list[str]] = {}
        for case_id in ids:
            missing = wanted - len(draws.get(case_id, ()))
            if missing > 0:
                short.setdefault(missing, []).append(case_id)
        for missing, case_ids in sorted(short.items()):
            found = draw_more(side, case_ids, missing)
            for case_id in case_ids:
                extra = tuple(found.get(case_id, ()))
                if len(extra) != missing or not all(0 <= draw <= 1 for draw in extra):
                    raise ValueError(f"draw_more gave {len(extra)} of {missing} draws in [0, 1] for {case_id!r}")
                draws[case_id] = (*draws.get(case_id, ()), *extra)
                made += missing
    return made


def _drifted(evidence: _Evidence, cached: Draws) -> set[str]:
    """Rows whose fresh baseline draws differ from the cached ones, two-sided, Holm over the rows drawn again."""
    drawn = [row for row, ids in evidence.rows.items() if all(case_id in evidence.fresh for case_id in ids)]
    p_values: list[float] = []
    for row in drawn:
        found = units(evidence.rows[row], evidence.groups, cached, evidence.fresh)
        sides = ([unit.baseline for unit in found], [unit.candidate for unit in found])
        down, up = within_case_p(*sides, seed=evidence.seed), within_case_p(sides[1], sides[0], seed=evidence.seed)
        p_values.append(min(1.0, 2 * min(down, up)))
    return {row for row, p in zip(drawn, holm(p_values), strict=True) if p <= evidence.policy.drift_alpha}


def _decide_with_what_is_there(evidence: _Evidence) -> Comparison:
    single = all(len(draws) == 1 for side in (evidence.cached, evidence.candidate) for draws in side.values())
    if single and evidence.policy.estimand == "cases":
        return _decide_by_min_p(evidence)
    raw = {row: _worse_p(evidence, evidence.units(row)) for row in evidence.rows}
    adjusted = dict(zip(evidence.rows, holm(list(raw.values())), strict=True))
    verdicts = [_judge(evidence, row, raw[row], adjusted[row], 1) for row in evidence.rows]
    return _comparison(
        evidence, verdicts, f"the draws of both runs, none drawn again; Holm over {len(verdicts)} rows", {}
    )


def _decide_by_min_p(evidence: _Evidence) -> Comparison:
    from promptops.gate.min_p import min_p

    drops: dict[str, dict[str, float]] = {}
    for row, ids in evidence.rows.items():
        for case_id in ids:
            group = evidence.groups[case_id]
            entry = drops.setdefault(f"group {group}" if group else f"case {case_id}", {})
            entry[row] = entry.get(row, 0.0) + evidence.cached[case_id][0] - evidence.candidate[case_id][0]
    worse, better = min_p(list(drops.values()), list(evidence.rows), seed=evidence.seed)
    verdicts = [
        _judge(evidence, row, worse[row].raw, worse[row].adjusted, 1, better=better[row].adjusted, guarded=False)
        for row in evidence.rows
    ]
    return _comparison(evidence, verdicts, f"one draw a side; exact paired tests, min-P over {len(verdicts)} rows", {})


def _judge(
    evidence: _Evidence, row: str, raw: float, adjusted: float, stage: int, *, better: float | None = None, guarded: bool = True,
    drifted: bool = False,
) -> CategoryVerdict:  # fmt: skip
    policy, ids = evidence.policy, evidence.rows[row]
    found = evidence.units(row)
    p_guard = sign_flip_p([unit.difference for unit in found], seed=evidence.seed)
    flagged = adjusted <= policy.alpha
    guard_met = (
        not guarded
        or policy.estimand == "population"
        or (p_guard <= policy.guard and _net_losing(found) >= policy.net_losing)
    )
    before = evidence.before(ids)
    interval = _interval(evidence, ids, found, 0.95)
    if flagged:
        verdict = Verdict.REGRESSED if guard_met else Verdict.CASES_BROKE
    elif drifted:
        verdict = Verdict.BASELINE_DRIFTED
    elif _improved(evidence, found, better):
        verdict = Verdict.IMPROVED
    else:
        largest_drop = -_interval(evidence, ids, found, 0.90).low  # one-sided 95 %
        verdict = Verdict.PASS if largest_drop <= policy.tolerance_of(row) else Verdict.INCONCLUSIVE
    changes = [_change(case_id, before[case_id], evidence.candidate[case_id]) for case_id in ids]
    rate_before, rate_after = (
        _rate([before[case_id] for case_id in ids]),
        _rate([evidence.candidate[case_id] for case_id in ids]),
    )
    return CategoryVerdict(
        category=row, verdict=verdict, n=len(ids), draws=(_fewest(before, ids), _fewest(evidence.candidate, ids)),
        baseline_rate=rate_before, candidate_rate=rate_after, difference=rate_after - rate_before, interval=interval,
        p=raw, p_adjusted=adjusted, p_guard=p_guard, tolerance=policy.tolerance_of(row), stage=stage,
        broken=_sorted_changes(changes, lambda change: change.difference), fixed=_sorted_changes(changes, lambda change: -change.difference),
        detectable=_detectable(evidence, row), drifted=drifted,
        calls=sum(len(evidence.candidate[case_id]) + len(evidence.fresh.get(case_id, ())) for case_id in ids),
    )  # fmt: skip


def _improved(evidence: _Evidence, found: Sequence[Unit], better: float | None) -> bool:
    """The mirror image of a regression, without further draws: a notice, not a verdict to act on alone."""
    policy = evidence.policy
    if better is not None:
        return better <= policy.alpha
    mirror = _mirrored(found)
    p = min(1.0, _worse_p(evidence, mirror) * len(evidence.rows))
    if p > policy.alpha or policy.estimand == "population":
        return p <= policy.alpha
    guard = sign_flip_p([unit.difference for unit in mirror], seed=evidence.seed)
    return guard <= policy.guard and _net_losing(mirror) >= policy.net_losing


def _net_losing(found: Sequence[Unit]) -> int:
    losing = sum(unit.difference < -_TIE for unit in found)
    return losing - sum(unit.difference > _TIE for unit in found)


def _interval(evidence: _Evidence, ids: Sequence[str], found: Sequence[Unit], confidence: float) -> Interval:
    """For these cases over re-draws; for a population, or one draw a side, over cases."""
    grouped = len(found) != len(ids)
    if evidence.policy.estimand == "population" or grouped:
        scale = len(found) / len(ids)
        mean = mean_interval([unit.difference for unit in found], confidence=confidence)
        return Interval(low=max(-1.0, mean.low * scale), high=min(1.0, mean.high * scale))
    sides = [(unit.baseline, unit.candidate) for unit in found]
    if all(len(before) == len(after) == 1 and before[0] in (0, 1) and after[0] in (0, 1) for before, after in sides):
        counts = dict.fromkeys(((1, 1), (1, 0), (0, 1), (0, 0)), 0)
        for before, after in sides:
            counts[int(before[0]), int(after[0])] += 1
        return paired_rate_interval(counts[1, 1], counts[1, 0], counts[0, 1], counts[0, 0], confidence=confidence)
    return redraw_interval([before for before, _ in sides], [after for _, after in sides], confidence=confidence)


def _detectable(evidence: _Evidence, row: str) -> float | None:
    """What could have been seen, from the cached draws; they tell how steady the cases are only when there are several."""
    from promptops.gate.power import detectable_drop

    known = {case_id: (*evidence.cached[case_id], *evidence.fresh.get(case_id, ())) for case_id in evidence.rows[row]}
    if _fewest(known, evidence.rows[row]) < 2:
        return None
    rates = [sum(draws) / len(draws) for draws in known.values()]
    return detectable_drop(
        rates, rows=len(evidence.rows), policy=evidence.policy, seed=evidence.seed, flip_rate=evidence.flip_rate
    )


def _change(case_id: str, before: Sequence[float], after: Sequence[float]) -> CaseChange:
    return CaseChange(
        case_id=case_id,
        baseline=sum(before),
        baseline_draws=len(before),
        candidate=sum(after),
        candidate_draws=len(after),
    )


def _sorted_changes(changes: Sequence[CaseChange], size: Callable[[CaseChange], float]) -> tuple[CaseChange, ...]:
    """Those of negative size, largest first."""
    return tuple(
        sorted(
            (change for change in changes if size(change) < -_TIE), key=lambda change: (size(change), change.case_id)
        )
    )


def _count(draws: Draws) -> int:
    return sum(map(len, draws.values()))


def _fewest(draws: Mapping[str, Sequence[float]], ids: Sequence[str]) -> int:
    return min(len(draws[case_id]) for case_id in ids)


def _rate(draws: Sequence[Sequence[float]]) -> float:
    """Mean over cases of their mean draw."""
    return sum(sum(case) / len(case) for case in draws) / len(draws)


def _comparison(
    evidence: _Evidence, verdicts: list[CategoryVerdict], method: str, calls: Mapping[int, int]
) -> Comparison:
    order = list(Verdict)
    verdicts.sort(key=lambda item: (order.index(item.verdict), item.p_adjusted, item.difference, item.category))
    whole = _Evidence(policy=evidence.policy, seed=evidence.seed, rows={"total": sorted(evidence.groups)}, groups=evidence.groups,
                      cached=evidence.cached | evidence.fresh, candidate=evidence.candidate, flip_rate=evidence.flip_rate)  # fmt: skip
    p = _worse_p(whole, whole.units("total"))
    return Comparison(
        verdicts=tuple(verdicts), total=_judge(whole, "total", p, p, 1), alpha=evidence.policy.alpha, method=method, calls=calls,
        block_on_broken=evidence.policy.block_on_broken, vanished=evidence.vanished, unpaired=evidence.unpaired,
        weighted=_weighted(evidence),
    )  # fmt: skip


def _weighted(evidence: _Evidence) -> WeightedTotal | None:
    """None without weights, and where the categories at hand have no traffic."""
    shares = {name: evidence.weights.get(name, 0.0) for name in sorted(evidence.categories)}
    share = sum(shares.values())
    if share <= 0:
        return None
    before_rate = after_rate = 0.0
    parts: list[tuple[float, float, Interval]] = []
    for name, weight in shares.items():
        ids = evidence.categories[name]
        before = evidence.before(ids)
        old, new = _rate([before[case_id] for case_id in ids]), _rate([evidence.candidate[case_id] for case_id in ids])
        found = units(ids, evidence.groups, before, evidence.candidate)
        before_rate, after_rate = before_rate + weight / share * old, after_rate + weight / share * new
        parts.append((weight / share, new - old, _interval(evidence, ids, found, 0.95)))
    return WeightedTotal(baseline_rate=before_rate, candidate_rate=after_rate, difference=after_rate - before_rate,
                         interval=weighted_interval(parts), share=min(1.0, share))  # fmt: skip
