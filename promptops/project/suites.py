"""golden/<name>.yaml: the suite and its checks."""

from collections.abc import Mapping
from datetime import date
from importlib.metadata import entry_points
from typing import Any

from promptops.core.checks import CHECKS, Check, Cost, IsJson, JsonSchemaCheck, Only, Pydantic, Python
from promptops.core.checks.forms import date_fault
from promptops.core.errors import DataError, Problem, did_you_mean
from promptops.core.jsontext import Json
from promptops.core.money import parse_usd
from promptops.core.prompt import Prompt
from promptops.core.schema import JsonSchema, compile_schema, lint_schema, pattern_schema
from promptops.core.serving import parse_settings, settings_faults
from promptops.core.suite import CATEGORY, GatePolicy, JudgeConfig, ReviewPolicy, Suite, is_judged
from promptops.project.formats import format_problems
from promptops.project.prompts import FOLDER as PROMPTS
from promptops.project.prompts import load_schema, place_of
from promptops.project.row_files import is_url
from promptops.project.tree import Tree, read_text
from promptops.project.yamltext import Document, parse_yaml

FOLDER = "golden"
_PLAIN = ("alpha", "tolerance", "draws", "estimand", "block_on_broken", "min_cases", "approvals", "max_p50_ratio", "max_p99_ratio", "max_cost_ratio",
          "unanswered")  # fmt: skip
"""Keys of `gate` that go into the policy as they are."""
_OUTSIDE_SUBJECT = ("prompt", "cases", "review", "runtime", "monitor")


def load_suite(tree: Tree, name: str, prompt: Prompt) -> Suite:
    """The suite of a prompt. Raises DataError with every problem."""
    where = f"{FOLDER}/{name}.yaml"
    document = parse_yaml(read_text(tree, where, wanted_by=f"prompt {name}"), where)
    problems = list(format_problems("suite", document.value, lambda path: f"{where}:{document.line(path)}"))
    if problems:
        raise DataError(problems=problems)
    return _Builder(tree, name, prompt, document).build()


def load_suite_paths(tree: Tree, name: str) -> list[str]:
    """The files of a suite: its own, its cases, its rubric. Raises DataError when the suite is no YAML table."""
    where = f"{FOLDER}/{name}.yaml"
    value = parse_yaml(read_text(tree, where), where).value
    if not isinstance(value, dict):
        raise DataError("not a suite", where=where)
    cases, rubric = value.get("cases"), value.get("rubric")
    return [
        where,
        *([f"{FOLDER}/{cases}"] if isinstance(cases, str) and not is_url(cases) else []),
        *([f"rubrics/{rubric}.yaml"] if isinstance(rubric, str) else []),
    ]


def _cases_path(cases: str) -> str:
    return cases if is_url(cases) else f"{FOLDER}/{cases}"


