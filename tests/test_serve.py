"""The example server, asked through real HTTP and looked at in a real browser."""

import copy
import importlib.util
import io
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import uvicorn
from PIL import Image

from exports import SHAPE, describe, draw_images, fit_once, needs_tensorflow
from tlclassify.persistence.exported import load_exported
from tlclassify.persistence.exporting import export

pytestmark = needs_tensorflow
ROOT = Path(__file__).parents[1]
MAX_BYTES = 2**16
EVIL = '<b>dog</b> & "eel"'
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


# Does what a hand would do, for an address that ends in #image or #text, and reports what is seen.
HAND = """<script>(async () => {
  await new Promise((done) => setTimeout(done, 500));
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 8;
  canvas.getContext("2d").fillRect(0, 0, 4, 8);
  const image = await new Promise((done) => canvas.toBlob(done));
  const dropped = { "#image": image, "#text": new Blob(["hello"]) }[location.hash];
  if (dropped) await classify(dropped);
  document.body.dataset.seen = JSON.stringify({
    wide: document.documentElement.scrollWidth - innerWidth,
    info: find("info").innerText, answer: answer.innerText.trim(), drop: drop.innerText,
    bold: answer.querySelectorAll("b").length, picture: find("picture").naturalWidth});
})()</script></body>"""


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """The example, with a hand on its page."""
    spec = importlib.util.spec_from_file_location("serve", ROOT / "examples" / "serve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.PAGE.read_text(encoding="utf-8").replace("</body>", HAND)
    module.PAGE = tmp_path_factory.mktemp("page") / "serve.html"
    module.PAGE.write_text(page, encoding="utf-8")
    before = Image.MAX_IMAGE_PIXELS
    yield module
    Image.MAX_IMAGE_PIXELS = before


@pytest.fixture(scope="module")
def clf():
    odd = copy.copy(fit_once())
    odd.classes_ = np.array(sorted(["cat", EVIL, "eel"]))
    return odd


@contextmanager
def running(app):
    """Serve an application, and give its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def url(serve, clf, tmp_path_factory):
    loaded = load_exported(export(clf, tmp_path_factory.mktemp("serve") / "a.onnx"))
    with running(serve.build_app(loaded, max_bytes=MAX_BYTES)) as address:
        yield address


@contextmanager
def serving(serve, predict_proba):
    """Serve something that predicts as it is told to."""
    metadata = describe(np.array(["a", "b"]), (8, 8, 3), backbone="none")
    clf = SimpleNamespace(
        classes_=metadata.labels,
        image_shape_=metadata.image_shape,
        metadata_=metadata,
        engine_="none",
        predict_proba=predict_proba,
    )
    with running(serve.build_app(clf)) as address:
        yield address


def png(image, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def ask(url, body=None, method=None):
    """Return the status, the headers and the content of an answer."""
    try:
        request = urllib.request.Request(url, body, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def test_it_answers_as_the_classifier(url, clf):
    X, _ = draw_images(3, SHAPE)
    for image, expected in zip(X, clf.predict_proba(X), strict=True):
        status, _, content = ask(f"{url}/predict", png(image))
        found = json.loads(content)
        assert status == 200
        assert found["label"] == found["classes"][0]["label"]
        by_label = {row["label"]: row["probability"] for row in found["classes"]}
        np.testing.assert_allclose([by_label[label] for label in clf.classes_], expected, atol=1e-5)
        assert [*by_label.values()] == sorted(by_label.values(), reverse=True)


def test_many_ask_at_once(url):
    bodies = [png(image) for image in draw_images(24, SHAPE)[0]]
    expected = [ask(f"{url}/predict", body)[2] for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda body: ask(f"{url}/predict", body)[2], bodies)) == expected


def test_it_tells_what_it_is(url):
    found = json.loads(ask(f"{url}/info")[2])
    assert found["classes"] == sorted(["cat", EVIL, "eel"])
    assert (found["height"], found["width"], found["backbone"]) == (5, 7, "two_layers")


NOISE = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
BAD_UPLOADS = [
    (b"", 400, "There is no image"),
    (b"hello", 422, "This is not an image that can be read"),
    (png(NOISE[:20])[:900], 422, "The image cannot be read"),
    (png(NOISE), 413, "larger than 0.0625 MiB"),
    (png(np.zeros((8_000, 5_001), bool)), 413, "more than 40 million pixels"),
    (png(np.zeros((20_000, 20_000), bool)), 413, "more than 40 million pixels"),
    (png(NOISE[:8, :8], "EPS"), 422, "Send one of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"),
]


def assert_refused(answer, status, message):
    found, headers, content = answer
    assert (found, headers["content-type"]) == (status, "application/json")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert message in json.loads(content)["detail"]


@pytest.mark.parametrize(("body", "status", "message"), BAD_UPLOADS, ids=lambda v: str(v)[:12])
def test_bad_uploads_are_refused_in_words(url, body, status, message):
    assert_refused(ask(f"{url}/predict", body), status, message)
    assert ask(f"{url}/info")[0] == 200


@pytest.mark.parametrize(
    ("place", "method", "status", "message"),
    [("nothing", "GET", 404, "Not Found"), ("predict", "GET", 405, "Method Not Allowed")],
)
def test_bad_requests_are_refused_in_json(url, place, method, status, message):
    assert_refused(ask(f"{url}/{place}", method=method), status, message)


def test_an_error_of_the_program_is_told_in_json(serve):
    def fail(paths):
        raise RuntimeError("a secret")

    with serving(serve, fail) as url:
        answer = ask(f"{url}/predict", png(NOISE[:8, :8]))
        assert_refused(answer, 500, "The server failed. Its log says why.")
        assert "secret" not in answer[2]
        assert ask(f"{url}/info")[0] == 200


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_the_usual_formats_are_read(url, kind):
    assert ask(f"{url}/predict", png(NOISE[:8, :8], kind))[0] == 200


def test_few_images_are_unpacked_at_a_time(serve):
    at_work, most = threading.Semaphore(serve.N_AT_ONCE), []

    def count(paths):
        most.append(at_work.acquire(blocking=False))
        time.sleep(0.05)
        at_work.release()
        return np.array([[0.25, 0.75]])

    with serving(serve, count) as url, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: ask(f"{url}/predict", body), [png(NOISE[:8, :8])] * 8))
    assert [status for status, *_ in answers] == [200] * 8
    assert most == [True] * 8


def test_the_page_loads_nothing_from_elsewhere(url):
    status, headers, page = ask(url)
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert not re.search(r"https?:|src=|href=|@import", page)


def browse(url, folder, *options):
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--no-first-run", f"--user-data-dir={folder / 'profile'}", *options, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium in PATH")
@pytest.mark.parametrize("width", [1280, 500])
@pytest.mark.parametrize("scenario", ["nothing", "image", "text"])
def test_a_browser_shows_it(url, tmp_path, width, scenario):
    size = f"--window-size={width},900"
    page = browse(f"{url}/#{scenario}", tmp_path, size, "--dump-dom", "--virtual-time-budget=5000")
    seen = json.loads(unescape(re.search(r'data-seen="([^"]*)"', page)[1]))
    assert seen["wide"] <= 0
    assert seen["info"].startswith("3 classes, by two_layers. Licence of its pretrained weights")
    if scenario == "nothing":
        assert seen["answer"] == "The most probable classes appear here."
        assert "Drop an image here" in seen["drop"]
    elif scenario == "image":
        assert {"cat", EVIL, "eel"} < set(seen["answer"].split("\n"))
        assert seen["bold"] == 3
        assert seen["picture"] == 8
    else:
        assert "Drop an image here" in seen["drop"]
        assert seen["answer"].startswith("This is not an image that can be read. Send one of BMP")
