//! A directory of the machine.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, OFlags};

use super::disk::{Disk, File};

/// A directory of the machine.
#[derive(Clone, Debug)]
pub struct RealDisk {
    path: PathBuf,
    /// The directory itself, to sync it.
    directory: Arc<fs::File>,
}

/// Keeps other processes out of a directory for as long as it lives.
#[derive(Debug)]
pub struct DirLock {
    _directory: fs::File,
}

impl RealDisk {
    /// Opens a directory, creating it (durably) if there is none.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        make_dir(&path)?;
        let directory = Arc::new(fs::File::open(&path)?);
        Ok(Self { path, directory })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the directory for this process; an error of kind `WouldBlock` if another has it.
    pub fn lock(&self) -> io::Result<DirLock> {
        let directory = fs::File::open(&self.path)?;
        rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
        Ok(DirLock {
            _directory: directory,
        })
    }
}

/// Sees to it that there is such a directory, and that a crash leaves it there.
pub fn make_dir(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let made = !path.is_dir();
    if made {
        make_dir(parent)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => created?,
        }
    }
    // Also where it is there: who made it may have ended before it was durable.
    match fs::File::open(parent).and_then(|parent| parent.sync_all()) {
        Err(error) if !made && is_foreign(&error) => Ok(()),
        synced => synced,
    }
}

/// Whether a directory, of a mount say, is not ours to sync.
fn is_foreign(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::Unsupported
    )
}

impl Disk for RealDisk {
    fn open(&self, name: &str, create: bool, sync: bool) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(create);
        if sync {
            options.custom_flags(OFlags::DSYNC.bits().cast_signed());
        }
        Ok(Arc::new(RealFile(options.open(self.path.join(name))?)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // What is no file, or has a name that is no text, is not ours.
            if let (true, Ok(name)) = (
                entry.file_type()?.is_file(),
                entry.file_name().into_string(),
            ) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::fstatvfs(&self.directory)?;
        Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
    }
}

struct RealFile(fs::File);

impl File for RealFile {
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .0
                .read_at(&mut buffer[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        // The data and what is needed to read it (the length), not the times.
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_listed_renamed_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path().join("new/data")).unwrap();
        let file = disk.open("a", true, true).unwrap();
        file.write_at(b"hello", 3).unwrap();
        let mut buffer = [1; 16];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 8);
        assert_eq!(&buffer[..8], b"\0\0\0hello");
        disk.rename("a", "b").unwrap();
        disk.sync_dir().unwrap();
        assert_eq!(disk.list().unwrap(), ["b"]);
        assert_eq!(
            disk.open("a", false, false).err().unwrap().kind(),
            io::ErrorKind::NotFound
        );
        disk.remove("b").unwrap();
        assert!(disk.list().unwrap().is_empty());
        assert_eq!(file.len().unwrap(), 8, "an open file stays readable");
        let (free, total) = disk.space().unwrap();
        assert!(0 < free && free <= total);
    }

    #[test]
    fn a_directory_belongs_to_one() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        let lock = disk.lock().unwrap();
        assert_eq!(disk.lock().err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        disk.lock().unwrap();
    }
}