class _Builder:
    def __init__(self, tree: Tree, name: str, prompt: Prompt, document: Document) -> None:
        self.tree, self.name, self.prompt, self.document = tree, name, prompt, document
        self.where = f"{FOLDER}/{name}.yaml"
        self.value: Mapping[str, Any] = document.value
        self.problems: list[Problem] = []
        self.schemas: dict[str, JsonSchema] = {}
        self.online: set[str] = set()

    def build(self) -> Suite:
        value = self.value
        categories: dict[str, Mapping[str, Any]] = {
            key: entry or {} for key, entry in value.get("categories", {}).items()
        }
        if value["prompt"] != self.name:
            self._problem(
                ("prompt",), f"prompt {value['prompt']!r} differs from the file {self.name!r}", "make them equal"
            )
        self._read_schemas(categories)
        common = self._checks(("checks",), value["checks"], ())
        by_category = {
            category: (*common, *self._checks(("categories", category, "checks"), entry["checks"], common))
            for category, entry in categories.items()
            if "checks" in entry
        }
        slices = tuple(value.get("slices", ()))
        gate = self._gate(categories, slices)
        judge = self._judge()
        weights = self._weights(categories)
        self._lint_runtime()
        if self.problems:
            raise DataError(problems=sorted(self.problems, key=place_of))
        return Suite(
            name=self.name, prompt=value["prompt"], cases_path=_cases_path(value["cases"]), checks=common,
            by_category=by_category, categories=tuple(categories), slices=slices, rubric=(judge.rubric if judge else "") or value.get("rubric", ""),
            judge=judge, gate=gate, review=ReviewPolicy(**value["review"]) if "review" in value else None,
            settings=self._settings(by_category, common),
            online=frozenset(self.online), runtime=value.get("runtime", {}), monitor=value.get("monitor", {}), weights=weights,
        )  # fmt: skip

    def _problem(self, path: tuple[str | int, ...], what: str, hint: str = "", why: str = "") -> None:
        self.problems.append(Problem(what=what, where=f"{self.where}:{self.document.line(path)}", hint=hint, why=why))

    def _settings(self, by_category: Mapping[str, tuple[Check, ...]], common: tuple[Check, ...]) -> dict[str, Json]:
        """The suite as parsed, with what its names stand for."""
        every = {check.kind: check.version for checks in (common, *by_category.values()) for check in checks}
        return {
            "suite": {key: _without_weights(item) if key == "categories" else _without_online(item)
                      for key, item in self.value.items() if key not in _OUTSIDE_SUBJECT},
            "schemas": {category: schema.document for category, schema in self.schemas.items()},
            "checks": every,
        }  # fmt: skip

    def _weights(self, categories: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        """Shares of the traffic that add up to 1; none when no category states a weight."""
        given = {name: float(entry["weight"]) for name, entry in categories.items() if "weight" in entry}
        missing = [name for name in categories if given and name not in given]
        for name in missing:
            self._problem(("categories", name), f"category {name!r} has no weight", "give each category one (0: no traffic), or none")  # fmt: skip
        total = sum(given.values())
        if given and not missing and total == 0:
            self._problem(("categories", next(iter(given)), "weight"), "all weights are 0", "say what share of the traffic each category is")  # fmt: skip
        return {name: weight / total for name, weight in given.items()} if total else {}

    def _read_schemas(self, categories: Mapping[str, Mapping[str, Any]]) -> None:
        for category, entry in categories.items():
            if "schema" not in entry:
                continue
            path = ("categories", category, "schema")
            try:
                self.schemas[category] = load_schema(self.tree, f"{PROMPTS}/{self.name}/{entry['schema']}",
                                                     wanted_by=f"{self.where}:{self.document.line(path)}")  # fmt: skip
            except DataError as error:
                self.problems += [Problem(what=problem.what, why=problem.why, hint=problem.hint,
                                          where=problem.where or f"{self.where}:{self.document.line(path)}")
                                  for problem in error.problems]  # fmt: skip

    def _checks(
        self, path: tuple[str, ...], specs: list[dict[str, Any]], others: tuple[Check, ...]
    ) -> tuple[Check, ...]:
        """Checks under names of their own, also among `others`; a name that was given stays, a made one gets a number."""
        checks: list[Check] = []
        names = {check.name for check in others}
        for index, spec in enumerate(specs):
            options = {key: item for key, item in spec.items() if key not in ("check", "name", "online", "only")}
            name = spec.get("name", "")
            if name in names:
                self._problem((*path, index, "name"), f"two checks are called {name!r}", "rename one")
            base = name = name or spec["check"] + options.get("path", "")
            number = 2
            while name in names:
                name, number = f"{base}-{number}", number + 1
            if is_judged(name):
                self._problem(
                    (*path, index, "name"), f"a check cannot be called {name!r}", "the judge's verdicts have that name"
                )
            names.add(name)
            if spec.get("online"):
                self.online.add(name)
                if "only" in spec or ("expected" in spec and spec["check"] != "citations"):
                    self._problem(
                        (*path, index, "online"),
                        f"check {name} cannot be online",
                        "there is no expected value in a service",
                    )
            check = self._check((*path, index), spec["check"], name, options)
            if check is not None:
                checks.append(Only(name=name, check=check, expected=spec["only"]) if "only" in spec else check)
        return tuple(checks)

    def _check(self, path: tuple[str | int, ...], kind: str, name: str, options: dict[str, Any]) -> Check | None:
        if kind in ("json_schema", "python"):
            return self._json_schema(path, name) if kind == "json_schema" else self._python(path, name, options)
        if kind == "pydantic":
            return self._pydantic(path, name, options)
        if kind == "is_json" and "schema" in options:
            return self._is_json(path, name, options)
        if kind == "cost":
            return self._cost(path, name, options["max_usd"])
        if kind == "regex":
            self._check_pattern(path, options["pattern"])
        if kind == "tool_call" and not self.prompt.tools:
            self._problem(path, "check tool_call without tools", "name a file of them under `tools` in the prompt")
        if kind == "language" and "is" in options:
            options = {"is_" if key == "is" else key: item for key, item in options.items()}
        if (
            kind == "format"
            and options.get("format") == "date"
            and not _writes_dates(options.get("date_format", "%Y-%m-%d"))
        ):
            self._problem(
                path,
                f"date_format {options['date_format']!r} cannot be read back",
                "use strptime codes, such as %d.%m.%Y",
            )
        if kind == "length" and options.get("max", options.get("min", 0)) < options.get("min", 0):
            self._problem(path, "length.max is below length.min")
        if options.get("path") and self.prompt.output_format != "json":
            self._problem(
                path, f"path {options['path']!r} needs an answer in JSON", "set output.format of the prompt to json"
            )
        if options.get("same_as", "") not in {"", *self.prompt.input_names}:
            self._problem(
                path,
                f"{options['same_as']!r} is not an input",
                did_you_mean(options["same_as"], self.prompt.input_names),
            )
        make: Any = CHECKS[kind]
        check: Check = make(name=name, **options)
        return check

    def _cost(self, path: tuple[str | int, ...], name: str, max_usd: str) -> Check | None:
        try:
            return Cost(name=name, max_nanousd=parse_usd(max_usd))
        except ValueError as error:
            self._problem((*path, "max_usd"), f"cost.max_usd {error}")
            return None

    def _check_pattern(self, path: tuple[str | int, ...], pattern: str) -> None:
        try:
            pattern_schema(pattern)
        except ValueError as error:
            what = f"invalid pattern {pattern[:60]!r}"
            self._problem(path, what, "no look-around, no back-references", str(error)[:120])

    def _is_json(self, path: tuple[str | int, ...], name: str, options: dict[str, Any]) -> Check | None:
        problems = lint_schema(options["schema"], f"{self.where}:{self.document.line((*path, 'schema'))}")
        self.problems += problems
        return None if problems else IsJson(name=name, **(options | {"schema": compile_schema(options["schema"])}))

    def _json_schema(self, path: tuple[str | int, ...], name: str) -> Check | None:
        if self.prompt.output_schema is None and not self.schemas:
            self._problem(
                path,
                "check json_schema without a schema",
                "state output.schema in the prompt, or categories.<name>.schema",
            )
            return None
        if self.prompt.output_format != "json":
            self._problem(path, "check json_schema needs an answer in JSON", "set output.format of the prompt to json")
        return JsonSchemaCheck(name=name, default=self.prompt.output_schema, by_category=self.schemas)

    def _python(self, path: tuple[str | int, ...], name: str, options: dict[str, Any]) -> Check | None:
        wanted = options["entry_point"]
        found = self._installed(path, Python.group, wanted)
        if found is None:
            return None
        return Python(
            name=name, entry_point=wanted, function=found[0], options=options.get("options", {}), distribution=found[1]
        )

    def _pydantic(self, path: tuple[str | int, ...], name: str, options: dict[str, Any]) -> Check | None:
        if self.prompt.output_format != "json":
            self._problem(path, "check pydantic needs an answer in JSON", "set output.format of the prompt to json")
        found = self._installed(path, Pydantic.group, options["entry_point"])
        if found is None:
            return None
        from pydantic import TypeAdapter

        try:
            TypeAdapter(found[0])
        except Exception as error:  # noqa: BLE001 - building a user's model may raise anything
            self._problem(
                path,
                f"entry point {options['entry_point']!r} is nothing that pydantic can validate",
                why=type(error).__name__,
            )
            return None
        return Pydantic(name=name, model=found[0], distribution=found[1], **options)

    def _installed(self, path: tuple[str | int, ...], group: str, wanted: str) -> tuple[Any, str] | None:
        """What an entry point names, and the release of the package it is from."""
        known = {point.name: point for point in entry_points(group=group)}
        if wanted not in known:
            self._problem(path, f"no entry point {wanted!r} in the group {group}",
                          did_you_mean(wanted, known) or "install the package that provides it")  # fmt: skip
            return None
        point = known[wanted]
        try:
            found = point.load()
        except Exception as error:  # noqa: BLE001 - importing a user's module may raise anything
            self._problem(path, f"entry point {wanted!r} does not load", why=type(error).__name__)
            return None
        return found, f"{point.dist.name} {point.dist.version}" if point.dist else ""

    def _judge(self) -> JudgeConfig | None:
        if "judge" not in self.value:
            return None
        found: dict[str, Any] = dict(self.value["judge"] or {})
        if "model" in found and "models" in found:
            self._problem(("judge", "models"), "judge has `model` and `models`", "name one judge, or a panel")
        model = found.pop("model", "")
        models = tuple(found.pop("models", ())) or ((model,) if model else ())
        if len(models) * (found.get("votes") or 1) % 2 == 0 and models:
            self._problem(
                ("judge", "models"), f"{len(models)} judges can be split evenly", "name an odd number of them"
            )
        if not found.get("rubric", self.value.get("rubric")):
            self._problem(("judge",), "judge has no rubric", "name one: `rubric: NAME`")
        return JudgeConfig(models=models, **found)

    def _lint_runtime(self) -> None:
        try:
            settings = parse_settings(self.value.get("runtime", {}))
        except ValueError as error:
            self._problem(("runtime",), f"runtime: {error}")
            return
        for path, what in settings_faults(settings):
            self._problem(("runtime", *path), what)
        prompt = self.prompt
        for number, step in enumerate(settings.fallback):
            at = ("runtime", "fallback", number)
            if step.step == "rules" and "rules" not in prompt.rules:
                self._problem(at, "the step `rules` needs rules", "write the section `rules:` of rules.yaml")
            if step.step == "classifier" and "classifier" not in prompt.rules:
                self._problem(
                    at,
                    "the step `classifier` needs to know what to predict",
                    "write the section `classifier:` of rules.yaml",
                )
            if step.step == "search" and not prompt.knowledge:
                self._problem(at, "the step `search` needs knowledge", "give the prompt a `knowledge:` section")
            if step.step == "search" and prompt.output_format == "json" and "search" not in prompt.rules:
                self._problem(at, "the step `search` cannot write JSON", "write the section `search:` of rules.yaml")

    def _gate(self, categories: Mapping[str, Mapping[str, Any]], slices: tuple[str, ...]) -> GatePolicy:
        gate = self.value.get("gate", {})
        by = tuple(gate.get("by", (CATEGORY, *slices)))
        for index, name in enumerate(by):
            if name not in (CATEGORY, *slices):
                self._problem(
                    ("gate", "by", index),
                    f"{name!r} is neither `category` nor a declared slice",
                    did_you_mean(name, (CATEGORY, *slices)),
                )
        floors = gate.get("min_pass")
        by_name = floors if isinstance(floors, dict) else {}
        for name in by_name:
            tag, has_value, _ = name.partition("=")
            if (has_value and tag not in slices) or (not has_value and categories and name not in categories):
                self._problem(
                    ("gate", "min_pass", name),
                    f"{name!r} is neither a category nor `slice=value`",
                    did_you_mean(name, categories),
                )
        tolerances = {category: entry["tolerance"] for category, entry in categories.items() if "tolerance" in entry}
        settings = {key: gate[key] for key in _PLAIN if key in gate}
        return GatePolicy(by=by, tolerances=tolerances, min_pass=floors if isinstance(floors, int | float) else None,
                            min_pass_by=by_name, **settings)  # fmt: skip


def _without_online(part: Json) -> Json:
    """A part of a suite without what only services read."""
    if isinstance(part, dict):
        return {key: _without_online(item) for key, item in part.items() if not (key == "online" and "check" in part)}
    return [_without_online(item) for item in part] if isinstance(part, list) else part


def _without_weights(categories: Json) -> Json:
    """What categories say of scores and verdicts: a share of the traffic changes neither."""
    if not isinstance(categories, dict):
        return categories
    kept = {name: {key: item for key, item in entry.items() if key != "weight"} or None if isinstance(entry, dict) and "weight" in entry else entry
            for name, entry in categories.items()}  # fmt: skip
    return _without_online(kept)


def _writes_dates(date_format: str) -> bool:
    """Whether a date written in this format is one the check would accept."""
    return not date_fault(date(2024, 12, 31).strftime(date_format), date_format)
