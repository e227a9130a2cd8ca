"""The expected values of unet.rs, by PyTorch: small U-Nets as nnU-Net builds them, with weights by a formula."""

import math

import torch
import torch.nn.functional as F

FEATURES, STRIDES = [4, 6, 8], [(1, 1, 1), (2, 2, 2), (2, 2, 1)]
KERNELS = [(3, 3, 1), (3, 3, 3), (3, 3, 3)]


class Net:
    """Collects the shapes of its parameters on a first pass, fills them in name order, and computes on the second."""

    def __init__(self, blocks):
        self.blocks, self.shapes, self.values = blocks, {}, None

    def get(self, name, *shape):
        self.shapes[name] = shape
        return self.values[name] if self.values else torch.zeros(shape, dtype=torch.float64)

    def fill(self):
        self.values = {}
        for k, name in enumerate(sorted(self.shapes)):
            shape = self.shapes[name]
            n = math.prod(shape)
            wave = torch.sin(0.7 * torch.arange(n, dtype=torch.float64) + 1.3 * k).reshape(shape)
            if len(shape) == 1:
                self.values[name] = 1 + 0.1 * wave if name.endswith("weight") else 0.05 * wave
            else:
                self.values[name] = math.sqrt(2 * shape[0] / n) * wave

    def conv(self, name, x, kernel, stride, outputs, slope):
        w = self.get(f"{name}.conv.weight", outputs, x.shape[1], *kernel)
        y = F.conv3d(x, w, stride=stride, padding=[k // 2 for k in kernel])
        y = F.instance_norm(y, weight=self.get(f"{name}.norm.weight", outputs), bias=self.get(f"{name}.norm.bias", outputs), eps=1e-5)
        return F.leaky_relu(y, slope)

    def residual(self, name, x, kernel, stride, outputs):
        y = self.conv(f"{name}.conv1", x, kernel, stride, outputs, 0.01)
        y = self.conv(f"{name}.conv2", y, kernel, (1, 1, 1), outputs, 1.0)
        if stride != (1, 1, 1) or x.shape[1] != outputs:
            x = self.conv(f"{name}.skip", x, (1, 1, 1), stride, outputs, 1.0)
        return F.leaky_relu(y + x, 0.01)

    def forward(self, x):
        if self.blocks:
            x = self.conv("encoder.stem", x, KERNELS[0], (1, 1, 1), FEATURES[0], 0.01)
        skips = []
        for i, f in enumerate(FEATURES):
            for k in range(self.blocks[i] if self.blocks else 2):
                stride = STRIDES[i] if k == 0 else (1, 1, 1)
                name = f"encoder.{i}.{k}"
                x = self.residual(name, x, KERNELS[i], stride, f) if self.blocks else self.conv(name, x, KERNELS[i], stride, f, 0.01)
            skips.append(x)
        maps = []
        for i in (1, 0):
            up = self.get(f"decoder.{i}.up.weight", FEATURES[i + 1], FEATURES[i], *STRIDES[i + 1])
            x = torch.cat([F.conv_transpose3d(x, up, stride=STRIDES[i + 1]), skips[i]], 1)
            for k in range(1 if self.blocks else 2):
                x = self.conv(f"decoder.{i}.{k}", x, KERNELS[i], (1, 1, 1), FEATURES[i], 0.01)
            maps.insert(0, x)
        return [
            F.conv3d(m, self.get(f"head.{i}.weight", 3, FEATURES[i], 1, 1, 1), self.get(f"head.{i}.bias", 3)) for i, m in enumerate(maps)
        ]


for blocks in (None, [1, 2, 1]):
    net = Net(blocks)
    image = torch.sin(0.37 * torch.arange(16 * 12 * 8, dtype=torch.float64)).reshape(1, 1, 16, 12, 8)
    net.forward(image)
    net.fill()
    parameters = sum(math.prod(shape) for shape in net.shapes.values())
    for level, logits in enumerate(net.forward(image)):
        weights = torch.cos(torch.arange(logits.numel(), dtype=torch.float64))
        numbers = [logits.abs().mean(), (logits.flatten() * weights).mean(), logits.flatten()[0], logits.flatten()[-1]]
        print(blocks, parameters, level, list(logits.shape), [f"{n.item():.8g}" for n in numbers])
