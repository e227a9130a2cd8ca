//! With the feature `cuda`: compiles the kernels to PTX, and makes the program start without CUDA's libraries.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const KERNELS: &str = "src/cuda/kernels";
/// The oldest architecture that CUDA 13 knows: the driver translates it for every newer GPU, and nothing here gains by more.
const ARCHITECTURE: &str = "compute_75";

/// A library that cudarc links: cudarc's module of its functions, what cargo calls it, and the file loaded at the first
/// call (with CUDA's major version in place of `MAJOR`). What its functions return when there is no such file: the code by
/// which the library itself would say that it is of no use.
const LIBRARIES: [(&str, &str, &str, u32); 6] = [
    ("driver", "cuda", "libcuda.so.1", 100),
    ("cublas", "cublas", "libcublas.so.MAJOR", 1),
    ("cublaslt", "cublasLt", "libcublasLt.so.MAJOR", 1),
    ("curand", "curand", "libcurand.so.10", 203),
    ("nvrtc", "nvrtc", "libnvrtc.so.MAJOR", 11),
    ("cudnn", "cudnn", "libcudnn.so.9", 1001),
];

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(lazy_cuda)");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    println!("cargo:rerun-if-changed={KERNELS}");
    for variable in ["NVCC", "CUDA_HOME", "CUDA_PATH", "CUDARC_CUDA_VERSION", "PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let nvcc = nvcc();
    compile_kernels(&nvcc, &out)?;
    // The trampolines are written in this processor's instructions and for this system's loader. Elsewhere CUDA's libraries
    // are linked as cudarc does it, and must be there for the program to start.
    if env::var("TARGET")? == "x86_64-unknown-linux-gnu" {
        println!("cargo:rustc-cfg=lazy_cuda");
        fs::write(out.join("libraries.rs"), trampolines(&cudarc_source()?, &cuda_major(&nvcc)?)?)?;
        satisfy_linker(&nvcc, &out)?;
    }
    Ok(())
}

/// The compiler, sought as candle's build scripts seek it.
fn nvcc() -> PathBuf {
    let home = |variable: &str| env::var_os(variable).map(|home| Path::new(&home).join("bin/nvcc"));
    let on_path = env::var_os("PATH").and_then(|path| env::split_paths(&path).map(|folder| folder.join("nvcc")).find(|f| f.is_file()));
    let candidates = [env::var_os("NVCC").map(PathBuf::from), on_path, home("CUDA_HOME"), home("CUDA_PATH")];
    let found = candidates.into_iter().flatten().find(|file| file.is_file());
    found.unwrap_or_else(|| "/usr/local/cuda/bin/nvcc".into())
}

fn compile_kernels(nvcc: &Path, out: &Path) -> Result<()> {
    for entry in fs::read_dir(KERNELS)? {
        let source = entry?.path();
        if source.extension().is_none_or(|extension| extension != "cu") {
            continue;
        }
        let ptx = out.join(source.with_extension("ptx").file_name().ok_or("no file name")?);
        // candle computes on the stream of the calling thread.
        let status = Command::new(nvcc)
            .args(["--ptx", "-O3", "-std=c++17", "--default-stream", "per-thread", "-Wno-deprecated-gpu-targets"])
            .arg(format!("-arch={ARCHITECTURE}"))
            .arg("-o")
            .arg(&ptx)
            .arg(&source)
            .status()
            .map_err(|e| format!("{}: {e}: the feature `cuda` needs CUDA's compiler, named by NVCC or CUDA_HOME", nvcc.display()))?;
        if !status.success() {
            return Err(format!("{} could not compile {}", nvcc.display(), source.display()).into());
        }
    }
    Ok(())
}

