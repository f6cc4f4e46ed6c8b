"""Hostile schemas: no network, no file, no endless validation."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import PROMPT, Sandbox
from promptops.core.schema import lint_schema

SLOW = {
    "nested repeats": ({"type": "string", "pattern": "^(a+)+$"}, "a" * 100_000 + "!", False),
    "alternatives": ({"type": "string", "pattern": "^(a|a)*$"}, "a" * 100_000 + "!", False),
    "many options": ({"type": "string", "pattern": "^" + "a?" * 200 + "a" * 200 + "$"}, "a" * 200, True),
    "pattern properties": ({"type": "object", "patternProperties": {"^(x+x+)+y$": False}}, {"x" * 50_000: 1}, True),
    "unique numbers": ({"type": "array", "uniqueItems": True}, list(range(50_000)), True),
    "unique objects": ({"type": "array", "uniqueItems": True}, [{"a": index} for index in range(20_000)], True),
    "reference to itself": ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}}, {"x": 1}, None),
    "references in a ring": (
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}, "type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}},
        {"x": 1}, None,
    ),
    "recursive tree": ({"type": "object", "properties": {"x": {"$ref": "#"}}, "additionalProperties": False}, "deep", True),
}  # fmt: skip

_VALIDATE = """
import json, resource, sys
from promptops.core.checks import CaseFacts, Completion, JsonSchemaCheck
from promptops.core.schema import compile_schema, lint_schema
compile_schema({"type": "object"}).accepts({})
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
schema, text = json.load(sys.stdin)
spent = resource.getrusage(resource.RUSAGE_SELF)
limit = int(spent.ru_utime + spent.ru_stime) + 2
resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
assert not lint_schema(schema, "s.json")
score = JsonSchemaCheck(default=compile_schema(schema)).score(Completion.of(text, "json"), CaseFacts(category="x", inputs={}))
print(score.passed)
"""


@pytest.mark.parametrize("name", SLOW)
def test_E31_a_costly_schema_is_checked_in_bounded_time(name: str):
    """The child has 2 s of CPU and 1 GiB; it answers instead of being killed. A reference to itself only may say either."""
    schema, value, passed = SLOW[name]
    text = '{"x":' * 190 + "{}" + "}" * 190 if value == "deep" else json.dumps(value)

    done = subprocess.run(
        [sys.executable, "-c", _VALIDATE], input=json.dumps([schema, text]), capture_output=True, text=True, check=False
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.strip() in (["True", "False"] if passed is None else [str(passed)])


OUTSIDE: list[dict[str, Any]] = [
    {"$ref": "http://127.0.0.1:9/s.json"},
    {"type": "object", "properties": {"a": {"$ref": "https://example.com/s.json"}}},
    {"$ref": "file:///etc/passwd"},
    {"$ref": "other.json"},
    {"$ref": "../../secrets.json#/a"},
    {"$ref": "//127.0.0.1:9/s.json"},
    {"$ref": 5},
    {"$dynamicRef": "http://127.0.0.1:9/s.json"},
    {"$id": "http://127.0.0.1:9/base/", "type": "object", "properties": {"a": {"$dynamicRef": "s.json"}}},
    {"$schema": "http://127.0.0.1:9/dialect", "type": "object"},
    {"allOf": [{"$schema": "http://127.0.0.1:9/dialect"}]},
    {"$ref": "#/nowhere"},
]


@pytest.mark.parametrize("document", OUTSIDE, ids=json.dumps)
def test_E32_a_reference_out_of_the_file_is_a_problem(document: dict[str, Any]):
    """References resolve inside the document only."""
    assert lint_schema(document, "s.json")


_LINT_ALL = """
import json, sys
from promptops.core.schema import compile_schema, lint_schema
for document in json.load(sys.stdin):
    assert lint_schema(document, "s.json")
    try:
        compile_schema(document).accepts({"a": 1})
    except ValueError:
        pass
print("done")
"""


def _connects(tmp_path: Path, command: list[str], **options: Any) -> tuple[int, str, list[str]]:
    """Exit code, stdout, and the connects to a network address (a local socket of the system is none)."""
    log = tmp_path / "connects"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=connect", "-o", str(log), *command],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}, **options,
    )  # fmt: skip
    return done.returncode, done.stdout, [line for line in log.read_text().splitlines() if "AF_INET" in line]


def test_E32_hostile_references_open_no_connection(tmp_path: Path):
    """The kernel sees no connect while such schemas are linted and compiled, and sees one when there is one."""
    probe = "import socket\ntry: socket.create_connection(('127.0.0.1', 9), 1)\nexcept OSError: pass"
    code, out, connects = _connects(tmp_path, [sys.executable, "-c", _LINT_ALL], input=json.dumps(OUTSIDE))
    seen = _connects(tmp_path, [sys.executable, "-c", probe])[2]

    assert (0, "done\n", [], 1) == (code, out, connects, len(seen))


def test_E32_lint_refuses_a_remote_reference_without_a_connection(sandbox: Sandbox, tmp_path: Path):
    """The command ends with 2 before anything is fetched."""
    remote = {"type": "object", "properties": {"feedback": {"$ref": "http://127.0.0.1:9/s.json"}}, "required": ["feedback"]}  # fmt: skip
    sandbox.write(f"prompts/{PROMPT}/input.schema.json", json.dumps(remote))

    code, out, connects = _connects(tmp_path, [sys.executable, "-m", "promptops", "lint"], cwd=sandbox.root)

    assert (2, []) == (code, connects), out
