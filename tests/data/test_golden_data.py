"""The shipped golden data: what they promise by count, and that every expectation can be met."""

import json
from collections import Counter
from functools import cache
from typing import Any

import pytest

from conftest import REPOSITORY
from promptops.core.checks import Completion
from promptops.core.jsontext import canonical_json
from promptops.core.knowledge import Passage
from promptops.core.suite import Case
from promptops.core.text import fold
from promptops.evaluation.scoring import score
from promptops.project.golden import read_cases
from promptops.project.project import Evaluable, open_project

_COUNTS = {
    "support-triage": (240, {"billing", "delivery", "account", "cancellation", "warranty", "bug", "abuse", "other"}),
    "support-summary": (120, {"short", "long", "thread", "noisy", "numbers"}),
    "warranty-answer": (
        120,
        {"answerable", "unanswerable", "region", "negation", "date-bound", "injection-question", "injection-document"},
    ),
    "contract-terms": (100, {"nda", "saas", "lease", "employment", "amendment", "ocr-noise"}),
}
_LANGUAGES = {
    "support-triage": {"en": 20, "fr": 20, "de": 20, "es": 20, "ja": 20, "pt": 20},
    "support-summary": {"ja": 25, "fr": 20},
}
_COUNTRY_FILES = {"FR": "france.md", "DE": "germany.md", "JP": "japan.md", "US": "us.md"}


@cache
def loaded(name: str) -> Evaluable:
    return open_project(REPOSITORY).load(name)


@cache
def cases(name: str) -> tuple[Case, ...]:
    evaluable = loaded(name)
    return tuple(read_cases(evaluable.tree, evaluable.suite, evaluable.scan))


def knowledge() -> dict[str, Passage]:
    found = loaded("warranty-answer").prompt.knowledge
    assert found
    return {passage.id: passage for passage in found.passages}


def reference_answer(name: str, case: Case) -> str:
    """What a perfect model would say, from the expected values alone."""
    if name == "support-summary":
        return str(case.expected["summary"])
    if name != "warranty-answer":
        return canonical_json(dict(case.expected)).decode()
    cited: Any = case.expected["citations"]
    texts = {passage_id: passage.text for passage_id, passage in knowledge().items()}
    answer = {
        "answered": case.expected["answered"], "answer": case.expected["answer"],
        "citations": [{"id": passage_id, "quote": texts[passage_id]} for passage_id in cited],
    }  # fmt: skip
    return json.dumps(answer, ensure_ascii=False)


@pytest.mark.parametrize("name", _COUNTS)
def test_suite_has_the_promised_cases_and_categories(name: str):
    """Enough cases in total, exactly the promised categories, and at least ten cases in each."""
    least, categories = _COUNTS[name]
    found = Counter(case.category for case in cases(name))

    assert categories == set(found)
    assert found.total() >= least
    assert [] == [category for category, count in found.items() if count < 10]


@pytest.mark.parametrize("name", _LANGUAGES)
def test_suite_has_the_promised_languages(name: str):
    """Each promised language has enough cases to be a row of its own."""
    found = Counter(case.tags["lang"] for case in cases(name))

    assert [] == [language for language, least in _LANGUAGES[name].items() if found[language] < least]


def test_ids_are_unique_over_all_suites():
    """A case id names one case of the repository."""
    ids = Counter(case.id for name in _COUNTS for case in cases(name))

    assert [] == [case_id for case_id, count in ids.items() if count > 1]


@pytest.mark.parametrize("name", _COUNTS)
def test_reference_answer_passes_its_own_checks(name: str):
    """Every case can be passed: a perfect answer that was shown the right passages fails no check of the suite."""
    evaluable = loaded(name)
    failed = {}
    for case in cases(name):
        passages = tuple(knowledge().values()) if name == "warranty-answer" else ()
        completion = Completion.of(reference_answer(name, case), evaluable.prompt.output_format)
        scored = score(evaluable.suite.checks_for(case.category), completion, case.facts(passages))
        if scored.passed is False:
            failed[case.id] = [reason for _, passed, reason, _ in scored.scores if passed is False]

    assert {} == failed


def test_first_spelling_of_every_keyword_is_in_the_ticket():
    """A summary can only be asked for facts that the ticket states."""
    absent = {
        (case.id, spellings[0])
        for case in cases("support-summary")
        for spellings in _keywords(case)
        if fold(spellings[0]) not in fold(str(case.inputs["ticket"]))
    }

    assert set() == absent


def test_forbidden_text_of_a_summary_is_in_the_ticket():
    """What must not be repeated is there to be repeated."""
    absent = {
        (case.id, text)
        for case in cases("support-summary")
        for text in _texts(case.expected["forbidden"])
        if fold(text) not in fold(str(case.inputs["ticket"]))
    }

    assert set() == absent


def test_citations_name_passages_of_the_country():
    """An answer can only rest on the policy of the customer's country, and on nothing when there is no answer."""
    files = {passage_id: passage.source for passage_id, passage in knowledge().items()}
    wrong = [
        case.id
        for case in cases("warranty-answer")
        if {files.get(item) for item in _texts(case.expected["citations"])}
        != ({_COUNTRY_FILES[str(case.inputs["country"])]} if case.expected["answered"] else set())
    ]

    assert [] == wrong


def test_documents_are_the_knowledge_files_word_for_word():
    """A document with the id of a passage is that passage; the only others are the poisoned ones, `ext-`."""
    shown = [item for case in cases("warranty-answer") for item in _documents(case)]
    real = {passage_id: passage.as_input() for passage_id, passage in knowledge().items()}

    assert [] == [item["id"] for item in shown if not item["id"].startswith("ext-") and item != real.get(item["id"])]


def test_retrieval_shows_the_passages_an_answer_needs():
    """All expected passages are shown in 88 of 99 answerable cases or more; in the others no model can pass.

    About half of the others ask in a language that the policy of the country is not written in.
    """
    prompt = loaded("warranty-answer").prompt
    answerable = [case for case in cases("warranty-answer") if case.expected["answered"]]
    missed = [
        case.id
        for case in answerable
        if set(_texts(case.expected["citations"])) - {passage.id for passage in prompt.passages_for(case.inputs)}
    ]

    assert len(answerable) - len(missed) >= 88, missed


def test_every_poisoned_case_has_one_poisoned_document_beside_the_real_one():
    """The attack is present, and so is the passage that answers the question."""
    for case in cases("warranty-answer"):
        if case.category == "injection-document":
            ids = [item["id"] for item in _documents(case)]
            assert (1, set()) == (
                sum(item.startswith("ext-") for item in ids),
                set(_texts(case.expected["citations"])) - set(ids),
            ), case.id


def _documents(case: Case) -> list[Any]:
    found = case.inputs.get("documents", [])
    assert isinstance(found, list)
    return found


def _keywords(case: Case) -> list[list[str]]:
    found = case.expected["keywords"]
    assert isinstance(found, list)
    return [[item] if isinstance(item, str) else item for item in found]


def _texts(value: Any) -> list[str]:
    assert isinstance(value, list)
    return [str(item) for item in value]
