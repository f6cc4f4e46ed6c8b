"""What goes wrong in production, done to a bundle on this machine: an outage, malformed answers, a retry loop, a kill, an erasure."""

import asyncio
import json
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptops.audit.checklist import Todo
from promptops.core.money import format_usd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from promptops.core.jsontext import Json
    from promptops.core.prompt import Prompt
    from promptops.core.serving import BudgetRule
    from promptops.runtime.base import Reply
    from promptops.runtime.runtime import Runtime

_GARBAGE = ("this is no answer", '{"cut": "of', "<img src=http://evil.example/x>")
_MOST_LOOPS = 5_000
_PARTS = 20
_DAY_S = 86_400
_TENANT = "readiness-tenant-7f3a91"
_PERSON = {
    "an e-mail address": "jane.roe.7f3a91@example.com",
    "a phone number": "+49 30 90182077",
    "an account number": "DE89370400440532013000",
}
"""A customer who does not exist; the account number is the example of the standard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen; `todo` when something else helps than what the checklist says."""

    passed: bool
    what: str
    todo: Todo | None = None


class FaultServer:
    """An OpenAI-compatible server on this machine: it resets every connection, or says `text`."""

    def __init__(self, text: str | None = None) -> None:
        self.text, self.calls, self.url = text, 0, ""

    @asynccontextmanager
    async def running(self) -> "AsyncIterator[FaultServer]":
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))  # fmt: skip
                asked = json.loads(await reader.readexactly(length))
                self.calls += 1
                if self.text is None:
                    break
                choice = {"message": {"role": "assistant", "content": self.text}, "finish_reason": "stop"}
                body = json.dumps({"model": asked["model"], "usage": {"prompt_tokens": 100, "completion_tokens": 10}, "choices": [choice]}).encode()  # fmt: skip
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)  # fmt: skip
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.transport.abort()


class _Closing:
    """A runtime whose models are all at one address, closed at the end; models that run in the service do so, unless `stand_in`."""

    def __init__(self, bundle: Path, url: str, *, stand_in: bool = True) -> None:
        from promptops.models.http import HttpClient
        from promptops.models.secret import Secret
        from promptops.runtime.bundle import Trust, load_bundle
        from promptops.runtime.testing import HandSwitch

        specs = load_bundle(bundle, Trust(unsigned=True)).models
        self.clients: dict[str, Any] = {alias: HttpClient(base_url=url, model=spec.model, key=Secret(""), price=spec.price, timeout_s=60.0)
                                        for alias, spec in specs.items() if stand_in or spec.provider != "local"}  # fmt: skip
        self.runtime = _open(bundle, self.clients, switch=HandSwitch())

    async def aclose(self) -> None:
        await self.runtime.aclose()
        for client in self.clients.values():
            await client.close()


def _open(bundle: Path, clients: Mapping[str, Any], **options: Any) -> "Runtime":
    from promptops.runtime.runtime import Runtime

    return Runtime.load(bundle, clients=dict(clients), allow_unsigned=True, **options)


def outage(bundle: Path, name: str, inputs: "Sequence[Mapping[str, Json]]") -> Seen:
    """Every connection to the provider is reset: does every request get an answer with something in it?"""

    async def ask() -> "tuple[list[Reply], int, bool]":
        async with FaultServer().running() as server, aclosing(_Closing(bundle, server.url, stand_in=False)) as opened:
            found = [await opened.runtime.acomplete(name, item, tenant="readiness") for item in inputs]
            return found, server.calls, bool(opened.clients)

    replies, calls, is_remote = asyncio.run(ask())
    empty = sum(not (reply.text or reply.queued_id) for reply in replies)
    sources = ", ".join(sorted({reply.source for reply in replies if reply.text}))
    told = f"provider down: {len(replies) - empty} of {len(replies)} requests answered"
    told += f" (from {sources})" if sources else ""
    return Seen(
        passed=empty == 0 and (calls > 0 or not is_remote),
        what=f"{told}, {calls} calls were reset" if is_remote else f"{told}; its model runs in the service",
    )


