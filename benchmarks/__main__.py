"""`python -m benchmarks [NAME]...`: the figures of these benchmarks, or of all; exit 1 when a target is missed."""

import sys
import tempfile
from pathlib import Path

from benchmarks.measure import HEAD, line
from benchmarks.targets import BENCHMARKS


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; known: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    print(HEAD, flush=True)
    missed = False
    for name in names or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix="promptops-bench-") as folder:
            for figure in BENCHMARKS[name](Path(folder)):
                print(line(figure), flush=True)
                missed |= not figure.holds
    return int(missed)


sys.exit(main(sys.argv[1:]))
