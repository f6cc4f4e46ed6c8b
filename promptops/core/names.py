"""Grammar of the names people give: prompts, categories, models, runs."""

import re

NAME_PATTERN = r"[a-z0-9]+(-[a-z0-9]+)*"
RUN_PATTERN = r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}"
MAX_NAME = 80
_NAME = re.compile(NAME_PATTERN)
_RUN = re.compile(RUN_PATTERN)


def is_name(text: str) -> bool:
    """Whether `text` is a slug: lower-case words and digits joined by single hyphens, at most 80 characters."""
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def is_run_id(text: str) -> bool:
    return _RUN.fullmatch(text) is not None
