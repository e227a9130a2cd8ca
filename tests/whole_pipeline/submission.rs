//! The image of the final student, and what its cases cost.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::docker::Docker;
use crate::lab::{Lab, outcome};
use crate::partial::{LABELLED, nodes};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../..");
const ARCHIVE: &str = "flare-test.tar.gz";

/// The program `predict`, built as this one was.
fn predict() -> PathBuf {
    let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    // With the features of the whole workspace, so that nothing else has to be built anew.
    cargo.args(["build", "--quiet", "--workspace", "--bin", "predict", "--target-dir"]).arg(folder.parent().unwrap());
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    outcome({
        cargo.current_dir(ROOT);
        cargo
    })
    .must_succeed();
    folder.join("predict")
}

/// A lab that packs and measures a program of its own.
fn lab() -> Lab {
    let nodes = "
  submission: {stage: submission, inputs: {recipe: data.recipe, program: data.program, model: model}, params: {team: flare-test}}
  efficiency: {stage: measure, inputs: {images: data.test_images, program: data.program, model: model}}\n";
    let lab = Lab::new(&format!("data: {{program: predict, recipe: {ROOT}/docker}}\nnodes:{nodes}"));
    fs::copy(predict(), lab.path("predict")).unwrap();
    lab
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_submission_is_the_same_bytes_each_time_and_the_report_has_what_it_costs() {
    let lab = lab();
    lab.run(&["submission", "efficiency"]).must_succeed();
    let archive = fs::read(lab.result("submission").join(ARCHIVE)).unwrap();
    let manifest = json(&lab.result("submission/manifest.json"));
    assert_eq!((&manifest["image"], &manifest["base"]), (&"flare-test:latest".into(), &"scratch".into()));
    assert_eq!(manifest["archive"]["size"], archive.len());
    assert!(archive.len() < 20 << 20, "a submission of {} bytes", archive.len());
    assert_eq!(lab.run(&["submission", "--force"]).must_succeed().ran(), ["submission"]);
    assert!(fs::read(lab.result("submission").join(ARCHIVE)).unwrap() == archive);

    let figures = json(&lab.result("efficiency/efficiency.json"));
    let cases = figures["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let (name, seconds) = (case["case"].as_str().unwrap(), case["seconds"].as_f64().unwrap());
        let (ram, area) = (case["ram"]["max_mb"].as_f64().unwrap(), case["ram"]["area_mb_s"].as_f64().unwrap());
        // A tiny patient is labelled before the second sample, so that the first, of a program that starts, may be all.
        assert!(case["ended"] == "labelled" && ram > 0.0 && area <= (ram * (seconds + 0.1)).round(), "{case}");
        assert!(lab.result("efficiency/curves").join(format!("{name}.svg")).is_file());
        assert!(lab.result("efficiency/labels").join(format!("{name}.nii.gz")).is_file());
    }
    lab.run(&["scores"]).must_succeed();
    lab.call(&["report", "-o", "page.html"]).must_succeed();
    let page = fs::read_to_string(lab.path("page.html")).unwrap();
    assert!(page.contains("Table 7. Efficiency <small>efficiency</small>") && !page.contains("not measured"));

    // Bytes after its end are nothing to a program, but make it another one.
    let mut program = fs::read(lab.path("predict")).unwrap();
    program.push(0);
    fs::write(lab.path("predict"), program).unwrap();
    assert_eq!(lab.run(&["submission", "efficiency"]).must_succeed().ran(), ["efficiency", "submission"]);
    assert!(fs::read(lab.result("submission").join(ARCHIVE)).unwrap() != archive);
}

#[test]
fn a_model_of_partial_labels_is_packed_measured_and_joined_like_any_other() {
    let method = "conditional: {network: {residual: {features: [4, 4, 4, 8], blocks: [1, 1, 1, 1, 1], groups: 2}}, told: decoder}";
    let lab = lab();
    lab.write_pipeline(
        "lab.yaml",
        &format!(
            "data: {{program: predict, recipe: {ROOT}/docker}}\nnodes:{LABELLED}{}
  submission: {{stage: submission, inputs: {{recipe: data.recipe, program: data.program, model: partial}}, params: {{team: flare-test}}}}
  efficiency: {{stage: measure, inputs: {{images: data.test_images, program: data.program, model: partial}}}}\n",
            nodes("partial", method, 1)
        ),
    );
    lab.run(&["submission", "efficiency", "partial_overlay"]).must_succeed();
    assert!(lab.result("submission").join(ARCHIVE).is_file());
    let figures = json(&lab.result("efficiency/efficiency.json"));
    assert!(figures["cases"].as_array().unwrap().iter().all(|case| case["ended"] == "labelled"), "{figures}");
    // Two of the same model have the labels of one, and mirrored looks are taken.
    let inputs =
        [("images", lab.result("phantom/FLARE/validation")), ("model", lab.result("partial")), ("also.again", lab.result("partial"))];
    let inputs = inputs.map(|(role, path)| format!("{role}={}", path.display()));
    let predict = |roles: usize, output: &str, more: &[&str]| {
        let mut arguments = vec!["stage", "predict", "--output", output];
        inputs[..roles].iter().for_each(|input| arguments.extend(["--input", input]));
        lab.call(&[&arguments[..], more].concat()).must_succeed();
        lab.files(output)
    };
    let maps = |files: std::collections::BTreeMap<PathBuf, Vec<u8>>| -> Vec<Vec<u8>> {
        files.into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "gz")).map(|(_, bytes)| bytes).collect()
    };
    let one = maps(predict(2, "one", &[]));
    assert!(one.len() == 2 && one == maps(predict(3, "two", &[])));
    fs::write(lab.path("flips.yaml"), "flips: true\n").unwrap();
    assert_eq!(maps(predict(2, "mirrored", &["--params", "flips.yaml"])).len(), 2);
}

