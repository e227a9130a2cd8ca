"""Times the layers of examples/bench.rs in PyTorch on the CPU: python torch_layers.py [THREADS] [FILTER]"""

import sys
import time

import torch
import torch.nn.functional as F

CONVOLUTIONS = [
    ("2d 8x32->32 224 k3", 8, 32, 32, (224, 224), 3, 1),
    ("2d 8x64->64 112 k3", 8, 64, 64, (112, 112), 3, 1),
    ("2d 8x128->128 56 k3", 8, 128, 128, (56, 56), 3, 1),
    ("2d 2x48->128 224 k3", 2, 48, 128, (224, 224), 3, 1),
    ("2d 16x16->16 96x80 k3", 16, 16, 16, (96, 80), 3, 1),
    ("2d 16x16->32 48x40 k3", 16, 16, 32, (48, 40), 3, 1),
    ("2d 8x1->32 224 k3", 8, 1, 32, (224, 224), 3, 1),
    ("2d 8x32->14 224 k1", 8, 32, 14, (224, 224), 1, 1),
    ("3d 1x16->16 128 k3", 1, 16, 16, (128, 128, 128), 3, 1),
    ("3d 1x32->32 96 k3", 1, 32, 32, (96, 96, 96), 3, 1),
    ("3d 1x32->16 128 k3", 1, 32, 16, (128, 128, 128), 3, 1),
    ("3d 1x32->64 96 k3 s2", 1, 32, 64, (96, 96, 96), 3, 2),
    ("3d 1x256->256 12 k3", 1, 256, 256, (12, 12, 12), 3, 1),
    ("3d 2x8->16 48 k3", 2, 8, 16, (48, 48, 48), 3, 1),
    ("3d 1x1->16 128 k3", 1, 1, 16, (128, 128, 128), 3, 1),
]
TRANSPOSED = [
    ("up2d 8x64->32 112 k2", 8, 64, 32, (112, 112), 2, 2),
    ("up3d 1x64->32 48 k2", 1, 64, 32, (48, 48, 48), 2, 2),
]
MAPS = [("2d 8x32 224", 8, 32, (224, 224)), ("3d 1x16 128", 1, 16, (128, 128, 128))]


def seconds():
    """The processor time of the process if it has one thread, else the time of day."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def median_ms(run):
    run()
    times = []
    start = seconds()
    while len(times) < 3 or (seconds() - start < 0.8 and len(times) < 30):
        begin = seconds()
        run()
        times.append((seconds() - begin) * 1e3)
    return sorted(times)[len(times) // 2]


def report(name, inputs, op):
    with torch.no_grad():
        forward = median_ms(op)
    weights = torch.ones_like(op())

    def both():
        for tensor in inputs:
            tensor.grad = None
        op().backward(weights)

    print(f"{name:34} forward {forward:8.2f} ms  forward+backward {median_ms(both):8.2f} ms", flush=True)


def leaf(*dims):
    return torch.randn(*dims, requires_grad=True)


def dice_ce(logits, labels):
    p = logits.softmax(1)
    truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).float()
    axes = tuple(range(2, logits.ndim))
    overlap, mass = (p * truth).sum(axes), (p * p).sum(axes) + (truth * truth).sum(axes)
    return (1 - (2 * overlap + 1e-5) / (mass + 1e-5)).mean() + F.cross_entropy(logits, labels)


def main():
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    for name, batch, ci, co, size, kernel, stride in CONVOLUTIONS:
        if wanted in name:
            x, w, b = leaf(batch, ci, *size), leaf(co, ci, *[kernel] * len(size)), leaf(co)
            conv = F.conv2d if len(size) == 2 else F.conv3d
            report(name, [x, w, b], lambda: conv(x, w, b, stride=stride, padding=kernel // 2))
    for name, batch, ci, co, size, kernel, stride in TRANSPOSED:
        if wanted in name:
            x, w, b = leaf(batch, ci, *size), leaf(ci, co, *[kernel] * len(size)), leaf(co)
            up = F.conv_transpose2d if len(size) == 2 else F.conv_transpose3d
            report(name, [x, w, b], lambda: up(x, w, b, stride=stride))
    for name, batch, channels, size in MAPS:
        if wanted in name:
            x, g, b = leaf(batch, channels, *size), leaf(channels), leaf(channels)
            norm = lambda: F.leaky_relu(F.instance_norm(x, weight=g, bias=b), 0.1)
            report(f"instance norm, leaky relu {name}", [x, g, b], norm)
            pool = F.max_pool2d if len(size) == 2 else F.max_pool3d
            report(f"max pool {name}", [x], lambda: pool(x, 2))
            logits, labels = leaf(batch, 14, *size), torch.randint(0, 14, (batch, *size))
            report(f"dice + cross-entropy {batch}x14 {size[0]}", [logits], lambda: dice_ce(logits, labels))


if __name__ == "__main__":
    main()
