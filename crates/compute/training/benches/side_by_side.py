"""Layers and networks: ours beside PyTorch, OpenVINO and candle, in turn, on one machine, in one run.

    pip install torch monai einops openvino
    cargo build --release -p training --example contestant
    python side_by_side.py TARGET/release/examples/contestant [--threads 2] [--rounds 5] [--only student] [--no-layers | --layers WORD..]

Every contestant is a process of its own that is asked for one round at a time, so that whatever else the machine does
meets all of them alike; a cell is the median of its rounds. Work of a few milliseconds is repeated within a round, and
the last time counts: after a pause, two threads begin on one core. Layers are those of the paper's networks: the teacher on
128³, the student on 8 slices of 224² and on one of 304×368. `inference` is a forward pass that keeps nothing;
`training` is forward pass and gradients for a layer, and a whole step (forward pass, loss, gradients, AdamW) for a
network, with all of it live unless a row names what is. PyTorch runs with glibc told to keep freed memory, as we tell it: with glibc's defaults it takes half as long
again to twice as long (--default-malloc shows it).

Ratios above 1 say that ours is faster. With --threads 1, times are of the processor, so that they mean something on a busy
machine too.
"""
import argparse
import fnmatch
import functools
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent.parent / "nets/tests/fixtures"))

NETWORKS = [
    ("teacher", "teacher", (16, 16, 32, 64, 128, 16), (1, 128, 128, 128)),
    ("student 8×224²", "student", (16, 32, 64, 128, 256, 128), (8, 224, 224)),
    ("student 304×368", "student", (16, 32, 64, 128, 256, 128), (1, 304, 368)),
]
# Compared as wholes, not layer by layer.
SMALL_NETWORKS = [
    ("demo teacher", "teacher", (8, 16, 32, 48, 64, 8), (1, 48, 48, 32)),
    ("demo student", "student", (16, 24, 32, 48, 64, 16), (6, 96, 80)),
]
# Their steps are of single precision alone.
TRANSFORMERS = [
    ("small UNETR 96³", "unetr", (8, 192, 768, 6), (1, 96, 96, 96)),
    ("small Swin UNETR 64³", "swin_unetr", (12,), (1, 64, 64, 64)),
    ("UNETR 128³", "unetr", (16, 768, 3072, 12), (1, 128, 128, 128)),
    ("published Swin UNETR 64³", "swin_unetr", (48,), (1, 64, 64, 64)),
    ("published Swin UNETR 96³", "swin_unetr", (48,), (1, 96, 96, 96)),
]
# The network of which steps are timed with most of it frozen too, as in the paper's last two steps.
PARTLY_FROZEN, STEPS = "student 8×224²", [("M_3", "organ"), ("M_4", "cancer")]
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "2000000000", "MALLOC_TOP_PAD_": "67108864", "MALLOC_ARENA_MAX": "1"}


# -- the other side: this file as a contestant ------------------------------------------------------------------------

def build_network(kind, features, size=None):
    from monai_networks import Student, SwinUnetr, Teacher, Unetr

    return {"teacher": Teacher, "student": Student, "unetr": lambda f: Unetr(f, size), "swin_unetr": SwinUnetr}[kind](features)


def dice_ce(logits, target):
    """MONAI's DiceCELoss(softmax=True, squared_pred=True, to_onehot_y=True), with as few operations as PyTorch allows."""
    import torch.nn.functional as F

    p = logits.softmax(1).flatten(2)
    one_hot = F.one_hot(target, logits.shape[1]).movedim(-1, 1).flatten(2).to(p.dtype)
    dice = 1 - (2 * (p * one_hot).sum(-1) + 1e-5) / ((p * p).sum(-1) + one_hot.sum(-1) + 1e-5)
    return dice.mean() + F.cross_entropy(logits, target)


