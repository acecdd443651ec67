"""The one atomic writer, the one order of folders, and the one progress bar."""

import os
import sys

import pytest
from PIL import Image

from tlclassify._checks import parameters
from tlclassify._checks.files import digest_file, list_images, open_whole, write_whole
from tlclassify._checks.parameters import show_progress
from tlclassify.datasets import load_image_folder


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "new" / "a.bin", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "a.bin").stat().st_mode & 0o777 == mode


def test_what_fails_leaves_the_file_as_it_was(tmp_path):
    write_whole(tmp_path / "a.bin", b"before")

    def fail():
        with open_whole(tmp_path / "a.bin") as file:
            file.write(b"half")
            raise KeyboardInterrupt("now")

    with pytest.raises(KeyboardInterrupt, match="now"):
        fail()
    assert (tmp_path / "a.bin").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_what_is_written_can_be_read_before_it_has_its_name(tmp_path):
    with open_whole(tmp_path / "a.bin") as file:
        file.write(b"content")
        file.seek(0)
        assert file.read() == b"content"
        assert not (tmp_path / "a.bin").exists()
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    write_whole(tmp_path / "b.bin", b"")
    assert digest_file(tmp_path / "b.bin") == empty


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("é" * 127)
    write_whole(path, b"content")
    assert path.read_bytes() == b"content"


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="path must name a file; received the folder"):
        write_whole(tmp_path, b"content")


def test_whoever_lists_a_folder_finds_the_same_images_in_one_order(tmp_path):
    """Training images, those of a job and of the command line."""
    seen = ["cat/a/1.png", "cat/a.PNG", "cat/a-b/1.png", "cat/b.jpeg", "dog/2.png", "dog/10.png"]
    hidden = ["cat/._a.PNG", "cat/.thumbs/1.png", "dog/@eaDir/2.png", "lost+found/3.png"]
    for name in [*seen, *hidden]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    expected = [
        "cat/a/1.png",
        "cat/a-b/1.png",
        "cat/a.PNG",
        "cat/b.jpeg",
        "dog/10.png",
        "dog/2.png",
    ]
    assert list_images(tmp_path) == [str(tmp_path / name) for name in expected]
    assert load_image_folder(tmp_path, verbose=0).X.tolist() == list_images(tmp_path)


@pytest.mark.parametrize("silent", ["no stream", "not asked for"])
def test_a_bar_may_be_silent(monkeypatch, capsys, silent):
    """Programs with windows have no stream to draw on."""
    monkeypatch.setattr(parameters, "_PROGRESS_DELAY_SECONDS", 0)
    if silent == "no stream":
        monkeypatch.setattr(sys, "stderr", None)
    with show_progress(2, "work", unit="step", verbose=silent == "no stream") as bar:
        bar.update(1)
        bar.set_postfix(loss=1)
    monkeypatch.undo()
    assert capsys.readouterr().err == ""


def test_a_bar_is_drawn_for_long_work_alone(monkeypatch, capsys):
    for delay, drawn in ((60, False), (0, True)):
        monkeypatch.setattr(parameters, "_PROGRESS_DELAY_SECONDS", delay)
        with show_progress(2, "work", unit="step", verbose=1) as bar:
            bar.update(2)
        assert ("work: 100%" in capsys.readouterr().err) == drawn
