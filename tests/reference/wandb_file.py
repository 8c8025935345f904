"""What an offline run of wandb has written: records in LevelDB's log format, after seven bytes."""

import json
import struct
from pathlib import Path

BLOCK = 32768  # bytes; no record's head crosses the end of one
FULL, FIRST, MIDDLE, LAST = range(1, 5)  # kinds of pieces of records


def read_records(path: Path) -> list:
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, pieces, records = path.read_bytes(), 7, [], []
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        pieces.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(b"".join(pieces))
            records.append(record)
            pieces = []
    return records


def read_history(records: list) -> dict[int, dict]:
    """Numbers and pictures by step."""
    found = {}
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            found.setdefault(record.history.step.num, {}).update(items)
    return found