def work_of(arguments):
    """One piece of work as a function of nothing."""
    import torch

    torch.manual_seed(1)
    what, kind, *rest = arguments
    if what == "layer":
        kernel, source, target, shape, way = int(rest[0]), int(rest[1]), int(rest[2]), tuple(map(int, rest[3].split(","))), rest[4]
        dims = len(shape) - 1
        make = {("conv", 2): torch.nn.Conv2d, ("conv", 3): torch.nn.Conv3d, ("up", 2): torch.nn.ConvTranspose2d, ("up", 3): torch.nn.ConvTranspose3d}
        extra = {"padding": kernel // 2} if kind == "conv" else {"stride": 2}
        net = make[kind, dims](source, target, kernel, **extra)
        image = torch.randn(shape[0], source, *shape[1:])
    else:
        features, shape, way = tuple(map(int, rest[0].split(","))), tuple(map(int, rest[1].split(","))), rest[2]
        net = build_network(kind, features, shape[1:])
        image = torch.rand(shape[0], 1, *shape[1:])
    if way in ("openvino-f32", "openvino-bf16"):
        import openvino

        net.eval()
        model = openvino.convert_model(net, example_input=image, input=[list(image.shape)])
        hint = {"INFERENCE_PRECISION_HINT": way.removeprefix("openvino-"), "INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
        request = openvino.Core().compile_model(model, "CPU", hint).create_infer_request()
        values = image.numpy()
        return lambda: request.infer([values])
    if way in ("f32", "bf16"):
        def forward():
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=way == "bf16"):
                net(image)
        return forward
    if what == "layer":
        image.requires_grad_(image.shape[1] > 1)
        outer = torch.ones_like(net(image))
        parameters = [*net.parameters(), image] if image.requires_grad else list(net.parameters())
        return lambda: torch.autograd.grad(net(image), parameters, outer)
    way, _, live = way.partition("=")
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(fnmatch.fnmatchcase(name, live or "*"))
    # A decoder of which nothing moves has no part in the loss, and is not computed.
    moving = {name.split("_decoder.")[0] for name, parameter in net.named_parameters() if parameter.requires_grad}
    forward = functools.partial(net, parts=sorted(moving & {"organ", "cancer"})) if live else net
    optimizer = torch.optim.AdamW([parameter for parameter in net.parameters() if parameter.requires_grad], lr=1e-4, weight_decay=1e-5)
    targets = {"organ": torch.randint(0, 14, shape), "cancer": torch.randint(0, 2, shape)}

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=way == "step-bf16"):
            logits = forward(image)
        sum(dice_ce(logits[part].float(), targets[part]) for part in logits).backward()
        optimizer.step()
    return step


def compete(arguments):
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    import torch

    torch.set_num_threads(int(os.environ["THREADS"]))
    seconds = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    work = work_of(arguments)
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = seconds()
        work()
        print(seconds() - begin, flush=True)


# -- the judge ---------------------------------------------------------------------------------------------------------

class Contestant:
    def __init__(self, command, environment):
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
        self.seconds = []
        if self.child.stdout.readline().strip() != "ready":
            raise SystemExit(f"{' '.join(map(str, command))} did not get ready")

    def round(self):
        """Asks until a tenth of a second has gone by; the last answer counts: what the work takes in the midst of other work."""
        begin = time.monotonic()
        while True:
            self.child.stdin.write("\n")
            self.child.stdin.flush()
            seconds = float(self.child.stdout.readline())
            if time.monotonic() - begin > 0.1:
                break
        self.seconds.append(seconds)

    def peak_mib(self):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024

    def close(self):
        memory = self.peak_mib()
        self.child.stdin.close()
        self.child.wait()
        return statistics.median(self.seconds[1:] or self.seconds), memory  # the first round warms up


class Judge:
    def __init__(self, arguments):
        self.program, self.rounds = arguments.program, arguments.rounds
        self.environment = {"RAYON_NUM_THREADS": str(arguments.threads), "THREADS": str(arguments.threads)}
        self.theirs = self.environment | ({} if arguments.default_malloc else KEEP_MEMORY)

    def compare(self, work, ways):
        """Median seconds and peak MiB of each way: (side, name), side being "ours" or "theirs"."""
        start = {"ours": lambda way: Contestant([self.program, *work, way], self.environment),
                 "theirs": lambda way: Contestant([sys.executable, __file__, "--compete", *work, way], self.theirs)}
        contestants = [start[side](way) for side, way in ways]
        for _ in range(self.rounds + 1):
            for contestant in contestants:
                time.sleep(0.3)  # the others' idle threads spin for a while before they rest
                contestant.round()
        return [contestant.close() for contestant in contestants]

    def peak(self, number):
        text = subprocess.run([self.program, "peak", number], env=os.environ | self.environment, stdout=subprocess.PIPE, text=True).stdout
        return None if text.strip() == "unknown" else float(text)


def layers_of(kind, features, shape):
    """The convolutions of a network: (conv|up, kernel, from, to, shape of the input), in order, each once."""
    import torch

    net, found = build_network(kind, features).eval(), {}

    def note(module, inputs, _):
        kind = "up" if isinstance(module, (torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)) else "conv"
        size = (inputs[0].shape[0], *inputs[0].shape[2:])
        found[kind, module.kernel_size[0], module.in_channels, module.out_channels, size] = None

    for module in net.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)):
            module.register_forward_hook(note)
    with torch.inference_mode():
        net(torch.zeros(shape[0], 1, *shape[1:]))
    return list(found)


def operations(kind, kernel, source, target, shape):
    count = 2 * kernel ** (len(shape) - 1) * source * target
    for side in shape:
        count *= side
    return count


def milliseconds(seconds):
    return f"{seconds * 1e3:.{0 if seconds > 0.1 else 1}f}"


