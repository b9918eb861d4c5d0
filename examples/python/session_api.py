"""A browser for each user, behind HTTP: /api/browser/start, /api/browser/action and /api/browser/end.

pip install 'warmd[http,browser]'
python examples/python/session_api.py

curl -b c -c c http://127.0.0.1:3000/api/browser/start -d '{"url": "https://example.com"}'
curl -b c -c c http://127.0.0.1:3000/api/browser/action -d '{"action": "click", "selector": "a"}'
curl -b c -c c http://127.0.0.1:3000/api/browser/end -X POST

A cookie tells users apart.  Put your own sign-in in its place before others can reach this: whoever
has a browser can open what this machine can, `file:` addresses too.
"""

import base64
import hmac
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import warmd

APP = "browser-automation"
SESSION_TIMEOUT = int(os.environ.get("SESSION_TIMEOUT", "300"))
SECRET = secrets.token_bytes(32)  # not kept: with the process the users' sessions are forgotten, too

user_sessions: dict[str, str] = {}


class Answer(JSONResponse):
    def render(self, content: Any) -> bytes:
        return json.dumps(content, default=plain).encode()


def plain(value: object) -> str:
    """What JSON does not have: pictures, PDFs and downloads are bytes."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no JSON")


async def start(request: Request) -> Response:
    user, client, asked = request.state.user, request.state.client, await body(request)
    try:
        result = await client.run(
            app=APP,
            input={"action": "start", "url": asked.get("url")},
            session="new",
            session_timeout=SESSION_TIMEOUT,
        )
    except warmd.AppError as error:  # the page could not be loaded, but its browser is open
        await client.sessions.end(error.session)
        raise
    before, user_sessions[user] = user_sessions.get(user), result.session_id
    if before is not None:
        await client.sessions.end(before)
    return Answer({"sessionId": result.session_id})


async def action(request: Request) -> Response:
    user, client, asked = request.state.user, request.state.client, await body(request)
    session_id = user_sessions.get(user)
    if session_id is None:
        return Answer({"error": "No active session"}, 400)
    try:
        result = await client.run(app=APP, input=asked, session=session_id)
    except (warmd.NoSession, warmd.WorkerDied):
        if user_sessions.get(user) == session_id:  # another request may have started the next one already
            del user_sessions[user]
        return Answer({"error": "Session expired"}, 400)
    return Answer(result.output)


async def end(request: Request) -> Response:
    session_id = user_sessions.pop(request.state.user, None)
    if session_id is not None:
        await request.state.client.sessions.end(session_id)
    return Answer({"ok": True})


async def body(request: Request) -> dict[str, Any]:
    found = json.loads(await request.body() or "{}")
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object")
    return found


async def refused(_: Request, error: Exception) -> Response:
    status = 400 if isinstance(error, ValueError) else 500
    return Answer({"error": str(error)}, status)


class Users(BaseHTTPMiddleware):
    """Who asks: a cookie with a random name, signed so that nobody can make one up."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return Answer({"error": "Pages of other sites may not ask"}, 403)
        name, _, signature = request.cookies.get("user", "").partition(".")
        is_known = hmac.compare_digest(signature.encode(), signed(name).encode())
        request.state.user = name if is_known else secrets.token_hex(16)
        response = await call_next(request)
        if not is_known:
            name = request.state.user
            response.set_cookie("user", f"{name}.{signed(name)}", httponly=True, samesite="lax")
        return response


def signed(name: str) -> str:
    return hmac.digest(SECRET, name.encode(), "sha256").hex()


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
    async with warmd.AsyncClient() as client:
        yield {"client": client}


api = Starlette(
    routes=[
        Route("/api/browser/start", start, methods=["POST"]),
        Route("/api/browser/action", action, methods=["POST"]),
        Route("/api/browser/end", end, methods=["POST"]),
    ],
    middleware=[Middleware(Users)],
    exception_handlers={ValueError: refused, warmd.WarmdError: refused},
    lifespan=lifespan,
)

if __name__ == "__main__":
    uvicorn.run(api, host="127.0.0.1", port=int(os.environ.get("PORT", "3000")))
