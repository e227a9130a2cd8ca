#!/usr/bin/env python3
"""The runner beside DVC and Snakemake, in one run: doing nothing, a change, and a cold start.

Prints seconds (in brackets those of the processor, which other work on the machine disturbs less) and peak memory; medians.

    cargo build --release -p pipeline --example toy
    python -m venv VENV && VENV/bin/pip install dvc snakemake
    python benches/runners.py TARGET/release/examples/toy VENV/bin [--cases 4000] [--rounds 5] [--only flare,Snakemake,DVC]

Two graphs: eight stages in a row, and a fan of as many cases as asked for with a stage that gathers them. Work is next to
nothing, so that the tools are what is measured: a shell script of a few lines for DVC and Snakemake, a few lines of Rust for
the example `toy`. DVC takes a third of a second for each case of a cold start, so its fan begins with a lock file and a cache as it
would have written them, and its cold start is measured on 50 cases (Snakemake's on 100). The tools take turns.
"""
import argparse, hashlib, os, random, shutil, subprocess, sys, tempfile, time
from pathlib import Path

WORK = '#!/bin/sh\nset -e\nfor o; do :; done\nmkdir -p "${o%/*}"\n: > "$o.tmp"\nfor i; do [ "$i" = "$o" ] || head -c 64 "$i" >> "$o.tmp"; done\nmv "$o.tmp" "$o"\n'
CHAIN = [(f's{n}', ['data/raw.txt'] if n == 0 else [f'out/s{n - 1}.txt'], f'out/s{n}.txt') for n in range(8)]


