"""What is different between two bundles, for the person who is about to serve the second."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from promptops.core.jsontext import Json, readable
from promptops.runtime.bundle import Bundle, Release

_LONGEST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not the same; '' where it is not there."""

    prompt: str
    what: str
    old: str
    new: str


def differences(old: Bundle, new: Bundle) -> list[Difference]:
    """Every difference in what is served, by prompt."""
    found: list[Difference] = []
    if old.channel != new.channel:
        found.append(Difference(prompt="", what="channel", old=old.channel, new=new.channel))
    for name in sorted({*old.channels, *new.channels}):
        before, after = old.channels.get(name), new.channels.get(name)
        if before is None or after is None:
            found.append(Difference(prompt=name, what="prompt", old=before.live.version if before else "", new=after.live.version if after else ""))  # fmt: skip
            continue
        found += _differing(name, _view(before.live), _view(after.live))
        ways = [{"canary": f"{item.canary.version} {item.percent}%" if item.canary else "", "revoked": ", ".join(sorted(item.revoked))} for item in (before, after)]  # fmt: skip
        found += _differing(name, *ways)
    for alias in sorted({*old.models, *new.models}):
        specs = [str(bundle.models[alias].model) + f" {bundle.models[alias].price}" if alias in bundle.models else "" for bundle in (old, new)]  # fmt: skip
        found += _differing("", {f"model {alias}": specs[0]}, {f"model {alias}": specs[1]})
    return found


def _view(release: Release) -> dict[str, Json]:
    """A release as flat values that people can compare."""
    prompt = release.prompt
    view: dict[str, Json] = {
        "version": release.version, "prompt digest": release.digest, "evidence": release.evidence, "expires": release.expiry.expires if release.expiry else "", "params": dict(prompt.params),
        "online checks": ", ".join(sorted(check.name for check in release.checks)),
        "knowledge": f"{len(prompt.knowledge.passages)} passages {release.knowledge_digest[:12]}" if prompt.knowledge else "",
        "router": _brief(release.router), "semantic cache": _brief(release.cache), "classifier": learned_from(release),
    }  # fmt: skip
    for number, message in enumerate(prompt.messages, 1):
        view[f"message {number} ({message.role})"] = message.template.source
    return view | dict(_flat("runtime", release.settings.as_json()))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Json]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}", item)
    else:
        yield prefix, list(value) if isinstance(value, tuple) else value


def _differing(prompt: str, old: Mapping[str, Json], new: Mapping[str, Json]) -> list[Difference]:
    return [
        Difference(prompt=prompt, what=what, old=_text(old.get(what)), new=_text(new.get(what)))
        for what in dict.fromkeys([*old, *new])
        if old.get(what) != new.get(what)
    ]


def _text(value: Json) -> str:
    text = "" if value is None else readable(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def learned_from(release: Release) -> str:
    """What the classifier of the fallback ladder is worth, in words; '' for none."""
    if release.classifier is None:
        return ""
    seen = release.classifier.evidence
    return f"sure enough (>= {seen['min_confidence']:g}) of {seen['answered']} of {seen['cases']} golden cases, right in {seen['right']} of those, out of fold"


def _brief(raw: bytes | None) -> str:
    if raw is None:
        return ""
    from hashlib import sha256

    return f"{len(raw)} bytes {sha256(raw).hexdigest()[:12]}"
