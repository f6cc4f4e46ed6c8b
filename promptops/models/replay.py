"""Recorded answers: written while a real model is asked, read when nobody may be asked."""

import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from promptops.core.digest import digest
from promptops.core.jsontext import JsonError, canonical_json, parse_json
from promptops.models.base import Answer, Client, ModelRequest
from promptops.models.wire import request_body


def recording_name(request: ModelRequest, model: str) -> str:
    """File name of a recording: the digest of the request as it is sent, and the draw."""
    return digest([request_body(request, model, stream=False), request.draw]).removeprefix("sha256:") + ".json"


class RecordingClient:
    """Asks another client and keeps each answer in a folder; a recording is whole or not there."""

    def __init__(self, inner: Client, folder: Path, model: str) -> None:
        self._inner, self._folder, self._model = inner, folder, model

    @property
    def paid(self) -> bool:
        return self._inner.paid

    async def answer(self, request: ModelRequest) -> Answer:
        answer = await self._inner.answer(request)
        if answer.outcome == "ok":
            self._keep(recording_name(request, self._model), canonical_json(asdict(answer)))
        return answer

    async def close(self) -> None:
        await self._inner.close()

    def _keep(self, name: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=".recording-")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(self._folder / name)


class StoredOnlyClient:
    """Asks nobody: for scoring answers again that the store must have."""

    @property
    def paid(self) -> bool:
        return False

    async def answer(self, request: ModelRequest) -> Answer:
        return Answer(outcome="not_recorded", detail="no stored answer to this request; evaluate it")

    async def close(self) -> None:
        return None


class ReplayClient:
    """Answers from recordings alone: no key, no network, nothing to pay."""

    def __init__(self, folder: Path, model: str) -> None:
        self._folder, self._model = folder, model

    @property
    def paid(self) -> bool:
        return False

    async def answer(self, request: ModelRequest) -> Answer:
        name = recording_name(request, self._model)
        try:
            fields = parse_json((self._folder / name).read_bytes())
            return Answer(**fields)
        except FileNotFoundError:
            return Answer(
                outcome="not_recorded", detail=f"no recording {name[:12]} of this request; record it with --record"
            )
        except (JsonError, TypeError) as error:
            return Answer(
                outcome="not_recorded",
                detail=f"recording {name[:12]} is damaged ({type(error).__name__}); record it again",
            )

    async def close(self) -> None:
        return None
