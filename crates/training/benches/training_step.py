"""Training steps of teacher and student, ours and PyTorch's in turn, and the ratio of their median times.

    cargo build --release -p training --example training_step
    python training_step.py TARGET/release/examples/training_step [--threads 2] [--steps 9] [--only paper]

A step is forward pass, loss, gradients and AdamW, on a batch that is in memory already. The networks of PyTorch are
MONAI's; the loss is written with as few operations as PyTorch allows, which is faster than MONAI's DiceCELoss.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent.parent / "nets/tests/fixtures"), str(HERE.parent.parent / "ops/benches")]

CASES = [
    ("paper teacher", "teacher", (16, 16, 32, 64, 128, 16), (1, 128, 128, 128)),
    ("paper student", "student", (16, 32, 64, 128, 256, 128), (8, 224, 224)),
    ("demo teacher", "teacher", (8, 16, 32, 48, 64, 8), (1, 48, 48, 32)),
    ("demo student", "student", (16, 24, 32, 48, 64, 16), (6, 96, 80)),
]


class Ours:
    def __init__(self, program, kind, features, shape, threads):
        command = [program, kind, ",".join(map(str, features)), ",".join(map(str, shape))]
        environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.parameters = int(self.child.stdout.readline().split()[0])

    def step(self):
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        return float(self.child.stdout.readline())

    def close(self):
        self.child.stdin.close()
        self.child.wait()


class PyTorch:
    def __init__(self, kind, features, shape):
        import torch

        from monai_networks import CANCER, ORGANS, Student, Teacher
        from torch_layers import dice_ce

        torch.manual_seed(1)
        self.loss = dice_ce
        self.net = Teacher(features) if kind == "teacher" else Student(features)
        self.parameters = sum(p.numel() for p in self.net.parameters())
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-4, weight_decay=1e-5)
        self.image = torch.rand(shape[0], 1, *shape[1:])
        self.targets = {"organ": torch.randint(0, ORGANS, shape), "cancer": torch.randint(0, CANCER, shape)}

    def step(self):
        begin = time.perf_counter()
        self.optimizer.zero_grad()
        logits = self.net(self.image)
        sum(self.loss(logits[part], self.targets[part]) for part in logits).backward()
        self.optimizer.step()
        return time.perf_counter() - begin


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program")
    arguments.add_argument("--threads", type=int, default=os.cpu_count())
    arguments.add_argument("--steps", type=int, default=9)
    arguments.add_argument("--only", default="")
    arguments = arguments.parse_args()

    import torch

    torch.set_num_threads(arguments.threads)
    print(f"PyTorch {torch.__version__}, {arguments.threads} threads; medians of {arguments.steps} steps\n")
    print("| network | shape | ours (s) | PyTorch (s) | ratio |\n|---|---|---:|---:|---:|")
    for name, kind, features, shape in CASES:
        if arguments.only not in name:
            continue
        sides = [Ours(arguments.program, kind, features, shape, arguments.threads), PyTorch(kind, features, shape)]
        if sides[0].parameters != sides[1].parameters:
            raise SystemExit(f"{name}: {sides[0].parameters} parameters, PyTorch's has {sides[1].parameters}")
        times = [[], []]
        for step in range(arguments.steps + 1):
            for side, seconds in zip(sides, times):
                time.sleep(0.3)  # the other's idle threads come to rest
                seconds.append(side.step())
        sides[0].close()
        ours, theirs = (statistics.median(seconds[1:]) for seconds in times)  # the first step warms up
        print(f"| {name} | {'×'.join(map(str, shape))} | {ours:.3f} | {theirs:.3f} | {ours / theirs:.2f} |", flush=True)


main()
