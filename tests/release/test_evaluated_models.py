"""export refuses to serve answers of a model that nobody measured."""

import json
from pathlib import Path

import pytest

from conftest import Outcome
from promptops.runtime.router import Router
from release.shop import NAME, Clone, open_shop

_SUITE = f"golden/{NAME}.yaml"
_CONFIG = """
[models.same]
provider = "local"
model = "rules"

[models.other]
provider = "local"
model = "echo"

[models.third]
provider = "openai"
model = "third-2026-01-01"
base_url = "http://127.0.0.1:9/v1"
"""


def _lenient(root: Path) -> None:
    """A prompt whose gate an echo passes as well as the rules do."""
    prompt = root / f"prompts/{NAME}/prompt.md"
    prompt.write_text(
        prompt.read_text().replace("output: {format: json, schema: output.schema.json}", "output: {format: text}")
    )
    (root / f"prompts/{NAME}/rules.yaml").write_text(
        "promptops: 1\ndefault: rules\nrules:\n  text:\n    - {value: fine}\n"
    )
    suite = root / _SUITE
    suite.write_text(
        suite.read_text().replace(
            "  - {check: json_schema}\n  - {check: equals, path: /sentiment}", "  - {check: length, max: 5000}"
        )
    )
    config = root / "promptops.toml"
    config.write_text((config.read_text() if config.exists() else "") + _CONFIG)


@pytest.fixture(scope="module")
def ana(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    ana = open_shop(tmp_path_factory.mktemp("models") / "shop").clone("ana")
    _lenient(ana.root)
    ana.git("add", "-A")
    ana.git("commit", "-q", "-m", "Take any text")
    ana.git("push", "-q", "origin", "HEAD:main")
    return ana


def _release(ana: Clone, runtime: str, *, approve: str = "", router: Router | None = None) -> None:
    """Serve with this `runtime:` section: evaluated, approved, released and promoted with the rules."""
    suite = ana.root / _SUITE
    head = suite.read_text().partition("runtime:")[0]
    suite.write_text(f"{head}runtime: {runtime}\n")
    place = ana.root / f"prompts/{NAME}/router.json"
    place.unlink(missing_ok=True)
    if router is not None:
        place.write_text(json.dumps(router.as_json()))
    prompt = ana.root / f"prompts/{NAME}/prompt.md"
    prompt.write_text(
        prompt.read_text() + f"\nNote {runtime.count('a')} {len(runtime)} {bool(router)} {approve}.\n"
    )  # other content, so that no evidence is there yet
    ana.git("add", "-A")
    ana.git("commit", "-q", "-m", f"Serve with {runtime}")
    ana.git("push", "-q", "origin", "HEAD:main")
    for command in (("eval", NAME), ("approve", NAME), ("release", NAME)):
        _must(ana, *command)
    if approve:
        run = _must(ana, "eval", NAME, "--model", approve, "--json").json["runs"][0]["run"]
        _must(ana, "approve", NAME, "--run", run)
    tags = ana.git("tag", "--list", f"prompt/{NAME}/*", "--sort=-version:refname").split()
    _must(ana, "promote", f"{NAME}@{tags[0].rpartition('/')[2]}", "--to", "prod")


def _must(ana: Clone, *command: str) -> Outcome:
    done = ana.call(*command)
    assert 0 == done.code, (command, done.err, done.out)
    return done


def _router(small: str, large: str) -> Router:
    return Router(rule="small", threshold=0.0, small=small, large=large)


@pytest.mark.parametrize(
    ("runtime", "router", "role"),
    [
        ("{large: other}", None, "large"), ("{small: other}", None, "small"), ("{large: third, small: same}", None, "large"),
        ("{small: other}", ("third", "local"), "small"), ("{small: other, large: third}", ("other", "third"), "large"),
    ],
)  # fmt: skip
def test_a_model_without_evidence_is_refused(
    ana: Clone, tmp_path: Path, runtime: str, router: tuple[str, str] | None, role: str
) -> None:
    """Exit 4 with the setting, the model and what to do; a router for other models covers nothing, and never the large model."""
    _release(ana, runtime, router=_router(*router) if router else None)
    done = ana.call("export", "--channel", "prod", "-o", str(tmp_path / "b"))

    assert (4, True, False) == (done.code, f"runtime.{role} of {NAME}" in done.err, (tmp_path / "b").exists()), done.err
    assert "promptops approve" in done.err
    assert 0 == ana.call("export", "--development", "-o", str(tmp_path / "d")).code


@pytest.mark.parametrize(
    ("runtime", "approve", "router"),
    [
        ("{large: same, small: local}", "", None), ("{shadow: {model: other, percent: 1}}", "", None), ("{large: other}", "other", None), ("{small: other, large: same}", "other", None),
        ("{small: other}", "", ("other", "local")),
    ],
)  # fmt: skip
def test_a_model_with_evidence_is_served(
    ana: Clone, tmp_path: Path, runtime: str, approve: str, router: tuple[str, str] | None
) -> None:
    """Another name of the same model, a shadow, evidence of its own, or a router trained on both."""
    _release(ana, runtime, approve=approve, router=_router(*router) if router else None)
    done = ana.call("export", "--channel", "prod", "-o", str(tmp_path / "b"))

    assert 0 == done.code, done.err
