"""Random changes of samples beside batchgeneratorsv2, on one core each, in turns: python augment.py TARGET/release/examples/augmenter [patch|slices]

Both are given the same box, with 14 classes, and the same chances and ranges. What is printed is processor time for a patch of 128^3, and
for a batch of 8 slices of 224^2; the least of the rounds. A ratio above 1 says that ours is faster. Reading is not counted, nor cutting out
what is not resampled. PyTorch runs with glibc told to keep freed memory, as our stages do by themselves.
"""
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from scipy import ndimage

KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "2000000000", "MALLOC_TOP_PAD_": "67108864", "MALLOC_ARENA_MAX": "1"}
if "MALLOC_MMAP_MAX_" not in os.environ:
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEEP_MEMORY)
torch.set_num_threads(1)
ROUNDS = 3
# Names in our parameters, with nnU-Net's chances.
CHANCES = {"noise": 0.1, "blur": 0.1, "brightness": 0.15, "contrast": 0.15, "low_resolution": 0.125, "gamma_inverted": 0.1, "gamma": 0.3}


def theirs(patch, chances):
    degrees = 30 if len(patch) == 3 else 180
    angle = (-degrees / 180 * np.pi, degrees / 180 * np.pi)
    gamma = lambda inverted: GammaTransform(BGContrast((0.7, 1.5)), inverted, False, 1, 1)
    made = {
        "noise": GaussianNoiseTransform((0, 0.1), 1, True),
        "blur": GaussianBlurTransform((0.5, 1.0), False, False, 1, benchmark=True),
        "brightness": MultiplicativeBrightnessTransform(BGContrast((0.75, 1.25)), False, 1),
        "contrast": ContrastTransform(BGContrast((0.75, 1.25)), True, False, 1),
        "low_resolution": SimulateLowResolutionTransform((0.5, 1), False, True, None, None, 1),
        "gamma_inverted": gamma(1),
        "gamma": gamma(0),
    }
    spatial = SpatialTransform(
        patch, 0, False, p_rotation=chances.get("rotation", 0), rotation=angle, p_scaling=chances.get("zoom", 0), scaling=(0.7, 1.4),
        p_synchronize_scaling_across_axes=1)
    changes = [spatial] + [RandomTransform(made[name], chances[name]) for name in CHANCES if chances.get(name)]
    return changes + ([MirrorTransform(tuple(range(len(patch))))] if chances.get("mirror") else [])


def ours(chances):
    config = {name: {"probability": chance} for name, chance in chances.items() if name not in ("noise", "mirror")}
    if "noise" in chances:
        config["noise"] = {"probability": chances["noise"], "std": 0.1}
    if "mirror" in chances:
        config["mirror"] = {}
    return json.dumps(config)


def compare(program, path, image, labels, patch, batch, name, chances, samples):
    changes = theirs(patch, chances)
    best = [np.inf, np.inf]
    text = lambda shape: "x".join(map(str, shape))
    command = [program, path, text(image.shape), text(patch), ours(chances), str(samples)]
    for _ in range(ROUNDS):
        best[0] = min(best[0], float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        spent = 0
        for sample in range(samples + 1):
            # What is changed in place must not be changed again.
            data = {"image": torch.from_numpy(image.copy())[None], "segmentation": torch.from_numpy(labels)[None]}
            begun = time.process_time()
            for change in changes:
                data = change(**data)
            # The first one finds out what is fastest.
            spent += time.process_time() - begun if sample else 0
        best[1] = min(best[1], spent / samples)
    a, b = (1000 * batch * seconds for seconds in best)
    print(f"| {name} | {a:.1f} | {b:.1f} | {b / a:.1f} |", flush=True)


def main():
    rng = np.random.default_rng(3)
    every = {"rotation": 1, "zoom": 1, **{name: 1 for name in CHANCES}, "mirror": 1}
    sets = {"rotation and zoom": {"rotation": 1, "zoom": 1}, "mirroring": {"mirror": 1}, **{name: {name: 1} for name in CHANCES}}
    sets |= {"all of them": every}
    usual = {"rotation": 0.2, "zoom": 0.2, **CHANCES, "mirror": 1}
    for title, whole, patch, batch, samples in [
        ("a patch of 128x128x128", (180,) * 3, (128,) * 3, 1, (3, 40)),
        ("8 slices of 224x224", (330,) * 2, (224,) * 2, 8, (20, 400)),
    ]:
        if not any(word in title for word in sys.argv[2:] or [""]):
            continue
        image = ndimage.gaussian_filter(rng.normal(size=whole), 2).astype(np.float32)
        image /= image.std()
        places = rng.uniform(0, 1, (14, len(whole))) * whole
        grid = np.stack(np.indices(whole), -1)
        labels = np.zeros(whole, np.uint8)
        for value, place in enumerate(places, 1):
            labels[((grid - place) ** 2).sum(-1) < (0.12 * whole[0]) ** 2] = value
        print(f"\n| {title} | ours, ms | batchgeneratorsv2, ms | ratio |\n|---|---:|---:|---:|")
        with tempfile.NamedTemporaryFile() as file:
            file.write(image.tobytes() + labels.tobytes())
            file.flush()
            for name, chances in sets.items():
                compare(sys.argv[1], file.name, image, labels, patch, batch, name.replace("_", " "), chances, samples[0])
            compare(sys.argv[1], file.name, image, labels, patch, batch, "as often as nnU-Net", usual, samples[1])


main()
