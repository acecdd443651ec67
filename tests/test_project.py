"""The files around the package agree with it and with each other."""

import fnmatch
import re
import socket
import sys
from pathlib import Path

import pytest

import tlclassify

ROOT = Path(__file__).parents[1]
# pytest brings tomli where Python has no tomllib yet.
toml = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
PROJECT = toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DEV_PINS = dict(
    requirement.split("==")
    for requirement in PROJECT["project"]["optional-dependencies"]["dev"]
    if "==" in requirement
)
HOOK = re.compile(r"repo: \S+/(?:mirrors-)?(\w+)(?:-pre-commit)?\n\s+rev: v(\S+)")


def unshipped(files, patterns):
    """Return the data files that no pattern of the package data matches."""
    return [name for name in files if not any(fnmatch.fnmatch(name, p) for p in patterns)]


def test_pre_commit_runs_the_versions_of_the_dev_extra():
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert dict(HOOK.findall(text)) == DEV_PINS
    assert set(DEV_PINS) == {"mypy", "ruff"}


def test_every_data_file_is_in_the_wheel():
    source = ROOT / "src" / "tlclassify"
    files = [path for path in source.rglob("*") if path.is_file() and path.suffix != ".py"]
    names = [path.relative_to(source).as_posix() for path in files if path.suffix != ".pyc"]
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["tlclassify"]
    assert "py.typed" in names
    assert not unshipped(names, patterns)
    assert unshipped(["weights/new.txt"], patterns)


def test_versions_agree():
    assert tlclassify.__version__ == PROJECT["project"]["version"]


def test_changelog_has_an_open_section():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## Unreleased$", text, re.MULTILINE)


@pytest.mark.parametrize("host", ["example.org", "192.0.2.1", "2001:db8::1"])
def test_the_network_is_blocked(host):
    with pytest.raises(OSError, match="Tests reach no network"):
        socket.create_connection((host, 80), timeout=1)


def test_a_connection_without_a_look_up_is_blocked():
    with socket.socket() as client, pytest.raises(OSError, match="Tests reach no network"):
        client.connect_ex(("192.0.2.1", 80))


def test_this_machine_is_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(("localhost", server.getsockname()[1]), timeout=1) as client:
            assert client.getpeername() == server.getsockname()
        with socket.socket() as client:
            assert client.connect_ex(server.getsockname()) == 0
