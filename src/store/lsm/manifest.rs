//! A second copy of the manifest and of `current`, which names it: without them a tree is nothing, however
//! whole its tables are. The copy is written after each installation and is not synced: it serves against
//! damage, and a crash leaves the files that it is a copy of.
//!
//! With it is written which tables there are, in which order, and what each looks like from outside: so one that
//! is cut, or was replaced by another, is noticed before it is opened, and what is whole can be read without the
//! rest.
//!
//! `manifest.copy`, little-endian: magic `RSMC`, CRC-32 of what follows, `current` (25 bytes), bytes of the
//! manifest (u32), the manifest, and for each table, newest run first: number (u64), run (u32), sequence number
//! (u64), XXH3-128 (u128), bytes (u64), XXH3-64 of the last 4096 bytes (u64).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::verify::named_by;
use super::view::View;
use crate::store::error::{Result, StoreError};

const COPY: &str = "manifest.copy";
const MAGIC: &[u8; 4] = b"RSMC";
const HEADER: usize = 8;
/// Bytes of `current`: the manifest's number, its checksum, the kind of that.
const CURRENT: usize = 25;

/// What a table looks like: its length, and the checksum of its end, where it says itself what is in it.
pub(super) type Print = (u64, u64);
/// Those of tables by number; a table never changes.
pub(super) type Prints = BTreeMap<u64, Print>;

/// Bytes at the end that are looked at.
const END: u64 = 4096;
const ENTRY: usize = 52;

/// A table as the manifest has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) number: u64,
    /// Of a lower run everything is newer.
    pub(super) run: u32,
    pub(super) seqno: u64,
    pub(super) checksum: u128,
    pub(super) print: Print,
}

impl Entry {
    fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.number.to_le_bytes());
        into.extend_from_slice(&self.run.to_le_bytes());
        into.extend_from_slice(&self.seqno.to_le_bytes());
        into.extend_from_slice(&self.checksum.to_le_bytes());
        into.extend_from_slice(&self.print.0.to_le_bytes());
        into.extend_from_slice(&self.print.1.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (run, rest) = rest.split_first_chunk()?;
        let (seqno, rest) = rest.split_first_chunk()?;
        let (checksum, rest) = rest.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (end, _) = rest.split_first_chunk()?;
        Some(Self {
            number: u64::from_le_bytes(*number),
            run: u32::from_le_bytes(*run),
            seqno: u64::from_le_bytes(*seqno),
            checksum: u128::from_le_bytes(*checksum),
            print: (u64::from_le_bytes(*len), u64::from_le_bytes(*end)),
        })
    }

    /// Why the file is not the table that was written; nothing, if it looks like it.
    pub(super) fn wrong(&self, dir: &Path) -> Option<(String, io::ErrorKind)> {
        let name = format!("tables/{}", self.number);
        let reason = match print_of(&dir.join(&name)) {
            Ok(found) if found == self.print => return None,
            Ok(found) if found.0 != self.print.0 => {
                format!("it has {} bytes, not {}", found.0, self.print.0)
            }
            Ok(_) => "it is not the one that was written".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Some((format!("{name}: it is missing"), error.kind()));
            }
            Err(error) => error.to_string(),
        };
        Some((format!("{name}: {reason}"), io::ErrorKind::InvalidData))
    }
}

fn print_of(path: &Path) -> io::Result<Print> {
    let file = fs::File::open(path)?;
    let len = file.metadata()?.len();
    let mut end = vec![0; END.min(len) as usize];
    file.read_exact_at(&mut end, len.saturating_sub(END))?;
    Ok((len, xxh3_64(&end)))
}

