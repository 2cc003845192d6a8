//! A directory that is looked at as if it were written to: what is written stays in memory, and the
//! directory is left as it is. It knows nothing of what the files hold.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{Disk, File, RealDisk};

/// A directory below, and what was done to it since, by name; `None` for what was removed.
pub struct Overlay {
    below: RealDisk,
    changed: Mutex<BTreeMap<String, Option<Arc<Layer>>>>,
}

impl Overlay {
    /// Looks at a directory.
    pub fn new(below: RealDisk) -> Self {
        let changed = Mutex::new(BTreeMap::new());
        Self { below, changed }
    }
}

impl Disk for Overlay {
    fn open(&self, name: &str, create: bool, _sync: bool) -> io::Result<Arc<dyn File>> {
        let mut changed = self.changed.lock();
        if let Some(Some(layer)) = changed.get(name) {
            return Ok(Arc::clone(layer) as Arc<dyn File>);
        }
        let removed = changed.contains_key(name);
        let below = match self.below.open(name, false, false) {
            Ok(file) if !removed => Some(file),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ if create => None,
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        let len = below.as_ref().map_or(Ok(0), |file| file.len())?;
        let layer = Arc::new(Layer {
            state: Mutex::new(State {
                below_len: len,
                len,
                writes: Vec::new(),
            }),
            below,
        });
        changed.insert(name.to_owned(), Some(Arc::clone(&layer)));
        Ok(layer)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let changed = self.changed.lock();
        let mut names = self.below.list()?;
        names.retain(|name| !changed.contains_key(name));
        let present = changed.iter().filter(|(_, layer)| layer.is_some());
        names.extend(present.map(|(name, _)| name.clone()));
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.open(from, false, false)?;
        let mut changed = self.changed.lock();
        let layer = changed.insert(from.to_owned(), None).flatten();
        changed.insert(to.to_owned(), layer);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.open(name, false, false)?;
        self.changed.lock().insert(name.to_owned(), None);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        self.below.space()
    }
}

/// A file, and what was written to it.
struct Layer {
    below: Option<Arc<dyn File>>,
    state: Mutex<State>,
}

struct State {
    /// So much of the file below still counts.
    below_len: u64,
    len: u64,
    writes: Vec<(u64, Vec<u8>)>,
}

impl File for Layer {
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.len = state.len.max(offset + data.len() as u64);
        state.writes.push((offset, data.to_vec()));
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.state.lock();
        let count = (buffer.len() as u64).min(state.len.saturating_sub(offset)) as usize;
        let Some(buffer) = buffer.get_mut(..count) else {
            return Ok(0);
        };
        buffer.fill(0);
        let below = state.below_len.saturating_sub(offset).min(count as u64) as usize;
        if let (Some(file), Some(part)) = (&self.below, buffer.get_mut(..below)) {
            file.read_at(part, offset)?;
        }
        for (at, data) in &state.writes {
            let from = offset.max(*at);
            let to = (offset + count as u64).min(at + data.len() as u64);
            if from < to {
                let target = (from - offset) as usize..(to - offset) as usize;
                let source = (from - at) as usize..(to - at) as usize;
                buffer[target].copy_from_slice(&data[source]);
            }
        }
        Ok(count)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.below_len = state.below_len.min(len);
        for (at, data) in &mut state.writes {
            data.truncate(len.saturating_sub(*at) as usize);
        }
        state.len = len;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::durable_file::{read_small, write_small};

    #[test]
    fn what_is_done_is_seen_and_the_directory_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::write(path.join("kept"), b"0123456789").unwrap();
        std::fs::write(path.join("gone"), b"there").unwrap();
        let disk = Overlay::new(RealDisk::open(path).unwrap());
        let file = disk.open("kept", false, true).unwrap();
        file.write_at(b"ab", 4).unwrap();
        file.write_at(b"xyz", 9).unwrap();
        let mut buffer = [0; 20];
        assert_eq!(file.read_at(&mut buffer, 2).unwrap(), 10);
        assert_eq!(&buffer[..10], b"23ab678xyz");
        file.set_len(5).unwrap();
        file.set_len(7).unwrap();
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 7);
        assert_eq!(&buffer[..7], b"0123a\0\0");
        disk.remove("gone").unwrap();
        write_small(&disk, "new", b"content").unwrap();
        assert_eq!(read_small(&disk, "new").unwrap().unwrap(), b"content");
        assert_eq!(disk.list().unwrap(), ["kept", "new"]);
        assert!(disk.open("gone", false, false).is_err());
        let real = RealDisk::open(path).unwrap();
        assert_eq!(real.list().unwrap(), ["gone", "kept"]);
        assert_eq!(std::fs::read(path.join("kept")).unwrap(), b"0123456789");
    }
}
