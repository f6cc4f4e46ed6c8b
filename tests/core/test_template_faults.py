"""Hostile templates: nothing of Python is in reach, and every rendering has a bounded cost."""

import json
import subprocess
import sys
from typing import Any

import pytest

from conftest import PROMPT, Sandbox
from promptops.core.errors import DataError
from promptops.core.template import compile_template


@pytest.mark.parametrize(
    "expression",
    [
        "v.__class__", "v['__class__']", "v.__class__.__mro__[1].__subclasses__()", "v.pop('key')", "v.clear()", "v.items()", "v.keys()",
        "v . pop ('key')", "v['pop']('key')", "(v.pop)('key')", "v.list.append(1)", "v.list[0].upper()", "'x'.join(v)", "''.__class__()",
        "v.__getattribute__('__class__')", "v|attr('__class__')", "v|map(attribute='x')", "self", "self.__init__", "super()", "caller()",
        "range(9)", "dict(a=1)", "namespace()", "debug()", "cycler(1)", "joiner()", "lipsum()", "cycler", "joiner", "range", "debug",
        "__import__('os')", "open('/etc/passwd')", "eval('1')", "config", "request", "v.get('key')", "not v.pop('key')",
        "v is v.pop('key')", "v.key|default(v.pop('key'))", "[v][0].pop('key')", "loop.cycle(1, 2)",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["{{{{ {} }}}}", "{{% if {} %}}x{{% endif %}}", "{{% for x in {} %}}{{{{ x }}}}{{% endfor %}}"])  # fmt: skip
def test_E27_no_attribute_function_or_method_is_in_reach(form: str, expression: str):
    """An expression that reaches for Python ends in a DataError, and the caller's values are as before."""
    values: dict[str, Any] = {"v": {"key": "secret", "list": ["a"]}}

    with pytest.raises(DataError):
        compile_template(form.format(expression), "p.md").render(values)

    assert {"v": {"key": "secret", "list": ["a"]}} == values


def _nested(expression: str, tail: str, depth: int = 40) -> str:
    """Loops that bind ever larger values: V is the value of the loop around."""
    loops = "".join(
        f"{{% for v{level + 1} in {expression.replace('V', f'v{level}')} %}}" for level in range(depth)
    )  # fmt: skip
    return loops + tail.replace("V", f"v{depth}") + "{% endfor %}" * depth


BOMBS = {
    "repeat a string": "{{ 'x' * 10**9 }}",
    "repeat often": "{% for a in v0 %}{{ 'x' * 9999999 }}{% endfor %}",
    "repeat a list": "{{ ([1] * 100000000)|length }}",
    "repeat an input": "{{ (v0 * 100000000)|length }}",
    "large power": "{{ 10 ** 10 ** 10 }}",
    "nested loops": "{% for a in v0 %}{% for b in v0 %}{% for c in v0 %}{% for d in v0 %}x{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
    "much text in loops": "{% for a in v0 %}{% for b in v0 %}" + "x" * 100_000 + "{% endfor %}{% endfor %}",
    "an input in loops": "{% for a in v0 %}{{ v0 }}{% for b in v0 %}{{ v0|json }}{% endfor %}{% endfor %}",
    "doubled string": _nested("[V ~ V]", "{{ V|length }}"),
    "doubled list": _nested("[[V, V]]", "{{ V }}"),
    "doubled list as json": _nested("[[V, V]]", "{{ V|json|length }}"),
    "doubled list as text": _nested("[[V, V]]", "{{ V ~ '' }}"),
    "doubled map": _nested("[{'a': V, 'b': V}]", "{{ V|json|length }}"),
    "doubled by recursion": "{% for x in v0 recursive %}{{ loop([[x, x]]) }}{% endfor %}",
    "deep parentheses": "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
    "deep lists": "{{ " + "[" * 50_000 + "]" * 50_000 + " }}",
    "many signs": "{{ " + "-" * 100_000 + "1 }}",
    "many nots": "{{ " + "not " * 100_000 + "1 }}",
    "many attributes": "{{ v0" + ".b" * 100_000 + " }}",
    "many subscripts": "{% if v0" + "[0]" * 100_000 + " %}{% endif %}",
    "long sum": "{{ 1" + "+1" * 100_000 + " }}",
    "long condition": "{% if 1" + " and 1" * 100_000 + " %}{% endif %}",
    "many filters": "{{ v0" + "|json" * 100_000 + " }}",
    "many ternaries": "{{ 1" + " if 1 else 1" * 100_000 + " }}",
    "many branches": "{% if v0 %}" + "{% elif v0 %}" * 50_000 + "{% endif %}",
    "deep ifs": "{% if v0 %}" * 50_000 + "{% endif %}" * 50_000,
    "deep loops": "{% for a in v0 %}" * 50_000 + "{% endfor %}" * 50_000,
    "open strings": "{{ \\' " * 50_000,
    "escaped quotes": '{{ "' + '\\"' * 100_000,
    "open tags": "{{" * 200_000,
    "open comments": "{#" * 200_000,
    "wide for": "{% for x in v0" + " + v0" * 20_000 + " %}{% endfor %}",
}

_CHILD = """
import json, resource, sys
from promptops.core.errors import DataError
from promptops.core.template import compile_template
compile_template("{{ x }}", "warm").render({"x": 1})
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
try:
    compile_template(json.load(sys.stdin), "p.md").render({"v0": "y" * 10_000})
except DataError as error:
    print(error.problems[0].where.partition(":")[0])
"""


@pytest.mark.parametrize("bomb", BOMBS)
def test_E28_a_bomb_ends_in_an_error_within_its_limits(bomb: str):
    """With 1 GiB of address space and 2 s of CPU the child lives to report the DataError."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD], input=json.dumps(BOMBS[bomb]), capture_output=True, text=True, check=False
    )

    assert (0, "p.md\n", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("source", "length"),
    [
        ("{% for row in rows %}{{ row.id }}: {{ row.text }}\n{% endfor %}", 5000 * 107),
        ("{% for row in rows %}{% if row.id == 'r1' %}{{ row.text }}{% endif %}{% endfor %}", 5000 * 100),
        ("{{ rows|length }}" * 200, 4 * 200),
        ("{% if rows" + " and rows" * 60 + " %}x{% endif %}", 1),
    ],
)
def test_an_honest_template_over_five_thousand_rows_renders(source: str, length: int):
    """The limits are far above what prompts need."""
    rows = [{"id": "r1", "text": "z" * 100}] * 5000
    expected = length + (5000 * len("r1: \n") - 5000 * 7 if "\n" in source else 0)

    assert expected == len(compile_template(source, "p.md").render({"rows": rows}))


def _limit_child() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (8, 8))


@pytest.mark.parametrize("bomb", ["repeat a list", "doubled list", "many signs", "many branches"])
def test_E28_lint_survives_a_bomb_too(sandbox: Sandbox, bomb: str):
    """`lint` compiles templates and exits 2 with the line, within the limits of the process."""
    sandbox.replace(f"prompts/{PROMPT}/prompt.md", "{{ feedback }}", "{{ feedback }}\n" + BOMBS[bomb])
    line = 1 + sandbox.read(f"prompts/{PROMPT}/prompt.md").partition(BOMBS[bomb])[0].count("\n")

    linted = sandbox.run("lint", preexec_fn=_limit_child)

    assert (2, True) == (linted.code, f"prompt.md:{line}" in linted.out + linted.err), linted


def test_E29_lint_names_an_unknown_variable_and_the_one_meant(sandbox: Sandbox):
    """No call is made with a hole in the prompt."""
    sandbox.replace(f"prompts/{PROMPT}/prompt.md", "{{ feedback }}", "{{ fedback }}")

    linted = sandbox.run("lint")
    said = linted.out + linted.err

    assert (2, True, True) == (linted.code, "unknown variable 'fedback'" in said, "did you mean 'feedback'?" in said)
