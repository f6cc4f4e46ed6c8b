"""Child process of the benchmark `scan`: reads a project as `eval` does, up to the golden rows or with them."""

import sys
from pathlib import Path

from promptops.project.golden import scan_golden
from promptops.project.project import open_project
from promptops.project.prompts import load_prompt
from promptops.project.suites import load_suite


def main(root: Path, name: str, *, scan: bool) -> None:
    project = open_project(root)
    prompt = load_prompt(project.tree, name)
    suite = load_suite(project.tree, name, prompt)
    if scan:
        scan_golden(project.tree, suite, prompt, max_case_bytes=project.config.max_case_bytes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], scan=sys.argv[3] == "scan")
