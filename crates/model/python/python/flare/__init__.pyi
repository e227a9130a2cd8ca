from os import PathLike
from typing import Mapping, Optional, TypedDict, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

__version__: str

_Path = Union[str, PathLike[str]]

class Error(ValueError): ...

class ClassScores(TypedDict):
    dsc: Optional[float]
    nsd: Optional[float]
    hd_mm: Optional[float]
    hd95_mm: Optional[float]
    note: Optional[str]

class Model:
    def __new__(cls, *models: _Path, exact: bool = False, flips: bool = False, device: str = "auto") -> "Model": ...
    @property
    def classes(self) -> dict[str, int]: ...
    def predict(self, image: ArrayLike, affine: ArrayLike) -> NDArray[np.uint8]: ...
    def write(self, path: _Path, labels: ArrayLike, affine: ArrayLike) -> None: ...

def read(path: _Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]: ...
def read_labels(path: _Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]]: ...
def write(path: _Path, labels: ArrayLike, affine: ArrayLike) -> None: ...
def evaluate(truth: ArrayLike, prediction: ArrayLike, affine: ArrayLike, classes: Mapping[str, int]) -> dict[str, ClassScores]: ...
