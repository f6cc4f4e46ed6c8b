"""Every check that may be online goes into a bundle and comes back the same."""

import json
from pathlib import Path

import pytest

from promptops.project.formats import format_text
from promptops.runtime.bundle import Trust, load_bundle
from promptops.runtime.formats import bundle_format_text
from runtime.bundles import NAME, make_bundle

_CHECKS = [
    "{check: contains, values: [a], any: true, online: true}", "{check: not_contains, values: [zz], online: true}", "{check: keywords, values: [a, [b, c]], online: true}",
    "{check: regex, pattern: 'a+', online: true}", "{check: length, max: 500, online: true}", "{check: format, format: plain, online: true}",
    "{check: language, is: en, online: true}", "{check: citations, online: true}", "{check: sql, dialect: postgres, online: true}", "{check: latency, max_s: 3, online: true}",
    "{check: cost, max_usd: '0.01', online: true}", "{check: starts_with, values: ['{'], online: true}", "{check: json_schema, online: true}",
    "{check: is_json, schema: {type: object, required: [sentiment]}, within: true, online: true}", "{check: is_json, online: true}",
]  # fmt: skip


@pytest.mark.parametrize("line", _CHECKS)
def test_an_online_check_is_exported_and_loaded(tmp_path: Path, line: str) -> None:
    """With every setting, schemas included."""

    def edit(root: Path) -> None:
        suite = root / f"golden/{NAME}.yaml"
        suite.write_text(suite.read_text().replace("checks:\n", f"checks:\n  - {line}\n", 1))

    from promptops.project.project import open_project

    place = make_bundle(tmp_path, edit=edit)
    online = open_project(tmp_path / "project-1").load(NAME).suite.checks[0]
    (found,) = load_bundle(place, Trust(unsigned=True)).channels[NAME].live.checks

    assert str(online) == str(found)


def test_bundles_and_suites_name_the_same_online_checks() -> None:
    """A suite that lint accepts can be exported; what needs an expected value is refused by lint."""
    rules = json.loads(format_text("suite"))["$defs"]["check"]["allOf"]
    may_be_online = {
        rule["if"]["properties"]["check"]["const"]
        for rule in rules
        if "online" in rule["then"]["properties"] and "expected" not in rule["then"].get("required", ())
    }
    shipped = json.loads(bundle_format_text("guardrails"))["$defs"]["checks"]["items"]["properties"]["check"]["enum"]

    assert may_be_online == set(shipped)
