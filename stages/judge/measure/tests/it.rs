//! Measures programs of which it is known what they take: the tests' own, started again by a script.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use efficiency::{CaseFigures, Ended, Figures};
use volume::{Affine, Grid, ScalarVolume, nifti};

const ALLOCATE: &str = "TEST_ALLOCATE_MB";
const HOLD: &str = "TEST_HOLD_SECONDS";

/// No test, but what the measured program does when a script starts it.
#[test]
fn allocates_and_holds() {
    let value = |name: &str| std::env::var(name).ok()?.parse::<f64>().ok();
    let (Some(mb), Some(seconds)) = (value(ALLOCATE), value(HOLD)) else { return };
    // Every page is written, so that the kernel gives it.
    let held = vec![1_u8; (mb * efficiency::MB) as usize];
    std::thread::sleep(Duration::from_secs_f64(seconds));
    assert!(std::hint::black_box(held).iter().all(|&byte| byte == 1));
}

/// A folder with scans, and what came of measuring a program on them.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// Scans of these names and numbers of slices.
    fn new(scans: &[(&str, usize)]) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.path("images")).unwrap();
        for &(name, slices) in scans {
            let affine = Affine([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]);
            let scan = ScalarVolume::filled(&Grid { shape: [3, 4, slices], affine }, 60.0);
            nifti::write_scalar_i16(bench.path(&format!("images/{name}_0000.nii.gz")), &scan).unwrap();
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Measures a shell script, for which `$scan` is the name of the scan and `$labels` the label map to write.
    fn measure(&self, script: &str, params: &str, library_folder: &str) -> (String, bool) {
        let head = "#!/bin/sh\nscan=$(basename \"$1\"/*); labels=$2/${scan%_0000.nii.gz}.nii.gz\n";
        let program = format!("{head}{script}\n");
        // One that is written again is another one.
        if fs::read_to_string(self.path("program")).ok().as_ref() != Some(&program) {
            fs::write(self.path("program"), program).unwrap();
        }
        fs::set_permissions(self.path("program"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(self.path("params.yaml"), params).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_measure"));
        command.current_dir(self.folder.path()).args(["--input", "images=images", "--input", "program=program"]);
        command.args(["--params", "params.yaml", "--output", "out"]).env("LD_LIBRARY_PATH", library_folder);
        command.env("TEST_PROGRAM", std::env::current_exe().unwrap());
        let output = command.output().unwrap();
        (String::from_utf8(output.stderr).unwrap(), output.status.success())
    }

    fn figures(&self) -> Figures {
        serde_json::from_str(&fs::read_to_string(self.path("out/efficiency.json")).unwrap()).unwrap()
    }
}

const GOES_WELL: &str = "{}";

#[test]
fn what_a_program_holds_is_found_within_a_few_mb() {
    let bench = Bench::new(&[("a", 5)]);
    let script = format!("{ALLOCATE}=200 {HOLD}=1.5 \"$TEST_PROGRAM\" --exact allocates_and_holds >&2 && echo 1 > \"$labels\"");
    let (said, done) = bench.measure(&script, GOES_WELL, "");
    assert!(done && said.contains("RAM alone is measured: NVML cannot be loaded"), "{said}");
    let figures = bench.figures();
    let [CaseFigures { case, size, ended, seconds, ram, gpu, .. }] = &figures.cases[..] else { panic!("one case") };
    assert_eq!((case.as_str(), *size, *ended, *gpu), ("a", Some([3, 4, 5]), Ended::Labelled, None));
    assert!(*seconds >= 1.5, "{seconds}");
    // A test program and a shell take some MB themselves.
    assert!((200.0..220.0).contains(&ram.max_mb), "{}", ram.max_mb);
    // At most a sample is lost at either end of the time in which memory is held.
    assert!((200.0 * 1.3..220.0 * (seconds + 0.1)).contains(&ram.area_mb_s), "{} in {seconds} s", ram.area_mb_s);
    let page = fs::read_to_string(bench.path("out/efficiency.md")).unwrap();
    assert!(page.contains("| a | (3, 4, 5) | ") && page.contains("the program program"), "{page}");
    assert!(fs::read_to_string(bench.path("out/curves/a.svg")).unwrap().contains("memory (MB)"));
    assert!(fs::read_to_string(bench.path("out/curves/a.csv")).unwrap().lines().count() > 14);
    assert_eq!(fs::read_to_string(bench.path("out/labels/a.nii.gz")).unwrap(), "1\n");
}

#[test]
fn cases_that_come_to_nothing_cost_the_penalty_and_the_others_go_on() {
    let bench = Bench::new(&[("deep", 9), ("stuck", 8), ("crash", 7), ("none", 6), ("flat", 5)]);
    fs::write(bench.path("images/broken_0000.nii.gz"), "no scan").unwrap();
    let script = "case $scan in
        stuck*) sleep 60;;
        crash*) echo went wrong >&2; exit 3;;
        none*) ;;
        *) echo 1 > \"$labels\";;
    esac";
    let (said, done) = bench.measure(script, "time_limit_s: 1", "");
    assert!(done, "{said}");
    let figures = bench.figures();
    let seen: Vec<(&str, Ended)> = figures.cases.iter().map(|case| (case.case.as_str(), case.ended)).collect();
    use Ended::{Failed, Labelled, TimedOut};
    let expected = [("flat", Labelled), ("none", Failed), ("crash", Failed), ("stuck", TimedOut), ("deep", Labelled), ("broken", Labelled)];
    assert_eq!(seen, expected, "by slices, and last what has no header");
    for case in figures.cases.iter().filter(|case| case.ended != Labelled) {
        assert_eq!((case.seconds, case.ram.area_mb_s), (3600.0, 29_491_200.0));
        assert!(case.measured_seconds < 30.0);
    }
    for words in
        ["case none failed: it left no none.nii.gz", "case crash failed: it ended with code 3; it said: went wrong", "case stuck timed out"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let page = fs::read_to_string(bench.path("out/efficiency.md")).unwrap();
    assert!(page.contains("| stuck | (3, 4, 8) | 3600.00 |") && page.contains("- crash, failed after"), "{page}");
}

