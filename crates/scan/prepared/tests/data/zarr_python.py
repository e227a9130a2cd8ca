"""Writes volume.zarr.zip and slices.zarr.zip: small prepared cases by zarr-python 3.1, which the crate must read.

    pip install zarr==3.1.6 numcodecs==0.16.6 pcodec==1.1.0
    python zarr_python.py

The values are those of `golden` in ../it.rs. Chunks and shards differ from ours along all axes, one shard is empty, and so are
some chunks of others. With files of this crate as arguments it reads them, and prints sums of what is in them.
"""

import sys

import numpy as np
import zarr
from zarr.codecs.numcodecs import PCodec

AFFINE = [[1.0, 0.0, 0.0, -5.5], [0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 2.5, 0.1], [0.0, 0.0, 0.0, 1.0]]
SHAPE = [13, 11, 9]


def info(layout):
    return {
        "id": "case_1",
        "dataset": "flare23",
        "layout": layout,
        "subset": "D_l3",
        "spacing_mm": [1.0, 1.0, 2.5],
        "grid": {"shape": SHAPE, "affine": AFFINE},
        "original_grid": {"shape": [512, 512, 40], "affine": AFFINE},
        "crop": {"start": [1, 2, 3], "shape": SHAPE},
        "window_hu": [-200.0, 300.0],
        "annotated": ANNOTATED,
        "regions": REGIONS,
        "source": "true",
        "scale": 1000,
    }


ANNOTATED = "{" + ",".join(map(str, range(1, 15))) + "}"
REGIONS = {"values": {str(value): f"{{{value}}}" for value in range(1, 15)}, "ignored": "{}"}


def write():
    x, y, z = np.indices(SHAPE)
    place = np.where(x < 6, 0, x * 7 + y * 31 + z * 101)
    for layout, axes in [("volume", (0, 1, 2)), ("slices", (2, 0, 1))]:
        with zarr.storage.ZipStore(f"{layout}.zarr.zip", mode="w") as store:
            group = zarr.create_group(store, attributes=info(layout))
            for name, data in [("image", (place % 1001).astype("uint16")), ("labels", (place % 15).astype("uint8"))]:
                data = data.transpose(axes)
                chunks, shards = ((3, 4, 2), (6, 8, 6)) if layout == "volume" else ((1, 3, 4), (4, 6, 8))
                array = group.create_array(
                    name, shape=data.shape, dtype=data.dtype, chunks=chunks, shards=shards,
                    **codecs(name),
                )
                array[...] = data


def codecs(name):
    if name == "image":
        return {"serializer": PCodec(level=6), "compressors": zarr.codecs.Crc32cCodec()}
    return {"compressors": zarr.codecs.ZstdCodec(level=3, checksum=True)}


def read(path):
    case = zarr.open_group(zarr.storage.ZipStore(path, mode="r"), mode="r")
    print(path, "scale", case.attrs["scale"], case.attrs["id"])
    for name, array in sorted(case.arrays()):
        data = array[...].astype("uint64")
        print(name, array.dtype, array.shape, array.metadata.dimension_names, data.sum(), (data.ravel() * (np.arange(data.size) % 1009)).sum())


if len(sys.argv) > 1:
    for path in sys.argv[1:]:
        read(path)
else:
    write()
