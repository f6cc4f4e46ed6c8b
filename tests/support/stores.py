"""Every run store there is: a test that takes `store` or `store_address` holds for each."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from promptops.project.store import Store, StoreAddress, open_store


@pytest.fixture(params=["sqlite", "postgres"])
def store_address(request: pytest.FixtureRequest, tmp_path: Path) -> StoreAddress:
    """An empty store of this test alone."""
    root = tmp_path / "kept"
    root.mkdir()
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return StoreAddress(root=root, url=url)


@pytest.fixture
def store(store_address: StoreAddress) -> Iterator[Store]:
    with closing(open_store(store_address)) as opened:
        yield opened
