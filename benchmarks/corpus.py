"""A project of any number of cases, like those people write: about 300 bytes a row, two checks, one slice."""

import json
from pathlib import Path

NAME = "ticket-mood"
CASES = f"golden/{NAME}.jsonl"
_CATEGORIES = ("billing", "delivery", "product", "other")
_MOODS = ("positive", "negative", "neutral")
_TEXT = ("The parcel came on the third day, the box was open at one side and the charger was missing; I wrote twice and "
         "nobody answered so far. Order")  # fmt: skip
_INPUT = {"type": "object", "properties": {"ticket": {"type": "string", "minLength": 1}}, "required": ["ticket"],
          "additionalProperties": False}  # fmt: skip
_OUTPUT = {"type": "object", "properties": {"mood": {"enum": list(_MOODS)}, "text": {"type": "string"}},
           "required": ["mood", "text"], "additionalProperties": False}  # fmt: skip
_PROMPT = f"""---
promptops: 1
name: {NAME}
params: {{temperature: 0, max_output_tokens: 100}}
input: {{schema: input.schema.json, untrusted: [ticket]}}
output: {{format: json, schema: output.schema.json}}
---
system:
You read tickets of a shop. Answer with one JSON object that holds the mood and the text, and nothing else.

user:
{{"mood": "neutral", "text": {{{{ ticket | json }}}}}}
"""
_SUITE = f"""promptops: 1
prompt: {NAME}
cases: {NAME}.jsonl
slices: [lang]
checks:
  - {{check: json_schema}}
  - {{check: equals, path: /mood}}
"""


def make_project(root: Path, cases: int) -> Path:
    """A project with that many cases, none like another; a third of the echoed answers passes."""
    prompt = root / "prompts" / NAME
    prompt.mkdir(parents=True)
    (root / "golden").mkdir()
    (root / "promptops.toml").write_text('default_model = "local:echo"\n')
    (prompt / "prompt.md").write_text(_PROMPT)
    (prompt / "input.schema.json").write_text(json.dumps(_INPUT))
    (prompt / "output.schema.json").write_text(json.dumps(_OUTPUT))
    (root / f"golden/{NAME}.yaml").write_text(_SUITE)
    with (root / CASES).open("w", encoding="utf-8") as file:
        file.writelines(_row(number) + "\n" for number in range(cases))
    return root


def _row(number: int) -> str:
    row = {
        "id": f"case-{number:07d}", "category": _CATEGORIES[number % 4], "inputs": {"ticket": f"{_TEXT} {number}."},
        "expected": {"mood": _MOODS[number % 3]}, "tags": {"lang": "en"}, "source": "made for measuring",
    }  # fmt: skip
    return json.dumps(row, ensure_ascii=False)
