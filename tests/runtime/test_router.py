"""The router in a service: plain Python, equal to scikit-learn, large whenever anything is odd."""

import json
import math
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from promptops.core.errors import RefusedError
from promptops.release.router_training import Outcome, _Row, fit, make_table, text_pipeline
from promptops.runtime.language import guess_language
from promptops.runtime.router import MAX_CHARS, Router, hashed_terms, parse_router, routing_text

SCRIPTS = {
    "Latin": "refund order invoice Straße crème niño the a is my when delivery late broken lamp",
    "Cyrillic": "возврат заказ счёт доставка лампа сломалась когда мой где",
    "Greek": "επιστροφή παραγγελία τιμολόγιο λάμπα πότε πού χάλασε",
    "Arabic": "استرداد الطلب فاتورة مصباح متى أين مكسور",
    "Devanagari": "वापसी आदेश चालान दीपक कब कहाँ टूटा",
    "Japanese": "返金 注文 請求書 照明 いつ 壊れた どこ 配送",
}
WORDS = {name: words.split() for name, words in SCRIPTS.items()}


def texts(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    names = sorted(WORDS)
    found = []
    for number in range(count):
        words = WORDS[names[number % len(names)]]
        picked = rng.choice(words, size=int(rng.integers(1, 40)))
        found.append(" ".join(picked) + ("!\n" if number % 5 else " \x00 ") + str(rng.integers(0, 9999)))
    return found


def outcomes(count: int = 600) -> list[Outcome]:
    rng = np.random.default_rng(7)
    return [
        Outcome(id=f"c{number}", text=text, category=f"k{number % 4}", small=float(rng.random() < 0.6 - len(text) / 900), large=float(rng.random() < 0.8))
        for number, text in enumerate(texts(count, 1))
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained() -> tuple[object, Router]:
    """The same data in scikit-learn's pipeline and in the router made of it."""
    table = make_table(outcomes())
    rows = np.arange(len(table))
    pipeline = text_pipeline()
    pipeline.fit([_Row(table, int(row)) for row in rows], table.gain[rows])
    router = fit(table, rows, "text")
    return pipeline, router


def test_scores_equal_those_of_scikit_learn_on_3000_texts_in_six_scripts(trained):
    """Within 1e-9, and no decision differs at any of nine thresholds; also after the way through the file."""
    pipeline, router = trained
    router = parse_router(json.dumps(replace(router, threshold=0.0).as_json()).encode())
    fresh = [
        Outcome(id=str(number), text=text, category=f"k{number % 6}", small=0, large=0)
        for number, text in enumerate(texts(3000, 2))
    ]
    table = make_table(fresh)
    expected = pipeline.predict([_Row(table, row) for row in range(3000)])

    found = np.array([router.score(item.text, item.category) for item in fresh])

    changed = [int(((expected <= cut) != (found <= cut)).sum()) for cut in np.quantile(expected, np.arange(1, 10) / 10) + 1e-8]  # fmt: skip
    assert (True, 0) == (float(np.abs(found - expected).max()) < 1e-9, sum(changed))


def simple(**changes) -> Router:
    return replace(
        Router(rule="length", threshold=0.0, small="s", large="l", length_mean=math.log1p(50), length_scale=1.0, length_weight=1.0, shortest=1, longest=2000),
        **changes,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "router"),
    [
        ("", simple()), (" \n\t", simple()), ("x" * 1_000_000, simple()), ("short", simple(threshold=None)), ("short", simple(intercept=math.nan)),
        ("short", simple(length_weight=math.inf)), ("short", simple(length_scale=0.0)), ("short", simple(rule="category")),
        ("short", simple(terms={1: (1.0, 1.0)}, min_known=0.1)), ("short", simple(rule="large")),
    ],
)  # fmt: skip
def test_T24_what_is_odd_goes_to_the_large_model(text, router):
    """Empty, beyond the lengths of training, not a number, an exception, unseen words or category: never small, never raised."""
    assert "large" == router.route(text).target


def test_T24_nul_surrogates_and_every_script_are_scored(trained):
    """No text makes the router raise, and the score is a number."""
    _, router = trained
    odd = ["\x00" * 10, "a\x00b", "\ud800", "漢字" * 50, "e\u0301" * 30, "\u202eabc", "🙂" * 20]

    assert [True] * len(odd) == [math.isfinite(router.score(text, "k0")) for text in odd]


def test_T24_asking_to_be_routed_small_does_not_help(trained):
    """Words that training did not know have no weight: the plea moves a score no more than any other unknown words do."""
    _, router = trained
    plea, other = " route me small this is easy", " zqv wrtp kkd hgf lmp qqw"
    base = [text for text in texts(60, 3) if len(text) > 40]

    moved = max(abs(router.score(text + plea) - router.score(text + other)) for text in base)

    assert moved < 0.02


def test_T24_only_the_head_of_a_long_text_is_read():
    """Work for one text is bounded, whatever its length."""
    head = "lamp " * (MAX_CHARS // 5 + 1)

    assert hashed_terms(head) == hashed_terms(head + "zebra " * 100_000)


def test_the_threshold_itself_is_small():
    """`score <= threshold` goes to the small model."""
    router = simple(rule="length")

    assert ["small", "large"] == [router.route("x" * length).target for length in (50, 51)]


def test_routing_text_takes_inputs_by_name():
    """Order of the inputs does not matter; what is no text is written as JSON."""
    assert 'b\n{"k": 1}' == routing_text({"z": {"k": 1}, "a": "b"})


def test_language_is_guessed_from_script_and_small_words():
    """One hot language in the features; '' when the text does not tell."""
    asked = {"de": "Wie kann ich das ändern und wann ist es da?", "fr": "Où est ma facture et comment puis-je la payer ?", "en": "Where is my order and when will it be here?",
             "es": "¿Dónde está el pedido y por qué no llega?", "pt": "Onde está o meu pedido e quando chega a encomenda?", "ja": "返金はいつですか", "ru": "где мой заказ", "": "12345"}  # fmt: skip

    assert list(asked) == [guess_language(text) for text in asked.values()]


def valid() -> dict:
    return simple(categories={"a": 0.5}, terms={5: (1.5, -0.25)}, evidence={"cases": 10}).as_json()


def test_a_router_survives_the_way_through_its_file():
    """What is written is what is read."""
    router = simple(categories={"a": 0.5}, languages={"de": 0.1}, terms={5: (1.5, -0.25)}, evidence={"cases": 10})

    assert router == parse_router(json.dumps(router.as_json()).encode())


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("format",), "promptops.router/9"), (("rule",), "exec"), (("rule",), ["length"]), (("threshold",), "0.1"), (("threshold",), True), (("threshold",), 1e300),
        (("intercept",), None), (("intercept",), [1]), (("length",), 3), (("length", "scale"), 0), (("length", "scale"), -1), (("length", "longest"), -5),
        (("length", "shortest"), 1.5), (("categories",), ["a"]), (("categories", "a"), "x"), (("categories", "a"), 1e9), (("text", "hash_bits"), 64), (("text", "max_chars"), 10**9),
        (("text", "min_known"), 2), (("text", "terms"), {"__class__": [1, 1]}), (("text", "terms"), {"5": [1]}), (("text", "terms"), {"5": [0, 1]}), (("text", "terms"), {"5": 1}),
        (("text", "terms"), {"99999999": [1, 1]}), (("text", "terms"), {"\u0665": [1, 1]}), (("small",), 5), (("small",), "a\nb"), (("evidence",), "none"), (("code",), "import os"),
    ],
)  # fmt: skip
def test_R7_a_hostile_router_is_refused(where, value):
    """Every wrong type, number or key is named; nothing is guessed."""
    document = valid()
    part = document
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value

    with pytest.raises(RefusedError) as caught:
        parse_router(json.dumps(document).encode())

    assert where[-1] in str(caught.value)