#[test]
fn what_a_submission_lacks_is_named() {
    let lab = lab();
    lab.run(&["model"]).must_succeed();
    let fails = |arguments: &[&str], parts: &[&str]| lab.run(&[&["submission"], arguments].concat()).must_fail(1, parts);
    lab.run(&["submission", "--set", "submission.team=FLARE"]).must_fail(2, &["team", "`FLARE`", "lower-case"]);
    fails(&["--set", "submission.libraries=[libcudnn.so.9]"], &["libcudnn.so.9", "no input `libraries`"]);
    // Not the store, which changes while it is looked at.
    fs::create_dir(lab.path("empty")).unwrap();
    fails(&["--data", "program=empty"], &["empty is no file", "`predict`"]);
    fails(&["--data", "recipe=empty"], &["Dockerfile"]);
    let mut absent = lab.command(&["run", "submission", "--set", "submission.builder=docker"]);
    absent.env("DOCKER_HOST", "unix:///absent/socket");
    outcome(absent).must_fail(1, &["`builder`", "no container engine works here", "install docker"]);
}

#[test]
fn docker_runs_the_image_as_the_challenge_does_and_it_says_what_the_program_says() {
    let (Some(scan), Some(docker)) = (references::ct("CRLM-CT-1004_0000.nii.gz"), Docker::start()) else { return };
    let lab = lab();
    fs::create_dir(lab.path("scans")).unwrap();
    fs::copy(&scan, lab.path("scans/CRLM-CT-1004_0000.nii.gz")).unwrap();
    lab.run(&["efficiency", "--data", "test_images=scans"]).must_succeed();
    let expected = fs::read(lab.result("efficiency/labels/CRLM-CT-1004.nii.gz")).unwrap();

    let mut configs = Vec::new();
    for builder in ["own", "docker"] {
        let mut pack = lab.command(&["run", "submission", "--set", &format!("submission.builder={builder}")]);
        pack.env("DOCKER_HOST", &docker.host);
        outcome(pack).must_succeed();
        if builder == "docker" {
            // Else it would be there before it is loaded.
            docker.call(&["image", "rm", "--force", "flare-test"]);
        }
        let told = docker.call(&["load", "--input", lab.result("submission").join(ARCHIVE).to_str().unwrap()]);
        assert!(told.contains("Loaded image: flare-test:latest"), "{told}");
        let id = docker.call(&["image", "inspect", "--format", "{{.Id}}", "flare-test"]);
        assert_eq!(json(&lab.result("submission/manifest.json"))["id"], id.trim());
        let config = "{{.Config.User}} {{.Config.Env}} {{.Config.WorkingDir}} {{.Config.Cmd}} {{.Os}} {{.Architecture}}";
        configs.push(docker.call(&["image", "inspect", "--format", config, "flare-test"]));

        let out = lab.path(&format!("out-{builder}"));
        fs::create_dir(&out).unwrap();
        fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).unwrap();
        let mounts = [("scans", "inputs/:ro"), (out.to_str().unwrap(), "outputs/")];
        let mounts = mounts.map(|(from, to)| format!("{}:/workspace/{to}", lab.path(from).display()));
        let mut arguments = vec!["container", "run", "--rm", "--name", "flare-test", "--network", "none", "-m", "8G", "--read-only"];
        arguments.extend(["-v", &mounts[0], "-v", &mounts[1], "flare-test:latest", "/bin/bash", "-c", "sh predict.sh"]);
        let begun = Instant::now();
        docker.call(&arguments);
        let size = docker.call(&["image", "inspect", "--format", "{{.Size}}", "flare-test"]);
        println!("by {builder}: an image of {} bytes, a case in {:.2} s", size.trim(), begun.elapsed().as_secs_f64());
        let written = out.join("CRLM-CT-1004.nii.gz");
        assert!(fs::read(&written).unwrap() == expected, "the image's label map is not the program's");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(&written).unwrap()), 1000, "it runs as root");
    }
    assert_eq!(configs[0], configs[1], "an image packed here starts as one that Docker has built");

    // What the container costs is measured from outside.
    let images = [format!("images={}", lab.path("scans").display()), format!("submission={}", lab.result("submission").display())];
    let mut measure = lab.command(&["stage", "measure", "--input", &images[0], "--input", &images[1], "--output", "measured"]);
    measure.env("DOCKER_HOST", &docker.host);
    outcome(measure).must_succeed();
    let figures = json(&lab.path("measured/efficiency.json"));
    assert!(figures["measured"].as_str().unwrap().contains("the image flare-test:latest by docker"), "{figures}");
    // Whatever the few samples of a third of a second catch: processes inside of the container are seen.
    assert!(figures["cases"][0]["ended"] == "labelled" && figures["cases"][0]["ram"]["max_mb"].as_f64().unwrap() > 1.0, "{figures}");
    assert!(fs::read(lab.path("measured/labels/CRLM-CT-1004.nii.gz")).unwrap() == expected);
    assert_eq!(docker.call(&["ps", "--all", "--quiet"]), "", "no container is left behind");
}
