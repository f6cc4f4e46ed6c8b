"""One Ray on this machine for all tests that need it; tests/conftest.py makes it known."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of a cluster of this test process, which is connected to it: commands in this process use it, others by RAY_ADDRESS."""
    from promptops.evaluation.on_ray import connected

    with connected("", cpus=6) as ray:
        yield ray.get_runtime_context().gcs_address
