"""An export takes the place of an older one whole, whenever it is interrupted or killed."""

from contextlib import suppress
from pathlib import Path

import pytest

from tlclassify._checks.files import digest_file
from tlclassify.persistence.exporting import put_in_place

KINDS = [("a.onnx", False), ("a.xml", False), ("a", True), ("a.xml", True)]


def write(path, text, *, is_folder):
    """Write what is like an export: metadata in a folder, or a pair that belongs together."""
    if is_folder:
        (path / "assets.extra").mkdir(parents=True)
        (path / "assets.extra" / "tlclassify.json").write_text(text)
    elif path.suffix == ".xml":
        path.with_suffix(".bin").write_text(text)
        path.write_text(f"{text} knows {digest_file(path.with_suffix('.bin'))}")
    else:
        path.write_text(text)


def export_to(path, text, *, is_folder):
    with put_in_place(path, is_folder=is_folder) as draft:
        write(draft, text, is_folder=is_folder)


def look(folder, *, hidden=False):
    """Return what is in a folder, file by file; in folders of hidden names only if asked."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and (hidden or not path.relative_to(folder).parts[0].startswith("."))
    }


@pytest.fixture(params=KINDS)
def places(request, tmp_path):
    """An older export, the options for another one, and what is there before and afterwards."""
    (tmp_path / "new").mkdir()
    (tmp_path / "here").mkdir()
    name, is_folder = request.param
    path, options = tmp_path / "here" / name, {"is_folder": is_folder}
    write(tmp_path / "new" / name, "new", **options)
    export_to(path, "old", **options)
    return path, options, look(path.parent), look(tmp_path / "new")


@pytest.fixture
def moves(monkeypatch):
    """Functions to be called with True before and with False after each move of a file."""
    watch = []
    for name in ("rename", "replace"):
        move = getattr(Path, name)

        def watched(source, target, move=move):
            for function in watch:
                function(True)
            move(source, target)
            for function in watch:
                function(False)

        monkeypatch.setattr(Path, name, watched)
    return watch


def interrupt_at(number, *, before):
    seen = []

    def interrupt(is_before):
        if is_before == before:
            seen.append(is_before)
            if len(seen) == number:
                raise KeyboardInterrupt("now")

    return interrupt


def test_a_newer_one_takes_its_place(places):
    path, options, _, new = places
    export_to(path, "new", **options)
    assert look(path.parent, hidden=True) == new


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("number", range(1, 5))
def test_an_interruption_leaves_the_old_one_or_the_new(places, moves, number, before):
    path, options, old, new = places
    moves.append(interrupt_at(number, before=before))
    with suppress(KeyboardInterrupt):
        export_to(path, "new", **options)
    assert look(path.parent, hidden=True) in (old, new)
    assert {item.name for item in path.parent.iterdir()} <= {path.name, "a.bin"}


def test_at_no_time_is_there_a_mixture_or_the_old_one_lost(places, moves):
    path, options, old, new = places
    seen = []
    moves.append(lambda _: seen.append((look(path.parent), look(path.parent, hidden=True))))
    export_to(path, "new", **options)
    for visible, everything in seen:
        assert {text.partition(" ")[0] for text in visible.values()} != {"old", "new"}
        assert new == visible or set(old.values()) <= set(everything.values())
        assert "a.bin" not in visible or "a.xml" in visible


def test_what_cannot_be_put_back_is_not_deleted(places, moves):
    path, options, old, new = places

    def fail(is_before):
        if not is_before:
            raise OSError(5, "the disk is gone")

    moves.append(fail)
    with suppress(OSError):
        export_to(path, "new", **options)
    found = look(path.parent, hidden=True)
    assert set(old.values()) <= set(found.values()) or found == new


def test_a_first_one_that_fails_leaves_nothing(tmp_path, moves):
    moves.append(interrupt_at(2, before=True))
    with pytest.raises(KeyboardInterrupt, match="now"):
        export_to(tmp_path / "a.xml", "new", is_folder=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "is_folder", "others"),
    [
        ("a", True, {"a/letter.txt": "dear"}),
        ("a.onnx", False, {"a.onnx/letter.txt": "dear"}),
        ("a.onnx", False, {"a.onnx/assets.extra/tlclassify.json": "of a SavedModel"}),
        ("a", True, {"a": "a file"}),
        ("a.xml", False, {"a.bin": "of something else"}),
        ("a.xml", False, {"a.bin": "of something else", "a.xml": "<page/>"}),
        ("a.xml", False, {"a.bin/letter.txt": "dear"}),
    ],
)
def test_what_is_from_no_export_is_left_alone(tmp_path, path, is_folder, others):
    for name, text in others.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(OSError, match=r"path must .*received .*Choose another name"):
        export_to(tmp_path / path, "new", is_folder=is_folder)
    assert look(tmp_path, hidden=True) == others


def test_a_bin_file_of_another_export_is_left_alone(tmp_path):
    for name in ("a", "b"):
        export_to(tmp_path / f"{name}.xml", name, is_folder=False)
    (tmp_path / "b.bin").replace(tmp_path / "a.bin")
    before = look(tmp_path)
    with pytest.raises(FileExistsError, match=r"which would replace '.*a\.bin'\. Choose another"):
        export_to(tmp_path / "a.xml", "new", is_folder=False)
    assert look(tmp_path, hidden=True) == before
