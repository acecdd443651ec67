"""Laws of the verified download: the file is whole and the right one, or it is not there."""

import hashlib
import http.server
import socket
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tlclassify.datasets._download import RemoteFile, data_home_folder, fetch_file

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/no-length":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.path == "/cut" else CONTENT)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("address", ["/file", "/no-length"])
def test_a_file_arrives_under_its_name_and_alone(tmp_path, server, capsys, address):
    home = tmp_path / "new" / "home"
    target = fetch_file(RemoteFile("x.bin", server + address, SHA256), home, verbose=0)
    assert target == home / "x.bin"
    assert target.read_bytes() == CONTENT
    assert [path.name for path in home.iterdir()] == ["x.bin"]
    assert capsys.readouterr().err == ""


def test_the_progress_bar_names_the_file(tmp_path, server, capsys):
    fetch_file(RemoteFile("x.bin", f"{server}/file", SHA256), tmp_path, verbose=1)
    assert "x.bin" in capsys.readouterr().err


def test_another_file_than_expected_is_removed(tmp_path, server):
    remote = RemoteFile("x.bin", f"{server}/file", "0" * 64)
    with pytest.raises(OSError, match=rf"SHA-256 must be {'0' * 64}; received {SHA256}"):
        fetch_file(remote, tmp_path, verbose=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "message"),
    [("/missing", "404"), ("/cut", "ended after 1,000 of 1,024,000 bytes")],
)
def test_a_failed_download_says_what_from_where_whereto_and_what_next(
    tmp_path, server, address, message
):
    with pytest.raises(OSError, match=message) as caught:
        fetch_file(RemoteFile("x.bin", server + address, SHA256), tmp_path, verbose=0)
    for part in ("x.bin", server + address, str(tmp_path), "yourself", "path=", "data_home"):
        assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_error_is_the_same(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError("the network is off")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    remote = RemoteFile("x.bin", "http://127.0.0.1:9/x.bin", SHA256)
    with pytest.raises(OSError, match=r"could not be fetched from http.*the network is off"):
        fetch_file(remote, tmp_path, verbose=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), OSError("stop")])
def test_an_interruption_leaves_nothing_and_spares_what_was_there(
    tmp_path, server, monkeypatch, error
):
    (tmp_path / "x.bin").write_text("kept")
    seen = []

    class Interrupted:
        headers = {}  # noqa: RUF012 - a stand-in for an answer

        def read(self, n):
            seen.extend(path.name for path in tmp_path.iterdir())
            raise error

        def close(self):
            pass

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Interrupted())
    with pytest.raises(type(error), match="stop"):
        fetch_file(RemoteFile("x.bin", f"{server}/file", SHA256), tmp_path, verbose=0)
    assert len(seen) == 2  # the temporary file did lie beside the target
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]
    assert (tmp_path / "x.bin").read_text() == "kept"


def test_a_folder_that_cannot_be_made_is_named(tmp_path, server):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"kept in .*file/home.*Not a directory"):
        fetch_file(RemoteFile("x", f"{server}/file", SHA256), tmp_path / "file/home", verbose=0)


def test_parallel_downloads_do_not_meet(tmp_path, server):
    remote = RemoteFile("x.bin", f"{server}/file", SHA256)
    with ThreadPoolExecutor(4) as pool:
        fetched = list(pool.map(lambda _: fetch_file(remote, tmp_path, verbose=0), range(8)))
    assert {path.read_bytes() for path in fetched} == {CONTENT}
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


def test_data_home_is_the_argument_then_the_environment_then_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TLCLASSIFY_DATA", raising=False)
    assert data_home_folder(None) == tmp_path / ".cache" / "tlclassify"
    monkeypatch.setenv("TLCLASSIFY_DATA", "~/elsewhere")
    assert data_home_folder(None) == tmp_path / "elsewhere"
    assert data_home_folder("/data") == Path("/data")
