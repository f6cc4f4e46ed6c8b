"""A FastAPI service that answers from a bundle: `uvicorn fastapi_service:app`."""  # noqa: INP001

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel

from promptops.core.errors import DataError
from promptops.runtime import Endpoint, Runtime
from promptops.runtime.state.opening import open_state
from promptops.runtime.switch import Switch
from promptops.runtime.telemetry import EventsFile

CUSTOMERS = {"secret-of-acme": "acme", "secret-of-globex": "globex"}  # stands for the login your application has


class Question(BaseModel):
    """What a customer sends."""

    inputs: dict[str, Any]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    events = EventsFile(Path(os.environ.get("EVENTS", "events.jsonl")), salt=os.environ.get("TELEMETRY_SALT", ""))
    switch = Switch()  # follows PROMPTOPS_FLAGS and PROMPTOPS_KILL
    app.state.runtime = Runtime.load(
        os.environ["BUNDLE"],
        digest=os.environ["BUNDLE_DIGEST"],  # or trusted_keys=[...], when bundles are signed
        models=Endpoint(
            base_url=os.environ.get("MODEL_URL", "https://api.openai.com/v1"), api_key_env="OPENAI_API_KEY"
        ),
        state=open_state(os.environ.get("STATE", "memory")),  # redis://... when there are several hosts
        switch=switch,
        observers=[events],
    )
    yield
    await app.state.runtime.aclose()
    switch.close()
    events.close()


app = FastAPI(lifespan=lifespan)


def tenant(authorization: Annotated[str, Header()] = "") -> str:
    """Whose request this is: decided by the login, never by the body."""
    found = CUSTOMERS.get(authorization.removeprefix("Bearer "))
    if found is None:
        raise HTTPException(401, "log in first")
    return found


@app.post("/answer/{prompt}")
async def answer(
    prompt: str, question: Question, request: Request, who: Annotated[str, Depends(tenant)]
) -> dict[str, Any]:
    """The answer, or what stands in for it; `degraded` says why it is not the whole answer."""
    runtime: Runtime = request.app.state.runtime
    try:
        reply = await runtime.acomplete(prompt, question.inputs, tenant=who, feature="answer")
    except DataError as error:  # inputs that do not fit the prompt, or no such prompt: the caller's mistake
        raise HTTPException(422, str(error)) from error
    return {"text": reply.text, "value": reply.value, "source": reply.source, "degraded": reply.degraded}
