//! Which files are read and written, and what hostile ones do.

use std::path::Path;
use std::process::Command;
use volume::nifti;

use crate::bench::{Bench, must_succeed, said};

/// Files that are no scans, and what is said of each.
fn hostile(scans: &Path) -> Vec<(&'static str, &'static str)> {
    let good = scans.join("good_0000.nii.gz");
    let bytes = std::fs::read(&good).unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(scans.join(format!("{name}_0000.nii.gz")), bytes).unwrap();
    let plain = {
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut plain).unwrap();
        plain
    };
    let changed = |at: usize, field: &[u8]| {
        let mut plain = plain.clone();
        plain[at..at + field.len()].copy_from_slice(field);
        plain
    };
    let dims = |dims: [i16; 8]| changed(40, &dims.map(i16::to_le_bytes).concat());
    put("truncated", &bytes[..bytes.len() / 2]);
    put("corrupted", &{
        let mut bytes = bytes.clone();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 64].fill(0xa5);
        bytes
    });
    put("text", b"this is not a scan");
    put("empty", b"");
    put("lying", &dims([3, 640, 600, 90, 1, 1, 1, 1]));
    put("huge", &dims([3, 32767, 32767, 32767, 1, 1, 1, 1]));
    put("four", &dims([4, 8, 8, 4, 5, 1, 1, 1]));
    put("rgb", &changed(70, &128i16.to_le_bytes()));
    put("nan_affine", &changed(280, &f32::NAN.to_le_bytes()));
    put("zero_spacing", &changed(280, &[0; 48]));
    put("air", &{
        let mut plain = plain.clone();
        plain[352..].chunks_exact_mut(2).for_each(|voxel| voxel.copy_from_slice(&(-1000i16).to_le_bytes()));
        plain
    });
    // A bomb: 200 million bytes of air in a thousandth of that, and a header that says so.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut bomb, &dims([3, 500, 500, 400, 1, 1, 1, 1])[..352]).unwrap();
    let air = (-1000i16).to_le_bytes().repeat(1 << 20);
    std::io::copy(&mut std::io::Read::take(air.repeat(96).as_slice(), 200_000_000), &mut bomb).unwrap();
    put("bomb", &bomb.finish().unwrap());
    std::fs::create_dir(scans.join("folder_0000.nii.gz")).unwrap();
    vec![
        ("truncated", "truncated"),
        ("corrupted", "damaged"),
        ("text", "too few for a NIfTI header"),
        ("empty", "too few for a NIfTI header"),
        ("lying", "truncated"),
        ("huge", "more than the"),
        ("four", "more than one volume"),
        ("rgb", "RGB"),
        ("nan_affine", "affine"),
        ("zero_spacing", "affine"),
        ("air", "expected a body"),
        ("bomb", "expected a body"),
        ("folder", "directory"),
    ]
}

