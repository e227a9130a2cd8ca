//! The end of a process: alone in a test of its own, because it is the end of all files in work.

use whole_files::WholeFile;

#[test]
fn a_process_that_ends_removes_what_it_has_not_finished() {
    let folder = tempfile::tempdir().unwrap();
    let [half, whole] = ["half", "whole"].map(|name| WholeFile::create(&folder.path().join(name)).unwrap());
    whole.finish().unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    whole_files::remove_unfinished();
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["whole"]);
    drop(half);
}
