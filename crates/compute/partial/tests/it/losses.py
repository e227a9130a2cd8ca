"""The expected values of losses.rs, by PyTorch: the authors' loss of DoDNet as its code has it, MultiTalent's Eq. 2, and the
cross-entropy and Dice loss of probabilities that were merged before."""

import torch
import torch.nn.functional as F

n = 2 * 3 * 4
i = torch.arange(2 * 2 * n, dtype=torch.float64)
x = (3 * torch.sin(0.7 * i)).reshape(2, 2, 2, 3, 4).requires_grad_()
voxel = torch.arange(2 * n).reshape(2, 2, 3, 4)
organs = torch.tensor([0, 1, 4, 1, 0])[voxel % 5]
cancer = (voxel % 7 == 3).long()
# Channels liver and tumor; the second sample has no organs annotated.
target = torch.stack([(organs == 1), (cancer == 1)], 1).double()
masked = target.clone()
masked[1, 0] = -1


def report(name, loss, logits):
    (gradient,) = torch.autograd.grad(loss, logits)
    weights = torch.cos(torch.arange(gradient.numel(), dtype=torch.float64))
    print(name, f"{loss.item():.9g}", f"{(gradient.flatten() * weights).sum().item():.9g}", gradient.abs().amax(dim=(2, 3, 4)).tolist())


def dodnet(predict, target, power=1):
    """DiceLoss4MOTS(num_classes=2) + CELoss4MOTS(num_classes=2)."""
    dice, entropy = [], []
    for k in range(2):
        p, t = torch.sigmoid(predict)[:, k].flatten(1), target[:, k].flatten(1)
        score = 1 - 2 * (p * t).sum(1) / ((p**power).sum(1) + t.sum(1) + 1)
        there = t[:, 0] != -1
        dice.append(score[there].sum() / there.sum())
        bce = F.binary_cross_entropy_with_logits(predict[:, k], target[:, k], reduction="none").mean(dim=(1, 2, 3))
        entropy.append(bce[there].sum() / there.sum())
    return torch.stack(dice).mean() + torch.stack(entropy).mean()


def multitalent(predict, target, power=1):
    p, on = torch.sigmoid(predict), (masked[:, :, 0, 0, 0] != -1).double()
    bce = F.binary_cross_entropy_with_logits(predict, target, reduction="none").mean(dim=(2, 3, 4))
    sums = lambda map: (map.sum(dim=(2, 3, 4)) * on).sum(0)
    dice = (2 * sums(p * target) + 1e-5) / (sums(p**power) + sums(target) + 1e-5)
    return (bce * on).sum() - dice.sum()


def merged(z, power=1):
    """15 classes: in the first sample 1, 2, 3, 4, 13 and 14 are annotated, in the second 14 alone."""
    total = 0
    for sample, annotated in enumerate([[1, 2, 3, 4, 13, 14], [14]]):
        p = z[sample].softmax(0)
        rest = [c for c in range(15) if c not in annotated]
        p = torch.cat([p[rest].sum(0, keepdim=True), p[annotated]])
        label = torch.zeros_like(organs[sample])
        for place, c in enumerate(annotated):
            here = cancer[sample] == 1 if c == 14 else organs[sample] == c
            label[here] = place + 1
        t = F.one_hot(label, len(annotated) + 1).movedim(-1, 0).double()
        s = lambda map: map.flatten(1).sum(1)
        dice = 1 - (2 * s(p * t) + 1e-5) / (s(p**power) + s(t) + 1e-5)
        total = total + dice.mean() - (t * p.log()).sum(0).mean()
    return total / 2


z = (2 * torch.sin(0.7 * torch.arange(2 * 15 * n, dtype=torch.float64))).reshape(2, 15, 2, 3, 4).requires_grad_()
for power, name in [(1, "linear"), (2, "squared")]:
    report(f"mean, {name}", dodnet(x, masked, power), x)
    report(f"sum, {name}", multitalent(x, target, power), x)
    report(f"merged, {name}", merged(z, power), z)
