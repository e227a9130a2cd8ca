"""The student's inference in f32 and in 8 bits beside OpenVINO's, in turn, on one machine, in one run.

    pip install openvino nncf
    cargo build --release -p flare && cargo build --release -p training --example contestant
    python int8.py TARGET/release WEIGHTS.safetensors [--threads 2] [--rounds 15] [--size 304 368]

WEIGHTS are those of the paper's student, of any training; times do not depend on their values. OpenVINO is given the ONNX graph that the stage
`export` writes, compiled for the size, and NNCF's post-training quantisation of it. Ours needs no calibration. Times are the medians of the
rounds; a ratio above 1 says that ours is faster.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import nncf
import numpy
import openvino

FEATURES = "16,32,64,128,256,128"
ORGANS = ["liver", "right_kidney", "spleen", "pancreas", "aorta", "inferior_vena_cava", "right_adrenal", "left_adrenal", "gallbladder",
          "esophagus", "stomach", "duodenum", "left_kidney"]


def graph(programs, weights, folder):
    """The student as an ONNX graph."""
    classes = [{"group": "organ", "classes": {name: value for value, name in enumerate(ORGANS, 1)}}, {"group": "cancer", "classes": {"tumor": 14}}]
    grid = {"spacing_mm": [1, 1, 2.5], "window_hu": [-200, 300]}
    params = {"network": {"features": [int(width) for width in FEATURES.split(",")]}, "classes": classes, "grid": grid, "onnx": True,
              "crop_foreground": False, "window": {"batch": 1, "size": None, "overlap": 0}}
    (folder / "params.json").write_text(json.dumps(params))
    run = [programs / "flare", "stage", "export", "--params", folder / "params.json", "--input", f"model={weights}", "--output", folder / "model"]
    subprocess.run(run, check=True, capture_output=True)
    return folder / "model" / "model.onnx"


def theirs(path, size, threads, quantised):
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([1, 1, *size])
    rng = numpy.random.default_rng(3)
    slices = [rng.random((1, 1, *size), dtype=numpy.float32) for _ in range(8)]
    if quantised:
        model = nncf.quantize(model, nncf.Dataset(slices), subset_size=len(slices))
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", hints).create_infer_request()

    def round_():
        begun = time.perf_counter()
        request.infer([slices[0]])
        return time.perf_counter() - begun

    return round_


def ours(programs, size, threads, way):
    command = [programs / "examples/contestant", "network", "student", FEATURES, "1," + ",".join(map(str, size)), way]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ, RAYON_NUM_THREADS=str(threads)))
    child.stdout.readline()

    def round_():
        child.stdin.write("\n")
        child.stdin.flush()
        return float(child.stdout.readline())

    return round_


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("weights", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", type=int, nargs=2, default=[304, 368])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = graph(args.programs, args.weights, pathlib.Path(folder))
        ways = {f"ours {way}": ours(args.programs, args.size, args.threads, way) for way in ("f32", "int8")}
        ways |= {f"OpenVINO {'int8' if quantised else 'f32'}": theirs(path, args.size, args.threads, quantised) for quantised in (False, True)}
    times = {way: [] for way in ways}
    for at in range(args.rounds + 1):
        for way, round_ in ways.items():
            seconds = round_()
            if at:
                times[way].append(seconds)
    best = statistics.median(times["ours int8"])
    print("| way | ms a slice | times ours in int8 |\n|---|---:|---:|")
    for way, seconds in times.items():
        print(f"| {way} | {1000 * statistics.median(seconds):.0f} | {statistics.median(seconds) / best:.2f} |")


main()