def share(flops, seconds, peak):
    return f"{flops / seconds / 1e9 / peak:.0%}" if peak else "–"


INFERENCE = [("ours", "f32"), ("theirs", "f32"), ("theirs", "openvino-f32"), ("ours", "bf16"), ("theirs", "bf16"), ("theirs", "openvino-bf16")]


def name_of(kind, kernel, source, target, shape):
    return f"{kind} {source}→{target} {'×'.join(map(str, shape))} k{kernel}"


def compare_layers(judge, name, kind, features, shape, peaks, words):
    print(f"\n### Layers of the {name} (ms)\n")
    print("| layer | f32: ours | of peak | PyTorch | OpenVINO | ratio | bf16: ours | of peak | PyTorch | OpenVINO | ratio | candle | training: ours | PyTorch | ratio |")
    print("|---|" + "---:|" * 14)
    for layer in layers_of(kind, features, shape):
        what, kernel, source, target, size = layer
        if words and not any(word in name_of(*layer) for word in words):
            continue
        work = ["layer", what, str(kernel), str(source), str(target), ",".join(map(str, size))]
        ways = INFERENCE + [("ours", "step"), ("theirs", "step")]
        candle = len(size) == 3 and operations(*layer) < 2e10
        seconds = [time for time, _ in judge.compare(work, ways + [("ours", "candle")] * candle)]
        f32, bf16, step = seconds[:3], seconds[3:6], seconds[6:8]
        flops = operations(*layer)
        cells = [name_of(*layer),
                 milliseconds(f32[0]), share(flops, f32[0], peaks["f32"]), *map(milliseconds, f32[1:]), f"{min(f32[1:]) / f32[0]:.2f}",
                 milliseconds(bf16[0]), share(flops, bf16[0], peaks["bf16"]), *map(milliseconds, bf16[1:]), f"{min(bf16[1:]) / bf16[0]:.2f}",
                 milliseconds(seconds[8]) if candle else "–", *map(milliseconds, step), f"{step[1] / step[0]:.2f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def compare_networks(judge, networks, transformers):
    print("\n### Networks (s; peak memory in MiB)\n")
    print("| network | way | ours | PyTorch | OpenVINO | ratio | memory: ours | PyTorch | OpenVINO |\n|---|---|" + "---:|" * 7)
    for name, kind, features, shape in networks + transformers:
        work = ["network", kind, ",".join(map(str, features)), ",".join(map(str, shape))]
        rows = [("inference f32", "f32", ["f32", "openvino-f32"]), ("inference bf16", "bf16", ["bf16", "openvino-bf16"]), ("training step f32", "step", ["step"]), ("training step bf16", "step-bf16", ["step-bf16"])]
        if name == PARTLY_FROZEN:
            rows += [(f"step of {step}, {part} decoder alone", f"step={part}_decoder.*", [f"step={part}_decoder.*"]) for step, part in STEPS]
        if (name, kind, features, shape) in transformers:
            rows = rows[:3]
        for label, ours, theirs in rows:
            results = judge.compare(work, [("ours", ours)] + [("theirs", way) for way in theirs])
            times, memory = [time for time, _ in results], [str(mib) for _, mib in results]
            missing = ["–"] * (3 - len(results))
            cells = [name, label, *(f"{time:.3f}" for time in times), *missing, f"{min(times[1:]) / times[0]:.2f}", *memory, *missing]
            print("| " + " | ".join(cells) + " |", flush=True)


def main():
    if sys.argv[1:2] == ["--compete"]:
        return compete(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="networks whose name has this in it")
    parser.add_argument("--no-layers", action="store_true", help="whole networks alone")
    parser.add_argument("--layers", nargs="+", default=[], metavar="WORD", help="these layers alone, those whose name has one of the words in it")
    parser.add_argument("--default-malloc", action="store_true", help="leave PyTorch's glibc as it is")
    arguments = parser.parse_args()

    import openvino
    import torch

    judge = Judge(arguments)
    peaks = {number: judge.peak(number) for number in ("f32", "bf16")}
    processor = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    print(f"{processor}, {arguments.threads} threads; PyTorch {torch.__version__}, OpenVINO {openvino.__version__.split('-')[0]}; medians of {arguments.rounds}")
    print("Peak of vector instructions: " + ", ".join(f"{number} {peak:.0f} GFLOP/s" if peak else f"{number} unknown" for number, peak in peaks.items()))
    chosen = lambda networks: [network for network in networks if arguments.only in network[0]]
    if not arguments.layers:
        compare_networks(judge, chosen(NETWORKS + SMALL_NETWORKS), chosen(TRANSFORMERS))
    if not arguments.no_layers:
        for network in chosen(NETWORKS):
            compare_layers(judge, *network, peaks, arguments.layers)


main()
