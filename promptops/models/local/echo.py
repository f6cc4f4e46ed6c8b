"""local:echo answers with the last user message: for trying out checks, and for measuring everything but the model."""

from typing import ClassVar

from promptops.core.jsontext import Json
from promptops.models.base import ModelRequest


class Echo:
    version: ClassVar[int] = 1

    def respond(self, request: ModelRequest) -> Json:
        return next(message.content for message in reversed(request.messages) if message.role == "user")
