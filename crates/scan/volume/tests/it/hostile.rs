//! Files that are broken by accident or on purpose end in an error that says what is wrong, never in a panic.

use std::io::Write as _;
use std::path::PathBuf;

use volume::nifti::{self, Problem};

use crate::data::fixture;

/// Bytes in a file of their own.
struct File {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

fn file(bytes: &[u8]) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.nii.gz");
    std::fs::write(&path, bytes).unwrap();
    File { path, _folder: folder }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A valid file of 4 x 3 x 2 voxels of 16 bits, changed.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = std::fs::read(fixture("nifti/half_turn.nii")).unwrap();
    change(&mut bytes);
    bytes
}

fn put(at: usize, field: &[u8]) -> Vec<u8> {
    changed(|bytes| bytes[at..at + field.len()].copy_from_slice(field))
}

fn dims(dims: [i16; 8]) -> Vec<u8> {
    put(40, &dims.map(i16::to_le_bytes).concat())
}

/// The problem found when the bytes are read as they are and packed, and by each reader.
fn problem(bytes: &[u8]) -> Problem {
    let plain = file(bytes);
    let packed = file(&gzip(bytes));
    let problem = nifti::read_scalar(&plain.path).unwrap_err();
    assert!(problem.to_string().starts_with(plain.path.to_str().unwrap()), "{problem}");
    nifti::read_scalar(&packed.path).unwrap_err();
    nifti::read_labels(&packed.path).unwrap_err();
    problem.problem
}

macro_rules! assert_problem {
    ($bytes:expr, $pattern:pat) => {
        let found = problem(&$bytes);
        assert!(matches!(found, $pattern), "{found}");
    };
}

#[test]
fn what_is_no_nifti_1_file_is_told_apart() {
    assert_problem!([], Problem::ShortHeader { found: 0 });
    assert_problem!(*b"PK\x03\x04", Problem::ShortHeader { found: 4 });
    assert_problem!([7; 4000], Problem::NotNifti { found: [7, 7, 7, 7] });
    assert_problem!(put(0, &540i32.to_le_bytes()), Problem::Nifti2);
    assert_problem!(put(0, &540i32.to_be_bytes()), Problem::Nifti2);
    assert_problem!(put(344, b"ni1\0"), Problem::Detached { .. });
    assert_problem!(put(344, &[0; 4]), Problem::Magic { .. });
}

#[test]
fn dimensions_that_lie_are_refused() {
    assert_problem!(dims([0, 4, 3, 2, 1, 1, 1, 1]), Problem::Dimensions { .. });
    assert_problem!(dims([-3, 4, 3, 2, 1, 1, 1, 1]), Problem::Dimensions { .. });
    assert_problem!(dims([8, 4, 3, 2, 1, 1, 1, 1]), Problem::Dimensions { .. });
    assert_problem!(dims([3, 4, 0, 2, 1, 1, 1, 1]), Problem::Dimensions { .. });
    assert_problem!(dims([3, 4, -3, 2, 1, 1, 1, 1]), Problem::Dimensions { .. });
    assert_problem!(dims([4, 4, 3, 2, -1, 1, 1, 1]), Problem::Dimensions { .. });
    assert_problem!(dims([4, 4, 3, 1, 2, 1, 1, 1]), Problem::Series { .. });
    assert_problem!(dims([5, 4, 3, 1, 1, 3, 1, 1]), Problem::Series { .. });
    assert_problem!(dims([3, i16::MAX, i16::MAX, i16::MAX, 1, 1, 1, 1]), Problem::TooLarge { .. });
    assert_problem!(dims([3, 400, 300, 200, 1, 1, 1, 1]), Problem::Truncated { found: 48, .. });
}

