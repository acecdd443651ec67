"""The command line: what it prints where, what it writes, and how it ends."""

import csv
import inspect
import io
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from contextlib import redirect_stdout
from operator import attrgetter

import numpy as np
import pytest
from PIL import Image

import tlclassify.datasets
from exports import needs_tensorflow
from tlclassify.cli import arguments, commands
from tlclassify.cli.commands import main

TINY = ["--backbone", "tiny", "--weights", "None", "--random-state", "0", "--verbose", "0"]


@pytest.fixture
def photos(tmp_path, images):
    """A folder with one folder of images per class."""
    for number, (image, label) in enumerate(zip(*images, strict=True)):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:02d}.png")
    return tmp_path / "photos"


@pytest.fixture
def model(photos, registered):
    """A model that the command line has fitted on the tiny backbone."""
    path = photos.with_name("m.tlc")
    with redirect_stdout(io.StringIO()):
        assert main(["fit", str(photos), "-o", str(path), *TINY]) == 0
    return path


def run(capsys, *argv):
    """Return the exit code, the results and what was told beside them."""
    try:
        code = main([str(word) for word in argv])
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def python(code, **options):
    """Start a Python of its own."""
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.filterwarnings("ignore:.*were trained on")
def test_from_photographs_to_model_page_and_table(photos, registered, capsys):
    folder = photos.parent
    model, page = folder / "m.tlc", folder / "report.html"
    assert run(capsys, "fit", photos, "-o", model, *TINY)[0] == 0
    code, out, err = run(capsys, "evaluate", model, photos, "--html", page, "--verbose", 0)
    assert (code, err) == (0, "")
    assert out.startswith("accuracy ")
    assert "<html" in page.read_text(encoding="utf-8")
    code, out, err = run(capsys, "predict", model, photos, "--csv", "--verbose", 0)
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    paths = [row["path"] for row in rows]
    assert paths == sorted(map(str, photos.rglob("*.png")))
    assert [row["label"] for row in rows] == tlclassify.load(model).predict(paths).tolist()


def test_an_image_of_a_format_that_cannot_be_read_is_named(model, photos, capsys):
    (photos / "new").mkdir()
    (photos / "new" / "IMG_1.HEIC").write_bytes(b"an image of a telephone")
    assert_refused(run(capsys, "predict", model, photos / "new"), 1, "IMG_1.HEIC: not an image")


@pytest.mark.filterwarnings("ignore:.*were trained on")
def test_a_page_names_its_files_and_is_named_itself(model, photos, capsys):
    page = photos.parent / "report.html"
    _, _, told = run(capsys, "evaluate", model, photos, "--html", page)
    assert f"tlclassify: the page is {page}\n" in told
    text = page.read_text(encoding="utf-8")
    assert "<br>01.png" in text
    assert not [word for word in ("cross-validated", "cache_dir") if word in text]
    assert "<p>Head solved exactly, C=" in text
    run(capsys, "evaluate", model, photos, "--html", page, "--cv", 2)
    assert "cross-validated" in page.read_text(encoding="utf-8")


@needs_tensorflow
def test_an_exported_model_needs_no_keras(model, photos):
    code = "import sys\nfrom tlclassify.cli.commands import main\n"
    code += "assert main(sys.argv[1:]) == 0\nassert not {'keras', 'tensorflow'} & set(sys.modules)"
    path = photos.with_name("m.onnx")
    with redirect_stdout(io.StringIO()):
        assert main(["export", str(model), str(path)]) == 0
    argv = ["predict", str(path), str(photos), "--json", "--verbose", "0"]
    out = subprocess.run([sys.executable, "-c", code, *argv], stdout=-1, check=True).stdout
    rows = json.loads(out)["predictions"]
    found = [row["label"] for row in rows]
    assert found == tlclassify.load(model).predict([row["path"] for row in rows]).tolist()


