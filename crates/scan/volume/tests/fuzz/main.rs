//! Many changed files, the same in every run: none makes a reader panic, take a gigabyte, or take ten seconds.
//!
//! `VOLUME_FUZZ=1000000 cargo test -p volume --test fuzz` tries a million. Overflow is checked in the profiles that check it;
//! `.ci/fuzz` looks for changes that reach new code, with the nightly compiler.

mod all_ways;

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use all_ways::read_in_all_ways;

/// Files that are tried unless `VOLUME_FUZZ` says how many.
const FILES: u64 = 20_000;

const MOST_TIME: Duration = Duration::from_secs(10);

/// For one file, beyond what the process has before the first.
const MOST_KIB: u64 = 1 << 20;

/// Model grids of more voxels than this take as long as a long scan does, and are left to the tests of those.
const MOST_VOXELS: usize = 1 << 24;

/// xorshift64*: changes need not be good random numbers, only the same in every run.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

/// The fields of a header: where they are, and how many follow one another.
const WHOLE_FIELDS: [(usize, usize); 4] = [(40, 8), (70, 2), (252, 1), (254, 1)];
const REAL_FIELDS: [(usize, usize); 5] = [(76, 8), (108, 3), (256, 3), (268, 3), (280, 12)];

fn change_header(bytes: &mut [u8], draw: &mut Draw) {
    if draw.chance(5) {
        bytes[draw.below(348)] = draw.next() as u8;
    } else if draw.chance(3) {
        let (at, count) = draw.of(&WHOLE_FIELDS);
        let random = draw.next() as i16;
        let value: i16 = draw.of(&[0, 1, 2, 3, 4, 5, 7, 8, 16, 24, 64, 100, 256, 512, 768, 1024, 1280, i16::MAX, -1, i16::MIN, random]);
        let at = at + 2 * draw.below(count);
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    } else {
        let (at, count) = draw.of(&REAL_FIELDS);
        let at = at + 4 * draw.below(count);
        let there = f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let near = (draw.next() % 2001) as f32 / 200.0 - 5.0;
        let any = f32::from_bits(draw.next() as u32);
        let odd = [0.0, 1.0, 1e-30, 1e-3, 0.01, 0.5, 352.0, 1e4, 1e10, 1e30, f32::MAX, f32::MIN_POSITIVE, f32::NAN, f32::INFINITY];
        let odd = draw.of(&odd);
        let value = draw.of(&[near, near, there + near, there * near, -there, there * 1.000_01, any, odd, -odd]);
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// Larger sides, with as many voxels as these need.
fn enlarge(bytes: &mut Vec<u8>, draw: &mut Draw) {
    let sides = [(); 3].map(|()| 1 + draw.below(24));
    for (axis, side) in sides.into_iter().enumerate() {
        bytes[42 + 2 * axis..44 + 2 * axis].copy_from_slice(&(side as i16).to_le_bytes());
    }
    let step = draw.below(300);
    let voxels = sides.iter().product::<usize>() * 8;
    bytes.resize(352, 0);
    bytes.extend((0..voxels).map(|i| (i * step / 8) as u8));
}

/// A changed file: as it is, packed, in several members, with something behind, or damaged after packing.
fn changed(seeds: &[Vec<u8>], draw: &mut Draw) -> Vec<u8> {
    let mut bytes = seeds[draw.below(seeds.len())].clone();
    if draw.chance(4) {
        enlarge(&mut bytes, draw);
    }
    (0..=draw.below(4)).for_each(|_| change_header(&mut bytes, draw));
    if draw.chance(4) {
        let at = draw.below(bytes.len());
        bytes[at] = draw.next() as u8;
    }
    if draw.chance(10) {
        bytes.truncate(draw.below(bytes.len() + 1));
    }
    if draw.chance(2) {
        return bytes;
    }
    let member = if draw.chance(4) { 1 + draw.below(bytes.len() + 1) } else { bytes.len().max(1) };
    let mut packed: Vec<u8> = bytes.chunks(member.max(64)).flat_map(gzip).collect();
    if draw.chance(6) {
        packed.extend_from_slice(draw.of(&[&b"\n"[..], b"\0\0\0\0", b"\x1f", b"\x1f\x8b\x08", b"text"]));
    }
    if draw.chance(8) && !packed.is_empty() {
        let at = draw.below(packed.len());
        packed[at] ^= 1 << draw.below(8);
    }
    packed
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory is writable")
}

/// The files of the other tests, unpacked.
fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nifti");
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("the fixtures").map(|entry| entry.expect("a fixture").path()).collect();
    files.sort();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "nii"));
    files.iter().map(|path| std::fs::read(path).expect("a fixture")).collect()
}

/// The most address space that this process has ever had.
fn most_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Says which file it was when a reader panics.
struct Tried(u64);

impl Drop for Tried {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was file {} (VOLUME_FUZZ_FIRST={0} begins with it)", self.0);
        }
    }
}

#[test]
fn no_changed_file_makes_a_reader_panic_or_take_much_memory_or_time() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, files) = (number("VOLUME_FUZZ_FIRST").unwrap_or(0), number("VOLUME_FUZZ").unwrap_or(FILES));
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder");
    let path = folder.path().join("case_0000.nii.gz");
    let seeds = seeds();
    let (mut written, mut slowest, mut before) = (0, (Duration::ZERO, 0), None);
    for file in first..first + files {
        let tried = Tried(file);
        let mut draw = Draw((file + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        std::fs::write(&path, changed(&seeds, &mut draw)).expect("memory is writable");
        let begun = Instant::now();
        written += u64::from(read_in_all_ways(&path, MOST_VOXELS));
        let time = begun.elapsed();
        assert!(time < MOST_TIME, "{time:?}");
        slowest = slowest.max((time, file));
        // The first file starts the threads.
        let (most, before) = (most_kib(), *before.get_or_insert_with(most_kib));
        assert!(most - before < MOST_KIB, "{} MiB", (most - before) >> 10);
        drop(tried);
    }
    eprintln!("{files} files, {written} labelled; the slowest was {} with {:?}; {} MiB", slowest.1, slowest.0, most_kib() >> 10);
    if files >= 1000 {
        assert!(written > files / 5 && written < 4 * (files / 5), "the changes are too mild or too harsh: {written} of {files} labelled");
    }
}
