"""Downloads, from a server on this machine: resumed, checked, and never half-written."""

from __future__ import annotations

import hashlib
import http.server
import multiprocessing
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from spotfast.datasets import sources, transport
from spotfast.datasets.files import Wanted
from spotfast.datasets.sources import Website, Wheel, locate
from spotfast.datasets.transport import CorruptDownloadError, DataUnavailableError, DownloadError, download

CONTENT = bytes(range(256)) * 4096  # 1 MiB
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
WANTED = Wanted({"u.data": b"1"}, folders=("ml",), archives=("ml.zip",))


class Server(http.server.ThreadingHTTPServer):
    """Serves one file at every path, and keeps the headers of all requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/ml.zip"
        self.content, self.validators, self.status = CONTENT, {"ETag": '"one"'}, 200
        self.ranges = self.lengths = True  # whether it honours Range, and tells the length
        self.cuts = []  # for each request: after how many bytes of the body it breaks off
        self.stall = threading.Event()  # what it waits for then
        self.stall.set()
        self.requests = []
        self.starts = []  # from which byte each request asked for the file, None if for all of it


class Handler(http.server.BaseHTTPRequestHandler):
    log_message = lambda *_: None  # noqa: E731

    def do_GET(self):
        server, body, start = self.server, self.server.content, 0
        asked = self.headers.get("Range")
        server.requests.append(dict(self.headers))
        server.starts.append(asked and int(asked.removeprefix("bytes=").removesuffix("-")))
        if server.ranges and self.headers.get("If-Range") in server.validators.values():
            start = server.starts[-1]
        rest = body[start:]
        self.send_response(server.status if not start else 206 if rest else 416)
        if start:
            self.send_header("Content-Range", f"bytes {f'{start}-{len(body) - 1}' if rest else '*'}/{len(body)}")
        for name, value in server.validators.items():
            self.send_header(name, value)
        if server.lengths:
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        cut = dict(enumerate(server.cuts, 1)).get(len(server.requests))
        self.wfile.write(rest[:cut])
        if cut is not None:
            server.stall.wait(60)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.stall.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "ml.zip"


def leftovers(folder):
    """Return the files beside the lock, which some releases of filelock delete."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestDownload:
    @pytest.mark.parametrize("checksum", [MD5, "sha256:" + hashlib.sha256(CONTENT).hexdigest().upper(), None])
    def test_fetches_the_file_once(self, server, target, checksum, capsys):
        for _ in range(2):
            assert download(server.url, target, checksum).read_bytes() == CONTENT
            assert leftovers(target.parent) == ["ml.zip"]
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("ml.zip: 100%") == len(server.requests) == 1

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
        vars(server).update(settings)
        download(server.url, target, MD5)
        assert target.read_bytes() == CONTENT
        assert server.starts == starts
        assert server.requests[-1].get("If-Range") == version

    @pytest.mark.parametrize(
        ("part", "note", "starts"),
        [
            (CONTENT[:9], '{}\n"one"', [9]),
            (b"x" * 9, '{}\n"two"', [9]),  # the server knows better
            (b"x" * 9, '{}?mirror\n"one"', [None]),
            (b"x" * 9, "\xff", [None]),
            (CONTENT + b"more", '{}\n"one"', [len(CONTENT) + 4, None]),
            (CONTENT, '{}\n"one"', [len(CONTENT)]),
        ],
        ids=["begun", "another version", "another url", "spoilt", "too long", "whole"],
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
        ("settings", "message", "requests"),
        [
            ({"cuts": [1] * 100}, "after 10 bytes", 10),
            ({"cuts": [5000] * 100, "ranges": False}, "after 5000 bytes", 2),
            ({"cuts": [0], "stall": threading.Event()}, "TimeoutError: timed out, after 0 bytes", 1),
            ({"url": "http://127.0.0.1:9/"}, "ConnectionRefusedError: .* 0 bytes: http://127", 0),
            ({"status": 404, "content": b""}, "HTTP 404 .*: http://127", 1),
            ({"status": 416, "content": b""}, "HTTP 416 .*: http://127", 1),
            ({"content": b"x"}, f"ml.zip is corrupt .*expected {MD5}, got md5:", 1),
            ({"cuts": [1000], "lengths": False}, "ml.zip is corrupt", 1),
        ],
    )
    def test_gives_up(self, server, target, settings, message, requests):
        vars(server).update(settings)
        error = CorruptDownloadError if "corrupt" in message else DownloadError
        with pytest.raises(error, match=message):
            download(server.url, target, MD5, timeout=0.1 if "Timeout" in message else 10)
        assert len(server.requests) == requests
        assert leftovers(target.parent) == (["ml.zip.part", "ml.zip.part.from"] if "after" in message else [])

    @pytest.mark.parametrize("killed", [True, False])
    def test_a_second_download_waits_for_the_first(self, server, target, killed, capsys):
        server.cuts, server.stall = [400_000], threading.Event()
        first = multiprocessing.get_context("spawn").Process(target=download, args=(server.url, target, MD5))
        first.start()
        part = target.with_name("ml.zip.part")
        wait_for(lambda: part.exists() and part.stat().st_size == 400_000)
        second = threading.Thread(target=download, args=(server.url, target, MD5))
        second.start()
        wait_for(lambda: "ml.zip: waiting for another download" in capsys.readouterr().err)
        if killed:
            first.kill()
        server.stall.set()
        first.join(60)
        second.join(60)
        assert (first.exitcode == 0) == (not killed)
        assert target.read_bytes() == CONTENT
        assert server.starts == [None, 400_000]  # whoever went on, the other made no request


