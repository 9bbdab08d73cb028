"""Downloads, from a server on this machine: resumed, checked, and never half-written."""

from __future__ import annotations

import hashlib
import http.server
import multiprocessing
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from spotfast.datasets import sources, transport
from spotfast.datasets.files import Wanted
from spotfast.datasets.sources import Website, Wheel, locate
from spotfast.datasets.transport import CorruptDownloadError, DataUnavailableError, DownloadError, download

CONTENT = bytes(range(256)) * 4096  # 1 MiB
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
WANTED = Wanted({"u.data": b"1"}, folders=("ml",), archives=("ml.zip",))


class Server(http.server.ThreadingHTTPServer):
    """Serves one file at every path, and keeps the headers of all requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/ml.zip"
        self.content = CONTENT
        self.validators = {"ETag": '"one"'}
        self.status = 200
        self.ranges = True  # whether it honours Range
        self.lengths = True  # whether it tells the length
        self.cuts = []  # for each request: after how many bytes of the body it breaks off
        self.delay = 0.0  # seconds between a request and its answer
        self.stall = None  # an event to wait for where it breaks off
        self.requests = []

    @property
    def starts(self):
        """From which byte each request asked for the file, None if for all of it."""
        asked = [request.get("Range") for request in self.requests]
        return [text and int(text.removeprefix("bytes=").removesuffix("-")) for text in asked]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        time.sleep(server.delay)
        if server.status != 200:
            self.send_error(server.status)
            return
        body, start = server.content, 0
        if server.ranges and self.headers.get("If-Range") in server.validators.values():
            start = server.starts[-1]
        self.send_response(200 if start == 0 else 206 if start < len(body) else 416)
        if start:
            served = f"{start}-{len(body) - 1}" if start < len(body) else "*"
            self.send_header("Content-Range", f"bytes {served}/{len(body)}")
        for name, value in server.validators.items():
            self.send_header(name, value)
        if server.lengths:
            self.send_header("Content-Length", str(len(body[start:])))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        self.wfile.write(body[start:] if cut is None else body[start : start + cut])
        if cut is not None and server.stall:
            server.stall.wait(60)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "ml.zip"


def set_up(server, settings):
    for name, value in settings.items():
        setattr(server, name, value)


def leftovers(folder):
    """Return the files beside the lock, which some releases of filelock delete."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


