"""Releases in a repository of 500 prompts and 10,000 tags, and a rollback against GTO's in one of 1,000 tags."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.measure import Cost, Figure, cost_of, middle
from benchmarks.release_repository import git, make_repository

PYTHON = sys.executable
PROMPTOPS = (str(Path(PYTHON).with_name("promptops")),) if Path(PYTHON).with_name("promptops").exists() else (PYTHON, "-m", "promptops")  # fmt: skip
_TIMES = 5


def releases(folder: Path) -> Iterator[Figure]:
    """CPU with all children; `start-up` is what `promptops promote --help` takes, the reference what git needs to list the tags."""
    root, environment = make_repository(folder / "many", prompts=500, tags=10_000)
    listing = middle([cost_of(("git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/tags"), root) for _ in range(_TIMES)])  # fmt: skip
    start_up = _median(root, environment, ["promote", "--help"])
    status = _median(root, environment, ["status", "--offline"])
    yield Figure(what="status of 10,000 tags", unit="CPU s", value=status, reference=listing.cpu_s, target=1.0)
    promote, rollback = [], []
    for number in range(_TIMES):
        name = f"prompt-{number:04}"
        promote.append(_cost(root, environment, ["promote", f"{name}@v1.3.0", "--to", "prod", "--offline"]).cpu_s)
        rollback.append(_cost(root, environment, ["rollback", name, "--channel", "prod", "--reason", "slow", "--offline"]).cpu_s)  # fmt: skip
    yield Figure(what="promote beyond start-up, 10,000 tags", unit="CPU s", value=median(promote) - start_up, reference=listing.cpu_s, target=0.5)  # fmt: skip
    yield Figure(what="rollback beyond start-up, 10,000 tags", unit="CPU s", value=median(rollback) - start_up, reference=listing.cpu_s, target=0.5)  # fmt: skip


def verifying(folder: Path) -> Iterator[Figure]:
    """Every signature of 50 events of one channel, from tags that are read already; the reference is ed25519 alone."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from promptops.project.git import Git
    from promptops.release.ledger import read_ledger
    from promptops.release.trust import Trust, parse_signers
    from promptops.release.verify import Judge

    root, _ = make_repository(folder / "long", prompts=1, tags=104)
    trust = Trust(entries=parse_signers((root / ".promptops-signers").read_text(), "signers"), source="signers")
    judge = Judge(trust=trust, now=datetime.now(UTC))
    ledger = read_ledger(Git(root), "prompt-0000")
    items = ledger.events["prompt-0000", "prod"]
    assert len(items) == 50
    key = Ed25519PrivateKey.generate()
    signature = key.sign(b"x" * 64)
    found, bare = [], []
    for _ in range(9):
        started = time.process_time()
        state, states = judge.channel(ledger, "prompt-0000", "prod"), judge.events(items)
        found.append((time.process_time() - started) / 2)  # both calls check all
        assert not state.fault
        assert {"trusted"} == {item.status for item in states}
        started = time.process_time()
        for _ in items:
            key.public_key().verify(signature, b"x" * 64)
        bare.append(time.process_time() - started)
    yield Figure(what="verifying 50 events", unit="CPU s", value=median(found), reference=median(bare), target=0.2)


def against_gto(folder: Path) -> Iterator[Figure]:
    """A rollback among 1,000 tags, as promptops and as GTO do it, taking turns; start-up included on both sides."""
    root, environment = make_repository(folder / "ours", prompts=50, tags=1_000)
    other = folder / "gto"
    other.mkdir()
    git(other, "init", "-q", "-b", "main")
    heads: list[str] = []
    for number in range(4):  # GTO wants each version on a commit of its own
        (other / "file").write_text(str(number))
        git(other, "add", "-A")
        git(other, "commit", "-q", "-m", f"Change {number}")
        heads.append(git(other, "rev-parse", "HEAD"))
    stream = "".join(_gto_tag(tag, heads[place]) for tag, place in _gto_tags(50, 20))
    git(other, "fast-import", "--quiet", given=stream.encode())
    for key, value in (("user.name", "Ana"), ("user.email", "ana@example.com")):
        git(other, "config", key, value)
    gto = _install_gto(folder / "venv")
    ours: list[Cost] = []
    theirs: list[Cost] = []
    for number in range(3):
        name = f"prompt-{number:04}"
        ours.append(_cost(root, environment, ["rollback", name, "--channel", "prod", "--reason", "slow", "--offline"]))
        theirs.append(cost_of((gto, "assign", name, "--version", "v1.1.0", "--stage", "prod", "--force"), other))
    yield Figure(what="rollback among 1,000 tags, GTO as reference", unit="CPU s", value=middle(ours).cpu_s, reference=middle(theirs).cpu_s,
                 target=1.5, max_ratio=1 / 20)  # fmt: skip


def _gto_tags(artifacts: int, each: int) -> Iterator[tuple[str, int]]:
    """(tag, which commit): four versions, and stage assignments that go through them in turn."""
    for number in range(artifacts):
        name = f"prompt-{number:04}"
        yield from ((f"{name}@v1.{minor}.0", minor) for minor in range(4))
        yield from ((f"{name}#prod#{seq}", seq % 4) for seq in range(1, each - 3))


def _gto_tag(tag: str, head: str) -> str:
    return f"tag {tag}\nfrom {head}\ntagger Ana <ana@example.com> 1767225600 +0000\ndata 1\nx\n"


def _install_gto(venv: Path) -> str:
    subprocess.run([PYTHON, "-m", "venv", str(venv)], check=True, capture_output=True)
    subprocess.run([str(venv / "bin" / "pip"), "install", "-q", "gto"], check=True, capture_output=True)
    return str(venv / "bin" / "gto")


def _cost(root: Path, environment: Mapping[str, str], arguments: list[str]) -> Cost:
    return cost_of(("env", *(f"{key}={value}" for key, value in environment.items()), *PROMPTOPS, *arguments), root)


def _median(root: Path, environment: Mapping[str, str], arguments: list[str]) -> float:
    return median(_cost(root, environment, arguments).cpu_s for _ in range(_TIMES))


def racing(folder: Path) -> Iterator[Figure]:
    """100 rounds of two clones that promote at the same moment: rounds without exactly one winner and a clean loser."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from release.racing import race
    from release.shop import NAME as PROMPT
    from release.shop import open_shop

    shop = open_shop(folder / "shop")
    first = shop.clone("ana")
    for number in ("1.0.0", "1.1.0", "1.2.0"):
        first.version(number)
    others = [shop.clone("ana", name=name) for name in ("one", "two")]
    outcomes = race([clone.root for clone in others], first.environment, PROMPT, 100)
    wrong = sum(outcome != (1, 1, True) for outcome in outcomes)
    yield Figure(
        what="races of 100 without one winner, a clean loser",
        unit="rounds",
        value=wrong,
        reference=len(outcomes),
        target=0,
    )


RELEASES = {"releases": releases, "verifying": verifying, "gto": against_gto, "racing": racing}
