"""A stand-in for W&B's server: as much of it as the real client needs to upload runs and to go on with a run it knows."""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROJECT = {"id": "p", "name": "ttsv", "entity": {"id": "e", "name": "me"}}


@dataclass
class Uploaded:
    """A run as the server knows it: history by line number, the last summary, the fields of its first creation."""

    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    created: dict[str, Any] = field(default_factory=dict)
    config: str = "{}"
    resumed: int = 0


class Server(ThreadingHTTPServer):
    """Answers at ``address``; keeps the runs by id and the body of every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.runs: dict[str, Uploaded] = {}
        self.bodies: list[bytes] = []

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        """Answer a GraphQL operation, or None to what is not known here (artifacts), which the client then does without."""
        if operation == "Viewer":
            return {
                "viewer": {
                    "id": "u",
                    "entity": "me",
                    "username": "me",
                    "email": "",
                    "flags": "{}",
                    "teams": {"edges": []},
                }
            }
        if operation == "RunResumeStatus":
            known = self.runs.get(variables["name"])
            return {"model": {**PROJECT, "bucket": known and self.resume(variables["name"], known)}}
        if operation == "UpsertBucket":
            known = self.runs.setdefault(variables["name"], Uploaded())
            known.created = known.created or variables
            known.config = variables["config"] or known.config
            bucket = {"id": variables["name"], "name": variables["name"], "displayName": "", "description": ""}
            extra = {"config": known.config, "sweepName": None, "project": PROJECT, "historyLineCount": 0}
            return {"upsertBucket": {"bucket": bucket | extra, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.address}/file/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}
        return None

    def resume(self, name: str, known: Uploaded) -> dict[str, Any]:
        known.resumed += 1
        tail = [json.dumps(known.history[max(known.history)])] if known.history else []
        return {
            "id": name,
            "name": name,
            "displayName": "",
            "summaryMetrics": json.dumps(known.summary),
            "config": known.config,
            "historyLineCount": len(known.history),
            "historyTail": json.dumps(tail),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "eventsTail": "[]",
            "tags": [],
            "notes": "",
            "wandbConfig": '{"t": 1}',
        }

    def stream(self, name: str, files: dict[str, Any]) -> None:
        """Take lines of a run's history and summary."""
        for file, chunk in files.items():
            for number, line in enumerate(chunk["content"], start=chunk["offset"]):
                if file == "wandb-history.jsonl":
                    self.runs[name].history[number] = json.loads(line)
                elif file == "wandb-summary.json":
                    self.runs[name].summary = json.loads(line)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.body()
        if self.path == "/graphql":
            query = json.loads(body)
            found = re.match(r"\s*(?:query|mutation)\s+(\w+)", query["query"])
            data = self.server.answer(found[1] if found else "", query.get("variables") or {})
            self.reply({"data": data} if data else {"errors": [{"message": "not known here"}]})
            return
        if self.path.endswith("/file_stream"):
            self.server.stream(self.path.split("/")[-2], json.loads(body).get("files", {}))
        self.reply({})

    def do_PUT(self) -> None:
        self.body()
        self.reply({})

    def body(self) -> bytes:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        self.server.bodies.append(content)
        return content

    def reply(self, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving() -> Iterator[Server]:
    """Serve in a thread."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
