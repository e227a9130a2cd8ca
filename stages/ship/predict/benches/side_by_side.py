"""`predict` beside the same inference in MONAI, with PyTorch and with OpenVINO: whole runs from file to file.

    pip install torch monai nibabel safetensors openvino
    cargo build --release -p predict -p export
    python side_by_side.py TARGET/release WEIGHTS.safetensors CASE_0000.nii.gz [MORE ..] [--threads 2] [--only predict openvino]

WEIGHTS are a student's under MONAI's names, of the paper's size. Every run is a process of its own, one after another; its
seconds are those of the clock from start to end, for MONAI without the time to import its libraries and with OpenVINO's time
to compile. Prints for each scan a line for each way, with the part of the voxels that have PyTorch's label.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
FEATURES = (16, 32, 64, 128, 256, 128)
ORGANS = ["liver", "right_kidney", "spleen", "pancreas", "aorta", "inferior_vena_cava", "right_adrenal", "left_adrenal", "gallbladder",
          "esophagus", "stomach", "duodenum", "left_kidney"]
MODEL = {
    "classes": [{"group": "organ", "classes": {name: value for value, name in enumerate(ORGANS, 1)}}, {"group": "cancer", "classes": {"tumor": 14}}],
    "network": {"features": FEATURES},
    "grid": {"spacing_mm": [1, 1, 2.5], "window_hu": [-200, 300]},
    "crop_foreground": False,
    "window": {"batch": 8, "size": None, "overlap": 0},
}
WAYS = {
    "predict": [],
    "predict --precision int8": ["--precision", "int8"],
    "predict --exact": ["--exact"],
    "PyTorch f32": ["torch", "f32"],
    "OpenVINO f32": ["openvino", "f32"],
    "OpenVINO bf16": ["openvino", "bf16"],
}


# -- the other side: this file, run by itself -----------------------------------------------------------------------

def network_of(engine, numbers, weights, slices, threads):
    """Logits of organs and of cancer of a batch of slices."""
    import torch
    from safetensors.torch import load_file

    sys.path.append(str(HERE.parents[2] / "crates/compute/nets/tests/fixtures"))
    from monai_networks import Student

    torch.set_num_threads(threads)

    class Heads(Student):
        def forward(self, x):
            return tuple(super().forward(x).values())

    net = Heads(FEATURES).eval()
    values = {name.removeprefix("weights."): value for name, value in load_file(weights).items()}
    net.load_state_dict({name: values[name] for name in net.state_dict()})
    if engine == "torch":
        return net
    import openvino

    batch = slices.shape[0]
    model = openvino.convert_model(net, example_input=slices, input=[list(slices.shape)])
    hints = {"INFERENCE_PRECISION_HINT": numbers, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(model, "CPU", hints).create_infer_request()

    def run(x):
        full = torch.cat([x, x.new_zeros(batch - x.shape[0], *x.shape[1:])])
        answer = request.infer([full.numpy()])
        return [torch.from_numpy(answer[head])[: x.shape[0]] for head in (0, 1)]

    return run


def by_monai(engine, numbers, weights, image, out, threads, batch=8):
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    import nibabel
    import numpy
    import torch
    from monai import transforms as t

    begun = time.perf_counter()
    forth = t.Compose([
        t.LoadImaged("image"), t.EnsureChannelFirstd("image"), t.Orientationd("image", axcodes="RAS"),
        t.Spacingd("image", pixdim=(1.0, 1.0, 2.5), mode="bilinear"),
        t.ScaleIntensityRanged("image", a_min=-200, a_max=300, b_min=0, b_max=1, clip=True),
    ])
    case = forth({"image": image})
    volume = case["image"].as_tensor()[0]
    x, y, z = volume.shape
    slices = torch.nn.functional.pad(volume.permute(2, 0, 1)[:, None], (0, -y % 16, 0, -x % 16))
    labels = torch.zeros((x, y, z), dtype=torch.uint8)
    net = network_of(engine, numbers, weights, slices[: min(batch, z)], threads)
    with torch.inference_mode():
        for k in range(0, z, batch):
            organs, cancer = net(slices[k : k + batch])
            found = organs.argmax(1).to(torch.uint8)
            found[cancer.argmax(1) == 1] = 14
            labels[:, :, k : k + batch] = found[:, :x, :y].permute(1, 2, 0)
    case["labels"] = case["image"].clone()
    case["labels"].set_array(labels[None].float())
    back = t.Invertd("labels", transform=forth, orig_keys="image", nearest_interp=True, to_tensor=True)(case)["labels"]
    nibabel.save(nibabel.Nifti1Image(back.numpy()[0].astype(numpy.uint8), numpy.asarray(back.affine)), out)
    print(json.dumps({"seconds": time.perf_counter() - begun}))


# -- this side --------------------------------------------------------------------------------------------------------

def run(arguments, threads):
    """Seconds of the clock and of the processor, peak memory in MiB, and what was printed."""
    begun = time.perf_counter()
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    child = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = 0
    assert status == 0, f"{arguments} failed"
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said


def agreement(a, b):
    import nibabel
    import numpy

    return float((numpy.asarray(nibabel.load(a).dataobj) == numpy.asarray(nibabel.load(b).dataobj)).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("weights", type=pathlib.Path)
    parser.add_argument("images", nargs="+", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[""])
    parser.add_argument("--by-monai", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.by_monai:
        image, out = map(str, args.images)
        return by_monai(*args.by_monai, str(args.weights), image, out, args.threads)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "params.json").write_text(json.dumps(MODEL))
        run([args.programs / "export", "--params", folder / "params.json", "--input", f"model={args.weights}", "--output", folder / "model"], 1)
        print("| scan | way | seconds | of the processor | peak memory (MiB) | voxels with PyTorch's label |\n|---|---|---:|---:|---:|---:|")
        for image in args.images:
            case, theirs = image.name.removesuffix("_0000.nii.gz"), None
            chosen = {way: how for way, how in WAYS.items() if any(word in way for word in args.only)}
            for way in sorted(chosen, key=lambda way: way != "PyTorch f32"):
                how, out = chosen[way], folder / way.replace(" ", "_")
                if way.startswith("predict"):
                    label = out / f"{case}.nii.gz"
                    call = [args.programs / "predict", image, out, "--model", folder / "model", "--threads", str(args.threads), *how]
                    seconds, processor, mib, _ = run(call, args.threads)
                else:
                    out.mkdir(exist_ok=True)
                    label = out / f"{case}.nii.gz"
                    call = [sys.executable, __file__, args.programs, args.weights, image, label, "--threads", str(args.threads), "--by-monai", *how]
                    _, processor, mib, said = run([str(word) for word in call], args.threads)
                    seconds = json.loads(said.splitlines()[-1])["seconds"]
                theirs = label if way == "PyTorch f32" else theirs
                same = f"{100 * agreement(label, theirs):.3f} %" if theirs else "–"
                print(f"| {case} | {way} | {seconds:.1f} | {processor:.1f} | {mib:.0f} | {same} |", flush=True)


if __name__ == "__main__":
    main()
