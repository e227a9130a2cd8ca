//! What a program needs to start, as this machine's loader finds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::ContainerError;

/// The libraries that a program or a library is linked to, with theirs, and the loader: where each must stand → where it is here. One of
/// `folder`, an absolute path, must stand in `beside`; the others stand where they are. None for a static program.
///
/// # Errors
/// When `ldd` is missing or does not find a library.
pub fn libraries(program: &Path, folder: Option<(&Path, &str)>) -> Result<BTreeMap<PathBuf, PathBuf>, ContainerError> {
    let failed = |message: String| ContainerError::Loader { program: program.to_owned(), message };
    let mut ldd = Command::new("ldd");
    ldd.arg(program).env("LC_ALL", "C").env_remove("LD_LIBRARY_PATH").env_remove("LD_PRELOAD");
    if let Some((folder, _)) = folder {
        ldd.env("LD_LIBRARY_PATH", folder);
    }
    let output = ldd.output().map_err(|error| failed(format!("cannot ask `ldd` for its libraries: {error}")))?;
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        // Of a static program ldd says so, on one stream or the other, and fails.
        let fixed = told.contains("not a dynamic executable") || said.contains("not a dynamic executable");
        return if fixed && program.is_file() { Ok(BTreeMap::new()) } else { Err(failed(format!("ldd: {}{}", told.trim(), said.trim()))) };
    }
    found(&told, folder).map_err(|library| failed(format!("needs {library}, which this machine does not have; install it")))
}

/// Reads what ldd says: `NAME => PATH (ADDRESS)`, for the loader `PATH (ADDRESS)`, and for what the kernel brings `NAME (ADDRESS)`.
fn found(told: &str, folder: Option<(&Path, &str)>) -> Result<BTreeMap<PathBuf, PathBuf>, String> {
    let mut all = BTreeMap::new();
    for line in told.lines().map(str::trim) {
        let (name, rest) = line.split_once(" => ").unwrap_or(("", line));
        if rest == "not found" {
            return Err(name.to_owned());
        }
        let path = Path::new(rest.rsplit_once(" (").map_or(rest, |(path, _)| path));
        if !path.is_absolute() {
            continue;
        }
        let place = match folder {
            Some((folder, beside)) if path.starts_with(folder) => Path::new(beside).join(name),
            _ => path.to_owned(),
        };
        all.insert(place, path.to_owned());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ldd_says_is_understood() {
        let told = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibcublasLt.so.13 => /cuda/lib/libcublasLt.so.13 (0x00007f)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let pairs = |folder| -> Vec<(String, String)> {
            let text = |path: PathBuf| path.to_str().unwrap().to_owned();
            found(told, folder).unwrap().into_iter().map(|(place, path)| (text(place), text(path))).collect()
        };
        let own = |path: &str| (path.to_owned(), path.to_owned());
        let system = [own("/lib/x86_64-linux-gnu/libc.so.6"), own("/lib64/ld-linux-x86-64.so.2")];
        assert_eq!(pairs(None)[1..], system);
        let moved = ("/usr/local/lib/libcublasLt.so.13".to_owned(), "/cuda/lib/libcublasLt.so.13".to_owned());
        assert_eq!(pairs(Some((Path::new("/cuda/lib"), "/usr/local/lib")))[2], moved);
        assert_eq!(found("\tstatically linked\n", None), Ok(BTreeMap::new()));
        assert_eq!(found("\tlibx.so.1 => not found\n", None), Err("libx.so.1".to_owned()));
    }

    #[test]
    fn this_test_program_needs_a_c_library_and_its_loader() {
        let all = libraries(&std::env::current_exe().unwrap(), None).unwrap();
        let names: Vec<&str> = all.keys().filter_map(|path| path.file_name()?.to_str()).collect();
        assert!(names.iter().any(|name| name.starts_with("libc.so")) && names.iter().any(|name| name.starts_with("ld-linux")), "{names:?}");
        assert!(all.values().all(|path| path.is_file()));
    }

    #[test]
    fn what_is_no_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = libraries(&folder.path().join("absent"), None).unwrap_err().to_string();
        assert!(error.contains("absent"), "{error}");
    }
}
