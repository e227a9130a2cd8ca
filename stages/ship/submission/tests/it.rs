//! What is in an image, for a program of which it is known what it needs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docker");

/// A folder with a program, a model, and a library `outer` that is linked to another, `inner`, in the same folder.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(desk.path("libraries")).unwrap();
        desk.compile(&["-shared", "-fPIC", "-Wl,-soname,libinner.so.2", "-o", "libraries/libinner.so.2"], "int inner(void) { return 2; }");
        let outer = "int inner(void); int outer(void) { return inner(); }";
        desk.compile(&["-shared", "-fPIC", "-Wl,--no-as-needed", "-o", "libraries/libouter.so.1", "libraries/libinner.so.2"], outer);
        desk.compile(&["-o", "predict"], "int puts(const char *); int main(void) { puts(\"predict 1.0\"); return 0; }");
        fs::write(desk.path("model.safetensors"), "weights").unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn compile(&self, arguments: &[&str], source: &str) {
        fs::write(self.path("source.c"), source).unwrap();
        let status = Command::new("cc").arg("source.c").args(arguments).current_dir(self.folder.path()).status();
        assert!(status.unwrap().success());
    }

    /// Packs the program with these parameters and inputs; what the stage says, and whether it went well.
    fn pack(&self, params: &str, inputs: &[&str]) -> (String, bool) {
        fs::write(self.path("params.yaml"), params).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_submission"));
        command.current_dir(self.folder.path()).args(["--params", "params.yaml", "--output", "out"]);
        command.args(["--input", &format!("recipe={RECIPE}"), "--input", "program=predict", "--input", "model=model.safetensors"]);
        for input in inputs {
            command.args(["--input", input]);
        }
        let output = command.output().unwrap();
        (String::from_utf8(output.stderr).unwrap(), output.status.success())
    }

    /// The files of the image: path → permissions and content.
    fn files(&self, archive: &str) -> BTreeMap<String, (u32, Vec<u8>)> {
        let packed = fs::File::open(self.path(archive)).unwrap();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(flate2::read::GzDecoder::new(packed)).entries().unwrap() {
            let entry = entry.unwrap();
            if !entry.path().unwrap().ends_with("layer.tar") {
                continue;
            }
            for file in tar::Archive::new(entry).entries().unwrap() {
                let mut file = file.unwrap();
                let mut content = Vec::new();
                file.read_to_end(&mut content).unwrap();
                files.insert(file.path().unwrap().to_str().unwrap().to_owned(), (file.header().mode().unwrap(), content));
            }
        }
        files
    }
}

#[test]
fn another_program_is_not_packed() {
    let desk = Desk::new();
    desk.compile(&["-o", "predict"], "int puts(const char *); int main(void) { puts(\"flare 1.0\"); return 0; }");
    let (said, done) = desk.pack("team: myteam", &[]);
    assert!(!done && said.contains("--version prints `flare 1.0`, and expected is `predict VERSION`"), "{said}");
    fs::write(desk.path("predict"), "no program").unwrap();
    let (said, done) = desk.pack("team: myteam", &[]);
    assert!(!done && said.contains("cannot start predict"), "{said}");
}

#[test]
fn an_image_holds_the_program_with_all_that_it_needs_and_no_more() {
    let desk = Desk::new();
    let (said, done) = desk.pack("team: myteam", &[]);
    assert!(done, "{said}");
    let files = desk.files("out/myteam.tar.gz");
    let content = |path: &str| files.get(path).unwrap_or_else(|| panic!("there is no {path} among {:?}", files.keys())).1.clone();
    assert!(content("opt/predict/predict") == fs::read(desk.path("predict")).unwrap());
    assert_eq!(content("opt/predict/model.safetensors"), b"weights");
    assert!(content("workspace/predict.sh") == fs::read(Path::new(RECIPE).join("predict.sh")).unwrap());
    assert!(content("bin/bash").starts_with(b"\x7fELF"));
    assert_eq!((files["opt/predict/predict"].0, files["tmp/"].0, files["workspace/outputs/"].0), (0o755, 0o1777, 0o777));
    let notices = fs::read(Path::new(RECIPE).join("THIRD-PARTY-NOTICES.txt")).unwrap();
    assert_eq!(content("opt/predict/THIRD-PARTY-NOTICES.txt"), notices);
    let named = |part: &str| files.keys().any(|path| path.contains(part));
    assert!(named("libc.so") && named("ld-linux") && !named("usr/local"), "{:?}", files.keys());
    // The shell finds all that it is linked to, and so does the program.
    for library in ["bin/bash", "opt/predict/predict"] {
        let copy = desk.path("copy");
        fs::write(&copy, content(library)).unwrap();
        for place in containers::libraries(&copy, None).unwrap().keys() {
            assert!(files.contains_key(place.to_str().unwrap().trim_start_matches('/')), "{library} needs {}", place.display());
        }
    }
}

#[test]
fn libraries_that_are_loaded_by_name_come_with_what_they_are_linked_to() {
    let desk = Desk::new();
    let (said, done) = desk.pack("{team: gpu, libraries: [libouter.so.1]}", &["libraries=libraries"]);
    assert!(done, "{said}");
    let files = desk.files("out/gpu.tar.gz");
    for library in ["libouter.so.1", "libinner.so.2"] {
        let expected = fs::read(desk.path("libraries").join(library)).unwrap();
        assert!(files[&format!("usr/local/lib/{library}")].1 == expected);
    }
    let (said, done) = desk.pack("{team: gpu, libraries: [libabsent.so.1]}", &["libraries=libraries"]);
    assert!(!done && said.contains("there is no libabsent.so.1 in "), "{said}");
    fs::remove_file(desk.path("libraries/libinner.so.2")).unwrap();
    let (said, done) = desk.pack("{team: gpu, libraries: [libouter.so.1]}", &["libraries=libraries"]);
    assert!(!done && said.contains("libinner.so.2") && said.contains("libouter.so.1"), "{said}");
}

#[test]
fn an_archive_follows_what_it_is_made_from() {
    let desk = Desk::new();
    let pack = || {
        let (said, done) = desk.pack("team: myteam", &[]);
        assert!(done, "{said}");
        fs::read(desk.path("out/myteam.tar.gz")).unwrap()
    };
    let first = pack();
    assert!(pack() == first);
    fs::write(desk.path("model.safetensors"), "others").unwrap();
    assert!(pack() != first, "what is there already is not taken for what is asked for");
    let (said, done) = desk.pack("{team: MyTeam}", &[]);
    assert!(!done && said.contains("`MyTeam`"), "{said}");
}
