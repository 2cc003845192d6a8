//! Reads whole files and compares them with their checksums. Blocks have checksums of their own, which
//! every read checks: this finds damage where nobody reads, and what a block does not cover.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3Default;

use super::manifest;
use super::view::View;
use crate::store::engine::Damage;
use crate::store::error::{Result, StoreError};

/// What `current` says about the kind of the manifest's checksum, behind its number and that checksum.
const XXH3: u8 = 0;
/// Read at a time.
const PIECE: usize = 256 << 10;
/// Manifests are replaced in less than this.
const SETTLE: Duration = Duration::from_millis(500);

/// What a file turned out to be.
enum Found {
    Intact,
    Damaged(Damage),
    /// The caller wants no more.
    Stopped,
}

/// Verifies the tree in `dir`, whose newest view `newest` gets.
pub(super) fn verify(
    dir: &Path,
    newest: impl Fn() -> Arc<View>,
    pace: &mut dyn FnMut(u64) -> bool,
) -> Result<Vec<Damage>> {
    let view = newest();
    let mut damages = Vec::new();
    for table in view.tables() {
        let name = format!("tables/{}", table.id());
        let expected = table.checksum().into_u128();
        match check(&table.path, name, expected, pace) {
            Found::Intact => {}
            Found::Damaged(damage) => damages.push(damage),
            Found::Stopped => return Ok(damages),
        }
    }
    damages.extend(check_manifest(dir, newest, pace)?);
    Ok(damages)
}

fn check(path: &Path, file: String, expected: u128, pace: &mut dyn FnMut(u64) -> bool) -> Found {
    match checksum(path, pace) {
        Ok(None) => Found::Stopped,
        Ok(Some(found)) if found == expected => Found::Intact,
        Ok(Some(found)) => Found::Damaged(Damage {
            file,
            reason: format!("its checksum is {found:032x}, not {expected:032x}"),
        }),
        Err(error) => Found::Damaged(Damage {
            file,
            reason: error.to_string(),
        }),
    }
}

/// XXH3-128 of a whole file; `None` if it was not wanted any more.
fn checksum(path: &Path, pace: &mut dyn FnMut(u64) -> bool) -> io::Result<Option<u128>> {
    let mut file = fs::File::open(path)?;
    let mut hasher = Xxh3Default::new();
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(Some(hasher.digest128()));
        }
        hasher.update(&piece[..read]);
        if !pace(read as u64) {
            return Ok(None);
        }
    }
}

/// The manifest that `current` names.
pub(super) fn named_by(current: &[u8]) -> Option<u64> {
    current.first_chunk().map(|id| u64::from_le_bytes(*id))
}

/// Checks the manifest before a tree is opened: the tree itself does not. One that is damaged is restored,
/// if there is a copy.
pub(super) fn before_opening(dir: &Path) -> Result<()> {
    if dir.exists() && !dir.is_dir() {
        let text = format!("{} is a file, not a directory", dir.display());
        return Err(StoreError::Corrupt(text));
    }
    let current = match fs::read(dir.join("current")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return manifest::missing(dir),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            return Err(StoreError::Corrupt("current: it is a directory".to_owned()));
        }
        read => read?,
    };
    let damage = match named_by(&current) {
        None => Damage {
            file: "current".to_owned(),
            reason: "it is cut short".to_owned(),
        },
        Some(id) => match manifest_of(dir, id, &current, &mut |_| true) {
            Found::Damaged(damage) => damage,
            Found::Intact | Found::Stopped => return Ok(()),
        },
    };
    let Damage { file, reason } = damage;
    manifest::restore(dir, StoreError::Corrupt(format!("{file}: {reason}")))
}

/// The manifest. It is replaced while it is looked at, and `current` names the next one a moment before
/// the tree shows it: what is wrong must stay so.
fn check_manifest(
    dir: &Path,
    newest: impl Fn() -> Arc<View>,
    pace: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Damage>> {
    let mut before = None;
    loop {
        let view = newest();
        let current = fs::read(dir.join("current"))?;
        let found = manifest_of(dir, view.id, &current, pace);
        let Found::Damaged(damage) = found else {
            return Ok(None);
        };
        let now = Some((view.id, current));
        if before == now {
            return Ok(Some(damage));
        }
        before = now;
        std::thread::sleep(SETTLE);
    }
}

fn manifest_of(
    dir: &Path,
    wanted: u64,
    current: &[u8],
    pace: &mut dyn FnMut(u64) -> bool,
) -> Found {
    let name = format!("v{wanted}");
    let id = named_by(current);
    let sum = current.get(8..24).and_then(|bytes| bytes.try_into().ok());
    match (id, sum) {
        (Some(id), Some(sum)) if id == wanted && current.get(24..) == Some(&[XXH3]) => {
            check(&dir.join(&name), name, u128::from_le_bytes(sum), pace)
        }
        _ => Found::Damaged(Damage {
            file: "current".to_owned(),
            reason: format!("it does not name the manifest {name}"),
        }),
    }
}
