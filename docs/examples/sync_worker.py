"""A worker without an event loop: JSON lines in, JSON lines out, eight at a time.

echo '{"tenant": "acme", "inputs": {"feedback": "Late again."}}' | BUNDLE=... BUNDLE_DIGEST=... python sync_worker.py feedback-sentiment
"""  # noqa: INP001

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from promptops.runtime import Endpoint, Runtime


def main(prompt: str) -> None:
    runtime = Runtime.load(
        os.environ["BUNDLE"],
        digest=os.environ["BUNDLE_DIGEST"],
        models=Endpoint(
            base_url=os.environ.get("MODEL_URL", "https://api.openai.com/v1"), api_key_env="OPENAI_API_KEY"
        ),
    )

    def answer(line: str) -> str:
        job = json.loads(line)
        reply = runtime.complete(prompt, job["inputs"], tenant=job["tenant"], deadline_s=30)
        return json.dumps(
            {"value": reply.value, "text": reply.text, "source": reply.source, "degraded": reply.degraded}
        )

    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(answer, sys.stdin):
            sys.stdout.write(result + "\n")
            sys.stdout.flush()
    runtime.close()


if __name__ == "__main__":
    main(sys.argv[1])
