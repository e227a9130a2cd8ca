//! Files of `torch.save` (made by `fixtures/make.py`), and what is none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pth::Tensor;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.pth"))
}

fn tensor(shape: &[usize], values: impl Iterator<Item = f32>) -> Tensor {
    Tensor { shape: shape.to_vec(), values: values.collect() }
}

fn expected() -> BTreeMap<String, Tensor> {
    let a = tensor(&[2, 3, 4], (0..24).map(|i| i as f32 / 8.0 - 1.0));
    [("a".to_owned(), a), ("b".to_owned(), tensor(&[2], [1.5, -2.25].into_iter()))].into()
}

#[test]
fn every_layout_gives_the_tensors_that_pytorch_gives() {
    for name in ["plain", "old", "strided", "views", "f64", "f16", "bf16", "parameters"] {
        assert_eq!(pth::read(&fixture(name)).unwrap(), expected(), "{name}");
    }
    assert_eq!(pth::read(&fixture("expanded")).unwrap()["a"], tensor(&[2, 3, 4], std::iter::repeat_n(-1.0, 24)));
    let whole = |value: f32| value.trunc();
    assert_eq!(pth::read(&fixture("i64")).unwrap()["b"], tensor(&[2], [1.5, -2.25].into_iter().map(whole)));
    assert_eq!(pth::read(&fixture("bool")).unwrap()["b"].values, [1.0, 1.0]);
}

#[test]
fn what_is_no_state_dict_is_told_apart() {
    for (name, part) in [
        ("nested", "checkpoint with the entries epoch, optimizer, state_dict; expected a state dict alone, which is under `state_dict`"),
        ("module", "a whole module (torch.nn.modules.container.Sequential); expected its state dict"),
        ("number", "`step` is an int; expected nothing but tensors"),
        ("list", "the file holds a list"),
        ("pickle", "a pickle that torch.save did not write"),
        ("absent", "cannot read the file"),
    ] {
        let error = pth::read(&fixture(name)).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains(&format!("{name}.pth: ")), "{name}: {error}");
    }
}

#[test]
fn a_state_dict_within_a_checkpoint_is_found_under_its_name() {
    let saved = pth::Saved::read(&fixture("nested")).unwrap();
    assert_eq!(saved.tensors(&["model", "state_dict"], |_| true).unwrap(), expected());
    assert_eq!(saved.tensors(&["state_dict"], |name| name == "b").unwrap().into_keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(saved.names(&["state_dict"]).unwrap(), ["a", "b"]);
    assert!(saved.tensors(&["epoch"], |_| true).unwrap_err().to_string().contains("which is under `state_dict`"));
    assert_eq!(saved.text(&["state_dict", "a"]).unwrap(), None);
    let bare = pth::Saved::read(&fixture("plain")).unwrap();
    assert_eq!(bare.tensors(&["state_dict"], |_| true).unwrap(), expected());
}

/// A pickle in the place of the one in an archive of `torch.save`, stored without packing.
fn refused(pickle: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.pth");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    zip.start_file("w/data.pkl", zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored)).unwrap();
    std::io::Write::write_all(&mut zip, pickle).unwrap();
    zip.finish().unwrap();
    let begun = Instant::now();
    let error = pth::read(&path).unwrap_err().to_string();
    assert!(begun.elapsed() < Duration::from_secs(5), "{error}");
    error
}

#[test]
fn bombs_end_in_a_message() {
    let deep: Vec<u8> = [&[0x80, 2][..], b")", &[0x85].repeat(1_000_000), b"."].concat();
    assert!(refused(&deep).contains("the file holds a tuple"));
    // Each line makes a tuple of twice the one before: 2^64 objects, if they were written out.
    let doubled: Vec<u8> = [&[0x80, 2, b')'][..], &[b'2', 0x86].repeat(64), b"."].concat();
    assert!(refused(&doubled).contains("the file holds a tuple"));
    let list_in_itself = b"\x80\x02]q\x00h\x00a.";
    assert!(refused(list_in_itself).contains("the file holds a list"));
    assert!(refused(&[0x80, 2, b'X', 255, 255, 255, 127]).contains("it ends too soon"));
    assert!(refused(&[0x80, 2, b'(']).contains("it ends too soon"));
    assert!(refused(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.").contains("a whole module (os.system)"), "nothing is executed");
    let huge = b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86K\x00K\x00\x86\x89}tRs.";
    let error = refused(huge);
    assert!(error.contains("its storage 0 is not in the file") || error.contains("larger than any weights"), "{error}");
}

/// A generator of its own, so that every machine tries the same.
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 16) as usize
}

#[test]
fn changed_files_are_read_or_refused_and_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.pth");
    let mut state = 2023;
    for name in ["plain", "old", "strided", "nested", "module", "parameters"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        for _ in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random(&mut state) % 4 {
                // Most of what matters stands at the beginning.
                let at = random(&mut state) % if random(&mut state).is_multiple_of(2) { bytes.len() } else { bytes.len().min(600) };
                bytes[at] = random(&mut state) as u8;
            }
            if random(&mut state).is_multiple_of(8) {
                bytes.truncate(random(&mut state) % whole.len());
            }
            std::fs::write(&path, &bytes).unwrap();
            let begun = Instant::now();
            let _ = pth::read(&path);
            assert!(begun.elapsed() < Duration::from_secs(5), "{name}");
        }
    }
}