/// CUDA's major version, by the same evidence as cudarc's.
fn cuda_major(nvcc: &Path) -> Result<String> {
    if let Ok(version) = env::var("CUDARC_CUDA_VERSION") {
        return Ok(version.chars().take(2).collect());
    }
    let output = Command::new(nvcc).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let release = text.split("release ").nth(1).and_then(|rest| rest.split('.').next());
    Ok(release.ok_or_else(|| format!("{} --version names no release", nvcc.display()))?.to_owned())
}

/// The folder of cudarc's source, which `cargo metadata` names. Offline that fails if a package of the workspace has not been downloaded yet, since
/// cargo downloads only what it builds. It is then asked again, and may download the rest.
fn cudarc_source() -> Result<PathBuf> {
    let (cargo, target) = (env::var("CARGO")?, env::var("TARGET")?);
    let metadata = |more: &[&str]| {
        Command::new(&cargo).args(["metadata", "--format-version=1", "--features=cuda", "--filter-platform", &target]).args(more).output()
    };
    let mut output = metadata(&["--offline"])?;
    if !output.status.success() {
        output = metadata(&[])?;
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let package = text.split(r#"{"name":"cudarc","version":"#).nth(1);
    let manifest = package.and_then(|package| package.split(r#""manifest_path":""#).nth(1)?.split('"').next());
    let manifest = manifest.ok_or_else(|| format!("cargo metadata does not name cudarc: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(Path::new(manifest).with_file_name("src"))
}

/// A `library!` of `cuda/lazy.rs` for each library, with the functions that cudarc declares.
fn trampolines(cudarc: &Path, major: &str) -> Result<String> {
    let mut all = String::new();
    for (module, name, file, missing) in LIBRARIES {
        let source = fs::read_to_string(cudarc.join(module).join("sys/mod.rs"))?;
        let (mut codes, mut texts) = (Vec::new(), Vec::new());
        for line in source.lines() {
            let Some((function, rest)) = line.strip_prefix("pub unsafe fn ").and_then(|line| line.split_once('(')) else {
                continue;
            };
            // cudarc's own functions stand among CUDA's, and one of these is defined in `cuda/translated.rs`.
            if function == "cuModuleLoadData" {
                continue;
            }
            if (function.starts_with("cu") && function != "culib") || function.starts_with("nvrtc") {
                let list = if rest.contains("-> *const ::core::ffi::c_char") { &mut texts } else { &mut codes };
                list.push(function);
            }
        }
        for list in [&mut codes, &mut texts] {
            list.sort_unstable();
            list.dedup();
        }
        let (file, constant) = (file.replace("MAJOR", major), name.to_uppercase());
        all += &format!("library!({constant}, c\"{file}\", {missing}, [{}], [{}]);\n", codes.join(" "), texts.join(" "));
    }
    Ok(all)
}

/// The linker still looks for the libraries that cudarc names. Where it finds them, it drops them, as nothing is left to be
/// had from them; where it does not, it finds empty archives here.
fn satisfy_linker(nvcc: &Path, out: &Path) -> Result<()> {
    for (_, name, ..) in LIBRARIES {
        fs::write(out.join(format!("lib{name}.a")), "!<arch>\n")?;
    }
    // candle-kernels asks for CUDA's runtime. Its static form loads the driver by itself, and only when it is used.
    let homes = [env::var_os("CUDA_HOME").map(PathBuf::from), nvcc.parent().and_then(Path::parent).map(Path::to_owned)];
    let folders = homes.into_iter().flatten().flat_map(|home| ["lib64", "lib", "targets/x86_64-linux/lib"].map(|l| home.join(l)));
    if let Some(folder) = folders.into_iter().find(|folder| folder.join("libcudart_static.a").is_file()) {
        fs::write(out.join("libcudart.a"), "!<arch>\n")?;
        println!("cargo:rustc-link-search=native={}", folder.display());
        println!("cargo:rustc-link-lib=static:+whole-archive,-bundle=cudart_static");
    }
    println!("cargo:rustc-link-search=native={}", out.display());
    Ok(())
}
