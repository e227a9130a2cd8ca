"""Computes the graphs of a folder and keeps what they give: compute.py NEW EXPECTED

NEW holds the graphs that the tests have written. Each is checked, computed for images of two sizes, and copied to EXPECTED with
every 13th value of its outputs. Made with Python 3.11, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6, safetensors.
"""

import pathlib
import shutil
import sys

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import save_file

STEP = 13
# One that is halved without rest and one that is not, with another batch; models for partial labels take multiples of 16.
SHAPES = {"student": [(2, 1, 32, 48), (1, 1, 37, 21)], "teacher": [(1, 1, 16, 16, 32), (2, 1, 17, 21, 16)]}
OTHERS = [(1, 1, 16, 16, 32), (2, 1, 32, 16, 16)]


def image(shape):
    return np.sin(0.37 * np.arange(np.prod(shape))).astype(np.float32).reshape(shape)


new, expected = map(pathlib.Path, sys.argv[1:])
expected.mkdir(exist_ok=True)
for path in sorted(new.glob("*.onnx")):
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    kept = {}
    for k, shape in enumerate(SHAPES.get(path.stem, OTHERS)):
        kept[f"shape.{k}"] = np.array(shape, np.float32)
        for name, logits in zip(names, session.run(names, {"image": image(shape)})):
            kept[f"{name}.{k}"] = np.ascontiguousarray(logits.reshape(-1)[::STEP])
    save_file(kept, expected / f"{path.stem}.safetensors")
    shutil.copy(path, expected)
    print(path.stem, {name: value.shape for name, value in kept.items()})