def malformed(bundle: Path, name: str, inputs: "Mapping[str, Json]") -> Seen:
    """The provider says what is no answer: does any of it reach the caller?"""

    async def ask(text: str) -> "tuple[Reply, int]":
        async with FaultServer(text).running() as server, aclosing(_Closing(bundle, server.url)) as opened:
            return await opened.runtime.acomplete(name, inputs, tenant="readiness"), server.calls

    through = []
    for text in _GARBAGE:
        reply, calls = asyncio.run(ask(text))
        if not calls:
            return Seen(passed=False, what=f"no model was asked: {reply.degraded or reply.source}")
        if reply.text == text:
            through.append(text)
    if through:
        return Seen(passed=False, what=f"{len(through)} of {len(_GARBAGE)} malformed answers reached the caller: {through[0]!r}")  # fmt: skip
    return Seen(passed=True, what=f"{len(_GARBAGE)} malformed answers injected, none reached the caller")


def retry_loop(bundle: Path, name: str, inputs: "Mapping[str, Json]", rules: "Sequence[BudgetRule]") -> Seen:
    """A tenant asks again and again, and each answer is dear and useless: does a budget say stop?

    Each call is stated to use a twentieth of the smallest limit in money and tokens, so that the loop is short.
    """
    from promptops.runtime.testing import FakeClock, ScriptedModel, open_runtime

    money = min((rule.nanousd for rule in rules if rule.nanousd), default=0)
    tokens = min((rule.tokens for rule in rules if rule.tokens), default=0)
    model = ScriptedModel("this is no answer", input_tokens=max(1, tokens // _PARTS), output_tokens=1, cost_nanousd=max(1, money // _PARTS))  # fmt: skip
    runtime = open_runtime(bundle, model, clock=FakeClock())
    bill, prompt = 0, runtime.bundle.channels[name].live.prompt
    try:
        for number in range(1, _MOST_LOOPS + 1):
            asked = _with_text(prompt, inputs, f"({number})")  # so that the cache does not stop the loop
            reply = runtime.complete(name, asked, tenant="readiness", request_id=f"loop-{number}")
            bill += reply.cost_nanousd
            if reply.calls == 0 and reply.degraded.startswith("budget"):
                worst = "; ".join(_bill(rule) for rule in rules if rule.nanousd)
                limit = f"worst bill of a tenant {worst}" if worst else "no limit in money"
                return Seen(passed=bool(worst), what=f"stopped at request {number} after {model.calls} calls and {format_usd(bill)}; {limit}")  # fmt: skip
    finally:
        runtime.close()
    return Seen(passed=False, what=f"{_MOST_LOOPS} requests in a loop made {model.calls} calls and no budget stopped them")  # fmt: skip


def _bill(rule: "BudgetRule") -> str:
    """The most a tenant can spend by a rule, also in a day: a window of a minute can be filled every minute."""
    limit = rule.nanousd or 0
    told = f"{format_usd(limit)} in {rule.window_s} s"
    return told if rule.window_s >= _DAY_S else f"{told}, {format_usd(limit * _DAY_S // rule.window_s)} a day"


def kill(bundle: Path, name: str, inputs: "Mapping[str, Json]", address: str = "") -> Seen:
    """The switch is thrown in a copy of the flags at `address` (or a file of its own): is a model asked after that, and how long until it is not?"""
    from promptops.runtime.flags import FlagsError, set_kill
    from promptops.runtime.switch import FlagFile, Switch, open_flags
    from promptops.runtime.testing import ScriptedModel, open_runtime

    raw = None
    if address:
        store = open_flags(address)
        try:
            raw = set_kill(store.read(), name, off=True)
        except (OSError, FlagsError) as error:
            why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            return Seen(passed=False, what=f"no kill could be written: flags in {store}: {why}", todo=Todo(
                words="services that start now answer nothing, and the others keep their last state: put the flags in order",
                run=(shlex.join(("promptops", "kill", "--all", "--off", "--flags", address)),)))  # fmt: skip
    model = ScriptedModel("this is no answer")
    with tempfile.TemporaryDirectory() as folder:
        flags = FlagFile(Path(folder) / "flags.json")
        flags.change(lambda _: set_kill(raw, name, off=True))
        switch = Switch(flags, environ={})
        runtime = open_runtime(bundle, model, switch=switch)
        try:
            runtime.complete(name, inputs, tenant="readiness")
            before = model.calls
            flags.change(lambda now: set_kill(now, name))
            begun = time.monotonic()
            while not switch.blocked(prompt=name, tenant="readiness", feature="") and time.monotonic() - begun < 10:
                time.sleep(0.01)
            took = time.monotonic() - begun
            reply = runtime.complete(name, inputs, tenant="readiness")
        finally:
            runtime.close()
            switch.close()
    stopped = before > 0 and model.calls == before and reply.calls == 0
    return Seen(passed=stopped, what=f"{'stopped' if stopped else 'NOT stopped'} {took:.2f} s after the flags file changed; {before} calls before, {model.calls - before} after" + (f"; in a copy of {address}" if address else ""))  # fmt: skip


def leftovers(bundle: Path, name: str, inputs: "Mapping[str, Json]", answer: "Json", *, texts: bool) -> Seen:
    """A made-up customer asks, is answered and is put into the queue; then everything of them is erased: is any of it left?

    Cache and queue are files here, events are written as the policy says: with masked texts, or without any.
    """
    from promptops.audit.privacy import erase_cache, erase_events, erase_queue
    from promptops.runtime.queue import open_queue
    from promptops.runtime.state.opening import open_state
    from promptops.runtime.telemetry import EventsFile
    from promptops.runtime.telemetry.rewriting import older_files
    from promptops.runtime.testing import FakeClock, ScriptedModel, open_runtime

    with tempfile.TemporaryDirectory(prefix="promptops-readiness-") as at:
        folder = Path(at)
        state, waiting, events = f"sqlite:{folder / 'state'}", f"sqlite:{folder / 'queue'}", folder / "events.jsonl"
        model, told = ScriptedModel(answer), EventsFile(events, content=texts)
        with closing(open_queue(waiting)) as queue:
            runtime = open_runtime(
                bundle, model, clock=FakeClock(), state=open_state(state), queue=queue, observers=[told]
            )
            try:
                prompt, about = runtime.bundle.channels[name].live.prompt, " ".join(_PERSON.values())
                reply = runtime.complete(name, _with_text(prompt, inputs, about), tenant=_TENANT)
                runtime.feedback(reply.request_id, good=False)
                runtime.complete(name, inputs, tenant="somebody-else")
                model.fail_next(99)
                runtime.complete(name, _with_text(prompt, inputs, f"{about} again"), tenant=_TENANT)
            finally:
                runtime.close()
                told.close()
        if found := _traces(events):
            return Seen(passed=False, what=f"events hold {', '.join(found)} of a customer")
        places = [(erase_cache, state), (erase_queue, waiting)]
        erased = [erase(place, _TENANT) for erase, place in places if Path(place.removeprefix("sqlite:")).exists()]
        erased.append(erase_events(events, _TENANT))
        left = [found for file in sorted(folder.iterdir()) for found in _traces(file)]
        others = sum(
            file.read_bytes().count(b'"kind":"reply"') for file in (events, *older_files(events)) if file.exists()
        )
        removed = ", ".join(f"{part.erased} from {part.kind}" for part in erased)
        return Seen(passed=not left and not any(part.left for part in erased) and others == 1,
                    what=f"a made-up customer asked, and was erased: {removed}, {len(left) or 'nothing'} left")  # fmt: skip


def _with_text(prompt: "Prompt", inputs: "Mapping[str, Json]", more: str) -> "dict[str, Json]":
    """The inputs with more behind the first text that takes it; as they are when none does."""
    for key, value in inputs.items():
        changed = {**inputs, key: f"{value} {more}"}
        if isinstance(value, str) and not any(prompt.input_problems(changed)):
            return changed
    return dict(inputs)


def _traces(file: Path) -> list[str]:
    content = file.read_bytes() if file.is_file() else b""
    return [what for what, text in (*_PERSON.items(), ("the name", _TENANT)) if text.encode() in content]
