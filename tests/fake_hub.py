"""A Hugging Face hub on this machine: as much of it as huggingface_hub asks for to read and to write models."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

WRITER, READER = "hf_writer", "hf_reader"
"""Tokens: one may write, the other only read."""


@dataclass
class FakeModel:
    """A model with its commits, oldest first, and where branches and tags point to."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict[str, dict[str, bytes]])
    refs: dict[str, str] = field(default_factory=dict[str, str])

    def commit(self, files: dict[str, bytes], revision: str = "main") -> str:
        before = self.commits.get(self.refs.get(revision, ""), {})
        sha = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits[sha] = {**before, **files}
        self.refs[revision] = sha
        return sha


@dataclass
class FakeHub:
    """What the server holds, what it was asked, and how it misbehaves."""

    url: str = ""
    models: dict[str, FakeModel] = field(default_factory=dict[str, FakeModel])
    stored: dict[str, bytes] = field(default_factory=dict[str, bytes])
    requests: list[str] = field(default_factory=list[str])
    tokens: list[str | None] = field(default_factory=list[str | None])
    status: int = 200  # other: the answer to everything
    damage: str = ""  # "flip" a bit of what is downloaded, or make it "short"

    def model(self, name: str, files: dict[str, bytes], **keys: Any) -> FakeModel:
        model = self.models[name] = FakeModel(**keys)
        model.commit(files)
        return model


class RefusalError(Exception):
    def __init__(self, status: int, code: str = "", text: str = "") -> None:
        super().__init__(status, code, text)
        self.status, self.code, self.text = status, code, text


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do(self) -> None:
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.hub.requests.append(f"{self.command} {path}")
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.tokens.append(self.token)
        try:
            if self.hub.status != 200:
                raise RefusalError(self.hub.status, text="out of order")
            self.route(path, body)
        except RefusalError as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.text}
            content = json.dumps({"error": refusal.text} if refusal.text else {}).encode()
            self.answer(content, refusal.status, {k: v for k, v in headers.items() if v})

    do_GET = do_HEAD = do_POST = do_PUT = do

    def answer(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_part(self, content: bytes) -> None:
        """From where an earlier download broke off."""
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start, whole = int(match[1]), len(content)
            self.answer(content[start:], 206, {"Content-Range": f"bytes {start}-{whole - 1}/{whole}"})
        else:
            self.answer(content)

    def answer_json(self, content: object) -> None:
        self.answer(json.dumps(content).encode(), headers={"Content-Type": "application/json"})

    def route(self, path: str, body: bytes) -> None:
        hub = self.hub
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/(.+)", path):
            self.may_write()
            {"preupload": self.preupload, "commit": self.commit}[match[2]](match[1], match[3], body)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self.info(match[1], unquote(match[2] or "main"))
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(*map(unquote, match.groups()))
        elif match := re.fullmatch(r"/cdn/([0-9a-f]{64})", path):
            assert self.token is None, "the token must not leave the hub"
            self.answer_part(self.damaged(hub.stored[match[1]]))
        elif path == "/api/repos/create":
            self.create(json.loads(body))
        elif path == "/api/validate-yaml":
            self.validate(json.loads(body)["content"])
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {"oid": o["oid"], "size": o["size"]}
                | ({} if o["oid"] in hub.stored else {"actions": {"upload": {"href": f"{hub.url}/lfs/{o['oid']}"}}})
                for o in json.loads(body)["objects"]
            ]
            self.answer_json({"transfer": "basic", "objects": objects})
        elif (match := re.fullmatch(r"/lfs/([0-9a-f]{64})", path)) and self.command == "PUT":
            assert hashlib.sha256(body).hexdigest() == match[1]
            hub.stored[match[1]] = body
            self.answer(b"")
        else:
            raise RefusalError(404, text=f"no such page: {path}")

    def may_write(self) -> None:
        if self.token != WRITER:
            raise RefusalError(403, text="this token cannot write here")

    def found(self, name: str, revision: str) -> tuple[FakeModel, str]:
        if self.token not in (None, WRITER, READER):
            raise RefusalError(401, text="Invalid credentials in Authorization header")
        model = self.hub.models.get(name)
        if model is None or (model.private and self.token is None):
            # As the hub does, which does not tell strangers of private models.
            raise RefusalError(401 if self.token is None else 404, "RepoNotFound", "Repository not found")
        sha = model.refs.get(revision, revision)
        if sha not in model.commits:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return model, sha

    def info(self, name: str, revision: str) -> None:
        model, sha = self.found(name, revision)
        siblings = [{"rfilename": file} for file in model.commits[sha]]
        self.answer_json({"id": name, "sha": sha, "private": model.private, "siblings": siblings})

    def resolve(self, name: str, revision: str, file: str) -> None:
        model, sha = self.found(name, revision)
        if model.gated and self.token is None:
            raise RefusalError(401, "GatedRepo", "Access to this model is restricted")
        if file not in model.commits[sha]:
            raise RefusalError(404, "EntryNotFound", "Entry not found")
        content = model.commits[sha][file]
        headers = {"X-Repo-Commit": sha}
        if not file.endswith((".safetensors", ".pth")):
            self.answer(content, headers={**headers, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'})
            return
        oid = hashlib.sha256(content).hexdigest()
        self.hub.stored[oid] = content
        headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        # Under another name of this machine: large files come from elsewhere.
        location = f"{self.hub.url.replace('127.0.0.1', 'localhost')}/cdn/{oid}"
        self.answer(b"", 302, {**headers, "Location": location})

    def damaged(self, content: bytes) -> bytes:
        if self.hub.damage == "flip":
            return content[:-1] + bytes([content[-1] ^ 1])
        return content[:-7] if self.hub.damage == "short" else content

    def create(self, asked: dict[str, Any]) -> None:
        self.may_write()
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.models:
            content = {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}
            self.answer(json.dumps(content).encode(), 409)
            return
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.models[name] = FakeModel(private=bool(private))
        self.hub.models[name].commit({})
        self.answer_json({"url": f"{self.hub.url}/{name}"})

    def validate(self, card: str) -> None:
        if "license: nonsense" in card:
            content = json.dumps({"errors": [{"message": '"license" must be one of [apache-2.0, ...]'}]})
            self.answer(content.encode(), 400)
        else:
            self.answer_json({"errors": [], "warnings": []})

    def preupload(self, name: str, revision: str, body: bytes) -> None:
        self.found(name, revision)
        files = [
            {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular"}
            | {"shouldIgnore": False}
            for f in json.loads(body)["files"]
        ]
        self.answer_json({"files": files})

    def commit(self, name: str, revision: str, body: bytes) -> None:
        model, _ = self.found(name, revision)
        files: dict[str, bytes] = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            else:
                assert line["key"] == "header"
        sha = model.commit(files, revision)
        url = f"https://huggingface.co/{name}/commit/{sha}"  # older versions of the library know no other hub by it
        self.answer_json({"success": True, "commitOid": sha, "commitUrl": url})


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub without models, until the end of the block."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=lambda: server.serve_forever(0.01))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
