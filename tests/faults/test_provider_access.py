"""Which server is asked at all, and what a server that cannot be reached ends in."""

import socket

import pytest

from conftest import PROMPT, Sandbox
from faults.provider_runs import CANARY, CASES, Command, configure, right_answers, rows
from faults.server import FaultServer, answer, document, raw, reset

EVAL = ("eval", "--model", "small")
KEY = {"api_key_env": "SMALL_KEY"}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALL_KEY", CANARY)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize("transport", ["http", "sdk"])
@pytest.mark.parametrize("kind", ["refused", "no TLS", "no such host"])
def test_E15_a_server_that_cannot_be_reached_ends_the_run_unpaid(
    sandbox: Sandbox, call: Command, monkeypatch: pytest.MonkeyPatch, kind: str, transport: str
):
    """Exit 3, nothing paid, no key in the message, and the command that goes on."""
    monkeypatch.setenv("PROMPTOPS_ALLOWED_HOSTS", "no-such-host.invalid")
    with FaultServer(lambda _: answer()) as plain:
        url = {
            "refused": f"http://127.0.0.1:{free_port()}/v1",
            "no TLS": plain.url.replace("http:", "https:"),
            "no such host": "https://no-such-host.invalid/v1",
        }[kind]
        configure(sandbox, url, patience_s=0.1, timeout_s=2, transport=transport, **KEY)
        finished = call(*EVAL)

    shown = finished.out + finished.err
    assert (3, False, False) == (finished.code, CANARY in shown, "Traceback" in shown)
    assert "the provider does not answer" in finished.out.splitlines()[0]
    assert "next: promptops eval --resume " in finished.out
    assert [(0,)] == rows(sandbox, "select sum(cost_nanousd) from attempts")


def test_E15_a_case_that_met_a_broken_connection_names_the_host(sandbox: Sandbox, call: Command):
    """The host, and never the key."""
    with FaultServer(lambda _: reset) as server:
        configure(sandbox, server.url, **KEY)
        finished = call(*EVAL, "--limit", "1", "--json")

    (run,) = finished.json["runs"]
    assert (3, f"127.0.0.1:{server.port}") == (finished.code, run["worst"][0]["why"].rpartition(" at ")[2])


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_host_that_is_not_allowed_is_refused_before_any_connection(sandbox: Sandbox, call: Command, scheme: str):
    """A pull request cannot send the key to a server of its own: exit 4."""
    with FaultServer(lambda _: answer(), host="127.0.0.2") as other:
        configure(sandbox, other.url.replace("http:", f"{scheme}:"), **KEY)
        finished = call(*EVAL)

    assert (4, 0) == (finished.code, other.connections)
    assert "host '127.0.0.2' of model 'small' is not allowed" in finished.err
    assert CANARY not in finished.out + finished.err


def test_the_owner_of_the_key_can_allow_a_host(sandbox: Sandbox, call: Command, monkeypatch: pytest.MonkeyPatch):
    """PROMPTOPS_ALLOWED_HOSTS comes from the environment; the connection is made, and fails for want of TLS."""
    monkeypatch.setenv("PROMPTOPS_ALLOWED_HOSTS", "example.com, 127.0.0.2")
    with FaultServer(lambda _: answer(), host="127.0.0.2") as other:
        configure(sandbox, other.url.replace("http:", "https:"), patience_s=0.1, **KEY)
        finished = call(*EVAL)

    assert (3, True, []) == (finished.code, other.connections > 0, other.calls)


def test_a_key_is_never_sent_unencrypted_over_a_network(
    sandbox: Sandbox, call: Command, monkeypatch: pytest.MonkeyPatch
):
    """http is for this machine alone, even for an allowed host."""
    monkeypatch.setenv("PROMPTOPS_ALLOWED_HOSTS", "127.0.0.2")
    with FaultServer(lambda _: answer(), host="127.0.0.2") as other:
        configure(sandbox, other.url, **KEY)
        finished = call(*EVAL)

    assert (4, 0) == (finished.code, other.connections)
    assert "unencrypted" in finished.err


@pytest.mark.parametrize("transport", ["http", "sdk"])
def test_a_redirect_does_not_carry_the_key_to_another_host(sandbox: Sandbox, call: Command, transport: str):
    """The other server is not even connected to."""
    with FaultServer(lambda _: answer()) as other, FaultServer(lambda _: moved) as server:
        moved = raw(b"", status=307, Location=f"http://localhost:{other.port}/v1/chat/completions")
        configure(sandbox, server.url, transport=transport, **KEY)
        finished = call(*EVAL, "--json", "--limit", "3")

    (run,) = finished.json["runs"]
    assert (3, {"bad_response": 3}, 0) == (finished.code, run["outcomes"], other.connections)


@pytest.mark.parametrize("transport", ["http", "sdk"])
def test_a_key_that_a_provider_echoes_is_neither_shown_nor_stored(sandbox: Sandbox, call: Command, transport: str):
    """In answers, errors and headers' places; nowhere under .promptops."""
    right = right_answers(sandbox)
    echoes = [
        answer(f"key {CANARY}"),
        document({"error": {"message": CANARY}}, status=400),
        raw(f"<html>{CANARY}".encode()),
    ]
    with FaultServer(lambda one: echoes[one.number % 3] if one.number < 10 else right(one)) as server:
        configure(sandbox, server.url, transport=transport, **KEY)
        finished = call(*EVAL)

    kept = b"".join(path.read_bytes() for path in sandbox.path(".promptops").rglob("*") if path.is_file())
    assert {f"Bearer {CANARY}"} == {one.headers["authorization"] for one in server.calls}
    assert (False, False, True) == (CANARY in finished.out + finished.err, CANARY.encode() in kept, b"<secret>" in kept)


def test_without_a_key_nothing_is_sent(sandbox: Sandbox, call: Command, monkeypatch: pytest.MonkeyPatch):
    """Exit 2 that names the variable."""
    monkeypatch.delenv("SMALL_KEY")
    with FaultServer(lambda _: answer()) as server:
        configure(sandbox, server.url, **KEY)
        finished = call(*EVAL)

    assert (2, 0, True) == (finished.code, server.connections, "SMALL_KEY" in finished.err)


def test_the_real_command_evaluates_against_a_server(sandbox: Sandbox):
    """As a process of its own, with the key from its environment: all cases, one call each."""
    with FaultServer(right_answers(sandbox)) as server:
        configure(sandbox, server.url, **KEY)
        finished = sandbox.run("eval", PROMPT, "--model", "small", "--json", env={"SMALL_KEY": CANARY})

    (run,) = finished.json["runs"]
    assert (0, CASES, CASES) == (finished.code, run["total"]["passed"], len(server.calls))
    assert CANARY not in finished.out + finished.err