#[test]
fn label_maps_of_another_program_do_not_stay() {
    let bench = Bench::new(&[("a", 5), ("b", 6)]);
    let attempt = |script: &str| {
        let (said, done) = bench.measure(script, "{}", "");
        assert!(done, "{said}");
    };
    attempt("echo 1 > \"$labels\"");
    assert!(bench.path("out/labels/a.nii.gz").exists());
    attempt("[ $scan = a_0000.nii.gz ] || echo 1 > \"$labels\"");
    assert!(!bench.path("out/labels/a.nii.gz").exists() && bench.path("out/labels/b.nii.gz").exists(), "what came of another program");
}

/// A card of 16 GiB of which one MiB more is taken at each look, 999 when it is opened.
const CARD: &str = "
static unsigned long long used = 998;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_t;
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = &used; return index == 0 ? 0 : 2; }
int nvmlDeviceGetMemoryInfo_v2(void *device, memory_t *memory) {
    memory->total = 16384ULL << 20;
    memory->free = memory->total - (++*(unsigned long long *)device << 20);
    memory->used = 7;
    return 0;
}
";

#[test]
fn a_graphics_card_is_looked_at_as_a_whole() {
    let bench = Bench::new(&[("a", 5)]);
    fs::write(bench.path("card.c"), CARD).unwrap();
    let library = bench.path("libnvidia-ml.so.1");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(bench.path("card.c")).status().unwrap();
    assert!(compiled.success());
    let folder = bench.folder.path().to_str().unwrap();
    let (said, done) = bench.measure("sleep 0.35; echo 1 > \"$labels\"", GOES_WELL, folder);
    assert!(done && !said.contains("NVML"), "{said}");
    let figures = bench.figures();
    let curve = fs::read_to_string(bench.path("out/curves/a.csv")).unwrap();
    let looks: Vec<f64> = curve.lines().skip(1).map(|line| line.rsplit(',').next().unwrap().parse().unwrap()).collect();
    assert!(looks.len() >= 4 && looks[0] == 1000.0 && looks.windows(2).all(|pair| pair[1] >= pair[0]), "{looks:?}");
    let gpu = figures.cases[0].gpu.unwrap();
    assert_eq!(gpu.max_mb, looks[looks.len() - 1]);
    assert_eq!(gpu.area_mb_s, (looks.iter().sum::<f64>() * 0.1).round());
    assert_eq!(figures.gpu, "graphics card 0 of 16384 MB");
    let page = fs::read_to_string(bench.path("out/efficiency.md")).unwrap();
    assert!(page.contains("| Running time (s) | Max GPU (MB) | Total GPU (MB) | Max RAM (MB) |"), "{page}");

    let (said, _) = bench.measure("true", "gpu: 1", folder);
    assert!(said.contains("RAM alone is measured: NVML reports no memory of graphics card 1: "), "{said}");
}

