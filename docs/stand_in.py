"""Stands in for a model that judges, and for a person who labels, so that docs/judge.md can be tried without either.

`stand_in.py serve` leaves an OpenAI-compatible server in the background, whose address and process are in server.url and server.pid; it ends
when it is killed, or when nobody has asked for two minutes.
`stand_in.py incident` writes events.jsonl for docs/operate.md: ten quiet hours, then thirty in which calls of the canary fail.
`stand_in.py label FILE.csv` fills in an export of `promptops review export`. Both go by the facts that the golden cases list; the judge
turns about one verdict in twenty round. With a model and people of your own you need neither.
"""  # noqa: INP001

import csv
import hashlib
import http.server
import json
import os
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any, ClassVar

_BLOCK = re.compile(r"^--- begin (.+) (\w+)\n((?:\|.*\n)*)--- end \1 \2$", re.MULTILINE)
_IDLE_S = 120
_OF_CATEGORY = {"numbers": ("numbers-kept",), "thread": ("latest-state",)}


def cases() -> dict[str, dict[str, Any]]:
    lines = Path("golden/support-summary.jsonl").read_text("utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def is_good(case: dict[str, Any], answer: str) -> bool:
    """Whether at least 60 % of the facts of a case are in the answer."""
    said = _folded(answer)
    facts = case["expected"]["keywords"]
    found = sum(any(_folded(spelling) in said for spelling in fact) for fact in facts)
    return found >= 0.6 * len(facts)


def _folded(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


class Judge(http.server.BaseHTTPRequestHandler):
    """Reads the blocks it is sent, and answers with a verdict on every criterion it is asked for."""

    protocol_version = "HTTP/1.1"
    by_ticket: ClassVar[dict[str, dict[str, Any]]] = {}

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        shown = {
            title: "\n".join(line[2:] for line in lines.splitlines())
            for title, _, lines in _BLOCK.findall(body["messages"][-1]["content"])
        }
        good = is_good(self.by_ticket[_folded(shown["input ticket"])], shown["answer"].partition("\n\n")[0])
        if hashlib.sha256(shown["input ticket"].encode()).digest()[0] < 256 // 20:
            good = not good
        properties = body["response_format"]["json_schema"]["schema"]["properties"]
        verdict = {name: {"reason": "enough of the facts" if good else "too few of the facts",
                          "score": good if node["properties"]["score"]["type"] == "boolean" else 5 if good else 1}
                   for name, node in properties.items()}  # fmt: skip
        message = {"role": "assistant", "content": json.dumps(verdict)}
        usage = {"prompt_tokens": len(str(body)) // 4, "completion_tokens": len(str(verdict)) // 4}
        reply = json.dumps(
            {
                "model": "stand-in",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": usage,
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    timeout = _IDLE_S
    request_queue_size = 64
    idle = False

    def handle_timeout(self) -> None:
        self.idle = True


def serve() -> None:
    Judge.by_ticket = {_folded(case["inputs"]["ticket"]): case for case in cases().values()}
    server = Server(("127.0.0.1", 0), Judge)
    Path("server.url").write_text(f"http://127.0.0.1:{server.server_port}/v1", "utf-8")
    child = os.fork()
    if child:
        Path("server.pid").write_text(str(child), "utf-8")
        return
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    while not server.idle:
        server.handle_request()


def label(path: Path) -> None:
    """Fill in the criteria of every row of an export."""
    known = cases()
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        good = is_good(known[row["case"]], row["answer"])
        for name in ("faithful", "right-language", "no-invented-facts", *_OF_CATEGORY.get(row["category"], ())):
            row[name] = "pass" if good else "fail"
        row["complete"] = row["tone"] = "5" if good else "1"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def incident() -> None:
    """Forty hours of 300 requests; from the eleventh on, half are answered by v1.1.0, and one in ten of its calls fails."""
    with Path("events.jsonl").open("w", encoding="utf-8") as file:
        for number in range(40 * 300):
            hour, place = divmod(number, 300)
            is_canary = hour >= 10 and number % 2 == 1
            fails = is_canary and number % 20 == 1
            at = f"2025-11-{3 + hour // 24:02d}T{hour % 24:02d}:{place * 12 // 60:02d}:{place * 12 % 60:02d}.000Z"
            steps = [{"stage": "model", "decision": "server_error" if fails else "ok", "reason": "", "at_ms": 90.0}]
            reply = {"at": at, "kind": "reply", "id": f"r{number}", "prompt": "support-triage", "version": "v1.1.0" if is_canary else "v1.0.0",
                     "tenant": f"t{number % 40}", "feature": "", "category": "", "source": "rules" if fails else "model", "degraded": "model server_error" if fails else "",
                     "model": "small", "calls": 1, "cost_nanousd": 1000, "latency_ms": 100.0 + number % 97, "input_tokens": 90, "output_tokens": 20, "citations": 0,
                     "queued_id": "", "language": "en", "input_chars": 80, "output_chars": 60, "steps": steps}  # fmt: skip
            verdict = {
                "at": at,
                "kind": "notice",
                "event": "feedback_bad" if number // 2 % 10 == 3 else "feedback_good",
                "reason": f"r{number} thumbs",
            }
            file.write("".join(json.dumps(event, separators=(",", ":")) + "\n" for event in (reply, verdict)))


if __name__ == "__main__":
    if sys.argv[1] == "label":
        label(Path(sys.argv[2]))
    else:
        {"serve": serve, "incident": incident}[sys.argv[1]]()
