"""Fixtures of the tests that need a Redis server; tests/conftest.py makes them known (a second conftest.py would hide the first)."""

import itertools
from collections.abc import Iterator

import pytest

from runtime.redis_server import RedisServer

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server a test process; tests keep apart by `namespace`."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def namespace() -> str:
    return f"test-{next(_NUMBERS)}"
