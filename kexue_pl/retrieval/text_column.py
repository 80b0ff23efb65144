"""A long column of texts, gathered block by block and put into another order in little memory."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1 << 18  # rows put into their place at a time


class TextColumn:
    """Texts as one run of UTF-8 bytes and their lengths: nothing is held twice while it grows.

    Example:
        >>> import pyarrow as pa
        >>> column = TextColumn()
        >>> column.append(pa.array(["b", "aa"]))
        >>> column.append(pa.array(["c"]))
        >>> len(column), [bytes(column.reordered(np.array([1, 2, 0]))[0]), 3]
        (3, [b'aacb', 3])
    """

    def __init__(self) -> None:
        self._bytes, self._lengths = BytesIO(), [np.zeros(0, np.int32)]

    def append(self, texts: pa.Array) -> None:
        """Add a block, a pyarrow string array without nulls."""
        import pyarrow as pa

        texts = texts.cast(pa.large_string())
        _, offsets, data = texts.buffers()
        off = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        if data is not None:
            self._bytes.write(memoryview(data)[int(off[0]) : int(off[-1])])
        self._lengths.append(np.diff(off).astype(np.int32))

    def __len__(self) -> int:
        return sum(len(part) for part in self._lengths)

    def reordered(self, order: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """Bytes and offsets (N + 1,), uint32 where they fit, of the texts ``order[0], order[1], …``."""
        import pyarrow as pa

        lengths = np.concatenate(self._lengths)
        source = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=source[1:])
        texts = pa.LargeStringArray.from_buffers(
            len(lengths), pa.py_buffer(source), pa.py_buffer(self._bytes.getbuffer())
        )
        narrow = np.uint32 if int(source[-1]) < 1 << 32 else np.uint64
        offsets = np.zeros(len(order) + 1, narrow)
        np.cumsum(lengths[order], out=offsets[1:], dtype=narrow)
        del lengths
        out = np.empty(int(offsets[-1]), np.uint8)
        for start in range(0, len(order), BLOCK):
            at = order[start : start + BLOCK]
            part = texts.take(pa.array(at))
            data, begin, end = part.buffers()[2], int(offsets[start]), int(offsets[start + len(at)])
            if end > begin:
                out[begin:end] = np.frombuffer(data, np.uint8)[: end - begin]
        return out, offsets
