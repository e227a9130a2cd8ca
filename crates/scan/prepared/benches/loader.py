#!/usr/bin/env python3
"""Crops of 224 x 224 pixels that a loader reads in a second: ours beside MONAI's and nnU-Net's, in one run on the same voxels.

    cargo build --release -p prepared --example loader
    python -m venv venv && venv/bin/pip install torch monai nnunetv2 zarr
    venv/bin/python crates/scan/prepared/benches/loader.py PREPARED [--seconds 5] [--workers 2] [--rounds 3]

PREPARED is an output of `preprocess` with `layout: slices`. Image and label map of each crop are read, from a random case at a random
place. The contestants hold what they would hold in a training:

    ours                 the prepared files, opened anew for each crop
    PersistentDataset    MONAI: a file of tensors for each case, of which the crop is cut
    CacheDataset         MONAI: all cases in memory
    nnU-Net              nnUNetDatasetBlosc2: chunked files that are mapped into memory

Cold means that the kernel has dropped its cache of files before the round (needs root).
"""

import argparse
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CROP = (224, 224)


def cases(prepared):
    """Image and labels of each case as (slices, x, y)."""
    import zarr

    for path in sorted((prepared / "cases").glob("*.zarr.zip")):
        group = zarr.open_group(zarr.storage.ZipStore(str(path), mode="r"), mode="r")
        yield path.name.removesuffix(".zarr.zip"), group["image"][...].astype(np.float32), group["labels"][...].astype(np.uint8)


def place(shape, rng):
    return rng.randrange(shape[0]), *(rng.randrange(max(side - crop, 0) + 1) for side, crop in zip(shape[1:], CROP))


def count(read, seconds, seed, results):
    """How many crops a process reads, and the processor's seconds that it took."""
    rng, crops = random.Random(seed), 0
    begun, busy = time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        read(rng)
        crops += 1
    results.put((crops, time.process_time() - busy))


def rate(read, seconds, workers):
    results = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=count, args=(read, seconds, seed, results)) for seed in range(workers)]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(crops for crops, _ in found) / (sum(busy for _, busy in found) / workers)


def monai_reader(dataset):
    from monai.transforms import RandSpatialCropd

    crop = RandSpatialCropd(["image", "labels"], roi_size=(1, *CROP), random_size=False)
    return lambda rng: crop(dataset[rng.randrange(len(dataset))])


def persistent(folder, data):
    from monai.data import PersistentDataset

    dataset = PersistentDataset(data, transform=[LoadArrays()], cache_dir=folder)
    for at in range(len(dataset)):
        dataset[at]
    return monai_reader(dataset)


def cached(data):
    from monai.data import CacheDataset

    return monai_reader(CacheDataset(data, transform=[LoadArrays()], progress=False))


class LoadArrays:
    """What stands for all deterministic transforms: the arrays as they are, with a channel."""

    def __call__(self, item):
        import torch

        return {key: torch.from_numpy(np.load(item[key]))[None] for key in ("image", "labels")}


def nnunet(folder, arrays):
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

    for name, image, labels in arrays:
        blocks, chunks = comp_blosc2_params((1, *image.shape), (1, *CROP), 4)
        label_blocks, label_chunks = comp_blosc2_params((1, *image.shape), (1, *CROP), 1)
        nnUNetDatasetBlosc2.save_case(
            image[None], labels[None].astype(np.int8), {}, str(folder / name),
            chunks=chunks, blocks=blocks, chunks_seg=label_chunks, blocks_seg=label_blocks,
        )
    names = [name for name, _, _ in arrays]
    dataset = nnUNetDatasetBlosc2(str(folder), names)

    def read(rng):
        image, labels, *_ = dataset.load_case(names[rng.randrange(len(names))])
        z, x, y = place(image.shape[1:], rng)
        box = (slice(None), slice(z, z + 1), slice(x, x + CROP[0]), slice(y, y + CROP[1]))
        return image[box], labels[box]

    return read


def ours(program, prepared, seconds, workers):
    output = subprocess.run([program, prepared, str(seconds), str(workers)], check=True, capture_output=True, text=True).stdout
    line = next(line for line in output.splitlines() if line.endswith("with labels"))
    return float(line.split(", ")[-2].split()[0])


def drop_caches():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("prepared", type=Path)
    arguments.add_argument("--seconds", type=int, default=5)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=3)
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    arguments.add_argument("--program", type=Path, default=target / "release/examples/loader")
    options = arguments.parse_args()
    multiprocessing.set_start_method("fork")
    arrays = list(cases(options.prepared))
    print(", ".join(f"{name} {image.shape}" for name, image, _ in arrays), file=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: Path(scratch) / name for name in ("arrays", "persistent", "nnunet")}
        for folder in folders.values():
            folder.mkdir()
        data = []
        for name, image, labels in arrays:
            item = {key: str(folders["arrays"] / f"{name}-{key}.npy") for key in ("image", "labels")}
            np.save(item["image"], image), np.save(item["labels"], labels)
            data.append(item)
        readers = {
            "ours": None,
            "PersistentDataset": persistent(folders["persistent"], data),
            "CacheDataset": cached(data),
            "nnU-Net": nnunet(folders["nnunet"], arrays),
        }
        measure = lambda name: (
            ours(options.program, options.prepared, options.seconds, options.workers)
            if name == "ours" else rate(readers[name], options.seconds, options.workers)
        )
        found = {}
        for kind in ("cold", "warm"):
            for _ in range(options.rounds):
                for name in readers:
                    if kind == "cold":
                        drop_caches()
                    found.setdefault(name, {}).setdefault(kind, []).append(measure(name))
        voxels = sum(image.size for _, image, _ in arrays)
        sizes = {"ours": options.prepared / "cases", "nnU-Net": folders["nnunet"]}
        size = lambda folder: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / voxels
        print("| loader | crops a second, cold | warm | ours is faster by, warm | bytes a voxel on disk |\n|---|---|---|---|---|")
        middle = {name: {kind: statistics.median(values) for kind, values in kinds.items()} for name, kinds in found.items()}
        for name, kinds in middle.items():
            on_disk = f"{size(sizes[name]):.2f}" if name in sizes else "–"
            ratio = middle["ours"]["warm"] / kinds["warm"]
            print(f"| {name} | {kinds['cold']:.0f} | {kinds['warm']:.0f} | {ratio:.1f} | {on_disk} |")
        print(json.dumps(found))


if __name__ == "__main__":
    main()
