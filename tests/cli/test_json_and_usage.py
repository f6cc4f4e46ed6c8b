"""--json is one document whatever happens; wrong usage is exit 2; --help and --version cost little."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer

from conftest import PROMPT, REPOSITORY, Outcome, Sandbox
from promptops.core.version import __version__

Call = Callable[..., Outcome]
HEAVY = {
    "pandas",
    "sklearn",
    "openai",
    "git",
    "jsonschema",
    "jsonschema_rs",
    "numpy",
    "scipy",
    "yaml",
    "aiohttp",
    "minijinja",
}


@pytest.mark.parametrize(
    ("code", "arguments"),
    [(0, ("lint",)), (0, ("list",)), (0, ("show", PROMPT)), (0, ("eval",)), (0, ("eval", "--dry-run")), (0, ("runs", "list")), (0, ("runs", "show")),
     (0, ("runs", "export", "latest")), (0, ("runs", "gc")), (0, ("view",)), (0, ("view", "--case", "delivery-04")), (0, ("init", "new")),
     (2, ("show", "nope")), (2, ("eval", "--category", "nope")), (2, ("eval", "--limit", "x")), (2, ("show",)), (2, ("nope",)), (2, ("runs",)), (2, ()),
     (2, ("runs", "import", "gone.jsonl")), (2, ("compare", "latest")), (3, ("compare", "nope", "latest")), (2, ("init",))],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)  # fmt: skip
def test_L9_json_is_one_document_and_nothing_else(call: Call, code: int, arguments: tuple[str, ...]):
    """Results on stdout alone; errors have exit_code and problems with what, where, why and hint."""
    call("eval")

    found = call(*arguments, "--json")

    assert (code, "") == (found.code, found.err)
    document = json.loads(found.out)
    if code:
        assert code == document["error"]["exit_code"]
        assert {("what", "where", "why", "hint")} == {tuple(problem) for problem in document["error"]["problems"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "error: No such command 'nope'; see `promptops --help`\n"),
        (("show",), "error: Missing argument 'NAME'; see `promptops show --help`\n"),
        (("runs", "nope"), "error: No such command 'nope'; see `promptops runs --help`\n"),
        (("lint", "--nope"), "error: No such option: --nope; see `promptops lint --help`\n"),
    ],
)
def test_wrong_usage_is_exit_2_and_one_line(call: Call, arguments: tuple[str, ...], message: str):
    """Not a bug in promptops, and it says where the help is."""
    assert (2, "", message) == ((found := call(*arguments)).code, found.out, found.err)


@pytest.mark.parametrize("arguments", [(), ("runs",)])
def test_a_group_without_a_command_shows_its_help(call: Call, arguments: tuple[str, ...]):
    """On stderr, as nothing was done: exit 2."""
    found = call(*arguments)

    assert (2, "", True) == (found.code, found.out, found.err.startswith("Usage: promptops"))


def test_every_command_has_help_whose_first_line_is_whole(call: Call):
    """`promptops --help` shows first lines; none is cut by `...` at 80 columns."""
    found = call("--help")

    commands = found.out.partition("Commands:\n")[2].splitlines()
    assert 0 == found.code
    assert [] == [line for line in commands if line.endswith("...")]
    assert {0} == {call(line.split()[0], "--help").code for line in commands if not line.startswith("   ")}


def test_version_is_one_line(call: Call):
    """Scripts read it."""
    assert (0, f"promptops {__version__}\n", "") == ((found := call("--version")).code, found.out, found.err)


def loaded(code: str) -> set[str]:
    """The top-level modules that a fresh Python has after running `code`."""
    script = f"{code}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(argument: str):
    """Asked often, answered at once."""
    assert set() == HEAVY & loaded(f"from promptops.cli.main import main; main([{argument!r}])")


def test_the_command_needs_no_click(sandbox: Sandbox):
    """click is no dependency of promptops, and typer no longer brings it: a usage error must not need it."""
    script = "import sys; sys.modules['click'] = None; from promptops.cli.main import main; sys.exit(main(['lint', '--nope']))"

    found = subprocess.run(
        [sys.executable, "-c", script], cwd=sandbox.root, capture_output=True, text=True, timeout=60, check=False
    )

    if not typer.BadParameter.__module__.startswith("click"):
        assert (2, "error: No such option: --nope; see `promptops lint --help`\n") == (found.returncode, found.stderr)


CORE = sorted(path.relative_to(REPOSITORY).with_suffix("") for path in (REPOSITORY / "promptops/core").rglob("*.py"))


def test_core_loads_the_standard_library_only():
    """What ships in services stays light: no module of promptops.core imports anything else when it is imported."""
    names = [".".join(path.parts).removesuffix(".__init__") for path in CORE]
    before = loaded("pass")

    found = loaded("import " + ", ".join(names)) - before - set(sys.stdlib_module_names) - {"promptops"}

    assert (True, set()) == (len(names) > 15, found)