def test_an_answer_is_sure_from_the_threshold_on(model, photos, capsys):
    argv = ["predict", model, photos, "--n-best", 1, "--threshold", 0.9, "--json"]
    found = json.loads(run(capsys, *argv)[1])
    assert found["threshold"] == 0.9
    assert {(row["probability"] >= 0.9) == row["sure"] for row in found["predictions"]} == {True}


@pytest.mark.filterwarnings("ignore:.*were trained on")
def test_a_table_is_taken_for_a_folder(photos, registered, capsys):
    table, model = photos.with_name("labels.csv"), photos.with_name("m.tlc")
    rows = [f"{path.relative_to(photos)},{path.parent.name}" for path in photos.rglob("*.png")]
    table.write_text("\n".join(["file,kind", *rows]))
    options = ["--path-column", "file", "--label-column", "kind", "--root", photos]
    assert run(capsys, "fit", table, "-o", model, *options, *TINY)[0] == 0
    by_table = run(capsys, "evaluate", model, table, *options)
    assert by_table == run(capsys, "evaluate", model, photos)
    assert_refused(run(capsys, "evaluate", model, table), 1, "path_column must be one of", "'file'")


def test_groups_of_a_table_stay_on_one_side_of_every_split(photos, model, capsys):
    table = photos.with_name("labels.csv")
    paths = sorted(map(str, photos.rglob("*.png")))
    groups = np.array([f"plant {number % 5}" for number in range(24)])
    labels = [path.split("/")[-2] for path in paths]
    rows = map(",".join, zip(paths, labels, groups, strict=True))
    table.write_text("\n".join(["path,label,plant", *rows]))
    grouped = [table, "--verbose", 0, "--group-column", "plant"]
    found = json.loads(run(capsys, "evaluate", model, *grouped, "--cv", 3, "--json")[1])
    clf = tlclassify.load(model).set_params(verbose=0)
    expected = tlclassify.evaluate(clf, paths, labels, cv=3, groups=groups)
    assert found["log_loss"] == pytest.approx(expected.log_loss, rel=1e-4)
    assert found["log_loss"] != pytest.approx(
        tlclassify.evaluate(clf, paths, labels, cv=3).log_loss, rel=1e-4
    )
    too_many = run(capsys, "evaluate", model, *grouped, "--cv", 6)
    assert_refused(too_many, 1, "groups must be at least as many as the 6 folds", "received 5")
    table.write_text(re.sub("plant .", "plant 0", table.read_text()))
    fit = ["fit", *grouped, "-o", photos.with_name("n.tlc"), *TINY, "--validation-fraction", 0.3]
    assert_refused(run(capsys, *fit), 1, "groups must be so many", "received 1")
    compare = ["compare", *grouped[:1], "tiny", *grouped[1:], *TINY[2:]]
    assert_refused(run(capsys, *compare), 1, "groups must be so many", "received 1")
    words = "PHOTOS with --group-column must be a table", "the folder"
    assert_refused(run(capsys, "evaluate", model, photos, *grouped[1:]), 1, *words)


@pytest.mark.filterwarnings("ignore:.*were trained on")
@pytest.mark.parametrize("command", ["evaluate", "predict", "info"])
def test_json_and_csv_tell_the_same(model, photos, capsys, command):
    argv = [command, model, *([] if command == "info" else [photos])]
    found = json.loads(run(capsys, *argv, "--json")[1])
    rows = list(csv.DictReader(io.StringIO(run(capsys, *argv, "--csv")[1])))
    if command == "evaluate":
        assert [float(row["recall"]) for row in rows] == [c["recall"] for c in found["per_class"]]
        assert float(rows[0]["recall_interval_low"]) == found["per_class"][0]["recall_interval"][0]
    elif command == "predict":
        assert [row["label"] for row in rows] == [row["label"] for row in found["predictions"]]
    else:
        assert rows[0]["classes"] == "cat, dog, eel"
        assert found["classes"] == ["cat", "dog", "eel"]
        assert (found["backbone"], found["training"][:11]) == ("tiny", "head solved")


