"""Building the kernels: one call of the system's C++ compiler, kept in the user's cache folder.

The file name holds a hash of the source, the flags, the compiler's version and the processor, so a
changed one is built anew and a shared home folder serves different machines. Without a compiler, or
with RAMIFY_NATIVE=0 in the environment, there is no kernel and the engine uses torch operations.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)

_FOLDER = Path(__file__).parent
_SOURCES = tuple(_FOLDER / name for name in ("tree_attention.cpp", "chains.cpp", "row_ops.cpp"))
_HEADERS = (_FOLDER / "plan.h",)
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-fopenmp")
_LIMIT_S = 120


@functools.cache
def load_kernel() -> ctypes.CDLL | None:
    """Return the compiled kernel, built if needed; None if that is impossible here."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if os.environ.get("RAMIFY_NATIVE") == "0" or compiler is None:
        logger.info("no compiled attention kernel (no C++ compiler, or RAMIFY_NATIVE=0)")
        return None
    try:
        return ctypes.CDLL(str(_built(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("the attention kernel cannot be built, decoding will be slower: %s", error)
        return None


def _built(compiler: str) -> Path:
    """Return the path of the shared library."""
    folder = _cache_folder()
    library = folder / f"kernels_{_fingerprint(compiler)}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch) / library.name
            command = [compiler, *_FLAGS, *map(str, _SOURCES), "-o", str(built)]
            subprocess.run(command, check=True, capture_output=True, timeout=_LIMIT_S)
            built.replace(library)  # atomic, so that processes may build at the same time
    return library


def _cache_folder() -> Path:
    """Return a folder that only this user can write to."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "ramify"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK):
            return folder
    except OSError as error:
        logger.info("no cache folder (%s); the kernel is built for this process only", error)
    return Path(tempfile.mkdtemp(prefix="ramify_"))


def _fingerprint(compiler: str) -> str:
    version = subprocess.run(
        [compiler, "--version"], check=True, capture_output=True, timeout=_LIMIT_S
    ).stdout
    sources = [source.read_bytes() for source in (*_SOURCES, *_HEADERS)]
    parts = (*sources, " ".join(_FLAGS).encode(), version, _processor().encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> str:
    """Return what decides about the instructions that -march=native uses."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
