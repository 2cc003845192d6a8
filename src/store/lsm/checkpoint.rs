//! A complete copy of the tree that shares its files by hard links.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::verify::named_by;
use super::view::View;
use super::{Meta, keys};
use crate::store::engine::{Checkpoint, CheckpointFile};
use crate::store::error::{Result, StoreError};

/// How often a manifest may be replaced while we link it. One lives for milliseconds at least,
/// linking takes microseconds a file.
const TRIES: usize = 100;

/// Creates `to` with the state of the tree in `from`, whose newest view `newest` gets. Ingestions
/// and compactions may go on.
pub(super) fn create(newest: impl Fn() -> Arc<View>, from: &Path, to: &Path) -> Result<Checkpoint> {
    let partial = partial_name(to);
    if partial.try_exists()? {
        fs::remove_dir_all(&partial)?;
    }
    for _ in 0..TRIES {
        fs::create_dir_all(partial.join("tables"))?;
        if let Some(checkpoint) = link(&newest, from, &partial)? {
            sync_dir(&partial.join("tables"))?;
            sync_dir(&partial)?;
            fs::rename(&partial, to)?;
            sync_dir(to.parent().unwrap_or_else(|| Path::new(".")))?;
            return Ok(checkpoint);
        }
        fs::remove_dir_all(&partial)?;
    }
    Err(StoreError::Io(io::Error::new(
        io::ErrorKind::ResourceBusy,
        "the manifest changed all the time",
    )))
}

fn partial_name(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    dir.with_file_name(name)
}

/// `None` if the manifest was replaced meanwhile.
fn link(newest: impl Fn() -> Arc<View>, from: &Path, to: &Path) -> Result<Option<Checkpoint>> {
    let current = fs::read(from.join("current"))?;
    // The view holds the tables' files, so they can be linked even if compaction replaces them.
    let view = newest();
    if named_by(&current) != Some(view.id) {
        return Ok(None);
    }
    let manifest = format!("v{}", view.id);
    match fs::hard_link(from.join(&manifest), to.join(&manifest)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        linked => linked?,
    }
    let mut files = Vec::new();
    for table in view.tables() {
        let name = format!("tables/{}", table.id());
        fs::hard_link(&**table.path, to.join(&name))?;
        files.push(CheckpointFile {
            size: fs::metadata(to.join(&name))?.len(),
            xxh3: Some(table.checksum().into_u128()),
            name,
        });
    }
    // The tree renames over `current` but never changes it in place; we write our own all the
    // same, to hold exactly the bytes that were looked at.
    let mut file = fs::File::create(to.join("current"))?;
    file.write_all(&current)?;
    file.sync_all()?;
    let size = fs::metadata(to.join(&manifest))?.len();
    // The checksum in `current` is the manifest's.
    let xxh3 = current.get(8..24).and_then(|bytes| bytes.try_into().ok());
    files.push(CheckpointFile {
        name: manifest,
        size,
        xxh3: xxh3.map(u128::from_le_bytes),
    });
    // Last: a directory without it is an empty tree, not half of one.
    files.push(CheckpointFile {
        name: "current".to_owned(),
        size: current.len() as u64,
        xxh3: None,
    });
    let meta = view.get(keys::META)?;
    let meta = meta.map_or_else(|| Ok(Meta::default()), |bytes| Meta::decode(&bytes))?;
    Ok(Some(Checkpoint { meta, files }))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}
