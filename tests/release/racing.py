"""Two clones promote at once: real processes that start together, round after round."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from conftest import REPOSITORY

VERSIONS = ("1.1.0", "1.2.0")


def race(
    clones: Sequence[Path], environment: Mapping[str, str], name: str, rounds: int, start: int = 0
) -> list[tuple[int, int, bool]]:
    """(winners, losers with exit 5, whether losers hold just what the remote has) of each round, numbered from `start`.

    Before each round a channel of its own is promoted to 1.0.0 in the first clone; then all clones promote at the same moment, each to a
    version of its own.
    """
    env = os.environ | dict(environment) | {"PYTHONPATH": str(REPOSITORY), "GIT_CONFIG_GLOBAL": os.devnull}
    found: list[tuple[int, int, bool]] = []
    for number in range(start, start + rounds):
        channel = f"race-{number}"
        command = [sys.executable, "-m", "promptops", "promote"]
        subprocess.run(
            [*command, f"{name}@1.0.0", "--to", channel], cwd=clones[0], env=env, check=True, capture_output=True
        )
        for clone in clones[1:]:
            subprocess.run(
                [*command, f"{name}@1.0.0", "--to", channel], cwd=clone, env=env, check=True, capture_output=True
            )
        runners = [
            subprocess.Popen([*command, f"{name}@{version}", "--to", channel, "--if-current", "1.0.0"], cwd=clone, env=env,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for clone, version in zip(clones, VERSIONS, strict=True)
        ]  # fmt: skip
        said = [runner.communicate()[1].decode() for runner in runners]
        codes = [runner.returncode for runner in runners]
        if not set(codes) <= {0, 5}:
            raise RuntimeError(f"round {number} ended with {codes}: {said}")
        clean = all(_tags(clone, channel) <= _tags(clone, channel, remote=True) for clone in clones)
        found.append((codes.count(0), codes.count(5), clean))
    return found


def _tags(clone: Path, channel: str, *, remote: bool = False) -> set[str]:
    """`<object> <ref>` of the events of a channel."""
    arguments = ["ls-remote", "--refs", "origin", f"refs/tags/channel/*/{channel}/*"] if remote else ["for-each-ref", "--format=%(objectname)\t%(refname)", "refs/tags/channel"]  # fmt: skip
    listing = subprocess.run(["git", *arguments], cwd=clone, check=True, capture_output=True, text=True).stdout
    return {line for line in listing.splitlines() if f"/{channel}/" in line}
