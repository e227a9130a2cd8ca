"""Memory and time of `predict` against the length of a scan: a real CT, its slices repeated, in 512×512 pixels.

    cargo build --release -p predict
    python depth.py TARGET/release/predict MODEL.safetensors CASE_0000.nii.gz [--slices 100 500 1000 2471] [--mm 1.0] [--out DIR]

Needs nothing but Python. Prints a table and leaves it beside depth.svg in --out. `--mm` is the distance of the slices.
"""
import argparse
import gzip
import os
import pathlib
import struct
import tempfile
import time


def repeated(source, target, slices, mm):
    """Writes the slices of a 16-bit scan over and over again, in the memory of the source."""
    data = gzip.open(source).read()
    dims = list(struct.unpack_from("<8h", data, 40))
    assert struct.unpack_from("<h", data, 70)[0] in (4, 512), "a scan of 16-bit voxels"
    start = int(struct.unpack_from("<f", data, 108)[0])
    size, there = dims[1] * dims[2] * 2, dims[3]
    head = bytearray(data[:start])
    struct.pack_into("<h", head, 46, slices)
    struct.pack_into("<f", head, 88, mm)
    row = list(struct.unpack_from("<4f", head, 312))
    row[2] = mm if row[2] > 0 else -mm
    struct.pack_into("<4f", head, 312, *row)
    with gzip.open(target, "wb", compresslevel=1) as out:
        out.write(head)
        for k in range(slices):
            # There and back again, so that neighbours resemble each other.
            at = k % (2 * there - 2)
            at = min(at, 2 * there - 2 - at)
            out.write(data[start + at * size : start + (at + 1) * size])
    return dims[1], dims[2]


def run(program, model, image, output):
    """Seconds of the clock, and the largest resident memory in MiB."""
    begun = time.perf_counter()
    pid = os.posix_spawn(program, [program, image, output, "--model", model, "--progress", "lines"], os.environ)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, f"{image}: predict failed"
    return time.perf_counter() - begun, usage.ru_maxrss / 1024


def plot(rows, path):
    """A line of memory over slices; the axis begins at nothing."""
    width, height, left, bottom = 640, 360, 70, 50
    most = max(row[2] for row in rows) * 1.25
    x = lambda slices: left + (width - left - 20) * slices / rows[-1][0]
    y = lambda mib: height - bottom - (height - bottom - 20) * mib / most
    points = " ".join(f"{x(s):.1f},{y(m):.1f}" for s, _, m in rows)
    marks = "".join(f'<circle cx="{x(s):.1f}" cy="{y(m):.1f}" r="4" fill="#1b6ca8"/>' for s, _, m in rows)
    ticks = "".join(f'<text x="{x(s):.1f}" y="{height - bottom + 20}" text-anchor="middle">{s}</text>' for s, _, _ in rows)
    steps = range(0, int(most) + 1, max(50, int(most / 5) // 50 * 50))
    lines = "".join(
        f'<line x1="{left}" x2="{width - 20}" y1="{y(m):.1f}" y2="{y(m):.1f}" stroke="#ddd"/>'
        f'<text x="{left - 8}" y="{y(m) + 4:.1f}" text-anchor="end">{m}</text>'
        for m in steps
    )
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{lines}{ticks}<polyline points="{points}" fill="none" stroke="#1b6ca8" stroke-width="2"/>'
        f'{marks}<text x="{width / 2}" y="{height - 8}" text-anchor="middle">slices of 512×512</text>'
        f'<text x="14" y="{height / 2}" text-anchor="middle" transform="rotate(-90 14 {height / 2})">peak memory (MiB)</text></svg>'
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("image")
    parser.add_argument("--slices", type=int, nargs="+", default=[100, 500, 1000, 2471])
    parser.add_argument("--mm", type=float, default=1.0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    args = parser.parse_args()
    rows = []
    table = "| slices | seconds | peak memory (MiB) |\n|---:|---:|---:|\n"
    print(table, end="", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for slices in args.slices:
            image = f"{folder}/deep{slices}_0000.nii.gz"
            repeated(args.image, image, slices, args.mm)
            seconds, mib = run(args.program, args.model, image, f"{folder}/out")
            rows.append((slices, seconds, mib))
            row = f"| {slices} | {seconds:.1f} | {mib:.0f} |\n"
            table += row
            print(row, end="", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "depth.md").write_text(table)
    plot(rows, args.out / "depth.svg")


main()