#[test]
fn finished_cases_are_not_measured_again_after_an_interruption() {
    let bench = Bench::new(&[("a", 5), ("b", 6)]);
    // Ends its parent, the measuring program, with the second case.
    let script = "echo $scan >> ../../runs; case $scan in b*) [ -e ../../again ] || kill $PPID; sleep 1;; esac; echo 1 > \"$labels\"";
    let script = script.replace("../..", bench.folder.path().to_str().unwrap());
    let (said, done) = bench.measure(&script, GOES_WELL, "");
    assert!(!done && said.contains("case b: interrupted"), "{said}");
    fs::write(bench.path("again"), "").unwrap();
    let (said, done) = bench.measure(&script, GOES_WELL, "");
    assert!(done, "{said}");
    let runs = fs::read_to_string(bench.path("runs")).unwrap();
    assert_eq!(runs.lines().collect::<Vec<_>>(), ["a_0000.nii.gz", "b_0000.nii.gz", "b_0000.nii.gz"]);
    assert_eq!(bench.figures().cases.len(), 2);

    // What another program took is nothing to this one.
    fs::remove_file(bench.path("again")).unwrap();
    assert!(!bench.measure(&script, GOES_WELL, "").1);
    fs::write(bench.path("again"), "").unwrap();
    assert!(bench.measure(&format!("{script}; true"), GOES_WELL, "").1);
    assert_eq!(fs::read_to_string(bench.path("runs")).unwrap().lines().count(), 3 + 2 + 2);

    // Nor is what another scan of that name took.
    fs::remove_file(bench.path("again")).unwrap();
    assert!(!bench.measure(&script, GOES_WELL, "").1);
    fs::write(bench.path("again"), "").unwrap();
    fs::copy(bench.path("images/b_0000.nii.gz"), bench.path("images/a_0000.nii.gz")).unwrap();
    assert!(bench.measure(&script, GOES_WELL, "").1);
    assert_eq!(fs::read_to_string(bench.path("runs")).unwrap().lines().count(), 3 + 2 + 2 + 2 + 2);
}

#[test]
fn what_is_to_be_measured_must_be_clear() {
    let bench = Bench::new(&[("a", 5)]);
    let call = |inputs: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_measure"));
        command.current_dir(bench.folder.path()).args(["--input", "images=images", "--output", "out"]);
        for input in inputs {
            command.args(["--input", input]);
        }
        let output = command.env("DOCKER_HOST", "unix:///absent").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = call(&[]);
    assert!(code == Some(1) && said.contains("one of the inputs `program` and `submission`"), "{said}");
    let (code, said) = call(&["submission=images"]);
    assert!(code == Some(1) && said.contains("must hold one file *.tar.gz"), "{said}");
    let (code, said) = call(&["program=images/a_0000.nii.gz"]);
    assert!(code == Some(1) && said.contains("cannot start") && said.contains("a_0000.nii.gz"), "{said}");
}
