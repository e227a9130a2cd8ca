//! Many changed files, the same in every run: none makes the reader panic, take a gigabyte, or take ten seconds.
//!
//! `DICOM_FUZZ=1000000 cargo test -p dicom-series --test fuzz` tries a million.

use std::path::Path;
use std::time::{Duration, Instant};

use dicom_series::{Annotation, Found, Series, find};
use volume::Source as _;

/// Files that are tried unless `DICOM_FUZZ` says how many.
const FILES: u64 = 6_000;

const MOST_TIME: Duration = Duration::from_secs(10);

/// For one file, beyond what the process has before the first.
const MOST_KIB: u64 = 1 << 20;

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
}

/// The beginning of a sequence of undefined length with an item of one, as deep as asked for.
fn nested(deep: usize) -> Vec<u8> {
    let one = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff";
    one.repeat(deep)
}

/// Bytes that mean something between elements.
const MARKS: [&[u8]; 6] = [
    b"\xfe\xff\x00\xe0\x00\x00\x00\x00",
    b"\xfe\xff\x0d\xe0\x00\x00\x00\x00",
    b"\xfe\xff\xdd\xe0\x00\x00\x00\x00",
    b"\xe0\x7f\x10\x00OW\0\0\xff\xff\xff\xff",
    b"\xe0\x7f\x10\x00OW\0\0\xff\xff\xff\x7f",
    b"\x28\x00\x08\x00IS\x06\x0065536 ",
];

/// Changes a file: bytes, lengths, what stands between elements, its end.
fn changed(seed: &[u8], draw: &mut Draw) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=draw.below(3) {
        let at = 132 + draw.below(bytes.len().saturating_sub(140));
        let random = draw.next() as u32;
        match draw.below(8) {
            0 | 1 => bytes[at] = draw.next() as u8,
            2 => bytes[at] ^= 1 << draw.below(8),
            3 => {
                let length = draw.of(&[0, 1, 2, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, u32::MAX, random]);
                bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
            }
            4 => bytes.truncate(at),
            5 => {
                let mark = draw.of(&MARKS);
                bytes.splice(at..at, mark.iter().copied());
            }
            6 => {
                // After the first group, where an element begins.
                let place = bytes.windows(4).position(|window| window == b"\x08\0\x05\0").unwrap_or(at);
                let deep = draw.of(&[1, 3, 17, 100, 20_000]);
                bytes.splice(place..place, nested(deep));
            }
            _ => {
                // A text of an element, such as a number.
                let length = 2 + draw.below(6);
                let end = (at + length).min(bytes.len());
                let text = draw.of(&[&b"-1e309"[..], b"0", b"NaN", b"1e-300\\", b"99999999", b"\\\\\\\\\\\\"]);
                bytes[at..end].iter_mut().zip(text).for_each(|(to, from)| *to = *from);
            }
        }
        if bytes.len() < 160 {
            break;
        }
    }
    bytes
}

fn fixtures() -> Found {
    find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"), |_| false)
}

/// Two neighbouring slices of every series, or the one file of it; and every file of labels.
fn seeds() -> Vec<Vec<Vec<u8>>> {
    let read = |path: &Path| std::fs::read(path).expect("a fixture");
    let found = fixtures();
    let mut seeds: Vec<Vec<_>> = found.series.iter().map(|series| series.files().take(2).map(read).collect()).collect();
    seeds.extend(found.annotations.iter().map(|path| vec![read(path)]));
    seeds.sort();
    seeds
}

/// The most address space that this process has ever had.
fn most_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Paints the labels of a file on every series that they are of, and on one more; how many slices were.
fn paint(path: &Path, all: &[Series]) -> u64 {
    let Ok(annotation) = Annotation::read(path) else { return 0 };
    let values: Vec<Option<u8>> = annotation.names().zip(1..).map(|(_, value)| Some(value)).collect();
    let mut painted = 0;
    for series in all.iter().enumerate().filter(|(k, series)| *k == 0 || annotation.is_of(series)).map(|(_, series)| series) {
        let Ok(mut painter) = annotation.on(series, &values) else { continue };
        let [columns, rows, slices] = series.grid().shape;
        let mut labels = vec![0; columns * rows];
        painted += (0..slices).filter(|&slice| painter.paint(slice, &mut labels).is_ok()).count() as u64;
        assert!(labels.iter().all(|&label| usize::from(label) <= values.len()));
    }
    painted
}

/// Reads every slice of every series of a folder, and all labels there on `series`; how many slices were.
fn read_all(folder: &Path, series: &[Series]) -> u64 {
    let found = find(folder, |_| false);
    let mut read = found.annotations.iter().map(|path| paint(path, series)).sum();
    for series in &found.series {
        let (mut slices, mut slice) = (series.slices().expect("it is there"), Vec::new());
        while let Ok(true) = slices.next_slice(&mut slice) {
            assert_eq!(slice.len(), series.grid().shape[0] * series.grid().shape[1]);
            assert!(slice.iter().all(|value| value.is_finite()));
            read += 1;
        }
    }
    assert!(found.bad.iter().all(|bad| !bad.found.is_empty() && !bad.remedy.is_empty()));
    read
}

/// Says which file it was when the reader panics.
struct Tried(u64);

impl Drop for Tried {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was file {} (DICOM_FUZZ_FIRST={0} begins with it)", self.0);
        }
    }
}

#[test]
fn no_changed_file_makes_the_reader_panic_or_take_much_memory_or_time() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, files) = (number("DICOM_FUZZ_FIRST").unwrap_or(0), number("DICOM_FUZZ").unwrap_or(FILES));
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder");
    let (seeds, series) = (seeds(), fixtures().series);
    assert!(seeds.len() > 10);
    let (mut read, mut slowest, mut before) = (0, (Duration::ZERO, 0), None);
    for file in first..first + files {
        let tried = Tried(file);
        let mut draw = Draw((file + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let seed = &seeds[draw.below(seeds.len())];
        for (k, bytes) in seed.iter().enumerate() {
            let bytes = if k == 0 { changed(bytes, &mut draw) } else { bytes.clone() };
            std::fs::write(folder.path().join(k.to_string()), bytes).expect("memory is writable");
        }
        (seed.len()..2).for_each(|k| _ = std::fs::remove_file(folder.path().join(k.to_string())));
        let begun = Instant::now();
        read += read_all(folder.path(), &series);
        let time = begun.elapsed();
        assert!(time < MOST_TIME, "{time:?}");
        slowest = slowest.max((time, file));
        // The first file starts the threads.
        let (most, before) = (most_kib(), *before.get_or_insert_with(most_kib));
        assert!(most - before < MOST_KIB, "{} MiB", (most - before) >> 10);
        drop(tried);
    }
    eprintln!("{files} files, {read} slices; the slowest was {} with {:?}; {} MiB", slowest.1, slowest.0, most_kib() >> 10);
    if files >= 1000 {
        assert!(read > files / 5, "the changes are too harsh: {read} slices of {files} files");
    }
}

#[test]
fn a_folder_of_very_many_files_is_refused_before_they_are_opened() {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder");
    (0..=200_000).for_each(|k| _ = std::fs::File::create(folder.path().join(k.to_string())).expect("memory is writable"));
    let found = find(folder.path(), |_| false);
    assert!(found.series.is_empty() && found.others.is_empty());
    assert!(
        found.bad[0].to_string().contains("more than 200000 files; expected a folder of scans; name a folder within it"),
        "{:?}",
        found.bad
    );
}
