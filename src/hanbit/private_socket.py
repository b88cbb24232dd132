"""A Unix socket that nobody but its owner can ever connect to."""

import os
import socket
from pathlib import Path


def bind_private(path: Path) -> socket.socket:
    """A socket bound to this path with mode 0600 from its first moment on, not listening yet; OSError where it cannot be."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener
