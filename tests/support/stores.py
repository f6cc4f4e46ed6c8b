"""Every run store there is: a test that takes `store` or `store_address` holds for each."""

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from promptops.project.store import Store, StoreAddress, open_store
from support.postgresql import PostgresServer

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def _stores_database(postgres_server: PostgresServer) -> str:
    return postgres_server.url(postgres_server.new_database())


@pytest.fixture
def postgres_schema_url(_stores_database: str) -> str:
    """The address of a store of this test alone: a schema takes a tenth of the time that a database takes."""
    return f"{_stores_database}?schema=s{next(_NUMBERS)}"


@pytest.fixture(params=["sqlite", "postgres"])
def store_address(request: pytest.FixtureRequest, tmp_path: Path) -> StoreAddress:
    """An empty store of this test alone."""
    root = tmp_path / "kept"
    root.mkdir()
    url = request.getfixturevalue("postgres_schema_url") if request.param == "postgres" else ""
    return StoreAddress(root=root, url=url)


@pytest.fixture
def every_store(store_address: StoreAddress) -> Iterator[Store]:
    with closing(open_store(store_address)) as opened:
        yield opened


@pytest.fixture
def store(every_store: Store) -> Store:
    """The same; a module whose tests are mostly not about stores may have another under this name."""
    return every_store
