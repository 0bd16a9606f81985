"""Fetching, against a server on this machine that can be told to fail."""

import errno
import hashlib
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from crossprop.data import download
from crossprop.data.catalog import PinnedFile
from crossprop.data.download import fetch_files
from crossprop.errors import FetchError

CONTENT = bytes(range(256)) * 2000  # 512,000 bytes
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def pin(content, path="data/a.csv", size=None):
    blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    return PinnedFile(repository="owner/repo", commit=COMMIT, path=path, blob=blob, size=size)


class Server:
    """Serves ``content``; one of ``faults`` a request: a status, ``cut``, ``no_range`` or ``spoil``."""

    def __init__(self):
        self.content = CONTENT
        self.faults: list[object] = []
        self.ranges: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                outer.ranges.append(asked)
                fault = outer.faults.pop(0) if outer.faults else None
                if isinstance(fault, int) or not self.path.startswith(f"/owner/repo/{COMMIT}/"):
                    self.send_error(fault if isinstance(fault, int) else 404)
                    return
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and fault != "no_range" else 0
                if start and start >= len(outer.content):
                    self.send_error(416)
                    return
                body = outer.content[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if fault == "cut":
                    body = body[: len(body) // 2]
                self.wfile.write(body[::-1] if fault == "spoil" else body)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("CROSSPROP_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started = Server()
    yield started
    started.http.shutdown()
    started.http.server_close()


@pytest.fixture
def get(server, tmp_path):
    def run(*files, **options):
        values = {"base_url": server.url, "blobs": tmp_path / "blobs", "pause": 0.0, **options}
        return fetch_files(files, tmp_path / "raw", **values)

    return run


def everything_under(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file()) if folder.exists() else []


def test_a_file_arrives_whole_at_its_place_and_progress_is_told(get, tmp_path, capsys):
    assert pin(b"hello\n").blob == "ce013625030ba8dba906f756967f9e9ca394464a"  # as git has it
    seen = []

    def report(progress):
        seen.append(progress)
        download.print_progress(progress)

    (path,) = get(pin(CONTENT, size=len(CONTENT)), report=report)
    assert [p.state for p in seen[:1] + seen[-1:]] == ["downloading", "done"]
    assert [p.received for p in seen] == sorted(p.received for p in seen)
    assert (seen[-1].received, seen[-1].file.size, seen[-1].number, seen[-1].total) == (512000, 512000, 1, 1)
    assert "[1/1] data/a.csv: done, 0.5 MB" in capsys.readouterr().err
    assert path == tmp_path / "raw" / "owner" / "repo" / COMMIT / "data" / "a.csv"
    assert path.read_bytes() == CONTENT
    assert everything_under(tmp_path / "raw") == ["a.csv"]


def test_what_is_there_is_not_fetched_again_and_what_is_damaged_is_replaced(get, server, tmp_path):
    (path,) = get(pin(CONTENT))
    get(pin(CONTENT))
    assert len(server.ranges) == 1
    path.write_bytes(b"damaged")
    (path,) = get(pin(CONTENT))
    assert path.read_bytes() == CONTENT
    shutil.rmtree(tmp_path / "raw")
    get(pin(CONTENT))
    assert len(server.ranges) == 1  # the verified download was still there


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_an_interrupted_transfer_resumes_where_it_broke(get, server, size):
    server.faults = ["cut", "cut"]
    (path,) = get(pin(CONTENT, size=size))
    assert path.read_bytes() == CONTENT
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in server.ranges[1:]]
    assert server.ranges[0] is None
    assert 200_000 < starts[0] <= 256_000  # half of it was sent; the last chunk may be lost
    assert 330_000 < starts[1] <= 400_000


def test_a_transfer_that_breaks_often_but_goes_on_is_not_given_up(get, server):
    server.faults = ["cut"] * 5
    assert get(pin(CONTENT), attempts=2)[0].read_bytes() == CONTENT


def test_a_damaged_file_that_comes_in_parts_is_given_up(get, server):
    server.faults = ["cut", "spoil"] * 50
    with pytest.raises(FetchError, match=r"damaged or replaced|fetch again"):
        get(pin(CONTENT), attempts=3)
    assert len(server.ranges) < 10


@pytest.mark.parametrize("size", [None, len(CONTENT)])
@pytest.mark.parametrize("left", [CONTENT[:1000], b"x" * len(CONTENT), CONTENT + b"more"])
def test_what_a_dead_process_left_is_resumed_or_thrown_away(get, server, tmp_path, size, left):
    file = pin(CONTENT, size=size)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / f"{file.blob}.part").write_bytes(left)
    assert get(file)[0].read_bytes() == CONTENT
    assert len(left) > 1000 or server.ranges == ["bytes=1000-"]


@pytest.mark.parametrize("faults", [[503, 429, "spoil"], ["cut", "no_range"]])
def test_a_passing_fault_of_the_server_is_retried(get, server, faults):
    server.faults = faults
    assert get(pin(CONTENT))[0].read_bytes() == CONTENT


def test_a_file_altered_on_the_way_is_refused_and_leaves_nothing(get, server, tmp_path):
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(FetchError, match=r"data/a\.csv could not be fetched.*damaged or replaced"):
        get(pin(CONTENT), attempts=3)
    assert len(server.ranges) == 3
    assert everything_under(tmp_path / "raw") == []
    assert all(name.endswith(".lock") for name in everything_under(tmp_path / "blobs"))


def test_a_file_that_does_not_exist_is_not_tried_again_and_no_server_is_named(get, server):
    server.faults = [404]
    with pytest.raises(FetchError, match="no such file"):
        get(pin(CONTENT))
    assert len(server.ranges) == 1
    with pytest.raises(FetchError, match="connection failed"):
        get(pin(CONTENT), base_url="http://127.0.0.1:9", attempts=2)


def test_a_full_disk_is_named_and_leaves_no_half_file(get, tmp_path, monkeypatch):
    def no_space(source, target):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(download.shutil, "copyfile", no_space)
    with pytest.raises(FetchError, match=r"No space left on device.*Free some space"):
        get(pin(CONTENT))
    assert everything_under(tmp_path / "raw") == []


def test_a_mirror_or_the_users_folder_is_copied_from_without_any_request(get, server, tmp_path, monkeypatch):
    mirrored = tmp_path / "mirror" / "owner" / "repo" / COMMIT / "data" / "a.csv"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(b"!" + CONTENT[1:])
    monkeypatch.setenv("CROSSPROP_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(FetchError, match=r"a\.csv is damaged.*Correct the mirror, or unset CROSSPROP_MIRROR"):
        get(pin(CONTENT, size=len(CONTENT)))
    assert everything_under(tmp_path / "raw") == []
    mirrored.write_bytes(CONTENT)
    assert get(pin(CONTENT))[0].read_bytes() == CONTENT
    folder = str(mirrored.parent.parent)
    (path,) = get(pin(CONTENT).model_copy(update={"folder": folder, "commit": "files"}))
    assert path.read_bytes() == CONTENT
    assert server.ranges == []
    with pytest.raises(FetchError, match=r"data/a\.csv is missing.*unset CROSSPROP_MIRROR"):
        get(pin(CONTENT, size=1).model_copy(update={"commit": "f" * 40}))