/// The byte order follows from the size of the header, and not from the dimensions, which may be any number.
#[test]
fn impossible_dimensions_are_shown_in_the_byte_order_of_their_file() {
    for bytes in [changed(|_| ()), std::fs::read(fixture("nifti/big_i2.nii")).unwrap()] {
        let is_big = bytes[0] == 0;
        let order = |n: i16| if is_big { n.to_be_bytes() } else { n.to_le_bytes() };
        let sides: [i16; 3] = std::array::from_fn(|axis| {
            let at = 42 + 2 * axis;
            let side = [bytes[at], bytes[at + 1]];
            if is_big { i16::from_be_bytes(side) } else { i16::from_le_bytes(side) }
        });
        for rank in [0, 8, 255, 256, 512, 1792, 2048, -1, -256, i16::MIN, i16::MAX] {
            let mut bytes = bytes.clone();
            bytes[40..42].copy_from_slice(&order(rank));
            match problem(&bytes) {
                Problem::Dimensions { dim } => assert_eq!((dim[0], &dim[1..4]), (rank, &sides[..]), "big-endian: {is_big}"),
                other => panic!("{rank}, big-endian: {is_big}: {other}"),
            }
        }
    }
}

#[test]
fn a_compressed_header_cannot_claim_more_than_its_file_can_hold() {
    let packed = file(&gzip(&dims([3, 1000, 1000, 1000, 1, 1, 1, 1])));
    for problem in [nifti::read_header(&packed.path).map(drop), nifti::read_labels(&packed.path).map(drop)] {
        let problem = problem.unwrap_err();
        assert!(matches!(problem.problem, Problem::DeclaresTooMuch { declared: 2_000_000_352, .. }), "{problem}");
    }
}

#[test]
fn voxels_after_the_declared_ones_are_not_unpacked_into_memory() {
    // A gzip bomb: 64 MiB of zeros behind a header for 24 voxels.
    let packed = file(&gzip(&changed(|bytes| bytes.resize(64 << 20, 0))));
    let (volume, _) = nifti::read_scalar(&packed.path).unwrap();
    assert_eq!(volume.data.len(), 24);
}

