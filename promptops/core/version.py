"""The one place that states the version of promptops."""

__version__ = "0.1.0"
