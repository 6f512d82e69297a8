"""Shards of voken corpora from lines, for tests."""

import numpy as np

from sightread.data.voken_corpus import Line, Shard


def line_of(text, token_ids, spans, vokens):
    """A line of lists."""
    borders = np.array(spans, dtype=np.int32).reshape(-1, 2)
    return Line(text, np.array(token_ids, np.int32), borders[:, 0], borders[:, 1], np.array(vokens, np.int64))


def shard_of(lines):
    """Lines end to end."""
    begins = np.cumsum([0, *(len(line.token_ids) for line in lines)])
    dtypes = {"token_ids": np.int32, "starts": np.int32, "ends": np.int32, "voken_ids": np.int64}
    columns = {
        name: np.concatenate([np.zeros(0, dtype), *(getattr(line, name) for line in lines)]).astype(dtype)
        for name, dtype in dtypes.items()
    }
    return Shard([line.text for line in lines], begins, **columns)
