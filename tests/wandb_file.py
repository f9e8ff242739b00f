"""Reads what a run logged to wandb back from its offline file.

The file is a log in LevelDB's format: seven bytes of header, then blocks of 32 KiB with records of
checksum (4 bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last part) and a protobuf message.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from wandb.proto import wandb_internal_pb2

BLOCK = 32768
HEADER = struct.Struct("<IHB")
MAGIC = b":W&B\xe1\xbe\x00"
ENDS = (1, 4)
_Record = cast("Any", wandb_internal_pb2).Record  # generated classes have no static types


def records(path: Path) -> Iterator[Any]:  # see _Record
    """All messages, oldest first; a wrong checksum is an AssertionError."""
    content = path.read_bytes()
    assert content[: len(MAGIC)] == MAGIC
    at, message = len(MAGIC), b""
    while at + HEADER.size <= len(content):
        if BLOCK - at % BLOCK < HEADER.size:
            at += BLOCK - at % BLOCK
            continue
        checksum, length, kind = HEADER.unpack_from(content, at)
        at += HEADER.size
        part = content[at : at + length]
        assert zlib.crc32(part, zlib.crc32(bytes([kind]))) == checksum, f"damaged before byte {at}"
        message += part
        at += length
        if kind in ENDS:
            record = _Record()
            record.ParseFromString(message)
            yield record
            message = b""


def history(path: Path) -> list[dict[str, Any]]:  # JSON values
    """What was logged, one dictionary per call of `log`; nested keys are joined by dots."""
    return [
        {
            item.key or ".".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        for record in records(path)
        if record.WhichOneof("record_type") == "history"
    ]
