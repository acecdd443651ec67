"""Pages for people: whole, self-contained, safe, and shown by a real browser."""

import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from tlclassify.analysis.evaluate import evaluate
from tlclassify.evaluation.comparison import ComparisonRow, compare_reports

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
EVIL = '<script>alert("x")</script> & "$x^2$" \' dog'
VOID = {"meta", "img", "br"}


class Oracle:
    """A fitted classifier with a history that returns the probabilities it was given."""

    def __init__(self, probabilities, classes):
        self.probabilities, self.classes_ = probabilities, np.asarray(classes)
        row = {"stage": "head", "loss": 1.0, "accuracy": 0.4, "val_loss": 1.1, "val_accuracy": 0.3}
        self.history_ = [row, row | {"loss": 0.5, "accuracy": 0.7}]

    def get_params(self, *, deep):
        assert not deep
        return {"C": 0.5, "name": EVIL}

    def predict_proba(self, X):
        return self.probabilities


def make_report(classes=("ant", "bee", EVIL), n_samples=60, seed=0, accuracy=0.7):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(len(classes), 0.5), n_samples)
    guessed = probabilities.argmax(axis=1)
    y = np.array(classes)[
        np.where(
            rng.random(n_samples) < accuracy, guessed, rng.integers(0, len(classes), n_samples)
        )
    ]
    X = np.random.default_rng(1).integers(0, 256, (n_samples, 8, 8, 3), dtype=np.uint8)
    return evaluate(Oracle(probabilities, classes), X, y)


def test_names_in_any_script_and_in_none_are_written(tmp_path):
    """Without a warning: a browser has the letters that Matplotlib lacks."""
    page = make_report(("caf\udce9", "猫", "Çati")).to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    for name in (r"caf\udce9", "猫", "Çati"):
        assert page.count(name) > 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def page(folder):
    return make_report().to_html(folder / "deep" / "report.html")


@pytest.fixture(scope="module")
def comparison(folder):
    """The page of a comparison."""
    rows = [
        ComparisonRow(
            EVIL if seed else "plain",
            make_report(seed=seed),
            fit_seconds=3.0 + seed,
            extraction_images_per_second=500.0,
            prediction_images_per_second=400.0,
            single_image_milliseconds=8.0,
            n_parameters=10_000,
            file_bytes=50_000,
        )
        for seed in (0, 1)
    ]
    failed = ComparisonRow("gone", failure=f"OSError: {EVIL}")
    whole = compare_reports([*rows, failed], confidence_level=0.9)
    return whole.to_html(folder / "comparison.html")


