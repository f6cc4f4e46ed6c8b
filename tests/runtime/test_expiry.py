"""A release that expired, or a clock that is wrong, changes no answer and is told."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from promptops.core.errors import DataError, RefusedError
from promptops.project.project import open_project
from promptops.release.export import Served, bundle_files, shipped_at, write_bundle
from promptops.runtime import Runtime
from promptops.runtime.bundle import Trust, load_bundle, parse_bundle
from promptops.runtime.expiry import expiry_of
from promptops.runtime.testing import Heard
from release.shop import git
from runtime.bundles import INPUTS, NAME, Scripted, make_project, make_served

RELEASED = datetime(2026, 3, 1, 12, tzinfo=UTC)
EXPIRES = "2026-03-31T12:00:00Z"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("p") / "project", {"expires_days": 30, "cache": {"ttl_s": 0}})


def files_of(project: Path, *, seq: int = 1, at: datetime = RELEASED) -> dict[str, bytes]:
    served = make_served(project, seq=seq)
    served = replace(served, live=replace(served.live, released_at=at.isoformat()))
    return bundle_files([served], channel="prod", development=True)


class Wall:
    """A wall clock in Unix seconds that tests set."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at.timestamp()


def opened(project: Path, place: Path, wall: Any) -> tuple[Runtime, Heard]:
    write_bundle(files_of(project), place, as_archive=False)
    heard = Heard()
    models: Any = {"small": Scripted(), "large": Scripted()}
    return Runtime.load(place, allow_unsigned=True, clients=models, observers=[heard], wall_clock=wall), heard


@pytest.mark.parametrize(
    ("days", "expected"),
    [(0, []), (29, []), (30, ["expired"]), (430, ["expired"]), (-0.9, []), (-2, ["clock_wrong"]), (-400, ["clock_wrong"])],
)  # fmt: skip
def test_R11_an_expired_release_or_a_wrong_clock_is_marked_and_served_on(project: Path, tmp_path: Path, days: float, expected: list[str]) -> None:  # fmt: skip
    """The same version answers, whole; the step and one notice say what is wrong, however many requests come."""
    runtime, heard = opened(project, tmp_path / "b", Wall(RELEASED + timedelta(days=days)))
    replies = [runtime.complete(NAME, INPUTS) for _ in range(3)]
    runtime.close()

    assert {("model", "v1.0.0", "")} == {(reply.source, reply.version, reply.degraded) for reply in replies}
    assert [expected] * 3 == [[step.decision for step in reply.steps if step.stage == "bundle"] for reply in replies]
    assert [f"bundle_{state}" for state in expected] == [event for event, _ in heard.notices]


def test_R11_a_running_service_notices_the_day_and_a_clock_that_is_put_right(project: Path, tmp_path: Path) -> None:
    """Expiry while it runs: nothing is reloaded, each change is told once, and the mark goes when the clock is right again."""
    wall = Wall(RELEASED)
    runtime, heard = opened(project, tmp_path / "b", wall)
    digest, seen = runtime.bundle.digest, []
    for days in (1, 31, 32, -400, 2):
        wall.at = RELEASED + timedelta(days=days)
        seen.append([step.decision for step in runtime.complete(NAME, INPUTS).steps if step.stage == "bundle"])
    runtime.close()

    assert [[], ["expired"], ["expired"], ["clock_wrong"], []] == seen
    assert ["bundle_expired", "bundle_clock_wrong", "bundle_current"] == [event for event, _ in heard.notices]
    assert digest == runtime.bundle.digest


def test_R11_a_clock_that_gives_no_number_stops_nothing(project: Path, tmp_path: Path) -> None:
    """NaN compares with nothing; it is a wrong clock."""
    runtime, _ = opened(project, tmp_path / "b", lambda: float("nan"))
    reply = runtime.complete(NAME, INPUTS)
    runtime.close()

    assert ("model", "clock_wrong") == (reply.source, reply.steps[0].decision)


def test_R11_prometheus_counts_requests_of_a_marked_release(project: Path, tmp_path: Path) -> None:
    """Each request counts, so that an alert stays as long as the release is served."""
    from prometheus_client import CollectorRegistry

    from promptops.runtime.telemetry.prometheus import PrometheusObserver

    registry = CollectorRegistry()
    runtime, heard = opened(project, tmp_path / "b", Wall(RELEASED + timedelta(days=31)))
    for _ in range(2):
        runtime.complete(NAME, INPUTS)
    runtime.close()
    observer = PrometheusObserver(registry)
    for request, reply in heard.replies:
        observer.replied(request, reply)

    assert 2 == registry.get_sample_value("promptops_bundle_marked_requests_total", {"prompt": NAME, "version": "v1.0.0", "state": "expired"})  # fmt: skip


def test_the_date_comes_from_the_release_and_nothing_else(project: Path) -> None:
    """The same instant in another zone gives the same bytes; the manifest says it in UTC."""
    files = files_of(project)
    elsewhere = RELEASED.astimezone(tz=datetime.fromisoformat("2026-01-01T00:00:00+09:00").tzinfo)

    assert files == files_of(project, at=elsewhere)
    assert EXPIRES == json.loads(files["manifest.json"])["releases"][NAME]["live"]["expires"]
    assert EXPIRES == expiry_of("2026-03-01T12:00:00", 30), "a date without a zone is UTC on every machine"


def test_R18_a_commit_gives_the_same_bytes_in_every_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In development the date is that of the commit, wherever and whenever it is exported."""
    import time

    root = make_project(tmp_path / "project", {"expires_days": 30})
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "one")
    made = []
    try:
        for zone in ("UTC", "Asia/Tokyo"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            made.append(bundle_files([Served(live=shipped_at(open_project(root), NAME, at="HEAD", version="dev-1", model="small"))], channel="", development=True))  # fmt: skip
    finally:
        monkeypatch.undo()
        time.tzset()
    seconds = int(git(root, "show", "-s", "--format=%ct", "HEAD"))

    assert made[0] == made[1]
    release = parse_bundle(made[0], Trust(unsigned=True), where="b").channels[NAME].live
    assert release.expiry is not None
    assert seconds == release.expiry.released_s


def test_without_the_setting_the_manifest_has_no_date(tmp_path: Path) -> None:
    """Nothing expires by default."""
    place = make_project(tmp_path / "project", {})
    files = bundle_files([make_served(place)], channel="prod", development=True)

    assert "expires" not in json.loads(files["manifest.json"])["releases"][NAME]["live"]


def test_what_cannot_expire_is_not_exported(project: Path) -> None:
    """Files that are in no commit have no date to count from, and 100 years after 9999 is none."""
    with pytest.raises(DataError, match="no date"):
        bundle_files([make_served(project)], channel="prod", development=True)
    with pytest.raises(DataError, match="cannot expire"):
        files_of(project, at=datetime(9999, 12, 31, tzinfo=UTC))


def test_R2_a_date_taken_out_of_the_manifest_is_noticed(project: Path, tmp_path: Path) -> None:
    """The settings say that the release expires; a manifest that does not is refused."""
    files = files_of(project)
    manifest = json.loads(files["manifest.json"])
    del manifest["releases"][NAME]["live"]["expires"]
    write_bundle({**files, "manifest.json": json.dumps(manifest).encode()}, tmp_path / "b", as_archive=False)

    with pytest.raises(RefusedError, match="only one of them says"):
        load_bundle(tmp_path / "b", Trust(unsigned=True))
