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
    """A rollback of one prompt with 1,000 tags, as promptops and as GTO do it, taking turns; with and without the start-up of each."""
    root, environment = make_repository(folder / "ours", prompts=1, tags=1_000)
    other = _gto_repository(folder / "gto", 500)
    gto = _install_gto(folder / "venv")
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(3):
        rollback = [
            "rollback",
            "prompt-0000",
            "--channel",
            "prod",
            "--to",
            f"v1.{2 - number}.0",
            "--reason",
            "slow",
            "--offline",
        ]
        ours.append(_cost(root, environment, rollback).cpu_s)
        theirs.append(
            cost_of((gto, "assign", "p", "--version", f"v1.{number}.0", "--stage", "prod", "--force"), other).cpu_s
        )
    start_up = _median(root, environment, ["promote", "--help"])
    gto_start_up = median(cost_of((gto, "assign", "--help"), other).cpu_s for _ in range(3))
    yield Figure(what="rollback in 1,000 tags, GTO as reference", unit="CPU s", value=median(ours), reference=median(theirs), target=1.5, max_ratio=1 / 20)  # fmt: skip
    yield Figure(what="the same, both beyond their start-up", unit="CPU s", value=median(ours) - start_up, reference=median(theirs) - gto_start_up,
                 target=0.5, max_ratio=1 / 20)  # fmt: skip


def _gto_repository(root: Path, versions: int) -> Path:
    """One artifact with that many versions, each on a commit of its own as GTO wants it, and as many stage assignments."""
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    parts: list[str] = []
    for number in range(versions):
        who = f"Ana <ana@example.com> {1767225600 + 60 * number} +0000"
        parent = f"from :{number}\n" if number else ""
        parts.append(
            f"commit refs/heads/main\nmark :{number + 1}\ncommitter {who}\ndata 2\nc\n{parent}M 100644 inline file\ndata {len(str(number))}\n{number}\n"
        )
        parts.append(f"tag p@v1.{number}.0\nfrom :{number + 1}\ntagger {who}\ndata 2\nx\n")
        parts.append(f"tag p#prod#{number + 1}\nfrom :{number + 1}\ntagger {who}\ndata 2\nx\n")
    git(root, "fast-import", "--quiet", given="".join(parts).encode())
    for key, value in (("user.name", "Ana"), ("user.email", "ana@example.com")):
        git(root, "config", key, value)
    return root


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