/// Keeps a copy of the manifest of `view`, of the tree in `dir`, if it is still the newest one. `prints` has
/// what is known of its tables, and learns the rest.
pub(super) fn keep(dir: &Path, view: &View, prints: &mut Prints) -> io::Result<()> {
    let id = view.id;
    let current = fs::read(dir.join("current"))?;
    if named_by(&current) != Some(id) || current.len() != CURRENT {
        return Ok(());
    }
    let manifest = match fs::read(dir.join(format!("v{id}"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    if !is_whole(&current, &manifest) {
        return Ok(()); // the copy that there is may be better
    }
    let length = (manifest.len() as u32).to_le_bytes();
    let mut content = [&current[..], &length, &manifest].concat();
    let known = std::mem::take(prints);
    for (run, table) in view.numbered() {
        let number = table.id();
        let print = match known.get(&number) {
            Some(print) => *print,
            None => print_of(&table.path)?,
        };
        prints.insert(number, print);
        let entry = Entry {
            number,
            run: run as u32,
            seqno: table.global_seqno(),
            checksum: table.checksum().into_u128(),
            print,
        };
        entry.encode(&mut content);
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
    bytes.extend_from_slice(&content);
    let temporary = dir.join(format!("{COPY}.tmp"));
    fs::write(&temporary, bytes)?;
    fs::rename(temporary, dir.join(COPY))
}

fn is_whole(current: &[u8], manifest: &[u8]) -> bool {
    let sum = current.get(8..24).and_then(|bytes| bytes.try_into().ok());
    sum.map(u128::from_le_bytes) == Some(xxh3_128(manifest))
}

/// The copy.
struct Kept {
    current: Vec<u8>,
    manifest: Vec<u8>,
    tables: Vec<Entry>,
}

fn kept(dir: &Path) -> Option<Kept> {
    let bytes = fs::read(dir.join(COPY)).ok()?;
    let content = bytes.get(HEADER..)?;
    let sum = crc32fast::hash(content).to_le_bytes();
    if bytes.get(..4)? != MAGIC || bytes.get(4..HEADER)? != sum {
        return None;
    }
    let (current, rest) = content.split_at_checked(CURRENT)?;
    let (length, rest) = rest.split_first_chunk()?;
    let (manifest, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let tables = rest.chunks_exact(ENTRY).map(Entry::decode);
    let tables: Option<Vec<Entry>> = tables.collect();
    is_whole(current, manifest).then_some(Kept {
        current: current.to_vec(),
        manifest: manifest.to_vec(),
        tables: tables?,
    })
}

/// The tables of the newest manifest that there is a copy of.
pub(super) fn tables(dir: &Path) -> Vec<Entry> {
    kept(dir).map(|kept| kept.tables).unwrap_or_default()
}

/// Looks at the tables from outside, as far as a copy says what they looked like. Gives what is known of them.
pub(super) fn check_tables(dir: &Path) -> Result<Prints> {
    let Some(kept) = kept(dir) else {
        return Ok(Prints::new());
    };
    // What the tree has gone on from may be gone.
    let gone_on = fs::read(dir.join("current")).is_ok_and(|current| current != kept.current);
    for table in &kept.tables {
        match table.wrong(dir) {
            Some((_, io::ErrorKind::NotFound)) if gone_on => {}
            Some((what, _)) => return Err(StoreError::Corrupt(what)),
            None => {}
        }
    }
    let prints = kept.tables.iter().map(|table| (table.number, table.print));
    Ok(prints.collect())
}

/// The numbers of the manifests in a directory.
fn manifests(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix('v'));
        found.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    Ok(found)
}

/// Whether a tree was ever written to in the directory.
fn is_used(dir: &Path) -> io::Result<bool> {
    let tables = dir.join("tables");
    Ok(tables.is_dir() && fs::read_dir(tables)?.next().is_some())
}

/// Sees to it that `current` and the manifest that it names are there and are what was written, from the copy
/// where they are not. A copy that is older than what there was is of no use: tables that it names are gone.
pub(super) fn restore(dir: &Path, damage: StoreError) -> Result<()> {
    let Some(Kept {
        current, manifest, ..
    }) = kept(dir)
    else {
        return Err(damage);
    };
    let id = named_by(&current).unwrap_or_default();
    // A manifest is there before `current` names it.
    if manifests(dir)?.into_iter().any(|other| other > id) {
        return Err(damage);
    }
    tracing::warn!(%damage, "writes the manifest of the state again from its copy");
    write(&dir.join(format!("v{id}")), &manifest)?;
    write(&dir.join("current"), &current)?;
    Ok(())
}

/// That there is no `current` is no damage where nothing was ever written.
pub(super) fn missing(dir: &Path) -> Result<()> {
    if !dir.is_dir() || !is_used(dir)? {
        return Ok(());
    }
    let text = "current: it is missing, and there are tables".to_owned();
    restore(dir, StoreError::Corrupt(text))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            format!("{} is a directory", path.display()),
        ));
    }
    let temporary = path.with_extension("restored");
    fs::write(&temporary, bytes)?;
    fs::File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, path)?;
    let parent = path.parent().unwrap_or(path);
    fs::File::open(parent)?.sync_all()
}
