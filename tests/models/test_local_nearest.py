"""local:nearest and local:constant: honest floors, never shown the answer they are scored on."""

import pytest

from promptops.core.errors import DataError
from promptops.core.suite import Case
from promptops.models.base import ModelRequest
from promptops.models.local.nearest import Constant, Nearest


def case(name: str, text: str, group: str = "", **expected: object) -> Case:
    return Case(id=name, category="any", inputs={"text": text}, expected=expected, group=group)


def answers(model: Nearest | Constant, cases: list[Case]) -> dict[str, object]:
    return {item.id: model.respond(ModelRequest(messages=(), inputs=item.inputs)) for item in cases}


PARCELS = [case(f"p{number}", f"the parcel number {number} is late again", label="delivery") for number in range(6)]
LAMPS = [case(f"l{number}", f"my lamp flickers, model {number}", label="product") for number in range(4)]


def test_nearest_answers_with_what_similar_cases_expect():
    assert {item.id: {"label": item.expected["label"]} for item in PARCELS + LAMPS} == answers(
        Nearest(("label",), ("text",), PARCELS + LAMPS), PARCELS + LAMPS
    )


def test_constant_is_the_majority_of_the_others():
    """Also where the majority is wrong."""
    assert {({"label": "delivery"})["label"]} == {
        answer["label"] for answer in answers(Constant(("label",), ("text",), PARCELS + LAMPS), LAMPS).values()
    }  # type: ignore[index]


def test_a_twin_in_the_same_group_is_not_learnt_from():
    """The only case that knows the answer is of the same document: the prediction is another one."""
    twins = [
        case("a", "unique wording zebra", "doc", label="secret"),
        case("b", "unique wording zebra!", "doc", label="secret"),
    ]
    others = [case(f"o{number}", f"some other text {number}", label="other") for number in range(4)]

    found = answers(Nearest(("label",), ("text",), [*twins, *others]), twins)

    assert {"a": {"label": "other"}, "b": {"label": "other"}} == found


def test_further_rows_are_learnt_from_and_never_asked():
    """Rows for training only make the answer known; they are not among the answers."""
    few = [case("a", "the kettle leaks", label="?"), case("b", "hello there", label="?")]
    more = [case(f"m{number}", "the kettle leaks water", label="product") for number in range(3)]
    model = Nearest(("label",), ("text",), few, more)

    assert {"a": {"label": "product"}} == answers(model, few[:1])
    with pytest.raises(DataError, match="knows only the golden cases"):
        model.respond(ModelRequest(messages=(), inputs=more[0].inputs))


def test_a_field_that_most_cases_leave_out_is_left_out():
    cases = [
        case("a", "one text", label="x", amount=3),
        case("b", "one more text", label="x"),
        case("c", "another text", label="x"),
    ]

    assert [{"label": "x"}] == list(answers(Constant(("label", "amount"), ("text",), cases), cases[:1]).values())


@pytest.mark.parametrize("model", [Nearest, Constant])
def test_cases_without_an_expected_answer_are_refused(model):
    with pytest.raises(DataError, match="has nothing to answer with"):
        model(("label",), ("text",), [case("a", "one", keywords=["x"]), case("b", "two", keywords=["y"])])
