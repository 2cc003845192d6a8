//! Damage to files of a replica that runs.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The files of a directory, the largest last.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort_by_key(|file| fs::metadata(file).map_or(0, |meta| meta.len()));
    files
}

/// The largest table of the state in a data directory.
pub(crate) fn largest_table(data: &Path) -> PathBuf {
    let states = files(data).into_iter();
    let mut states = states.filter(|path| path.to_string_lossy().contains("/state-"));
    let state = states.next().expect("a state");
    files(&state.join("tables")).pop().expect("a table")
}

/// Flips a bit under the running process.
pub(crate) fn flip(file: &Path, at: u64) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}
