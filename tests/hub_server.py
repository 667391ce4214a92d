"""A hub of one repository, for `huggingface_hub` to talk to: on this machine, by HTTP.

It answers as the hub does to what uploads and downloads ask. Files of weights go to a
store of large files (Xet), which takes what `hf_xet` sends and keeps the sizes alone:
their content is looked up in `large_files`, by its hash.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import time
from urllib.parse import unquote, urlsplit

TOKEN, READING = "hf_that_may_write", "hf_that_may_read"


class Hub:
    """What the repository holds, what was asked of it, and what fails."""

    def __init__(self):
        self.files = {}
        self.large_files = {}
        self.commits = []
        self.requests = []
        self.stored = []  # Bytes of each block that the store of large files took.
        self.commits_to_refuse = 0
        self.address = ""

    @property
    def commit(self):
        return hashlib.sha1(repr(self.commits).encode()).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, content=b"", status=200, **headers):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers["Content-Type"] = "application/json"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self):
        hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.requests.append(f"{self.command} {path}")
        if re.match(r"/v\d/", path):
            return self.store(path, body)
        resolve = re.fullmatch(r"/\w+/\w+/resolve/(\w+)/(.+)", path)
        if resolve:
            return self.file(*resolve.groups())
        if self.command == "GET" and "/revision/" in path:
            if path.rpartition("/")[2] not in ("main", "v1", hub.commit):
                error = {"X_Error_Code": "RevisionNotFound"}
                return self.answer(status=404, **error)
            return self.answer({"id": "you/shapes", "sha": hub.commit, "siblings": []})
        if self.command == "GET" and "/tree/" in path:
            entries = (
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                for name, data in hub.files.items()
            )
            return self.answer(list(entries))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (TOKEN, READING):
            return self.answer({"error": "Invalid credentials"}, 401)
        if path == "/api/whoami-v2":
            return self.answer({"name": "you", "type": "user", "auth": {}})
        if token != TOKEN:
            return self.answer({"error": "You have no rights to do that"}, 403)
        if path == "/api/repos/create":
            return self.answer({"url": f"{hub.address}/you/shapes", "id": "you/shapes"})
        if path == "/api/validate-yaml":
            return self.answer({"warnings": [], "errors": []})
        if "/preupload/" in path:
            return self.answer({"files": list(map(_mode, json.loads(body)["files"]))})
        if "/xet-write-token/" in path:
            ends = int(time.time()) + 3600
            told = {"casUrl": hub.address, "accessToken": "short-lived", "exp": ends}
            names = ("X_Xet_Cas_Url", "X_Xet_Access_Token", "X_Xet_Token_Expiration")
            headers = dict(zip(names, map(str, told.values()), strict=True))
            return self.answer(told, **headers)
        if "/commit/" in path:
            return self.take(body)
        return self.answer({"error": f"{self.command} {path} is not known"}, 501)

    do_POST = do_HEAD = do_PUT = do_GET

    def file(self, revision, name):
        hub = self.server.hub
        if name not in hub.files:
            return self.answer(status=404, X_Error_Code="EntryNotFound")
        content = hub.files[name]
        sha = hashlib.sha256(content).hexdigest()
        self.answer(content, X_Repo_Commit=hub.commit, ETag=f'"{sha}"')

    def store(self, path, body):
        if not path.startswith(("/v1/xorbs", "/v1/shards")):
            return self.answer(status=404)  # Newer ways, which it goes without.
        if "xorbs" in path:
            self.server.hub.stored.append(len(body))
            return self.answer({"was_inserted": True})
        return self.answer({"result": 1})

    def take(self, body):
        hub = self.server.hub
        if hub.commits_to_refuse:
            hub.commits_to_refuse -= 1
            return self.answer({"error": "Another commit came first."}, 409)
        operations = [json.loads(line) for line in body.splitlines()]
        hub.commits.append([(o["key"], o["value"].get("path")) for o in operations])
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                hub.files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                hub.files[value["path"]] = hub.large_files[value["oid"]].read_bytes()
            elif operation["key"] == "deletedFile":
                del hub.files[value["path"]]
        url = f"{hub.address}/you/shapes/commit/{hub.commit}"
        self.answer({"success": True, "commitUrl": url, "commitOid": hub.commit})


def _mode(file):
    mode = "lfs" if file["path"].endswith(".h5") else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}


@contextlib.contextmanager
def serve_hub():
    """Serve an empty hub on a free port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.hub = hub = Hub()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
