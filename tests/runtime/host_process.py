"""A runtime that does what it is told line by line on stdin, and says what came of it: `BUNDLE ADDRESS TIMEOUT_S NAME NAMESPACE`."""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from promptops.runtime import Reply, Runtime
from promptops.runtime.redis_flags import RedisFlags
from promptops.runtime.state.redis import RedisState
from promptops.runtime.switch import Switch
from promptops.runtime.testing import Heard, ScriptedModel


class Host:
    """One runtime with state and flags in Redis, and a count of what it did."""

    def __init__(self, bundle: str, address: str, timeout_s: float, name: str, namespace: str) -> None:
        self.name, self.asked, self.longest_s = name, 0, 0.0
        self.state = RedisState(address, namespace=namespace, timeout_s=timeout_s)
        self.alarms: list[str] = []
        self.switch = Switch(RedisFlags(address, namespace=namespace), environ={}, alarm=self.alarms.append)
        self.model, self.heard = ScriptedModel({"sentiment": "positive"}), Heard()
        clients = {"small": self.model, "large": self.model}
        self.runtime = Runtime.load(
            bundle, allow_unsigned=True, clients=clients, state=self.state, switch=self.switch, observers=[self.heard]
        )
        self.prompt = next(iter(self.runtime.bundle.channels))

    def one(self, text: str = "") -> tuple[Reply, str]:
        """A reply to a new question, and where its budget was counted: shared, local, or '' for nowhere."""
        self.asked += 1
        begun = time.monotonic()
        reply = self.runtime.complete(self.prompt, {"feedback": text or f"{self.name} {self.asked}"}, tenant="acme")
        self.longest_s = max(self.longest_s, time.monotonic() - begun)
        steps = {(step.stage, step.decision) for step in reply.steps}
        return reply, "local" if ("budget", "local share") in steps else "shared" if (
            "budget",
            "reserved",
        ) in steps else ""

    def ask(self, count: int, text: str = "") -> dict[str, Any]:
        """Ask `count` times, each time something new unless there is a `text`: calls of the model, those counted here alone, replies later than the deadline, the longest."""
        calls, late = self.model.calls, 0
        places = []
        self.longest_s = 0.0
        deadline_s = self.runtime.bundle.channels[self.prompt].live.settings.deadline_s
        for _ in range(count):
            reply, place = self.one(text)
            late += reply.latency_s > deadline_s + 0.05
            places.append(place if reply.source == "model" else "")
        return {"calls": self.model.calls - calls, "local": places.count("local"), "shared": places.count("shared"), "late": late,
                "replies": count, "longest_s": self.longest_s}  # fmt: skip

    def recover(self, within_s: float = 60.0) -> dict[str, Any]:
        """Ask until Redis says what may be spent: yes or no."""
        calls, local, tries, begun = self.model.calls, 0, 0, time.monotonic()
        while time.monotonic() - begun < within_s:
            reply, place = self.one()
            tries += 1
            local += place == "local" and reply.source == "model"
            if ("state", "failed") not in {(step.stage, step.decision) for step in reply.steps}:
                return {
                    "calls": self.model.calls - calls,
                    "local": local,
                    "tries": tries,
                    "after_s": time.monotonic() - begun,
                }
            time.sleep(0.05)
        return {
            "calls": self.model.calls - calls,
            "local": local,
            "tries": tries,
            "after_s": None,
            "why": [step.reason for step in reply.steps],
        }

    def killed(self, wanted: bool, within_s: float = 60.0) -> dict[str, Any]:
        """When the switch says what is wanted, in Unix seconds."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            if bool(self.switch.blocked(prompt=self.prompt, tenant="acme", feature="")) == wanted:
                return {"at": time.time(), "alarms": len(self.alarms), "problem": self.switch.problem}
            time.sleep(0.01)
        return {"at": None, "alarms": len(self.alarms), "problem": self.switch.problem}

    def settled(self) -> dict[str, Any]:
        """Wait until what was to be written behind the replies is written."""
        workers = self.runtime._shared.workers
        workers.pool.shutdown(wait=True)
        workers._pool = None
        return {}

    def status(self) -> dict[str, Any]:
        return {"calls": self.model.calls, "alarms": len(self.alarms), "problem": self.switch.problem,
                "failed": sum(event == "state_failed" for event, _ in self.heard.notices)}  # fmt: skip


def main(bundle: str, address: str, timeout_s: str, name: str, namespace: str) -> None:
    host = Host(bundle, address, float(timeout_s), name, namespace)
    for line in sys.stdin:
        order: Mapping[str, Any] = json.loads(line)
        options = {key: value for key, value in order.items() if key != "do"}
        print(json.dumps(getattr(host, order["do"])(**options)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
