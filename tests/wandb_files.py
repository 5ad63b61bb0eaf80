"""Read the files that Weights & Biases keeps on disk; a test helper."""

from __future__ import annotations

import importlib
import json
import struct
from pathlib import Path
from typing import Any


def history(directory: Path) -> list[dict[str, float]]:
    """The metrics in a run's own file: a LevelDB log of protocol-buffer records.

    After a file header of 7 bytes, each record has a checksum (4 bytes), a length (2) and a type
    (1). Type 1 is an unsplit record; all of these small records have it.
    """
    messages: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    (path,) = directory.glob("*.wandb")
    content = path.read_bytes()
    rows, start = [], 7
    while start < len(content):
        length, kind = struct.unpack_from("<HB", content, start + 4)
        assert kind == 1
        record = messages.Record.FromString(content[start + 7 : start + 7 + length])
        if record.HasField("history"):
            items = [("/".join(item.nested_key), item.value_json) for item in record.history.item]
            rows.append({name: json.loads(value) for name, value in items if name[0] != "_"})
        start += 7 + length
    return rows
