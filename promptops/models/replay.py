"""Recorded answers: written while a real model is asked, read when nobody may be asked."""

import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from promptops.core.digest import digest
from promptops.core.errors import EvaluationError
from promptops.core.jsontext import JsonError, canonical_json, parse_json
from promptops.models.base import Answer, Client, ModelRequest, is_answer
from promptops.models.wire import request_body


def recording_name(request: ModelRequest, model: str) -> str:
    """File name of a recording: the digest of the request as it is sent, and the draw."""
    return digest([request_body(request, model, stream=False), request.draw]).removeprefix("sha256:") + ".json"


class RecordingClient:
    """Asks another client and keeps each answer in a folder; a recording is whole or not there.

    Raises EvaluationError when the folder cannot be written: when it is made, so before anything is paid, or later.
    """

    def __init__(self, inner: Client, folder: Path, model: str) -> None:
        self._inner, self._folder, self._model = inner, folder, model
        self._write("", b"")

    @property
    def paid(self) -> bool:
        return self._inner.paid

    async def answer(self, request: ModelRequest) -> Answer:
        answer = await self._inner.answer(request)
        self.keep(request, answer)
        return answer

    def keep(self, request: ModelRequest, answer: Answer) -> None:
        """Record an answer, whoever asked for it; what is no answer is not recorded."""
        if is_answer(request, answer):
            self._write(recording_name(request, self._model), canonical_json(asdict(answer)))

    async def close(self) -> None:
        await self._inner.close()

    def _write(self, name: str, content: bytes) -> None:
        """Put a file into the folder, whole or not at all; without a name, only try."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=".recording-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                if name:
                    Path(temporary).replace(self._folder / name)
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:
            raise EvaluationError("recordings cannot be written", where=str(self._folder), why=error.strerror or "",
                                  hint="choose another folder for --record") from error  # fmt: skip


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