class TestDownload:
    @pytest.mark.parametrize("checksum", [MD5, SHA256.upper().replace("SHA", "sha"), None])
    def test_fetches_the_file_once(self, server, target, checksum, capsys):
        assert download(server.url, target, checksum) == target
        assert target.read_bytes() == CONTENT
        out, err = capsys.readouterr()
        assert out == ""
        assert "ml.zip: 100%" in err
        assert leftovers(target.parent) == ["ml.zip"]
        download(server.url, target, checksum)
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("settings", "starts", "version"),
        [
            ({"lengths": False}, [None], None),
            ({"cuts": [300_000, 300_000]}, [None, 300_000, 600_000], '"one"'),
            ({"cuts": [9], "ranges": False}, [None, 9], '"one"'),
            ({"cuts": [9], "validators": {"ETag": '"x"', "Last-Modified": "y"}}, [None, 9], '"x"'),
            ({"cuts": [9], "validators": {"ETag": 'W/"x"', "Last-Modified": "y"}}, [None, 9], "y"),
            ({"cuts": [9], "validators": {"ETag": 'W/"x"'}}, [None, None], None),
            ({"cuts": [9], "validators": {}}, [None, None], None),
        ],
    )
    def test_continues_a_broken_transfer_of_the_same_version(self, server, target, settings, starts, version):
        set_up(server, settings)
        download(server.url, target, MD5)
        assert target.read_bytes() == CONTENT
        assert server.starts == starts
        assert server.requests[-1].get("If-Range") == version

    @pytest.mark.parametrize(
        ("settings", "mirror", "start"),
        [
            ({}, "", 700_000),
            ({}, "?mirror", None),  # it may be another file
            ({"content": CONTENT[::-1], "validators": {"ETag": '"two"'}}, "", 700_000),  # but the server knows better
        ],
    )
    def test_continues_what_an_earlier_call_left(self, server, target, settings, mirror, start):
        server.cuts = [700_000, 0]
        with pytest.raises(DownloadError, match="closed before all 1048576 bytes came, after 700000 bytes: http://127"):
            download(server.url, target)
        assert leftovers(target.parent) == ["ml.zip.part", "ml.zip.part.from"]
        set_up(server, settings)
        download(server.url + mirror, target)
        assert target.read_bytes() == server.content
        assert server.starts[-1] == start

    @pytest.mark.parametrize(
        ("part", "note", "starts"),
        [
            (b"anything", "\xff", [None]),
            (CONTENT + b"more", '{}\n"one"', [len(CONTENT) + 4, None]),
            (CONTENT, '{}\n"one"', [len(CONTENT)]),
        ],
        ids=["spoilt", "too long", "whole"],
    )
    def test_finishes_what_it_finds(self, server, target, part, note, starts):
        target.parent.mkdir()
        target.with_name("ml.zip.part").write_bytes(part)
        target.with_name("ml.zip.part.from").write_text(note.format(server.url), "latin-1")
        download(server.url, target, MD5)
        assert target.read_bytes() == CONTENT
        assert server.starts == starts
        assert leftovers(target.parent) == ["ml.zip"]

    @pytest.mark.parametrize(
        ("settings", "error", "message", "requests"),
        [
            ({"cuts": [1] * 100}, DownloadError, "after 10 bytes", 10),
            ({"cuts": [5000] * 100, "ranges": False}, DownloadError, "after 5000 bytes", 2),
            ({"status": 404}, DownloadError, "HTTP 404 .*: http://127", 1),
            ({"status": 416}, DownloadError, "HTTP 416 .*: http://127", 1),
            ({"delay": 0.3}, DownloadError, "TimeoutError: timed out, after 0 bytes", 1),
            ({"content": b"x"}, CorruptDownloadError, f"ml.zip is corrupt .*expected {MD5}, got md5:", 1),
            ({"cuts": [1000], "lengths": False}, CorruptDownloadError, "ml.zip is corrupt", 1),
        ],
    )
    def test_gives_up(self, server, target, settings, error, message, requests):
        set_up(server, settings)
        with pytest.raises(error, match=message):
            download(server.url, target, MD5, timeout=0.1)
        assert len(server.requests) == requests
        assert ("ml.zip.part" in leftovers(target.parent)) == bool(settings.get("cuts") or "after 5000" in message)
        assert not target.exists()

    def test_reports_that_no_server_listens(self, target):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with pytest.raises(DownloadError, match="ConnectionRefusedError.* after 0 bytes: http"):
                download(f"http://127.0.0.1:{unused.getsockname()[1]}/ml.zip", target)

    @pytest.mark.parametrize("killed", [True, False])
    def test_a_second_download_waits_for_the_first(self, server, target, killed, capsys):
        server.cuts, server.stall = [400_000], threading.Event()
        first = multiprocessing.get_context("spawn").Process(target=download, args=(server.url, target, MD5))
        first.start()
        part = target.with_name("ml.zip.part")
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size == 400_000) and time.monotonic() < deadline:
            time.sleep(0.01)
        second = threading.Thread(target=download, args=(server.url, target, MD5))
        second.start()
        while "ml.zip: waiting for another download" not in capsys.readouterr().err and time.monotonic() < deadline:
            time.sleep(0.01)
        if killed:
            first.kill()
        server.stall.set()
        first.join(60)
        second.join(60)
        assert time.monotonic() < deadline
        assert (first.exitcode == 0) == (not killed)
        assert target.read_bytes() == CONTENT
        assert server.starts == [None, 400_000]  # whoever went on, the other made no request