@pytest.fixture
def places(monkeypatch, tmp_path):
    """The user's folder and the cache."""
    monkeypatch.setenv("SPOTFAST_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SPOTFAST_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "data", tmp_path / "cache" / "sub"


def serve(server, tmp_path, member, content):
    with zipfile.ZipFile(tmp_path / "ml.zip", "w") as archive:
        archive.writestr(member, content)
    server.content = (tmp_path / "ml.zip").read_bytes()
    wrong = Website(server.url.replace("ml.zip", "other.zip"), MD5)
    return [wrong, Website(server.url, "md5:" + hashlib.md5(server.content).hexdigest())]


class TestLocate:
    def read(self, *args, **kwargs):
        with locate("Data", WANTED, *args, **kwargs).open() as stream:
            return stream.read()

    def test_the_users_folder_comes_before_the_cache_before_the_sources(self, server, places, tmp_path):
        data, cache = places
        sources = serve(server, tmp_path, "ml/u.data", "1 fetched")
        data.mkdir()
        (data / "u.data").write_text("2: another data set's")
        assert self.read(sources, "sub") == b"1 fetched"
        (cache / "ml").mkdir()
        (cache / "ml" / "u.data").write_text("1 cached")
        assert self.read(sources, "sub") == b"1 cached"
        (data / "u.data").write_text("1 mine")
        assert self.read(sources, "sub") == b"1 mine"
        assert len(server.requests) == 2

    def test_says_why_each_place_has_failed(self, server, places, tmp_path):
        wrong, empty = serve(server, tmp_path, "readme", "nothing")
        with pytest.raises(DataUnavailableError, match=r"^Data was found in no place") as caught:
            locate("Data", WANTED, [empty, wrong], "sub")
        lines = str(caught.value).split("\n")
        assert lines[1] == f"  - SPOTFAST_DATA_DIR, {places[0]}: does not exist"
        assert lines[2:4] == [f"  - the cache, {places[1]}: does not exist", f"  - {empty}: none of u.data in it"]
        assert lines[4].startswith(f"  - {wrong}: other.zip is corrupt")
        assert lines[5].startswith("Put one of ml.zip into a folder")

    def test_the_cache_is_the_systems_unless_named(self, monkeypatch, places):
        assert transport.cache_folder("sub") == places[1]
        monkeypatch.setenv("SPOTFAST_CACHE_DIR", "")
        assert "spotfast" in str(transport.cache_folder("sub"))


WHEEL = Wheel("somedata", "1.0", "somedata-1.0-py3-none-any.whl", MD5)


@pytest.mark.parametrize(
    ("name", "content", "code", "stderr", "reason"),
    [
        (WHEEL.file_name, CONTENT, 0, "", None),
        (WHEEL.file_name, b"x", 0, "", r"somedata-1\.0-py3-none-any\.whl is corrupt"),
        ("somedata-1.0.tar.gz", CONTENT, 0, "", r"pip fetched somedata-1\.0\.tar\.gz instead of somedata-1"),
        ("log", b"", 2, "", "^pip ended with exit status 2$"),
        ("log", b"", 1, "note\nERROR: No match\nnotice", "^ERROR: No match$"),
        ("log", b"", 1, "connection broken by X\nERROR: None", "^connection broken by X ERROR: None$"),
        ("log", b"", 1, "Traceback\nKeyError: 1\n", "^KeyError: 1$"),
        ("log", b"", 1, "/python: No module named pip", "^pip is not installed for "),
        ("log", b"", None, "", "pip was not done after 300 seconds"),
    ],
)
def test_pip_fetches_the_wheel_alone_and_once(monkeypatch, tmp_path, name, content, code, stderr, reason):
    def run(command, timeout, **_):
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert {"--no-deps", "--only-binary=:all:", "somedata==1.0"} < set(command)
        if code is None:
            raise subprocess.TimeoutExpired(command, timeout)
        Path(command[command.index("--dest") + 1], name).write_bytes(content)
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(sources.subprocess, "run", run)
    with pytest.raises(DownloadError, match=reason) if reason else nullcontext():
        assert WHEEL.fetch(tmp_path).read_bytes() == CONTENT
        monkeypatch.delattr(sources.subprocess, "run")
        WHEEL.fetch(tmp_path)
    assert leftovers(tmp_path) == ([] if reason else [name])
