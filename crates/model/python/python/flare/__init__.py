"""CT segmentation with models that learned from partly labelled datasets.

Arrays are indexed [x, y, z]; affines take voxel indices to millimetres in RAS+, as nibabel's do. Errors are `flare.Error`.
"""

import numpy as _np

from . import _flare
from ._flare import Error, __version__, read, read_labels

__all__ = ["Error", "Model", "evaluate", "read", "read_labels", "write"]


def _affine(affine):
    return _np.ascontiguousarray(affine, dtype=_np.float64)


def _image(image):
    image = _np.asarray(image)
    return image if image.dtype in (_np.int16, _np.float32) else image.astype(_np.float32)


def _labels(labels):
    labels = _np.asarray(labels)
    if labels.dtype == _np.uint8:
        return labels
    small = labels.astype(_np.uint8)
    if not _np.array_equal(small, labels):
        raise Error("a label map holds values that are no integers from 0 to 255")
    return small


class Model(_flare.Model):
    """A trained model, or several: the mean of those that find the same classes, and the groups of others on top."""

    def predict(self, image, affine):
        """The labels of a scan in HU: uint8, of the image's shape, in the values of `classes`."""
        return super().predict(_image(image), _affine(affine))

    def write(self, path, labels, affine):
        """Writes a label map with the names and colours of this model's classes, in the format that the name ends with."""
        super().write(path, _labels(labels), _affine(affine))


def write(path, labels, affine):
    """Writes a label map, in the format that the name ends with."""
    _flare.write(path, _labels(labels), _affine(affine))


def evaluate(truth, prediction, affine, classes):
    """Scores of each class: DSC, NSD at 2 mm (1 mm for vessels and the like), and Hausdorff distances in mm.

    `classes` are names and values, such as `model.classes`. A score that is not defined is None, with a note why.
    """
    return _flare.evaluate(_labels(truth), _labels(prediction), _affine(affine), dict(classes))