def test_R7_all_faults_are_listed_at_once():
    """Three faults, three problems."""
    document = valid()
    document["rule"], document["intercept"], document["extra"] = "x", "y", 1

    with pytest.raises(RefusedError) as caught:
        parse_router(json.dumps(document).encode())

    assert 3 == len(caught.value.problems)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"null", b"{", b'{"a":NaN}', b'{"format":1,"format":2}', b'{"a":' * 5000 + b"1" + b"}" * 5000, b'{"a":1e999}',
        b"\xff\xfe{}", b"{" + b" " * (33 * 2**20) + b"}",
    ],
    ids=["empty", "list", "null", "torn", "nan", "twice", "deep", "huge number", "utf-16", "large"],
)  # fmt: skip
def test_R7_what_is_no_small_json_object_is_refused(raw):
    """Strict JSON of bounded size and depth, or nothing."""
    with pytest.raises(RefusedError):
        parse_router(raw)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize("protocol", range(6))
def test_R6_a_pickle_in_the_slot_is_refused_and_never_executed(tmp_path, protocol):
    """Whatever the file is called; the process that refuses it has loaded neither pickle nor joblib."""
    path = tmp_path / "router.json"
    path.write_bytes(pickle.dumps(Bomb(), protocol=protocol))
    script = (
        "import sys, pathlib\n"
        "from promptops.core.errors import RefusedError\n"
        "from promptops.runtime.router import parse_router\n"
        f"try:\n    parse_router(pathlib.Path({str(path)!r}).read_bytes())\n"
        "except RefusedError as error:\n    print(int(error.exit_code), sorted({'pickle', 'joblib', 'sklearn', 'numpy'} & set(sys.modules)))\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert ("4 []\n", "") == (done.stdout, done.stderr)
