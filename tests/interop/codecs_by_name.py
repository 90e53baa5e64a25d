"""The four resource encodings by their wire names."""

import bz2
import gzip
import lzma


def _zstd():
    try:
        from compression import zstd  # Python 3.14
    except ImportError:
        from backports import zstd
    return zstd


def compress(name: str, data: bytes) -> bytes:
    return {"gzip": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress, "zstd": lambda d: _zstd().compress(d)}[name](data)


def decompress(name: str, data: bytes) -> bytes:
    return {"gzip": gzip.decompress, "xz": lzma.decompress, "bz2": bz2.decompress, "zstd": lambda d: _zstd().decompress(d)}[name](data)
