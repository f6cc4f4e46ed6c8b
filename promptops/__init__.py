"""Version, evaluate, gate and ship prompts."""

from promptops.core.version import __version__

__all__ = ["__version__"]