#[test]
fn hostile_files_are_named_and_the_others_go_on() {
    let bench = Bench::new();
    bench.scan("good", [40, 36, 7], "LPS");
    bench.scan("one_slice", [40, 36, 1], "LPS");
    let expected = hostile(&bench.path("scans"));
    let output = bench.predict("out", &["--journal"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for (case, reason) in expected {
        let line =
            said.lines().rfind(|line| line.contains(&format!("case {case}: "))).unwrap_or_else(|| panic!("no word of {case}: {said}"));
        assert!(line.contains(reason) && line.contains(&format!("{case}_0000.nii.gz")), "{line}");
        assert!(!line.contains("internal error"), "{line}");
        assert!(!bench.path(&format!("out/{case}.nii.gz")).exists());
    }
    let there: Vec<_> =
        ["good", "one_slice", "bomb"].into_iter().filter(|case| bench.path(&format!("out/{case}.nii.gz")).exists()).collect();
    assert!(there.starts_with(&["good", "one_slice"]), "{there:?}");
    let left: Vec<_> = std::fs::read_dir(bench.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

#[test]
fn one_scan_of_any_name_gets_the_label_map_that_is_asked_for() {
    let bench = Bench::new();
    bench.scan("a", [40, 36, 7], "LPS");
    must_succeed(&bench.predict("out", &[]));
    let expected = std::fs::read(bench.path("out/a.nii.gz")).unwrap();
    std::fs::rename(bench.path("scans/a_0000.nii.gz"), bench.path("scan.nii.gz")).unwrap();
    let run = |scan: &str, output: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_predict"));
        command.args([scan, output, "--model", "model.safetensors"]).args(more).current_dir(bench.folder.path()).output().unwrap()
    };
    let more = ["--preview", "--journal"];
    must_succeed(&run("scan.nii.gz", "new/folder/x.nii.gz", &more));
    assert_eq!(std::fs::read(bench.path("new/folder/x.nii.gz")).unwrap(), expected);
    let mut there: Vec<_> = std::fs::read_dir(bench.path("new/folder")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    there.sort();
    assert_eq!(there, ["journal.jsonl", "x.nii.gz", "x.png"]);
    assert!(std::fs::read_to_string(bench.path("new/folder/journal.jsonl")).unwrap().contains(r#""labels":"x.nii.gz""#));
    assert!(said(&run("scan.nii.gz", "new/folder/x.nii.gz", &more)).contains("1 of 1 cases were there already"), "again");
    must_succeed(&run("scan.nii.gz", "x.nii", &[]));
    assert_eq!(
        nifti::read_labels(bench.path("x.nii")).unwrap().0.data,
        bench.labels("out", "a").data,
        "plain, in the folder that one is in"
    );

    bench.scan("b", [40, 36, 7], "LPS");
    bench.scan("c", [40, 36, 7], "LPS");
    let refused = run("scans", "new/y.nii.gz", &[]);
    assert!(!refused.status.success() && said(&refused).contains("name a folder for label maps") && !bench.path("new/y.nii.gz").exists());
    let scan = std::fs::read(bench.path("scan.nii.gz")).unwrap();
    for itself in ["scan.nii.gz", "./scan.nii.gz", "new/../scan.nii.gz"] {
        let onto_itself = run("scan.nii.gz", itself, &[]);
        assert!(!onto_itself.status.success() && said(&onto_itself).contains("is an input"), "{}", said(&onto_itself));
        assert_eq!(std::fs::read(bench.path("scan.nii.gz")).unwrap(), scan);
    }
    must_succeed(&run("scan.nii.gz", "x.seg.nrrd", &[]));
    let contradiction = run("scan.nii.gz", "y.mha", &["--format", "nrrd"]);
    assert!(said(&contradiction).contains("y.mha is a file in the format mha, and nrrd is asked for"), "{}", said(&contradiction));
}

#[test]
fn a_label_map_counts_as_done_only_if_it_is_what_was_asked_for() {
    let bench = Bench::new();
    bench.scan("a", [40, 36, 7], "LPS");
    bench.scan("b", [36, 40, 6], "RAS");
    let bytes = |output: &str| ["a", "b"].map(|case| std::fs::read(bench.path(&format!("{output}/{case}.nii.gz"))).unwrap());
    // What `predict` leaves in a folder with other results is what it leaves in an empty one.
    let mut runs = 0;
    let mut asked = |more: &[&str], there: &str| {
        let over = bench.predict("out", more);
        must_succeed(&over);
        assert!(said(&over).contains(there), "{}", said(&over));
        runs += 1;
        let fresh = format!("fresh{runs}");
        must_succeed(&bench.predict(&fresh, more));
        assert_eq!(bytes("out"), bytes(&fresh));
        assert_eq!(std::fs::read_dir(bench.path("out")).unwrap().count(), 2, "label maps and nothing else");
    };
    asked(&[], "");
    asked(&[], "2 of 2 cases were there already, made from the same inputs and parameters");
    asked(&["--flips"], "2 of 2 cases are made anew");
    bench.model("model", 4, None, Some([32, 32]));
    asked(&["--flips"], "2 of 2 cases are made anew");
    let other = bench.model("other", 5, None, Some([32, 32]));
    asked(&["--flips", "--model", other.to_str().unwrap()], "2 of 2 cases are made anew");
    asked(&[], "2 of 2 cases are made anew");
    bench.scan("a", [40, 36, 8], "LPS");
    asked(
        &[],
        "1 of 2 cases are made anew, because what was there was made from something else, is not all there, or has changed since: a",
    );
    let whole = std::fs::read(bench.path("out/b.nii.gz")).unwrap();
    for damaged in [&whole[..0], &whole[..whole.len() / 2], &bytes("out")[0][..]] {
        std::fs::write(bench.path("out/b.nii.gz"), damaged).unwrap();
        asked(&[], "1 of 2 cases were there already");
    }
}

#[test]
fn no_scan_is_overwritten_where_label_maps_go_to_the_folder_of_the_scans() {
    let bench = Bench::new();
    bench.scan("a", [40, 36, 7], "LPS");
    bench.scan("a_0000", [40, 36, 7], "LPS");
    let scan = std::fs::read(bench.path("scans/a_0000.nii.gz")).unwrap();
    let output = bench.predict("scans", &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("case a_0000: its output") && said.contains("a_0000.nii.gz is an input of case a;"), "{said}");
    assert_eq!(std::fs::read(bench.path("scans/a_0000.nii.gz")).unwrap(), scan);
    assert_eq!(bench.labels("scans", "a").grid().shape, [40, 36, 7]);
}

#[test]
fn files_that_a_killed_run_had_not_finished_are_removed() {
    let bench = Bench::new();
    bench.scan("a", [64, 64, 700], "LPS");
    let unfinished = || {
        let entries = std::fs::read_dir(bench.path("out")).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count()
    };
    let end_amid_work = |signal: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_predict"));
        command.arg(bench.path("scans")).arg(bench.path("out")).arg("--model").arg(bench.path("model.safetensors"));
        let mut child = command.args(["--progress", "lines", "--threads", "1"]).spawn().unwrap();
        while unfinished() == 0 {
            assert!(child.try_wait().unwrap().is_none(), "it ends before it can be ended");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        assert!(!child.wait().unwrap().success());
    };
    end_amid_work("-TERM");
    assert_eq!(unfinished(), 0, "asked to end, it removes its own");
    end_amid_work("-KILL");
    assert_eq!(unfinished(), 1);
    must_succeed(&bench.predict("out", &[]));
    let left: Vec<_> = std::fs::read_dir(bench.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["a.nii.gz"]);
}

#[test]
fn a_name_that_steers_a_terminal_is_shown_harmlessly() {
    let bench = Bench::new();
    std::fs::write(bench.path("scans/x\u{1b}[2J\r\u{202e}_0000.nii.gz"), "no scan").unwrap();
    let said = said(&bench.predict("out", &[]));
    assert!(said.contains(r"x\u{1b}[2J\r\u{202e}"), "{said}");
    assert!(!said.contains(['\u{1b}', '\r', '\u{202e}']), "{said:?}");
}

#[test]
fn files_of_any_name_are_scans_and_what_belongs_to_others_is_passed_over() {
    let bench = Bench::new();
    bench.scan("a", [40, 36, 7], "LPS");
    let scan = bench.path("scans/a_0000.nii.gz");
    for name in ["other.nii.gz", "patient_2019.nii.gz", "patient_2020.nii.gz", "a_0001.nii.gz", "a.nii.gz"] {
        std::fs::copy(&scan, bench.path(&format!("scans/{name}"))).unwrap();
    }
    std::fs::write(bench.path("scans/a.seg.nrrd"), "a segmentation").unwrap();
    let output = bench.predict("out", &[]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let mut left: Vec<_> =
        std::fs::read_dir(bench.path("out")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["a.nii.gz", "other.nii.gz", "patient_2019.nii.gz", "patient_2020.nii.gz"]);
    assert!(text.contains("case a_0001: ") && text.contains("another channel of a; expected one CT a case"), "{text}");
    assert!(text.contains("passes over 2 other entries, which cannot be a scan: a.nii.gz, a.seg.nrrd"), "{text}");
    let alone = Command::new(env!("CARGO_BIN_EXE_predict"))
        .args([bench.path("scans/other.nii.gz"), bench.path("one")])
        .arg("--model")
        .arg(bench.path("model.safetensors"))
        .output()
        .unwrap();
    must_succeed(&alone);
    assert!(bench.path("one/other.nii.gz").exists());
}