#[test]
fn truncated_files_say_how_much_is_there() {
    let whole = changed(|_| ());
    assert_problem!(whole[..whole.len() - 1], Problem::Truncated { found: 47, expected: 48 });
    assert_problem!(whole[..100], Problem::ShortHeader { found: 100 });

    let noise: Vec<u8> = (0..60_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut large = dims([3, 100, 100, 3, 1, 1, 1, 1]);
    large.truncate(352);
    large.extend(noise);
    let packed = gzip(&large);
    assert!(nifti::read_scalar(&file(&packed).path).is_ok());
    let found = nifti::read_scalar(&file(&packed[..packed.len() / 2]).path).unwrap_err();
    assert!(matches!(found.problem, Problem::Truncated { expected: 60_000, .. }), "{found}");
    // All voxels are there, but the checksum is not.
    let found = nifti::read_scalar(&file(&packed[..packed.len() - 3]).path).unwrap_err();
    assert!(matches!(found.problem, Problem::CorruptGzip { .. }), "{found}");
    let mut flipped = packed.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    let found = nifti::read_scalar(&file(&flipped).path).unwrap_err();
    assert!(matches!(found.problem, Problem::CorruptGzip { .. }), "{found}");
}

#[test]
fn voxel_types_that_are_no_numbers_are_named() {
    for (code, name) in [(128, "RGB"), (2304, "RGBA"), (32, "complex"), (1, "one bit"), (77, "unknown")] {
        let found = problem(&put(70, &i16::to_le_bytes(code))).to_string();
        assert!(found.contains(name) && found.contains(&code.to_string()), "{found}");
    }
}

#[test]
fn impossible_affines_scalings_and_offsets_are_refused() {
    let sform = |value: f32| {
        changed(|bytes| {
            bytes[254] = 1;
            for i in 0..12 {
                bytes[280 + 4 * i..284 + 4 * i].copy_from_slice(&value.to_le_bytes());
            }
        })
    };
    for value in [0.0, f32::NAN, f32::INFINITY, 1.0, 1e30] {
        assert_problem!(sform(value), Problem::Affine(_));
    }
    assert_problem!(put(80, &0f32.to_le_bytes()), Problem::Affine(_));
    assert_problem!(put(84, &(-1f32).to_le_bytes()), Problem::VoxelSizes { .. });
    assert_problem!(put(256, &0.9f32.to_le_bytes().repeat(3)), Problem::Quaternion { .. });
    assert_problem!(put(112, &[1f32.to_le_bytes(), f32::NAN.to_le_bytes()].concat()), Problem::Scaling { .. });
    for offset in [-1.0, 12.0, 352.5, f32::NAN, f32::INFINITY, 1e20] {
        assert_problem!(put(108, &f32::to_le_bytes(offset)), Problem::Offset { .. });
    }
}

#[test]
fn voxels_that_are_no_numbers_are_counted_and_located() {
    let mut bytes = std::fs::read(fixture("nifti/type_f4.nii")).unwrap();
    for (voxel, value) in [(5, f32::NAN), (17, f32::NEG_INFINITY)] {
        bytes[352 + 4 * voxel..356 + 4 * voxel].copy_from_slice(&value.to_le_bytes());
    }
    // The shape is 3 x 4 x 2.
    assert_problem!(bytes, Problem::Unusable { count: 2, first: [2, 1, 0], .. });
}

#[test]
fn values_beyond_what_interpolation_bears_are_refused_as_nan_is() {
    for value in [f32::MAX, f32::MIN, 1e11] {
        let mut bytes = std::fs::read(fixture("nifti/type_f4.nii")).unwrap();
        bytes[352 + 4 * 5..356 + 4 * 5].copy_from_slice(&value.to_le_bytes());
        assert_problem!(bytes, Problem::Unusable { count: 1, first: [2, 1, 0], .. });
    }
    for value in [1e300, -f64::from(f32::MAX)] {
        let mut bytes = std::fs::read(fixture("nifti/type_f8.nii")).unwrap();
        bytes[352 + 8 * 5..360 + 8 * 5].copy_from_slice(&value.to_le_bytes());
        assert_problem!(bytes, Problem::Unusable { count: 1, first: [2, 1, 0], .. });
    }
    let mut stretched = std::fs::read(fixture("nifti/type_i2.nii")).unwrap();
    stretched[112..116].copy_from_slice(&1e30f32.to_le_bytes());
    let found = problem(&stretched).to_string();
    assert!(found.contains("±1e10") && found.contains("expected HU"), "{found}");
}

#[test]
fn more_voxels_than_are_held_at_a_time_are_refused_before_they_are_unpacked() {
    // 1000 slices of 1024 x 1024 zeros, a megabyte packed.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&dims([3, 1024, 1024, 1000, 1, 1, 1, 1])[..352]).unwrap();
    let zeros = vec![0; 2 << 20];
    (0..1000).for_each(|_| encoder.write_all(&zeros).unwrap());
    let bomb = file(&encoder.finish().unwrap());
    for found in [nifti::read_labels(&bomb.path).map(drop), nifti::read_scalar(&bomb.path).map(drop)] {
        assert!(matches!(found.as_ref().unwrap_err().problem, Problem::TooManyToHold { voxels: 1_048_576_000, .. }), "{found:?}");
    }
}

#[test]
fn what_the_reference_tools_read_is_read() {
    let expected = nifti::read_scalar(fixture("nifti/half_turn.nii")).unwrap().0;
    let read = |bytes: &[u8]| nifti::read_scalar(&file(bytes).path).map(|(volume, _)| volume).map_err(|error| error.to_string());
    let whole = changed(|_| ());
    let packed = gzip(&whole);
    for after in [&[0; 512][..], &[0; 600_000], b"\n", b"\r\n", b"end"] {
        assert_eq!(read(&[&packed, after].concat()).as_ref(), Ok(&expected), "{} bytes after the stream", after.len());
    }
    let members: Vec<u8> = whole.chunks(100).flat_map(gzip).collect();
    assert_eq!(read(&members).as_ref(), Ok(&expected), "several members");
    for dim in [[4, 4, 3, 2, 0, 0, 0, 0], [7, 4, 3, 2, 0, 0, 0, 0], [5, 4, 3, 2, 1, 0, 1, 1], [3, 4, 3, 2, 0, 0, 0, 0]] {
        assert_eq!(read(&dims(dim)).as_ref(), Ok(&expected), "{dim:?}");
    }
}

#[test]
fn a_quaternion_that_is_too_long_by_rounding_is_half_a_turn() {
    // Half a turn about z, as LPS scans have it.
    let turned = |d: f32| {
        changed(|bytes| {
            bytes[252..256].copy_from_slice(&[1, 0, 0, 0]);
            bytes[256..268].copy_from_slice(&[0.0, 0.0, d].map(f32::to_le_bytes).concat());
        })
    };
    let affine = |d: f32| nifti::read_header(&file(&turned(d)).path).map(|header| header.grid().affine.linear());
    let expected = affine(1.0).unwrap();
    for square in [1.0 + 3.0e-7, 1.0 + 1.0e-6, 1.0 + 1.0e-5, 1.0 + 5.0e-4f64] {
        let found = affine(square.sqrt() as f32).unwrap();
        assert!(found.as_flattened().iter().zip(expected.as_flattened()).all(|(a, b)| (a - b).abs() < 1e-12), "{square}: {found:?}");
        // nibabel refuses a label map with such a quaternion.
        let image = file(&turned(square.sqrt() as f32));
        let header = nifti::read_header(&image.path).unwrap();
        let labels = image.path.with_file_name("labels.nii");
        nifti::write_labels(&labels, &volume::LabelVolume::filled(&header.grid(), 1), &header).unwrap();
        let written = std::fs::read(&labels).unwrap();
        let d = f64::from(f32::from_le_bytes(written[264..268].try_into().unwrap()));
        assert!(d * d - 1.0 <= 3.0 * f64::from(f32::EPSILON), "{square}: {d}");
    }
    assert_problem!(turned(1.01), Problem::Quaternion { .. });
}

#[test]
fn a_missing_file_and_a_folder_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("missing.nii.gz"), folder.path().to_owned()] {
        let error = nifti::read_scalar(&path).unwrap_err();
        assert!(matches!(error.problem, Problem::Io { doing: "open the file", .. }), "{error}");
    }
}

