"""Keep one log line of TensorFlow's away that is not meant for our users."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial


def _is_of_interest(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in record.getMessage()


@contextmanager
def without_retracing_notes() -> Iterator[None]:
    """Silence TensorFlow's advice against compiling one function again and again.

    Every fit compiles a model of its own. TensorFlow takes them for one function, because Keras
    defines them on the same line, and would print its advice from the fifth fit on.
    """
    logger = logging.getLogger("tensorflow")
    # Of one's own, or the first thread to end would take away another's.
    own = partial(_is_of_interest)
    logger.addFilter(own)
    try:
        yield
    finally:
        logger.removeFilter(own)
