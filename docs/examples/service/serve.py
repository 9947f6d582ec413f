"""Serves an ONNX model over HTTP: `python serve.py model.onnx`. See README.md.

POST /predict runs the model, GET /health tells whether it is ready, GET /metrics is for Prometheus.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import bodies
import uvicorn
from batching import Batcher, Busy
from bodies import JSON, Refused
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from metrics import Metrics
from model import LoadError, Model, load, one_line
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from settings import Settings, read
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

ROUTES = {"/predict": "POST", "/health": "GET", "/metrics": "GET"}
DISCARDED = 4
"""A longer body is read and thrown away up to so many times the limit, because most clients read an answer when they have sent all."""


@dataclass
class State:
    """What the service is doing. `failure` is why the warm-up ended it."""

    ready: bool = False
    failure: str | None = None
    stopped: threading.Event = field(default_factory=threading.Event)


class Service:
    """A model behind three routes."""

    def __init__(self, settings: Settings, model: Model, address: str) -> None:
        self.settings, self.model, self.address = settings, model, address
        self.state, self.metrics = State(), Metrics()
        self.metrics.sessions.set(len(model.sessions))
        self.metrics.owned_nodes.set(model.owned)
        self.metrics.nodes.set(model.nodes)
        self.batcher = Batcher(model, self.metrics, settings.max_batch, settings.max_wait_ms / 1000, settings.max_in_flight)
        self.app = FastAPI(lifespan=self.lifespan, openapi_url=None)  # the bodies are not such that OpenAPI could describe them
        self.app.add_api_route("/predict", self.predict, methods=["POST"])
        self.app.add_api_route("/health", self.health)
        self.app.add_api_route("/metrics", self.show_metrics)
        self.app.add_exception_handler(Refused, self.refuse)
        self.app.add_exception_handler(HTTPException, self.no_route)
        self.app.add_exception_handler(Exception, self.fail)
        self.server = uvicorn.Server(
            uvicorn.Config(self.app, log_level="warning", access_log=False, timeout_graceful_shutdown=settings.drain_s)
        )

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Warm up while the server listens already, so that /health can tell; at the end stop the sessions."""
        self.batcher.start()
        warming = asyncio.create_task(self.warm_up())
        yield
        self.state.stopped.set()
        await warming
        await self.batcher.stop()
        print("stopped", file=sys.stderr, flush=True)

    async def warm_up(self) -> None:
        """Run every session with the shapes that will come, then accept requests. The server ends if that fails."""
        began = time.perf_counter()
        try:
            await asyncio.to_thread(self.model.warm_up, self.settings, self.state.stopped)
        except LoadError as error:
            self.state.failure, self.server.should_exit = str(error), True
            return
        self.state.ready = not self.state.stopped.is_set()
        self.metrics.ready.set(self.state.ready)
        if self.state.ready:
            sessions = f"sessions x threads: {len(self.model.sessions)} x {self.settings.threads}"
            owned = f"{self.model.owned} of {self.model.nodes} nodes owned" if self.model.nodes else "CPU provider"
            print(f"ready at {self.address} after {time.perf_counter() - began:.1f} s: {sessions}, {owned}", file=sys.stderr, flush=True)

    async def predict(self, request: Request) -> Response:
        """Run the model for the rows of a body."""
        began = time.perf_counter()
        if not self.state.ready:
            raise Refused(503, "the service is not ready; GET /health tells when it is", {"Retry-After": "1"})
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        limit = int(self.settings.max_body_mb * 1e6)
        arrays = bodies.read(media_type, await self.body(request, limit), self.model.inputs, limit)
        finite = not self.settings.allow_non_finite
        feeds, rows = bodies.checked(arrays, self.model.inputs, batched=self.model.batched, max_rows=self.settings.max_batch, finite=finite)
        try:
            outputs = await self.batcher.submit(feeds, rows)
        except Busy:
            raise Refused(503, f"{self.settings.max_in_flight} requests are in flight already: try again", {"Retry-After": "1"}) from None
        except InvalidArgument as error:
            raise Refused(422, f"the model cannot run with these inputs: {one_line(error)}") from None
        wanted = JSON if JSON in request.headers.get("accept", "") else media_type
        content, answered = bodies.write(wanted, self.model.outputs, outputs)
        self.metrics.answers.labels(200).inc()
        self.metrics.predict_seconds.observe(time.perf_counter() - began)
        return Response(content, media_type=answered)

    async def body(self, request: Request, limit: int) -> bytes:
        """Return the body, whether its length was announced or it comes in chunks. Refused if it is longer than `limit` bytes."""
        announced, read, parts = int(request.headers.get("content-length", 0)), 0, []
        try:
            if announced <= DISCARDED * limit:
                async for part in request.stream():
                    read += len(part)
                    if read <= limit:
                        parts.append(part)
                    elif read > DISCARDED * limit:
                        break
        except ClientDisconnect:
            raise Refused(400, "the connection was closed before the end of the body") from None
        if max(announced, read) > limit:
            raise Refused(413, f"the body is longer than {limit} bytes", {"Connection": "close"})
        return b"".join(parts)

    async def health(self) -> Response:
        """Tell whether requests are accepted, and what a request looks like."""
        model = self.model
        inputs = [{"name": i.name, "dtype": str(i.dtype), "shape": i.shape} for i in model.inputs]
        content = {"status": "ok" if self.state.ready else "warming up", "provider": self.settings.provider}
        content |= {"sessions": len(model.sessions), "owned_nodes": model.owned, "nodes": model.nodes}
        content |= {"inputs": inputs, "outputs": model.outputs}
        return JSONResponse(content, 200 if self.state.ready else 503)

    async def show_metrics(self) -> Response:
        """Return the metrics as Prometheus reads them."""
        return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Answer a refused request with one line."""
        assert isinstance(error, Refused)
        return self.error(error.status, str(error), error.headers)

    async def no_route(self, request: Request, error: Exception) -> Response:
        """Answer a request for a path or with a method that there is not."""
        assert isinstance(error, HTTPException)
        path = request.url.path[:200]
        routes = ", ".join(f"{method} {route}" for route, method in ROUTES.items())
        message = f"{path} takes {ROUTES[path]}, not {request.method}" if path in ROUTES else f"no route {path}: there are {routes}"
        return self.error(error.status_code, message, error.headers)

    async def fail(self, request: Request, error: Exception) -> Response:
        """Answer after an error of the service itself, which uvicorn logs with its traceback."""
        return self.error(500, f"the service failed: {type(error).__name__}")

    def error(self, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
        """Count and return an answer of one line."""
        self.metrics.answers.labels(status).inc()
        return JSONResponse({"error": " ".join(message.split())}, status, headers)


def main() -> None:
    """Load the model, then serve it until SIGTERM or SIGINT. Exits with 1 and one line if it cannot be served."""
    settings = read()
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY only if it sees the protocol
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        service = Service(settings, load(settings), f"http://{host}:{listening.getsockname()[1]}")
    except OSError as error:
        sys.exit(f"serve.py: cannot listen at {settings.host}:{settings.port}: {error.strerror or error}")
    except LoadError as error:
        sys.exit(f"serve.py: {error}")
    service.server.run(sockets=[listening])
    if service.state.failure:
        sys.exit(f"serve.py: {service.state.failure}")


if __name__ == "__main__":
    main()
