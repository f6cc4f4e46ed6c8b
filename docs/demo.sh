#!/usr/bin/env bash
# The main job, offline, on the golden data of this repository: `make demo` runs this.
set -euo pipefail

say() { printf '\n\033[1m== %s\033[0m\n' "$1"; }
[ -t 1 ] || say() { printf '\n== %s\n' "$1"; }
run() { printf '$ %s\n' "$*"; "$@"; }
run_id() { promptops runs list --prompt "$1" --limit 1 --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["runs"][0]["run"])'; }

say "1. Every file is checked before anything is asked"
run promptops lint

say "2. Four prompts, their golden cases, and the simplest model each of them has (no key, no network)"
for prompt in support-triage warranty-answer contract-terms support-summary; do
  run promptops eval "$prompt" --model local
done

say "3. A change to support-summary: skip greetings and other short lines. Is it better?"
echo "The released prompt is recorded with five draws a case, then the change is judged against it."
if git rev-parse --verify --quiet HEAD >/dev/null; then
  run promptops baseline record support-summary --at HEAD --model local
  judge=(promptops eval support-summary --candidate skip-small-talk --model local --against HEAD)
else
  baseline=$(run_id support-summary)
  run promptops eval support-summary --candidate skip-small-talk --model local
  judge=(promptops compare "$baseline" "$(run_id support-summary)")
fi
code=0
run "${judge[@]}" || code=$?
if [ "$code" -ne 1 ]; then
  echo "demo: expected the change to be blocked (exit 1), but it exited $code" >&2
  exit 70
fi
candidate=$(run_id support-summary)

say "4. What happened"
run promptops explain "$candidate" lang=ja --limit 1

cat <<END

The gate exited with 1, so a pull request with this change would be blocked: Japanese has no blanks
between words, so every Japanese sentence is a "line of fewer than five words", and all of them were dropped.
END

say "5. The prompt in a service: one bundle, 200 people at once, and a model that goes down half-way"
bundle=$(mktemp -d)
trap 'rm -rf "$bundle"' EXIT
project=$PWD
if ! git rev-parse --verify --quiet HEAD >/dev/null; then
  project=$bundle/project
  mkdir "$project"
  cp -r prompts golden rubrics pyproject.toml "$project"
  (cd "$project" && git init -q && git add -A && git -c user.name=demo -c user.email=demo@example.com commit -qm demo)
fi
(cd "$project" && run promptops export support-triage --development --model small -o "$bundle/support")
run "$(dirname "$(command -v promptops)")/python" docs/demo_service.py "$bundle/support"

cat <<END

The results are in .promptops/store.sqlite3. Try next:
  promptops view $candidate                         every case that did not pass
  promptops runs export $candidate -o run.jsonl    a run as a file, for CI and colleagues
  export OPENAI_API_KEY=...                         then ask a real model (see [tool.promptops.models] in pyproject.toml):
  promptops eval support-triage --model small --dry-run
  promptops eval support-triage --model small
END
