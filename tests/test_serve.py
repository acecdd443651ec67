"""The server, asked through real HTTP and looked at in a real browser."""

import copy
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
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from html import unescape
from types import SimpleNamespace

import numpy as np
import pytest
import uvicorn
from PIL import Image

from exports import SHAPE, describe, draw_images, fit_once, needs_tensorflow
from tlclassify.analysis.explanation import grad_cam
from tlclassify.cli import serve as server
from tlclassify.persistence.exported import load_exported
from tlclassify.persistence.exporting import export

pytestmark = needs_tensorflow
MAX_BYTES = 2**16
EVIL = '<b>dog</b> & "eel"'
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


# What a hand would do: look, drop a text, drop an image; with what is seen after each.
HAND = """<script>(async () => {
  await new Promise((done) => setTimeout(done, 500));
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 8;
  canvas.getContext("2d").fillRect(0, 0, 4, 8);
  const image = await new Promise((done) => canvas.toBlob(done));
  const seen = [];
  for (const dropped of [null, new Blob(["hello"]), image]) {
    if (dropped) await classify(dropped);
    await new Promise((done) => setTimeout(done, 100));
    seen.push({
    wide: document.documentElement.scrollWidth - innerWidth, name: find("name").innerText,
    info: find("info").innerText, answer: answer.innerText.trim(), drop: drop.innerText,
    bold: answer.querySelectorAll("b").length, picture: picture.naturalWidth,
    heat: heat.naturalWidth, covers: heat.offsetWidth === picture.offsetWidth,
    pressed: answer.querySelectorAll("[aria-pressed=true]").length});
  }
  document.body.dataset.seen = JSON.stringify(seen);
})()</script></body>"""


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """The server, with a hand on its page."""
    page = server._PAGE.read_text(encoding="utf-8").replace("</body>", HAND)
    handled = tmp_path_factory.mktemp("page") / "serve.html"
    handled.write_text(page, encoding="utf-8")
    before = Image.MAX_IMAGE_PIXELS
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(server, "_PAGE", handled)
        yield server
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
    with running(serve.build_app(loaded, name="a.onnx", max_bytes=MAX_BYTES)) as address:
        yield address


@pytest.fixture(scope="module")
def heated(serve, clf):
    """The address of a classifier that can be explained."""
    with running(serve.build_app(clf, name="a.tlc")) as address:
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
    assert (found["name"], found["backbone"], found["has_heat"]) == ("a.onnx", "two_layers", False)


def test_heat_is_that_of_the_class_asked_for(heated, clf):
    X, _ = draw_images(1, SHAPE)
    maps = grad_cam(clf, X.repeat(3, axis=0), labels=clf.classes_)
    for column, heat in enumerate(maps):
        with urllib.request.urlopen(f"{heated}/heat?column={column}", png(X[0])) as answer:
            assert answer.headers["content-type"] == "image/png"
            pixels = np.asarray(Image.open(io.BytesIO(answer.read())))
        assert pixels.shape == (*heat.shape, 4)
        np.testing.assert_allclose(pixels[..., 3] / (255 * 0.8), heat, atol=0.01)


def test_heat_is_coloured_from_cold_to_hot():
    (row,) = np.asarray(Image.open(io.BytesIO(server._draw_heat(np.array([[0, 0.5, 1]])))))
    assert row.tolist() == [[68, 1, 84, 0], [33, 145, 140, 102], [253, 231, 37, 204]]


@pytest.mark.parametrize("column", [-1, 3])
def test_heat_of_no_class_is_refused(heated, column):
    answer = ask(f"{heated}/heat?column={column}", png(NOISE[:8, :8]))
    assert_refused(answer, 404, "Heat is there for the columns")


def test_an_exported_classifier_has_no_heat(url):
    answer = ask(f"{url}/heat?column=0", png(NOISE[:8, :8]))
    assert_refused(answer, 404, "Heat is there for the columns of a model that `fit` wrote")


NOISE = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
BAD_UPLOADS = [
    (b"", 400, "There is no image"),
    (b"hello", 422, "not an image of a known format"),
    (png(NOISE[:20])[:900], 422, "The image cannot be read"),
    (png(NOISE), 413, "larger than 0.0625 MiB"),
    (png(np.zeros((8_000, 5_001), bool)), 422, "exceeds limit of 40000000 pixels"),
    (png(np.zeros((20_000, 20_000), bool)), 422, "exceeds limit of"),
    (png(NOISE[:8, :8], "EPS"), 422, "known format (BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP)"),
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
    at_work, most = threading.Semaphore(serve._N_AT_ONCE), []

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
@pytest.mark.parametrize("kind", ["a.onnx", "a.tlc"])
def test_a_browser_shows_it(url, heated, tmp_path, width, kind):
    address = url if kind == "a.onnx" else heated
    options = f"--window-size={width},900", "--dump-dom", "--virtual-time-budget=5000"
    page = browse(address, tmp_path, *options)
    first, text, image = seen = json.loads(unescape(re.search(r'data-seen="([^"]*)"', page)[1]))
    for each in seen:
        assert each["wide"] <= 0
        assert (each["name"], each["info"]) == (kind, "3 classes, by two_layers")
    assert first["answer"] == "The most probable classes appear here."
    assert "Drop an image here" in first["drop"]
    assert "Drop an image here" in text["drop"]
    assert text["answer"].startswith("The image cannot be read: not an image of a known format")
    assert {"cat", EVIL, "eel"} < set(image["answer"].split("\n"))
    assert image["bold"] == 3
    assert image["picture"] == 8
    heat = (7, True, 1) if kind == "a.tlc" else (0, False, 0)
    assert (image["heat"], image["covers"], image["pressed"]) == heat