def write(path, text, executable=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if executable:
        path.chmod(0o755)


def names(count):
    return [f'case_{n:05d}' for n in range(count)]


def scans(folder, count):
    rng = random.Random(7)
    for name in names(count):
        write(folder / 'data' / f'{name}.txt', name + ''.join(rng.choices('abcdefgh ', k=2048)))


class Toy:
    name = 'flare'

    def __init__(self, program, _):
        self.command = [program, 'run', '-j', '2']

    def chain(self, folder):
        nodes = '  s0: {stage: words, params: {text: one two three}}\n'
        nodes += '  s1: {stage: shout, inputs: {texts: s0/words}}\n'
        nodes += ''.join(f'  s{n}: {{stage: shout, inputs: {{texts: s{n - 1}/loud}}}}\n' for n in range(2, 7))
        write(folder / 'pipeline.yaml', f'seed: 1\nstore: work\nnodes:\n{nodes}  s7: {{stage: measure, inputs: {{what: s6/loud}}}}\n')

    def fan(self, folder, count):
        scans(folder, count)
        nodes = '  seg: {stage: shout, inputs: {texts: data.scans}}\n  reduce: {stage: measure, inputs: {what: seg/loud}}\n'
        write(folder / 'pipeline.yaml', f'seed: 1\nstore: work\ndata: {{scans: data}}\nnodes:\n{nodes}')

    cold_cases = None


class Snakemake:
    name = 'Snakemake'

    def __init__(self, _, tools):
        self.command = [str(tools / 'snakemake'), '-j2', '--quiet', 'all']

    def chain(self, folder):
        write(folder / 'work.sh', WORK, True)
        write(folder / 'data/raw.txt', 'x' * 4096)
        rules = ''.join(f'rule {n}:\n    input: "{i[0]}"\n    output: "{o}"\n    shell: "./work.sh {{input}} {{output}}"\n' for n, i, o in CHAIN)
        write(folder / 'Snakefile', f'rule all:\n    input: "out/s7.txt"\n{rules}')

    def fan(self, folder, count):
        scans(folder, count)
        write(folder / 'work.sh', WORK, True)
        write(folder / 'ids.txt', '\n'.join(names(count)))
        write(folder / 'reduce.sh', 'find out -name "*.txt" | sort | xargs cat > summary.txt\n')
        write(folder / 'Snakefile', 'IDS=[l.strip() for l in open("ids.txt")]\nrule all:\n    input: "summary.txt"\n'
              'rule seg:\n    input: "data/{c}.txt"\n    output: "out/{c}.txt"\n    shell: "./work.sh {input} {output}"\n'
              'rule reduce:\n    input: expand("out/{c}.txt", c=IDS)\n    output: "summary.txt"\n    shell: "sh reduce.sh"\n')

    cold_cases = 100

    def pretend(self, folder, count):
        """What a cold start would have left."""
        for name in names(count):
            subprocess.run(['./work.sh', f'data/{name}.txt', f'out/{name}.txt'], cwd=folder, check=True)
        subprocess.run(['sh', 'reduce.sh'], cwd=folder, check=True)
        subprocess.run([*self.command, '--touch'], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Dvc:
    name = 'DVC'

    def __init__(self, _, tools):
        self.tools = tools
        self.command = [str(tools / 'dvc'), 'repro']

    def start(self, folder):
        for command in (['git', 'init', '-q', '.'], [str(self.tools / 'dvc'), 'init', '-q'],
                        [str(self.tools / 'dvc'), 'config', 'core.analytics', 'false'],
                        [str(self.tools / 'dvc'), 'config', 'core.check_update', 'false']):
            subprocess.run(command, cwd=folder, check=True)

    def chain(self, folder):
        write(folder / 'work.sh', WORK, True)
        write(folder / 'data/raw.txt', 'x' * 4096)
        stages = ''.join(f'  {n}:\n    cmd: ./work.sh {i[0]} {o}\n    deps: [{i[0]}, work.sh]\n    outs: [{o}]\n' for n, i, o in CHAIN)
        write(folder / 'dvc.yaml', 'stages:\n' + stages)
        self.start(folder)

    def fan(self, folder, count):
        scans(folder, count)
        write(folder / 'work.sh', WORK, True)
        write(folder / 'reduce.sh', 'find out -name "*.txt" | sort | xargs cat > summary.txt\n')
        write(folder / 'dvc.yaml', 'stages:\n  seg:\n    foreach:\n' + ''.join(f'    - {name}\n' for name in names(count)) +
              '    do:\n      cmd: ./work.sh data/${item}.txt out/${item}.txt\n      deps: ["data/${item}.txt", work.sh]\n'
              '      outs: ["out/${item}.txt"]\n  reduce:\n    cmd: sh reduce.sh\n    deps: [out]\n    outs: [summary.txt]\n')
        self.start(folder)

    cold_cases = 50

    def pretend(self, folder, count):
        digest = lambda path: (hashlib.md5((folder / path).read_bytes()).hexdigest(), (folder / path).stat().st_size)
        script, lock = digest('work.sh'), "schema: '2.0'\nstages:\n"
        for name in names(count):
            data, out = f'data/{name}.txt', f'out/{name}.txt'
            subprocess.run(['./work.sh', data, out], cwd=folder, check=True)
            (data_md5, data_size), (out_md5, out_size) = digest(data), digest(out)
            lock += (f'  seg@{name}:\n    cmd: ./work.sh {data} {out}\n    deps:\n    - path: {data}\n      hash: md5\n      md5: {data_md5}\n'
                     f'      size: {data_size}\n    - path: work.sh\n      hash: md5\n      md5: {script[0]}\n      size: {script[1]}\n'
                     f'      isexec: true\n    outs:\n    - path: {out}\n      hash: md5\n      md5: {out_md5}\n      size: {out_size}\n')
            place = folder / '.dvc/cache/files/md5' / out_md5[:2] / out_md5[2:]
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / out, place)
        write(folder / 'dvc.lock', lock)
        # Fills its own index of files, and runs the stage that gathers.
        subprocess.run(self.command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def measure(tool, folder):
    """Seconds, seconds of the processor and peak MiB of one call. GNU time, being small, does not lend its own memory to
    what it measures."""
    with tempfile.NamedTemporaryFile('r') as used, tempfile.TemporaryFile('w+') as said:
        begun = time.perf_counter()
        command = ['/usr/bin/time', '-o', used.name, '-f', '%U %S %M', *tool.command]
        code = subprocess.run(command, cwd=folder, stdout=said, stderr=said).returncode
        seconds = time.perf_counter() - begun
        if code:
            said.seek(0)
            sys.exit(f'{tool.name} failed: {said.read()[-2000:]}')
        user, system, memory = used.read().split()
        return seconds, float(user) + float(system), int(memory) / 1024


def median(values):
    return sorted(values)[len(values) // 2]


def report(what, results, unit=1.0, limit=None, memory_limit=None):
    """A line of the table; with limits it ends with whether ours keeps them, on a machine that does nothing else."""
    cells = []
    for tool, runs in results.items():
        seconds, processor, memory = (median(values) for values in zip(*runs))
        cells.append(f'{tool} {seconds * unit:.3f} ({processor * unit:.3f}), {memory:.0f} MiB')
    if limit and Toy.name in results:
        seconds, _, memory = (median(values) for values in zip(*results[Toy.name]))
        kept = seconds * unit <= limit and memory <= (memory_limit or memory)
        cells.append(f'at most {limit}{f", {memory_limit} MiB" if memory_limit else ""}: {"kept" if kept else "NOT KEPT"}')
    print(f'{what:44}', ' | '.join(cells), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('toy', type=lambda path: str(Path(path).resolve()))
    parser.add_argument('tools', type=lambda path: Path(path).absolute())
    parser.add_argument('--cases', type=int, default=4000)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--only', default='flare,Snakemake,DVC')
    args = parser.parse_args()
    os.environ['PATH'] = f'{args.tools}:{os.environ["PATH"]}'
    tools = [tool for tool in (Toy(args.toy, args.tools), Snakemake(args.toy, args.tools), Dvc(args.toy, args.tools)) if tool.name in args.only]
    with tempfile.TemporaryDirectory() as root:
        def turns(folders, rounds=1):  # by all of `tools`
            results = {tool.name: [] for tool in tools}
            for _ in range(rounds):
                for tool in tools:
                    results[tool.name].append(measure(tool, folders[tool.name]))
            return results

        chain = {tool.name: Path(root) / f'chain-{tool.name}' for tool in tools}
        for tool in tools:
            chain[tool.name].mkdir()
            tool.chain(chain[tool.name])
        report('8 stages, cold', turns(chain))
        time.sleep(1.2)
        turns(chain)
        report('8 stages, nothing to do', turns(chain, args.rounds), limit=0.02)

        cold = {}
        for tool in tools:
            count = tool.cold_cases or args.cases
            folder = Path(root) / f'cold-{tool.name}'
            folder.mkdir()
            tool.fan(folder, count)
            seconds, processor, memory = measure(tool, folder)
            cold[tool.name] = [(seconds / count, processor / count, memory)]
        report('a case of a cold start, in ms', cold, unit=1000, limit=3)

        fan = {tool.name: Path(root) / f'fan-{tool.name}' for tool in tools}
        for tool in tools:
            if tool.cold_cases is None:
                fan[tool.name] = Path(root) / f'cold-{tool.name}'
            else:
                fan[tool.name].mkdir()
                tool.fan(fan[tool.name], args.cases)
                tool.pretend(fan[tool.name], args.cases)
        time.sleep(1.2)
        turns(fan)
        report(f'{args.cases} cases, nothing to do', turns(fan, min(args.rounds, 3)), limit=0.15, memory_limit=40)
        for tool in tools:
            with open(fan[tool.name] / 'data/case_00007.txt', 'a') as file:
                file.write('changed')
        report(f'{args.cases} cases, one changed', turns(fan))
        time.sleep(1.2)
        for tool in tools:
            for name in names(args.cases):
                (fan[tool.name] / 'data' / f'{name}.txt').touch()
        # Snakemake was told that all is done without having looked at the contents, so that it must run everything now.
        tools = [tool for tool in tools if not isinstance(tool, Snakemake)]
        report(f'{args.cases} cases, all touched', turns(fan))


if __name__ == '__main__':
    main()
