"""Redis with Sentinel, in a cluster and behind TLS: the contract, failover, and addresses."""

import datetime as dt
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from promptops.core.errors import DataError
from promptops.runtime.queue.redis import RedisQueue
from promptops.runtime.redis_flags import RedisFlags
from promptops.runtime.state import Grant, State, StateError
from promptops.runtime.state.opening import open_state
from promptops.runtime.state.redis import RedisState
from promptops.runtime.state.redis_address import parse_redis
from runtime.clock import FakeClock
from runtime.redis_groups import Cluster, Watched, say, until
from runtime.redis_server import RedisServer
from runtime.spender import PATIENCE_S
from runtime.state_contract import StateContract, hold


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    yield found
    found.kill()


@pytest.fixture
def lossy(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of this test alone."""
    found = Cluster(tmp_path)
    yield found
    found.kill()


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Watched]:
    found = Watched(tmp_path)
    yield found
    found.kill()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class TestRedisClusterState(StateContract):
    """The contract, on three nodes."""

    @pytest.fixture
    def state(self, clock: FakeClock, cluster: Cluster, namespace: str) -> Iterator[State]:
        state = RedisState(cluster.url, namespace=namespace, clock=clock, timeout_s=PATIENCE_S)
        yield state
        state.close()


def test_answers_and_prompts_are_spread_over_a_cluster(cluster: Cluster, namespace: str):
    """Tenants' answers and prompts' meters are on all nodes; what one reservation counts is on one."""
    state = RedisState(cluster.url, namespace=namespace, timeout_s=PATIENCE_S)
    for number in range(40):
        state.put(f"tenant-{number}", "k", b"1", keep_s=600, tags=("prompt:x",))
        state.reserve(
            [hold(1, meter=f"prompt-{number}/day/requests/a"), hold(1, meter=f"prompt-{number}/hour/tokens/")],
            lease_s=600,
        )
    sizes = [int(say(server.port, "DBSIZE").strip(":\r\n")) for server in cluster.servers]
    reserved = state.reserved()
    dropped = state.invalidate("prompt:x")
    state.close()

    assert [True] * 3 == [size > 20 for size in sizes]
    assert (40, 40) == (reserved, dropped)


def test_services_share_a_server_and_nothing_on_it(redis_server: RedisServer):
    """State, queue and flags of an address are in its namespace alone."""
    addresses = [f"{redis_server.url}?namespace=service-{name}" for name in "ab"]
    states, queues, flags = (
        [kind(url, timeout_s=PATIENCE_S) for url in addresses] for kind in (RedisState, RedisQueue, RedisFlags)
    )
    states[0].reserve([hold(3)], lease_s=60)
    queues[0].put("k", b"1")
    flags[0].change(lambda _: b'{"flags": {}}')
    found = [state.used("m", 60) for state in states], [queue.counts().waiting for queue in queues]
    with pytest.raises(FileNotFoundError):
        flags[1].read()
    for each in states:
        each.close()

    assert ([3, 0], [1, 0]) == found


def test_a_reservation_over_two_groups_of_a_cluster_is_refused(cluster: Cluster, namespace: str):
    """What one script cannot count together is not counted at all, and the text says what would do."""
    state = RedisState(cluster.url, namespace=namespace, timeout_s=PATIENCE_S)
    with pytest.raises(StateError, match="before the first /"):
        state.reserve([hold(1, meter="one/day/requests/"), hold(1, meter="two/day/requests/")], lease_s=60)
    used = state.used("one/day/requests/", 60)
    state.close()

    assert 0 == used


def test_a_queue_and_flags_live_in_a_cluster(cluster: Cluster, namespace: str):
    """Each is in one slot."""
    queue, flags = (kind(cluster.url, namespace=namespace, timeout_s=PATIENCE_S) for kind in (RedisQueue, RedisFlags))
    queue.put("k", b"1")
    (job,) = queue.take(lease_s=60)
    queue.done(job)
    flags.change(lambda _: b'{"flags": {}}')

    assert (b"1", 0, b'{"flags": {}}') == (job.payload, queue.counts().waiting, flags.read())


def test_a_node_of_a_cluster_by_the_address_of_a_server_is_refused(cluster: Cluster, namespace: str):
    """Half of the keys would work: the text says which address is wanted."""
    states = [
        RedisState(f"redis://127.0.0.1:{server.port}/0", namespace=namespace, timeout_s=PATIENCE_S)
        for server in cluster.servers
    ]
    said = []
    for state in states:
        try:
            said.append(type(state.reserve([hold()], lease_s=60)).__name__)
        except StateError as error:
            said.append("redis+cluster://" if "redis+cluster://" in str(error) else str(error))

    assert ["Grant", "redis+cluster://", "redis+cluster://"] == sorted(said)


def test_T8_a_lost_node_of_a_cluster_is_found_again(lossy: Cluster):
    """Killed and started empty: what was on it is an error until then; the processes tell it again what they had counted."""
    cluster, clock = lossy, FakeClock()
    state = RedisState(cluster.url, timeout_s=PATIENCE_S, monotonic=clock, recount_s=0)
    meters = [f"prompt-{number}/day/requests/" for number in range(30)]
    for meter in meters:
        state.reserve([hold(3, meter=meter)], lease_s=600)
    cluster.servers[1].stop()
    state._link.timeout_s = 0.05
    state._link._client = None
    lost = 0
    for meter in meters:
        clock.advance(1)
        try:
            state.used(meter, 60)
        except StateError:
            lost += 1
    cluster.servers[1].go_on()
    state._link.timeout_s, state._link._client = PATIENCE_S, None
    say(cluster.servers[1].port, "FLUSHALL")
    clock.advance(1)
    until(
        lambda: all("cluster_state:ok" in say(server.port, "CLUSTER", "INFO") for server in cluster.servers),
        "whole again",
    )
    state.look()
    found = [state.used(meter, 60) for meter in meters]
    state.close()

    assert (True, [3] * 30) == (0 < lost, found)


def test_T8_a_failover_is_followed(group: Watched, namespace: str):
    """The primary dies: after Sentinel has chosen, the same state goes on there, with everything that was counted."""
    clock = FakeClock()
    state = RedisState(f"{group.url}?replicas=1", namespace=namespace, timeout_s=PATIENCE_S, monotonic=clock)
    single = RedisState(group.url, namespace=namespace, timeout_s=PATIENCE_S, monotonic=clock)
    first = state.reserve([hold(4)], lease_s=600)
    group.servers[0].kill()
    with pytest.raises(StateError):
        state.reserve([hold(4)], lease_s=600)
    second: list[object] = []

    def goes_on() -> bool:
        clock.advance(1)
        try:
            second.append(single.reserve([hold(4)], lease_s=600))
        except StateError:
            return False
        return True

    until(goes_on, "a new primary is found")
    used = single.used("m", 60)
    state._link.timeout_s = 0.5
    with pytest.raises(StateError, match="0 of 1 replicas"):
        state.reserve([hold(1)], lease_s=600)
    after = single.used("m", 60)
    state.close()
    single.close()

    assert [True, True] == [isinstance(item, Grant) for item in (first, *second)]
    assert (8, 8) == (used, after)


def test_T8_sentinels_that_are_gone_are_an_error(tmp_path: Path):
    """Nobody says where the primary is: StateError within the timeouts, nothing else."""
    state = RedisState("redis+sentinel://127.0.0.1:1,127.0.0.1:2/store", timeout_s=0.05)
    with pytest.raises(
        StateError, match=r"no sentinel of redis.sentinel://127\.0\.0\.1:1,127\.0\.0\.1:2/store/0 knows"
    ):
        state.used("m", 60)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """(certificate, key) of 127.0.0.1, signed by itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    )  # fmt: skip
    paths = tmp_path / "redis.pem", tmp_path / "redis.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def test_TLS_is_checked_and_the_password_is_in_no_message(
    tmp_path: Path, certificate: tuple[Path, Path], namespace: str
):
    """A certificate that nobody vouches for is an error; with its authority named, and the password, all works."""
    cert, key = certificate
    server = RedisServer(tmp_path, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no", "--requirepass", "s3cret", tls=True)  # fmt: skip
    place = f"127.0.0.1:{server.port}/0"
    said = []
    for url in (
        f"rediss://:s3cret@{place}",
        f"rediss://:wr0ng@{place}?ssl_ca_certs={cert}",
        f"redis://:s3cret@{place}",
    ):
        with pytest.raises(StateError) as caught:
            RedisState(url, namespace=namespace, timeout_s=PATIENCE_S if "rediss" in url else 0.5).reserve(
                [hold()], lease_s=60
            )
        said.append(str(caught.value))
    state = RedisState(f"rediss://:s3cret@{place}?ssl_ca_certs={cert}", namespace=namespace, timeout_s=PATIENCE_S)
    found = state.reserve([hold()], lease_s=60)
    server.kill()

    assert isinstance(found, Grant)
    assert ("CERTIFICATE_VERIFY_FAILED" in said[0], "AuthenticationError" in said[1]) == (True, True)
    assert not [text for text in said if "s3cret" in text or "wr0ng" in text]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://u:pw@h:1/2", "redis://h:1/2"),
        ("rediss://:pw@h", "rediss://h:6379/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        (
            "redis+sentinel://:pw@a,b:2,[::1]:3/main/4?sentinel_password=pw&replicas=1",
            "redis+sentinel://a:26379,b:2,[::1]:3/main/4",
        ),
        ("rediss+cluster://u:p%2Fw@a:1,b:2", "rediss+cluster://a:1,b:2"),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, shown: str):
    """Messages, notices and reprs hold places alone."""
    found = parse_redis(address)

    assert shown == str(found)
    assert "pw" not in repr(found)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("redis://:pw@h:x/0", "a port is not a number"),
        ("redis://:pw@h,i/0", "several hosts"),
        ("redis://:pw@h/0?socket_timeout=60", "unknown option"),
        ("redis://:pw@h/zero", "db is not a number"),
        ("redis://:pw@/0", "a host is missing"),
        ("redis://:p/w@h/0", "a port is not a number|more parts|not a number|missing"),
        ("redis+sentinel://:pw@h", "the service"),
        ("redis://:pw@h?namespace={a}", "a namespace is"),
        ("redis+cluster://:pw@h/1", "one database"),
        ("redis+cluster://:pw@h?replicas=1", "one database"),
        ("redis://:pw@h?ssl_ca_certs=x", "TLS"),
        ("redis://:pw@h?sentinel_password=pw", r"\+sentinel"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_password(address: str, why: str):
    """The reason says what is wrong, in words of its own."""
    with pytest.raises(DataError) as caught:
        open_state(address)

    said = str(caught.value)
    assert "pw" not in said
    assert caught.match(why)
