"""The server of `http_server`: `python -m benchmarks.peers.http_app DESCRIPTOR`, until it is killed."""

from __future__ import annotations

import socket
import sys

import uvicorn
from fastapi import Body, FastAPI, Request, Response

from benchmarks.peers.work import Work

app, work = FastAPI(), Work()


@app.post("/incr")
async def incr(by: int = Body(embed=True)) -> dict[str, int]:
    return work.incr(by)


@app.post("/echo")
async def echo(request: Request) -> Response:
    return Response(work.echo(await request.body()), media_type="application/octet-stream")


if __name__ == "__main__":
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
