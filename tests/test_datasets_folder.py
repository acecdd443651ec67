"""Laws of load_image_folder: one label per image, everything accounted for, no silent loss."""

import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from tlclassify._checks import files, parameters
from tlclassify.datasets import load_image_folder


def write_image(path, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(0).randint(0, 256, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    for name in ("dog/2.png", "dog/10.jpg", "cat/deep/deeper/a.BMP", "cat/b.webp", "cat/c.gif"):
        write_image(tmp_path / name)
    return tmp_path


def relative(paths, root):
    return [os.path.relpath(path, root) for path in paths]


@pytest.mark.parametrize("verify", ["full", "header", "none"])
def test_each_image_gets_the_name_of_its_folder_in_one_order(root, verify, capsys):
    images = load_image_folder(str(root), verify=verify, verbose=0)
    expected = ["cat/b.webp", "cat/c.gif", "cat/deep/deeper/a.BMP", "dog/10.jpg", "dog/2.png"]
    assert relative(images.X, root) == expected
    assert images.X.dtype == object
    assert all(type(path) is str for path in images.X)
    assert images.y.tolist() == ["cat", "cat", "cat", "dog", "dog"]
    assert images.class_names == ("cat", "dog")
    assert images.ignored_paths == ()
    assert capsys.readouterr().err == ""


def test_hidden_files_are_passed_over_and_others_are_listed(root):
    for name in (".hidden.png", "dog/.hidden.png", ".git/x.png", "cat/.thumbs/x.png"):
        write_image(root / name)
    for name in ("labels.csv", "dog/notes.txt"):
        (root / name).write_text("x")
    write_image(root / "stray.png")
    images = load_image_folder(root, verbose=0)
    assert len(images.X) == 5
    assert relative(images.ignored_paths, root) == ["dog/notes.txt", "labels.csv", "stray.png"]
    assert repr(images) == "ImageDataset(5 image files, 2 classes, 3 other file(s) ignored)"


def test_all_unreadable_files_are_named_together(root):
    (root / "dog/text.jpg").write_text("no image")
    (root / "cat/empty.png").write_bytes(b"")
    (root / "cat/phone.heic").write_bytes(b"\x00\x00\x00\x18ftypheic")
    (root / "cat/gone.png").symlink_to(root / "nowhere.png")
    os.mkfifo(root / "cat/pipe.png")
    with pytest.raises(OSError, match=r"5 image file\(s\) cannot be read") as caught:
        load_image_folder(root, verify="header", verbose=0)
    for name in ("text.jpg", "empty.png", "phone.heic", "gone.png", "pipe.png", "Repair"):
        assert name in str(caught.value)


@pytest.mark.parametrize("name", ["dog/10.jpg", "dog/2.png", "cat/b.webp", "cat/deep/deeper/a.BMP"])
def test_a_file_cut_short_is_found_by_decoding_it(root, name):
    whole = (root / name).read_bytes()
    (root / name).write_bytes(whole[: len(whole) * 2 // 3])
    if not name.endswith("webp"):  # whose decoder wants the whole file at once
        assert len(load_image_folder(root, verbose=0).X) == 5
    with pytest.raises(OSError, match=rf"1 image file(?s:.*){name}"):
        load_image_folder(root, verify="full", verbose=0)


def test_a_format_that_starts_other_programs_is_not_opened(root):
    Image.new("RGB", (9, 9)).save(root / "dog/script.png", "EPS")
    with pytest.raises(OSError, match=r"script\.png: not an image of a known format"):
        load_image_folder(root, verbose=0)


def test_links_to_files_and_class_folders_are_followed_but_no_others(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_image(elsewhere / "e.png")
    (root / "dog/linked.png").symlink_to(elsewhere / "e.png")
    (root / "fox").symlink_to(elsewhere)
    (root / "cat/loop").symlink_to(root)
    (elsewhere / "loop").symlink_to(elsewhere)
    images = load_image_folder(root, verbose=0)
    assert relative(images.X, root)[3:] == [
        "dog/10.jpg", "dog/2.png", "dog/linked.png", "fox/e.png"
    ]  # fmt: skip
    assert relative(images.ignored_paths, root) == ["cat/loop", "fox/loop"]


@pytest.mark.parametrize("target", [".", ".."])
def test_a_class_folder_that_links_back_is_refused(root, target):
    (root / "loop").symlink_to(root / target)
    with pytest.raises(ValueError, match="loop links back"):
        load_image_folder(root, verbose=0)


def test_folders_without_images_are_refused(root, tmp_path):
    (root / "empty").mkdir()
    (root / "text").mkdir()
    (root / "text/a.txt").write_text("x")
    with pytest.raises(ValueError, match="2 of 4 hold none: 'empty', 'text'"):
        load_image_folder(root, verbose=0)


def test_a_folder_without_classes_is_refused(root):
    with pytest.raises(ValueError, match="holds no folder and 2 images"):
        load_image_folder(root / "dog", verbose=0)


def test_a_folder_that_is_none_is_refused(root):
    with pytest.raises(FileNotFoundError, match=r"one folder per class.*2.png is a file"):
        load_image_folder(root / "dog/2.png", verbose=0)
    with pytest.raises(FileNotFoundError, match=r"one folder per class.*gone is not there"):
        load_image_folder(root / "gone", verbose=0)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Train", "test", "more"), ("train",)])
def test_parts_of_a_data_set_are_no_classes(root, tmp_path_factory, names):
    whole = tmp_path_factory.mktemp("whole")
    for name in names:
        (whole / name).mkdir()
    (root / "dog").rename(whole / names[0] / "dog")
    with pytest.raises(ValueError, match=rf"parts of a data set: (?s:.*)folder\('.*{names[0]}'\)"):
        load_image_folder(whole, verbose=0)


def test_a_class_may_be_called_train(root):
    write_image(root / "train/a.png")
    write_image(root / "train/deep/b.png")
    assert load_image_folder(root, verbose=0).class_names == ("cat", "dog", "train")


def test_what_systems_leave_is_no_photograph(root):
    for name in ("@eaDir/a.jpg", "dog/@eaDir/2.png/thumb.jpg", "__MACOSX/b.png"):
        write_image(root / name)
    (root / "dog/Thumbs.db").write_bytes(b"x")
    images = load_image_folder(root, verbose=0)
    assert (len(images.X), images.class_names, images.ignored_paths) == (5, ("cat", "dog"), ())


def test_names_that_are_not_utf_8_become_text(root):
    try:
        write_image(root / os.fsdecode(b"caf\xe9/b\xe9.png"))
    except OSError:
        pytest.skip("this file system knows UTF-8 alone")
    images = load_image_folder(root, verbose=0)
    assert images.y[0] == "caf\\xe9"
    assert os.fsencode(images.X[0]).endswith(b"/caf\xe9/b\xe9.png")


def test_verify_is_one_of_three(root):
    with pytest.raises(ValueError, match=r"verify must be one of.*Did you mean 'full'"):
        load_image_folder(root, verify="ful", verbose=0)


def test_files_are_opened_in_threads(root, monkeypatch):
    seen = set()

    def measure(path):
        seen.add(threading.current_thread().name)
        time.sleep(0.05)
        return 1

    monkeypatch.setattr(files, "measure_image", measure)
    load_image_folder(root, verbose=0)
    assert len(seen) > 1


def test_progress_is_shown_when_asked_for(root, capsys, monkeypatch):
    monkeypatch.setattr(parameters, "_PROGRESS_DELAY_SECONDS", 0)
    load_image_folder(root)
    assert "checking images" in capsys.readouterr().err