class Reader(HTMLParser):
    """What a page holds: its elements, its words, and whether all elements are closed."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self.open, self.links = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in {"src", "href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)


def test_a_report_has_all_its_parts(page):
    reader = Reader(page)
    words = " ".join(reader.words)
    assert reader.open == []
    assert reader.tags.count("svg") == 6
    for part in (
        *("Numbers", "Classes", "Confusion", "Calibration", "Curves", "Training", "Gallery"),
        *("Configuration", "Surest mistakes", "Least certain", "Versions", "scikit-learn"),
        *("Most confused", "Log loss", "Calibration error", "Oracle"),
    ):
        assert part in words
    report = make_report()
    assert f"{report.accuracy:.3f}" in words
    assert reader.tags.count("img") >= 24


def test_a_page_loads_nothing_from_elsewhere(page, comparison):
    for text in (page, comparison):
        assert all(link.startswith(("#", "data:")) for link in Reader(text).links)
        assert not re.search(r"@import|url\(\s*['\"]?(?!#|data:)", text)
        assert "//" not in re.sub(r"data:[^\"]*", "", text).replace("http://www.w3.org", "")


def test_names_are_text_and_no_code(page, comparison):
    for text in (page, comparison):
        reader = Reader(text)
        assert "script" not in reader.tags
        assert any(EVIL in words for words in reader.words)


def test_a_comparison_has_all_its_parts(comparison):
    reader = Reader(comparison)
    words = " ".join(reader.words)
    for part in (
        "Accuracy",
        "Failures",
        "Differences",
        "Cost",
        "Confusion",
        "Configuration",
        "gone",
    ):
        assert part in words
    assert reader.open == []
    assert reader.tags.count("svg") == 3
    assert "50,000" not in words
    assert "10,000" in words


def test_a_comparison_where_all_failed():
    page = compare_reports([ComparisonRow("a", failure="no")], confidence_level=0.9).to_html()
    assert "all failed" in page
    assert Reader(page).open == []


@pytest.mark.parametrize(
    "classes", [("a", "b"), tuple(f"class number {i}" for i in range(1000))], ids=["2", "1000"]
)
def test_few_and_many_classes(classes):
    words = " ".join(Reader(make_report(classes, n_samples=40).to_html()).words)
    assert ("of lowest F1" in words) == (len(classes) > 50)
    assert len(words) < 50_000


def test_one_image():
    page = evaluate(Oracle(np.array([[0.4, 0.6]]), ["a", "b"]), np.zeros((1, 4, 4), "uint8"), ["b"])
    words = " ".join(Reader(page.to_html()).words)
    assert "these images are all of one" in words
    assert "Surest mistakes" not in words


def test_labels_in_bytes_are_text():
    words = " ".join(Reader(make_report((b"ant", b"bee")).to_html()).words)
    assert "true ant" in words
    assert "b'ant'" not in words


def test_what_is_no_image_has_no_gallery():
    report = evaluate(Oracle(np.array([[0.4, 0.6]] * 2), ["a", "b"]), np.zeros((2, 4)), ["b", "a"])
    assert "Gallery" not in Reader(report.to_html()).words


def test_a_page_is_written(folder, page, comparison):
    for path, text in (("deep/report.html", page), ("comparison.html", comparison)):
        assert (folder / path).read_text(encoding="utf-8") == text
    assert {path.name for path in folder.iterdir()} == {"deep", "comparison.html"}


def test_a_page_that_cannot_be_written(tmp_path, monkeypatch):
    record = compare_reports([ComparisonRow("a", failure="no")], confidence_level=0.9)
    (tmp_path / "page.html").write_text("before")
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            record.to_html(tmp_path / "page.html")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("page.html", "before")]
    with pytest.raises(OSError, match=r"page\.html"):
        record.to_html(tmp_path / "page.html" / "x.html")
    with pytest.raises(OSError, match="path must name a file; received the folder"):
        record.to_html(tmp_path)


def test_without_jinja_the_way_on_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    record = compare_reports([ComparisonRow("a", failure="no")], confidence_level=0.9)
    with pytest.raises(ImportError, match=r'needs jinja2. Install.* "tlclassify\[plot\]"'):
        record.to_html()


def browse(path, *options):
    """Run the page in headless Chromium."""
    profile = path.parent / "profile"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--no-first-run", f"--user-data-dir={profile}", *options, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def shown(tmp_path_factory, page, comparison):
    """A page of its own, to be opened by a browser, with what it reports about itself."""
    if BROWSER is None:
        pytest.skip("no Chromium in PATH")
    folder = tmp_path_factory.mktemp("shown")
    measure = """<script>
      const wide = document.documentElement.scrollWidth - innerWidth;
      const images = [...document.images].every(image => image.naturalWidth > 0);
      const heights = [...document.querySelectorAll("svg")].map(svg => svg.clientHeight);
      const ink = getComputedStyle(document.body).color;
      const blue = getComputedStyle(document.querySelector("nav a")).color;
      const drawn = style => getComputedStyle(document.querySelector(`svg [style*="${style}"]`));
      const lines = [drawn("stroke: currentColor").stroke, drawn("stroke: #0072b2").stroke];
      const texts = getComputedStyle(document.querySelector("svg text:not([fill])")).fill;
      document.body.dataset.seen = JSON.stringify({wide, images, heights, ink, blue, lines, texts,
        titles: [...document.querySelectorAll("h2")].map(h => h.innerText)});
    </script></body>"""
    for name, text in (("report", page), ("comparison", comparison)):
        lazy = text.replace(' loading="lazy"', "")
        (folder / f"{name}.html").write_text(lazy.replace("</body>", measure), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("name", "width", "dark"),
    [
        ("report", 1280, True),
        ("report", 400, False),
        ("comparison", 1280, False),
        ("comparison", 400, True),
    ],
)
def test_a_browser_shows_it(shown, name, width, dark):
    scheme = [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    dom = browse(
        shown / f"{name}.html",
        f"--window-size={width},900",
        "--dump-dom",
        "--virtual-time-budget=3000",
        *scheme,
    )
    seen = json.loads(html.unescape(re.search(r'data-seen="([^"]*)"', dom)[1]))
    assert seen["wide"] <= 0
    assert seen["images"]
    assert min(seen["heights"]) > 50
    assert seen["ink"] == ("rgb(230, 232, 235)" if dark else "rgb(28, 32, 36)")
    assert seen["lines"] == [seen["ink"], seen["blue"]]
    assert seen["texts"] == seen["ink"]
    assert ("Gallery" if name == "report" else "Differences") in seen["titles"]
