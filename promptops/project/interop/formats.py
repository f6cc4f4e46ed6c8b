"""The formats that can be read and written, by name."""

from collections.abc import Callable
from pathlib import Path

from promptops.core.errors import DataError, did_you_mean
from promptops.project.interop.draft import Draft

DATASETS = ("openai-evals", "inspect", "langsmith", "langfuse")
READ = ("promptfoo", *DATASETS, "prompty", "dotprompt")
WRITTEN = ("promptfoo", *DATASETS, "prompty-v1", "prompty-v2", "dotprompt")


def read_foreign(form: str, file: str, name: str) -> Draft:
    """What a file of a format says. Raises DataError for an unknown format, or a file that cannot be read."""
    if form not in READ:
        raise DataError(f"unknown format {form[:40]!r}", hint=did_you_mean(form, (*READ, "gto")))
    if not file:
        raise DataError("no file is named", hint=f"promptops import {form} FILE")
    path = Path(file)
    if not path.is_file():
        raise DataError("file not found", where=file)
    return _reader(form)(path, name)


def _reader(form: str) -> Callable[[Path, str], Draft]:
    if form == "promptfoo":
        from promptops.project.interop.promptfoo import read_promptfoo

        return read_promptfoo
    if form == "prompty":
        from promptops.project.interop.prompty import read_prompty

        return read_prompty
    if form == "dotprompt":
        from promptops.project.interop.dotprompt import read_dotprompt

        return read_dotprompt
    from promptops.project.interop.datasets import read_dataset

    return lambda path, name: read_dataset(form, path, name)
