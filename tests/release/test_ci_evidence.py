"""Evidence spares an evaluation: the content of a pull request that was approved before is not asked again."""

from pathlib import Path

import pytest

from release.shop import NAME, Clone, Shop, open_shop


@pytest.fixture
def ana(tmp_path: Path) -> Clone:
    return open_shop(tmp_path / "shop").clone("ana")


def a_change(clone: Clone) -> None:
    clone.git("checkout", "-q", "-b", "change")
    clone.edit(f"prompts/{NAME}/rules.yaml", "late|", "late|soaked|", push=False)


def state(clone: Clone) -> tuple[str, bool]:
    """(what became of the prompt, whether a run was made for it)."""
    before = len(clone.call("runs", "list", "--json").json["runs"])
    outcome = clone.call("ci", "run", "--base", "origin/main", "--json")
    (prompt,) = outcome.json["prompts"]
    return prompt["state"], len(clone.call("runs", "list", "--json").json["runs"]) > before


def test_signed_evidence_for_exactly_this_content_is_enough(ana: Clone):
    """It says who, and it is bound to the content: the next change is evaluated again."""
    a_change(ana)
    ana.call("eval")
    approved = ana.call("approve", NAME)
    same = state(ana)
    ana.edit(f"prompts/{NAME}/rules.yaml", "soaked|", "soaked|torn|", push=False)

    assert (0, ("approved", False), ("passed", True)) == (approved.code, same, state(ana))


def test_unsigned_evidence_spares_nothing(tmp_path: Path):
    """In unsigned mode anybody who can push a ref could approve their own change."""
    shop: Shop = open_shop(tmp_path / "shop", signed=False)
    clone = shop.clone("ana")
    a_change(clone)
    clone.call("eval")
    approved = clone.call("approve", NAME)

    assert (0, ("passed", True)) == (approved.code, state(clone))


def test_evidence_of_a_stranger_spares_nothing(ana: Clone, tmp_path: Path):
    """A key that the protected branch does not list counts for nothing, even when the change lists it."""
    a_change(ana)
    eve = Clone(ana.root, "eve", ana.keys)
    signers = eve.root / ".promptops-signers"
    signers.write_text(signers.read_text().replace("ana@example.com", "eve@example.com"))
    eve.git("commit", "-qam", "List myself")
    eve.call("eval")
    eve.call("approve", NAME)

    assert ("passed", True) == state(eve)
