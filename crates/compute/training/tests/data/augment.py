"""Writes augment.safetensors, what other programs make of a small box: python augment.py

torch (affine_grid, grid_sample) for the geometry, batchgeneratorsv2 for the intensities, with numbers that are given and not drawn;
scipy's map_coordinates and gaussian_filter1d as second opinions. Arrays are [x, y, z].
"""
import numpy as np
import torch
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from safetensors.numpy import save_file
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch.nn.functional import affine_grid, grid_sample

rng = np.random.default_rng(7)
case = np.array([22, 19, 16])
smooth = lambda: ndimage.gaussian_filter(rng.normal(size=case), 1.5)
image = smooth()
image = ((image - image.min()) / (image.max() - image.min())).astype(np.float32)
labels = np.argmax([smooth() for _ in range(5)], axis=0).astype(np.uint8)
out = {"image": image, "labels": labels}

# name: degrees about x, y, z; zoom; mirrored axes; voxel size; first voxel of the box; its shape.
boxes = {
    "turned": ((20, -35, 80), (1.0, 1.0, 1.0), (), (1, 1, 1), (5, 4, 3), (11, 10, 9)),
    "zoomed": ((0, 0, 0), (1.3, 0.8, 0.7), (), (1, 1, 1), (3, 5, 4), (12, 9, 10)),
    "all": ((-12, 25, 140), (1.35, 1.35, 1.35), (0, 2), (0.8, 0.9, 2.5), (6, 4, 2), (10, 12, 8)),
    "in_plane": ((0, 0, 57), (1.2, 1.2, 1.0), (1, 2), (1, 1, 4), (6, 5, 3), (11, 9, 7)),
    "beyond": ((30, 10, 45), (1.4, 1.4, 1.4), (1,), (1, 1, 1), (-4, 12, 9), (10, 10, 10)),
    "sagittal": ((33, 0, 0), (1.0, 1.1, 1.1), (0,), (1, 1, 1), (5, 4, 3), (8, 10, 9)),
}


def matrix(degrees, zoom, mirror, spacing):
    size = np.diag(spacing).astype(float)
    turned = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    flips = np.diag([-1.0 if axis in mirror else 1.0 for axis in range(3)])
    return np.linalg.inv(size) @ turned @ size @ np.diag(zoom) @ flips


for name, (degrees, zoom, mirror, spacing, start, shape) in boxes.items():
    m, start, shape = matrix(degrees, zoom, mirror, spacing), np.array(start), np.array(shape)
    # In torch's coordinates, from -1 to 1 between the outer edges of voxels, the last axis first.
    middle = (2 * (start + (shape - 1) / 2) + 1) / case - 1
    theta = np.concatenate([np.diag(1 / case) @ m @ np.diag(shape), middle[:, None]], axis=1)
    theta = np.concatenate([theta[::-1, 2::-1], theta[::-1, 3:]], axis=1)
    grid = affine_grid(torch.tensor(theta[None]), (1, 1, *shape), align_corners=False)
    sample = lambda a: grid_sample(torch.tensor(a[None, None], dtype=torch.float64), grid, align_corners=False, padding_mode="zeros")[0, 0].numpy()
    made = sample(image)
    at = np.moveaxis(np.indices(shape), 0, -1) - (shape - 1) / 2
    at = np.moveaxis(at @ m.T, -1, 0) + (start + (shape - 1) / 2)[:, None, None, None]
    other = ndimage.map_coordinates(np.pad(image, 1).astype(float), at + 1, order=1, mode="constant")
    assert np.abs(made - other).max() < 1e-6, np.abs(made - other).max()
    shares = np.stack([sample(labels == value) for value in range(1, 5)])
    shares = np.concatenate([1 - shares.sum(0, keepdims=True), shares])
    out[f"{name}.image"], out[f"{name}.labels"] = made.astype(np.float32), shares.argmax(0).astype(np.uint8)
    # Where labels have the same share to rounding, either is right.
    best = np.sort(shares, axis=0)
    out[f"{name}.clear"] = (best[-1] - best[-2] > 1e-4).astype(np.uint8)
    out[f"{name}.numbers"] = np.array([*degrees, *zoom, *[float(axis in mirror) for axis in range(3)], *spacing, *start, *shape], dtype=np.float32)

given = lambda: torch.tensor(image.copy())[None]
one = [0]
for gamma, inverted in [(0.7, False), (1.5, False), (0.7, True), (1.4, True)]:
    transform = GammaTransform((gamma, gamma), float(inverted), False, 1, 1)
    out[f"gamma.{gamma}.{inverted}"] = transform(image=given())["image"][0].numpy()
out["contrast.0.75"] = ContrastTransform((0.75, 0.75), True, False, 1)(image=given())["image"][0].numpy()
out["contrast.1.25"] = ContrastTransform((1.25, 1.25), True, False, 1)(image=given())["image"][0].numpy()
sigmas = [0.5, 0.8, 1.0]
blur = GaussianBlurTransform(1.0, False, False, 1)
out["blur"] = blur._apply_to_image(given(), apply_to_channel=torch.tensor([True]), sigmas=[sigmas])[0].numpy()
mirrored = image.astype(float)
for axis, sigma in enumerate(sigmas):
    mirrored = ndimage.gaussian_filter1d(mirrored, sigma, axis, mode="mirror", radius=round(3 * sigma - 0.25))
assert np.abs(mirrored - out["blur"]).max() < 1e-6
for kept in [0.5, 0.63, 0.97]:
    low = SimulateLowResolutionTransform((kept, kept), False, True, None, None, 1)
    out[f"low.{kept}"] = low(image=given())["image"][0].numpy()
save_file({name: np.ascontiguousarray(array) for name, array in out.items()}, "augment.safetensors")