/// xorshift64*: changes need not be good random numbers, only the same in every run.
fn next(state: &mut u64) -> usize {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize
}

#[test]
fn no_change_of_bytes_makes_a_reader_panic_or_take_more_memory_than_the_file_could_fill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.nii.gz");
    let seeds: Vec<Vec<u8>> = ["half_turn.nii", "type_f4.nii", "big_i2.nii", "qform.nii.gz", "extension.nii.gz"]
        .iter()
        .map(|name| std::fs::read(fixture("nifti").join(name)).unwrap())
        .collect();
    let mut state = 20_230_923;
    let (mut read, mut refused) = (0, 0);
    for round in 0..4000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=next(&mut state) % 4 {
            let at = next(&mut state) % bytes.len();
            bytes[at] = next(&mut state) as u8;
        }
        if round % 3 == 0 {
            bytes.truncate(next(&mut state) % (bytes.len() + 1));
        }
        // Half of the uncompressed ones are changed inside of a sound gzip stream.
        if round % 2 == 0 && !bytes.starts_with(&[0x1f, 0x8b]) {
            bytes = gzip(&bytes);
        }
        std::fs::write(&path, &bytes).unwrap();
        let _ = nifti::read_labels(&path);
        match nifti::read_scalar(&path) {
            Ok((volume, header)) => {
                assert!(volume.data.len() <= 1032 * bytes.len());
                assert!(volume.data.iter().all(|v| v.is_finite()) && header.grid().affine.check().is_ok());
                read += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    assert!(read > 300 && refused > 300, "the changes are too mild or too harsh: {read} read, {refused} refused");
}
