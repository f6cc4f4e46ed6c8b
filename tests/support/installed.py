"""A package that is installed for one test: a module and its entry points."""

from collections.abc import Mapping
from pathlib import Path

import pytest


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *, module: str, source: str, points: Mapping[str, Mapping[str, str]]) -> Path:  # fmt: skip
    """Put `module` with this source, and entry points by group and name, on the path; the folder works as PYTHONPATH, too."""
    site = folder / f"site-{module}"
    info = site / f"{module}-1.2.dist-info"
    info.mkdir(parents=True)
    (site / f"{module}.py").write_text(source)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {module}:{target}\n" for name, target in names.items())
            for group, names in points.items()
        )
    )
    monkeypatch.syspath_prepend(str(site))
    return site
