"""What holds for every test and doctest: quiet, without a screen, without a network."""

import gc
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
# OpenVINO would report each step of a conversion, from a process forked for it: some seconds each.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

LOCAL_HOSTS = {"", "localhost", "127.0.0.1", "::1"}


def pytest_collection_finish() -> None:
    """Let no later collection of garbage look through what the libraries hold: it takes 0.3 s."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Drop what TensorFlow said while it was imported, which would follow pytest's last line."""
    session.config.pluginmanager.getplugin("capturemanager").read_global_capture()


class NetworkBlockedError(OSError):
    """A test tried to leave this machine."""


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Refuse every connection and name look-up beyond this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
        patch.setattr(socket, "getaddrinfo", guarded(socket.getaddrinfo))
        yield


def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
    """Let `call` through to this machine only; code under test sees a network that is down."""

    def local_call(*args: Any, **kwargs: Any) -> Any:
        # connect(socket, address) or getaddrinfo(host, port); a Unix address is one string.
        is_connect = isinstance(args[0], socket.socket)
        address = args[1][0] if is_connect and isinstance(args[1], tuple) else args[0]
        if isinstance(address, str | bytes) and os.fsdecode(address) not in LOCAL_HOSTS:
            raise NetworkBlockedError(f"Tests reach no network; {address!r} was asked for.")
        return call(*args, **kwargs)

    return local_call


@pytest.fixture(autouse=True)
def _graphs(request: pytest.FixtureRequest) -> None:
    """Run networks step by step: to compile tiny ones costs more than it saves.

    Where it is marked `graphs` their compilation is the subject.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.run_functions_eagerly(request.node.get_closest_marker("graphs") is None)


@pytest.fixture(autouse=True, scope="module")
def _forget_networks() -> Iterator[None]:
    """Free a module's networks, which would slow down every later one."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()


@pytest.fixture(autouse=True)
def no_open_figures() -> Iterator[None]:
    """Close the pictures that a test has left open."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
