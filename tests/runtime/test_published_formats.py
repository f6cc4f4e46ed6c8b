"""The published schemas of a bundle's files: other languages read by them what the runtime reads."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from promptops.core.errors import RefusedError
from promptops.core.jsontext import canonical_json, parse_json
from promptops.runtime.bundle import read_files
from promptops.runtime.embedding import Embedder
from promptops.runtime.formats import BUNDLE_FORMATS, bundle_format, bundle_format_text
from promptops.runtime.matcher import Matcher, parse_matcher
from promptops.runtime.router import Router, parse_router
from runtime.bundles import make_bundle

_ROUTER = Router(rule="text", threshold=0.25, small="small", large="large", intercept=0.1, length_weight=0.2, categories={"a": 0.1}, languages={"en": -0.2},
                 terms={17: (1.5, -0.25), 900_000: (2.0, 0.5)}, shortest=1, longest=900, min_known=0.25, evidence={"cases": 60}).as_json()  # fmt: skip
_MATCHER = Matcher(embedder=Embedder(weights={3: 1.0, 9_000: 0.5}, unseen=2.0), threshold=1.5, text_inputs=("question",), categories_off=frozenset({"x"}),
                   evidence={"pairs": 100}).as_json()  # fmt: skip
_FILES: dict[str, tuple[Any, Callable[[bytes], object]]] = {
    "router": (_ROUTER, parse_router),
    "cache": (_MATCHER, parse_matcher),
}


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield (*at, key)
            yield from _paths(child, (*at, key))
    elif isinstance(value, list):
        for place, child in enumerate(value):
            yield from _paths(child, (*at, place))


def _changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at the path; `...` takes it away."""
    found = copy.deepcopy(document)
    part = found
    for step in path[:-1]:
        part = part[step]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return found


def _reads(parse: Callable[[bytes], object], document: Any) -> bool:
    try:
        parse(canonical_json(document))
    except RefusedError:
        return False
    return True


@pytest.mark.parametrize("name", _FILES)
def test_what_the_runtime_reads_keeps_to_the_schema(name: str) -> None:
    """Each value in turn is taken away or replaced by something odd: whatever is read nevertheless, the schema allows."""
    document, parse = _FILES[name]
    schema = bundle_format(name)  # type: ignore[arg-type]
    assert schema.accepts(document)
    assert _reads(parse, document)
    tried = [
        _changed(document, path, value)
        for path in _paths(document)
        for value in (..., None, "x", -1, 0, 0.5, 10_000_000.5, True, [], {}, ["a"])
    ]
    tried.append(document | {"code": "x"})

    assert [] == [item for item in tried if _reads(parse, item) and not schema.accepts(item)]


@pytest.mark.parametrize("name", _FILES)
def test_what_the_schema_allows_is_read(name: str) -> None:
    """But for what a schema cannot say: the form of names of models, and keys that must be plain digits."""
    document, parse = _FILES[name]
    schema = bundle_format(name)  # type: ignore[arg-type]
    tried = [
        _changed(document, path, value)
        for path in _paths(document)
        for value in (..., None, "x", -1, 0.5, 10_000_000.5, True, [], {}, ["a"])
        if path[0] != "evidence"
    ]
    refused = [item for item in tried if schema.accepts(item) and not _reads(parse, item)]

    assert [] == refused


def test_every_json_file_of_a_bundle_has_a_schema_that_documents_name(tmp_path: Path) -> None:
    """And keeps to it."""
    said = (REPOSITORY / "docs" / "bundle.md").read_text("utf-8")
    place = make_bundle(tmp_path, {"fallback": [{"step": "classifier"}]}, edit=_teach)
    for name, raw in read_files(place).items():
        form: Any = Path(name).stem
        assert bundle_format(form).accepts(parse_json(raw)), name

    assert [] == [form for form in BUNDLE_FORMATS if f"`{form}.schema.json`" not in said]
    assert all(bundle_format_text(form).startswith("{") for form in BUNDLE_FORMATS)


def _teach(root: Path) -> None:
    (rules,) = root.glob("prompts/*/rules.yaml")
    rules.write_text(rules.read_text() + "classifier: {fields: [sentiment], folds: 3}\n")