def test_backbones_are_compared(photos, registered, capsys):
    argv = ["compare", photos, "tiny", "--test-fraction", 0.25, *TINY[2:], "--verbose", 0]
    code, out, _ = run(capsys, *argv, "--csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert (code, row["name"]) == (0, "tiny")
    assert 0 < float(row["accuracy_interval_low"]) <= float(row["accuracy"]) <= 1


def test_a_comparison_without_any_result_fails(photos, registered, capsys):
    code, out, err = run(capsys, "compare", photos, "tiny", "--weights", "gone.h5", "--verbose", 0)
    assert (code, out) == (1, "")
    assert "tiny failed: " in err


def test_backbones_are_listed(capsys):
    found = json.loads(run(capsys, "info", "--json")[1])
    assert [row["name"] for row in found] == tlclassify.list_backbones()


def test_any_parameter_can_be_set(photos, registered, capsys):
    path = photos.with_name("m.tlc")
    argv = ["fit", photos, "-o", path, *TINY, "--set", "head__C=0.5", "--set", "class_weight=None"]
    assert run(capsys, *argv, "--predict-mirrored", "--aspect", "crop")[0] == 0
    clf = tlclassify.load(path)
    assert clf.blueprint_.framing.aspect == "crop"
    assert (clf.head.C, clf.class_weight, clf.predict_mirrored) == (0.5, None, True)


def test_a_card_is_written_when_asked_for(photos, registered, capsys):
    path = photos.with_name("m.tlc")
    assert run(capsys, "fit", photos, "-o", path, *TINY, "--card")[0] == 0
    assert path.with_name("m.tlc.md").read_text(encoding="utf-8").startswith("# Classifier")


def test_folds_judge_by_copies_that_share_what_was_run(model, photos, capsys, runs):
    answer = run(capsys, "evaluate", model, photos, "--cv", 4, "--json")
    assert answer[::2] == (0, "")
    found = json.loads(answer[1])
    assert found["n_samples"] == 24
    assert sum(runs) == 24


# The functions whose parameters a command's options are.
DOORS = {
    "fit": ["TransferClassifier", "save", "datasets.load_image_table"],
    "evaluate": ["evaluate", "TransferClassifier", "datasets.load_image_table"],
    "predict": ["predict_table", "TransferClassifier"],
    "compare": ["compare_backbones", "TransferClassifier", "datasets.load_image_table"],
    "export": ["export", "datasets.load_image_table"],
    "serve": ["TransferClassifier"],
    "info": [],
}
OWN = {"help", "traceback", "form", "output", "set", "html", "host", "port", "model", "photos"}


@pytest.mark.parametrize("command", DOORS)
def test_options_have_the_names_and_defaults_of_the_functions(command):
    (commands_action,) = (
        action for action in arguments.build_parser()._actions if action.dest == "command"
    )
    functions = [attrgetter(name)(tlclassify) for name in DOORS[command]]
    signatures = [inspect.signature(function) for function in functions]
    known = {name: p for signature in signatures for name, p in signature.parameters.items()}
    for action in commands_action.choices[command]._actions:
        if action.dest in OWN:
            continue
        parameter = known[action.dest]
        told = re.search(r"\(default: (\S+)\)", action.help)
        if told:
            assert str(parameter.default) == told[1], action.dest


@pytest.mark.parametrize("command", DOORS)
def test_help_teaches_by_an_example(capsys, command):
    code, out, err = run(capsys, command, "--help")
    assert (code, err) == (0, "")
    example = out.split("example:\n  tlclassify ")[1].split(" > ")[0].split()
    assert arguments.build_parser().parse_args(example).command == command


def test_help_loads_neither_keras_nor_numpy():
    code = "import sys\nfrom tlclassify.cli.commands import main\n"
    code += "try: main(['--help'])\nexcept SystemExit: print(sorted(sys.modules))"
    with python(code, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate()
    assert "tlclassify fit photos -o plants.tlc" in out
    assert "'tlclassify.cli.arguments'" in out
    assert not {"'numpy'", "'keras'", "'tensorflow'", "'PIL'"} & set(re.findall(r"'\w+'", out))


def assert_refused(answer, code, *words):
    """One line on standard error, and nothing else."""
    found, out, err = answer
    assert (found, out) == (code, "")
    assert err.startswith("tlclassify")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_what_is_no_folder_of_classes_is_refused(tmp_path, model, photos, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    fit = ["fit", "-o", tmp_path / "new.tlc", *TINY]
    assert_refused(run(capsys, *fit, empty), 1, "one folder per class", "0 images")
    assert_refused(run(capsys, *fit, photos / "cat"), 1, "no folder and 8 images")
    assert_refused(run(capsys, *fit, model), 1, "PHOTOS must be", f"the model {str(model)!r}")
    assert_refused(run(capsys, *fit, tmp_path / "gone"), 1, "PHOTOS must be", "no such file")
    assert not (tmp_path / "new.tlc").exists()


def test_models_and_photographs_in_the_wrong_order_are_refused(model, photos, capsys):
    for command in ("evaluate", "predict"):
        assert_refused(run(capsys, command, photos, model), 1, f"the model {str(model)!r}")
    assert_refused(run(capsys, "info", photos), 1, "MODEL must be", "the folder")
    photo = next(photos.rglob("*.png"))
    assert_refused(run(capsys, "info", photo), 1, "must name a whole file that save wrote")


def test_unreadable_photographs_are_named(model, photos, capsys):
    for name in ("a.jpg", "b.jpg"):
        (photos / "cat" / name).write_bytes(b"no image")
    for command in ("evaluate", "predict"):
        answer = run(capsys, command, model, photos, "--verbose", 0)
        assert_refused(
            answer, 1, "2 image file(s) cannot be read", "a.jpg: not an", "b.jpg: not an"
        )
        assert re.search(r"b\.jpg: not .*\)\. Repair or convert them, or leave them and", answer[2])


def test_pillow_is_silent_on_tags_of_photographs_that_are_whole(model, tmp_path, capsys):
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = 6, "a camera"
    path = tmp_path / "damaged.jpg"
    Image.new("RGB", (8, 8)).save(path, exif=tags.tobytes()[:-4])
    with pytest.warns(UserWarning, match="Truncated File"), Image.open(path) as image:
        image.getexif()
    code, _, err = run(capsys, "predict", model, path)
    assert (code, err) == (0, "")


def test_a_folder_without_photographs_is_refused(model, tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no image")
    assert_refused(run(capsys, "predict", model, tmp_path / "notes"), 1, "image files in them")


def test_where_nothing_can_be_written_is_seen_before_the_work(photos, model, capsys, monkeypatch):
    for door in ("TransferClassifier.fit", "evaluate", "compare_backbones"):
        monkeypatch.setattr(f"tlclassify.{door}", lambda *_, **__: pytest.fail("it was run"))
    beneath = photos.with_name("a.csv")
    beneath.write_text("a file")
    for argv, option in [
        (["fit", photos, *TINY], "--output"),
        (["evaluate", model, photos], "--html"),
        (["compare", photos, "tiny"], "--html"),
    ]:
        assert_refused(run(capsys, *argv, option, photos), 1, f"{option} must name a file")
        answer = run(capsys, *argv, option, beneath / "b" / "c")
        assert_refused(answer, 1, f"{option} must lie where files can be written", "Not a dir")
    answer = run(capsys, "fit", photos, "-o", photos.with_name("m.onnx"), *TINY)
    assert_refused(answer, 1, "--output must name a model of this program", "`tlclassify export`")


def test_a_photograph_is_no_table(photos, capsys):
    answer = run(capsys, "fit", next(photos.rglob("*.png")), "-o", photos.with_name("n.tlc"), *TINY)
    assert_refused(answer, 1, "PHOTOS must be a folder", "or a table; received the file")


def test_an_option_without_effect_is_refused(photos, registered, capsys):
    answer = run(capsys, "compare", photos, "tiny", "--cv", 3, "--test-fraction", 0.3)
    assert_refused(answer, 1, "--test-fraction has no effect with --cv")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (["--port", "http"], "--port must be an integer in [0, 65535]; received 'http'"),
        (["--port", "99999"], "--port must be an integer in [0, 65535]; received 99999"),
        (["--host", "192.0.2.1"], "--host and --port must be an address of this machine"),
    ],
)
def test_a_server_needs_a_place(model, capsys, place, words):
    assert_refused(run(capsys, "serve", model, *place), 1, words)


BAD_OPTIONS = [
    (["fit", "photos"], "required: -o/--output"),
    (["fit", "photos", "-o", "a.tlc", "--set", "head__C"], "'head__C' must be NAME=VALUE"),
    (["fit", "photos", "-o", "a.tlc", "--backbon", "tiny"], "unrecognized arguments: --backbon"),
    (["fit", "photos", "-o", "a.tlc", "--json", "--csv"], "not allowed with argument"),
    (["fi", "photos"], "invalid choice: 'fi'"),
    (["serve", "a.tlc", "--json"], "unrecognized arguments: --json"),
    ([], "required: COMMAND"),
]


@pytest.mark.parametrize(("argv", "words"), BAD_OPTIONS)
def test_wrong_options_end_with_two(capsys, argv, words):
    assert_refused(run(capsys, *argv), 2, words, "--help")


BAD_VALUES = [
    (["--image-size", "big"], "image_size must be an integer"),
    (["--engine", "kera"], "Did you mean 'keras'?"),
    (["--set", "head__c=1"], "Invalid parameter 'c'"),
]


@pytest.mark.parametrize(("argv", "words"), BAD_VALUES)
def test_wrong_values_are_refused_by_the_function(photos, registered, capsys, argv, words):
    fit = ["fit", photos, "-o", photos.with_name("a.tlc"), *TINY]
    assert_refused(run(capsys, *fit, *argv), 1, words)


def test_a_fault_of_the_program_shows_where_it_lies(capsys, monkeypatch):
    def fail(options):
        raise LookupError("a fault")

    monkeypatch.setitem(commands._COMMANDS, "info", fail)
    with pytest.raises(LookupError, match="a fault"):
        main(["info"])


def test_an_error_shows_where_it_came_from_when_asked(tmp_path):
    with pytest.raises(ValueError, match="MODEL must be"):
        main(["info", str(tmp_path), "--traceback"])


def test_warnings_and_what_others_print_stay_out_of_the_results(capsys, monkeypatch):
    def warn(options):
        sys.stdout.write("Downloading\n")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            for _ in range(2):  # as each fold of a cross-validation would
                warnings.warn("two\n  lines", stacklevel=1)
        return commands._Answer("result", None, [])

    monkeypatch.setitem(commands._COMMANDS, "info", warn)
    expected = "Downloading\ntlclassify: warning: two; lines\n"
    assert run(capsys, "info") == (0, "result\n", expected)


def test_progress_of_predictions_is_told_beside_the_results(model, photos, capsys, monkeypatch):
    monkeypatch.setattr("tlclassify._checks.parameters._PROGRESS_DELAY_SECONDS", 0)
    code, out, err = run(capsys, "predict", model, photos, "--csv")
    assert (code, out.count("\n")) == (0, 25)
    assert "predicting: 100%" in err


@pytest.mark.parametrize(
    "place", ["tlclassify.TransferClassifier.fit", "pathlib.Path.replace"], ids=["fit", "save"]
)
def test_ctrl_c_leaves_nothing_half_written(photos, registered, capsys, monkeypatch, place):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupt)
    answer = run(capsys, "fit", photos, "-o", photos.with_name("m.tlc"), *TINY)
    assert_refused(answer, 130, "interrupted")
    assert [*photos.parent.iterdir()] == [photos]


# What a shell starts in the background is deaf to Ctrl-C, and so is what it starts.
SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from tlclassify.cli import commands
def wait(options):
    print("ready", flush=True)
    time.sleep(60)
commands._COMMANDS["info"] = wait
sys.exit(commands.main(["info"]))
"""


def test_ctrl_c_ends_with_one_line():
    with python(SLOW) as process:
        assert process.stderr.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert (process.returncode, err) == (130, "tlclassify: interrupted\n")


# Of what is raised while Python itself calls something, it only tells.
EATEN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from tlclassify.cli import commands
class Eater:
    def __del__(self):
        raise KeyboardInterrupt
def wait(options):
    Eater()
    time.sleep(5)
commands._COMMANDS["info"] = wait
sys.exit(commands.main(["info"]))
"""


def test_ctrl_c_is_not_lost_in_a_callback():
    with python(EATEN) as process:
        _, err = process.communicate()
    assert (process.returncode, err) == (130, "tlclassify: interrupted\n")


NOISY = """
import os, sys
from tlclassify.cli import commands
def run(options):
    os.write(2, b"noise")
    print("progress, ", end="", file=sys.stderr, flush=True)
    return commands._Answer("", None, [])
commands._COMMANDS["info"] = run
commands.main(["info", *sys.argv[1:]])
os.write(2, b"restored")
"""


@pytest.mark.parametrize("trace", [[], ["--traceback"]])
def test_what_compiled_libraries_say_is_dropped(trace):
    command = [sys.executable, "-c", NOISY, *trace]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stderr == ("noiseprogress, restored" if trace else "progress, restored")


QUIET = """
import sys
from tlclassify.cli import commands
commands._COMMANDS["info"] = lambda options: commands._Answer("result", None, [])
sys.exit(commands.main(["info"]))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a shell of POSIX")
def test_who_closes_standard_error_gets_the_result():
    command = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, QUIET]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (0, "result\n")


LONG = """
import sys
from tlclassify.cli import commands
commands._COMMANDS["info"] = lambda options: commands._Answer("line\\n" * 100_000, None, [])
sys.exit(commands.main(["info"]))
"""


@pytest.mark.parametrize("n_read", [0, 10])
def test_a_pipe_closed_early_is_no_error(n_read):
    reader, writer = os.pipe()
    with python(LONG, stdout=writer) as process:
        os.close(writer)
        os.read(reader, n_read)
        os.close(reader)
        _, err = process.communicate()
    assert (process.returncode, err) == (141, "")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text elsewhere")
def test_file_names_come_out_as_they_are(model, photos, capfdbinary):
    name = photos / os.fsdecode(b"caf\xe9.png")
    next(photos.glob("cat/*.png")).rename(name)
    assert main(["predict", str(model), str(name), "--csv"]) == 0
    assert b"/caf\xe9.png,cat," in capfdbinary.readouterr().out


@needs_tensorflow
def test_of_an_exported_extractor_there_is_something_to_tell_and_nothing_to_predict(
    model, photos, capsys
):
    path = photos.with_name("features.onnx")
    tlclassify.export(tlclassify.FeatureExtractor.from_classifier(tlclassify.load(model)), path)
    code, out, _ = run(capsys, "info", path, "--json")
    assert (code, json.loads(out)["n_features"]) == (0, 12)
    for command in (["predict", path, photos / "cat"], ["serve", path]):
        wanted = "MODEL must be a classifier, not an extractor; received"
        assert_refused(run(capsys, *command), 1, wanted)


@pytest.mark.parametrize("given", [None, "0"])
def test_fast_kernels_are_on_unless_the_environment_says_otherwise(monkeypatch, capsys, given):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")  # so that it is put back at the end
    if given is None:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    run(capsys, "info")
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == (given or "1")