def make_zip(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


class TestLocate:
    @pytest.fixture(autouse=True)
    def places(self, monkeypatch, tmp_path):
        self.data, self.cache = tmp_path / "data", tmp_path / "cache"
        monkeypatch.setenv("SPOTFAST_DATA_DIR", str(self.data))
        monkeypatch.setenv("SPOTFAST_CACHE_DIR", str(self.cache))

    def serve(self, server, tmp_path, members):
        server.content = make_zip(tmp_path / "served.zip", members).read_bytes()
        return Website(server.url, "md5:" + hashlib.md5(server.content).hexdigest())

    def read(self, *args, **kwargs):
        with locate("Data", WANTED, *args, **kwargs).open() as stream:
            return stream.read()

    def test_the_cache_folder(self, monkeypatch):
        assert transport.cache_folder("movielens") == self.cache / "movielens"
        monkeypatch.setenv("SPOTFAST_CACHE_DIR", "")
        assert "spotfast" in str(transport.cache_folder("movielens"))

    def test_the_users_folder_comes_before_the_cache_before_the_sources(self, server, tmp_path):
        good = self.serve(server, tmp_path, {"ml/u.data": "1 fetched"})
        bad = Website(server.url.replace("ml.zip", "other.zip"), MD5)
        self.data.mkdir()
        (self.data / "u.data").write_text("2: another data set's")
        assert self.read([bad, good], "sub") == b"1 fetched"
        (self.cache / "sub" / "ml").mkdir()
        (self.cache / "sub" / "ml" / "u.data").write_text("1 cached")
        assert self.read([good], "sub") == b"1 cached"
        make_zip(self.data / "ml.zip", {"ml/u.data": "1 mine"})
        assert self.read([good], "sub") == b"1 mine"
        assert len(server.requests) == 2

    def test_says_why_each_place_has_failed(self, server, tmp_path):
        empty = self.serve(server, tmp_path, {"readme": "nothing"})
        wrong = Website(server.url.replace("ml.zip", "other.zip"), MD5)
        with pytest.raises(DataUnavailableError) as caught:
            locate("The data", WANTED, [empty, wrong], "sub")
        lines = str(caught.value).split("\n")
        assert lines[0].startswith("The data was found in no place")
        assert lines[1] == f"  - SPOTFAST_DATA_DIR, {self.data}: does not exist"
        assert lines[2] == f"  - the cache, {self.cache / 'sub'}: does not exist"
        assert lines[3] == f"  - {empty}: none of u.data in it"
        assert lines[4].startswith(f"  - {wrong}: other.zip is corrupt")
        assert lines[5].startswith("Put one of ml.zip into a folder")

    def test_a_path_is_the_only_place(self, tmp_path):
        make_zip(self.data / "ml.zip", {"ml/u.data": "1 mine"})
        (tmp_path / "empty").mkdir()
        with pytest.raises(FileNotFoundError, match=r"path must hold Data as one of u\.data, ml/u\.data, ml\.zip"):
            locate("Data", WANTED, [], "sub", path=tmp_path / "empty")
        with pytest.raises(FileNotFoundError, match="nowhere', which does not exist"):
            locate("Data", WANTED, [], "sub", path=tmp_path / "nowhere")
        with pytest.raises(TypeError, match=r"path must be a str, an os\.PathLike or None, got 3"):
            locate("Data", WANTED, [], "sub", path=3)


class TestWheel:
    wheel = Wheel("somedata", "1.0", "somedata-1.0-py3-none-any.whl", MD5)

    def stand_in(self, monkeypatch, name="", content=b"", code=0, stderr=""):
        """Put a stand-in for pip, which writes one file, in its place, and return the list of its commands."""
        commands = []

        def run(command, timeout, **_):
            commands.append(command)
            if code is None:
                raise subprocess.TimeoutExpired(command, timeout)
            if name:
                Path(command[command.index("--dest") + 1], name).write_bytes(content)
            return subprocess.CompletedProcess(command, code, "", stderr)

        monkeypatch.setattr(sources.subprocess, "run", run)
        return commands

    def test_asks_pip_for_the_wheel_alone_and_once(self, monkeypatch, tmp_path):
        commands = self.stand_in(monkeypatch, self.wheel.file_name, CONTENT)
        for _ in range(2):
            assert self.wheel.fetch(tmp_path / "cache").read_bytes() == CONTENT
        assert leftovers(tmp_path / "cache") == [self.wheel.file_name]
        (command,) = commands
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert {"--no-deps", "--only-binary=:all:", "somedata==1.0"} < set(command)

    @pytest.mark.parametrize(
        ("outcome", "reason"),
        [
            ({"name": wheel.file_name, "content": b"x"}, r"somedata-1\.0-py3-none-any\.whl is corrupt"),
            ({"name": "somedata-1.0.tar.gz"}, r"pip fetched somedata-1\.0\.tar\.gz instead of somedata-1"),
            ({"code": None}, "pip was not done after 300 seconds"),
            ({"code": 2}, "^pip ended with exit status 2$"),
            ({"code": 1, "stderr": "note\nERROR: No match\nnotice"}, "^ERROR: No match$"),
            ({"code": 1, "stderr": "connection broken by X\nERROR: None"}, "^connection broken by X ERROR: None$"),
            ({"code": 1, "stderr": "Traceback\nKeyError: 1\n"}, "^KeyError: 1$"),
            ({"code": 1, "stderr": "/python: No module named pip"}, "^pip is not installed for "),
        ],
    )
    def test_reports_what_went_wrong(self, monkeypatch, tmp_path, outcome, reason):
        self.stand_in(monkeypatch, **outcome)
        with pytest.raises(DownloadError, match=reason):
            self.wheel.fetch(tmp_path)
        assert leftovers(tmp_path) == []

    def test_reports_that_there_is_no_python(self, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "executable", "")
        with pytest.raises(DownloadError, match="does not know its own executable"):
            self.wheel.fetch(tmp_path)
