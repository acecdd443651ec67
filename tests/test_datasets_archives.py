"""Laws of unpacking: everything inside the folder, everything whole, or nothing at all."""

import gzip
import io
import tarfile

import pytest

from tlclassify.datasets import _archives
from tlclassify.datasets._archives import keep_folder, unpacked


def write_archive(path, members):
    """Write a .tar.gz of (name or TarInfo, bytes) pairs."""
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def everything_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_members_come_out_whole_and_the_folder_goes_with_the_block(tmp_path):
    content = bytes(range(256)) * 5000
    members = [(special("a", tarfile.DIRTYPE), b""), ("a/b/c.bin", content), ("d", b"")]
    archive = write_archive(tmp_path / "x.tar.gz", members)
    with unpacked(archive, parent=tmp_path / "new") as tree:
        assert everything_below(tree) == ["a", "a/b", "a/b/c.bin", "d"]
        assert (tree / "a/b/c.bin").read_bytes() == content
    assert everything_below(tmp_path) == ["new", "x.tar.gz"]


def test_a_tree_is_kept_by_renaming_and_the_first_one_stays(tmp_path):
    archive = write_archive(tmp_path / "x.tar.gz", [("a", b"1")])
    for _ in range(2):
        with unpacked(archive, parent=tmp_path) as tree:
            keep_folder(tree, tmp_path / "kept")
    assert everything_below(tmp_path) == ["kept", "kept/a", "x.tar.gz"]
    (tmp_path / "tree").mkdir()
    with pytest.raises(OSError, match=r"x\.tar\.gz"):
        keep_folder(tmp_path / "tree", archive)


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        ("../outside", "leaves the folder"),
        ("a/../../outside", "leaves the folder"),
        ("a\\..\\..\\outside", "leaves the folder"),
        ("/outside", "absolute path"),
        ("C:\\outside", "absolute path"),
        ("\\outside", "absolute path"),
        (special("link", tarfile.SYMTYPE, ".."), "a link"),
        (special("link", tarfile.LNKTYPE, "/etc/passwd"), "a link"),
        (special("pipe", tarfile.FIFOTYPE), "a device"),
        (special("disk", tarfile.BLKTYPE), "a device"),
    ],
)
def test_members_outside_the_folder_are_refused_before_anything_is_written(
    tmp_path, monkeypatch, member, reason
):
    inside = tmp_path / "inside"
    archive = write_archive(tmp_path / "x.tar.gz", [("good", b"1"), (member, b"")])
    monkeypatch.setattr(_archives, "_write", lambda *_: pytest.fail("a member was written"))
    with (
        pytest.raises(ValueError, match=rf"x\.tar\.gz must hold only files.*{reason}"),
        unpacked(archive, parent=inside),
    ):
        pytest.fail("the archive was unpacked")
    assert everything_below(tmp_path) == ["inside", "x.tar.gz"]


def test_all_bad_members_are_reported_together(tmp_path):
    archive = write_archive(tmp_path / "x.tar.gz", [("../a", b""), ("/b", b""), ("c", b"")])
    with (
        pytest.raises(ValueError, match=r"2 other members: '\.\./a'.*'/b'"),
        unpacked(archive, parent=tmp_path),
    ):
        pass


def damaged(content, how):
    if isinstance(how, float):
        return content[: int(len(content) * how)]
    return {
        "empty": b"",
        "no gzip": b"PK" + content,
        "tar cut inside": gzip.compress(gzip.decompress(content)[:5000]),
        "no tar inside": gzip.compress(b"hello" * 500),
        "middle changed": content[:20] + b"\xff" * 20 + content[40:],
        "byte changed": content[:-6] + bytes([content[-6] ^ 1]) + content[-5:],
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        0.1,
        0.5,
        0.99,
        "empty",
        "no gzip",
        "tar cut inside",
        "no tar inside",
        "byte changed",
        "middle changed",
    ],
)
def test_a_damaged_archive_is_refused_and_leaves_nothing(tmp_path, how):
    archive = write_archive(tmp_path / "x.tar.gz", [("a", bytes(range(256)) * 100)])
    archive.write_bytes(damaged(archive.read_bytes(), how))
    with (
        pytest.raises(ValueError, match=r"x\.tar\.gz must be a whole \.tar\.gz archive"),
        unpacked(archive, parent=tmp_path),
    ):
        pytest.fail("the archive was unpacked")
    assert everything_below(tmp_path) == ["x.tar.gz"]


@pytest.mark.parametrize(
    ("limit", "message"),
    [("_LARGEST_UNPACKED_BYTES", "at most 3 bytes"), ("_MOST_MEMBERS", "at most 3 members")],
)
def test_an_archive_that_grows_without_bound_is_refused(tmp_path, monkeypatch, limit, message):
    archive = write_archive(tmp_path / "x.tar.gz", [(str(n), b"12") for n in range(4)])
    monkeypatch.setattr(_archives, limit, 3)
    with pytest.raises(ValueError, match=message), unpacked(archive, parent=tmp_path):
        pytest.fail("the archive was unpacked")
    assert everything_below(tmp_path) == ["x.tar.gz"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    archive = write_archive(tmp_path / "x.tar.gz", [("a", b"1")])
    with (
        pytest.raises(OSError, match=r"could not be unpacked under .*x\.tar\.gz/below.*path="),
        unpacked(archive, parent=archive / "below"),
    ):
        pass


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "x.tar.gz", [("a", b"1"), ("b", b"2")])
    write = _archives._write

    def interrupted(tar, member, tree):
        if member.name == "b":
            raise KeyboardInterrupt("stop")
        write(tar, member, tree)

    monkeypatch.setattr(_archives, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt, match="stop"), unpacked(archive, parent=tmp_path):
        pass
    assert everything_below(tmp_path) == ["x.tar.gz"]
