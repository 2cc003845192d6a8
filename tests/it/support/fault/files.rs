//! The files of the faulty disk: those of a directory, under their own inode numbers.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::*;
use parking_lot::Mutex;
use rustix::fs::OFlags;

use super::unsynced::Unsynced;
use super::{Action, Faults, Wrong};

/// Names are looked up each time: the kernel must not think that it knows.
const TTL: Duration = Duration::ZERO;

struct Open {
    ino: u64,
    file: Arc<File>,
    /// Every write is durable when it returns.
    sync: bool,
}

pub(super) struct Files {
    root: PathBuf,
    root_ino: u64,
    /// Where a file was seen last: its directory and its name in it.
    places: Mutex<HashMap<u64, (u64, PathBuf)>>,
    open: Mutex<HashMap<u64, Arc<Open>>>,
    next: AtomicU64,
    faults: Arc<Faults>,
    unsynced: Arc<Unsynced>,
}

/// Sends what a request came to.
macro_rules! answer {
    ($reply:ident, $result:expr, $value:pat => $good:expr) => {
        match $result {
            Ok($value) => $good,
            Err(error) => $reply.error(Errno::from(error)),
        }
    };
}

impl Files {
    pub(super) fn new(root: PathBuf, faults: Arc<Faults>, unsynced: Arc<Unsynced>) -> Self {
        let root_ino = fs::metadata(&root).map_or(0, |data| data.ino());
        Self {
            root,
            root_ino,
            places: Mutex::default(),
            open: Mutex::default(),
            next: AtomicU64::new(1),
            faults,
            unsynced,
        }
    }

    /// The number that the kernel knows a file by.
    fn number(&self, ino: u64) -> INodeNo {
        INodeNo(if ino == self.root_ino { 1 } else { ino })
    }

    fn path(&self, ino: INodeNo) -> io::Result<PathBuf> {
        let places = self.places.lock();
        let (mut ino, mut path) = (ino.0, PathBuf::new());
        while ino != 1 {
            let (parent, name) = places.get(&ino).ok_or(io::ErrorKind::NotFound)?;
            path = if path.as_os_str().is_empty() {
                name.clone()
            } else {
                name.join(path)
            };
            ino = *parent;
        }
        Ok(self.root.join(path))
    }

    fn below(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    /// Notes where a file is, and tells what it is.
    fn found(&self, parent: INodeNo, name: &OsStr, data: &Metadata) -> FileAttr {
        let place = (parent.0, PathBuf::from(name));
        self.places.lock().insert(data.ino(), place);
        self.attributes(data)
    }

    fn attributes(&self, data: &Metadata) -> FileAttr {
        let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
        FileAttr {
            ino: self.number(data.ino()),
            size: data.len(),
            blocks: data.blocks(),
            atime: time(data.atime()),
            mtime: time(data.mtime()),
            ctime: time(data.ctime()),
            crtime: UNIX_EPOCH,
            kind: if data.is_dir() {
                FileType::Directory
            } else {
                FileType::RegularFile
            },
            perm: (data.mode() & 0o7777) as u16,
            nlink: data.nlink() as u32,
            uid: data.uid(),
            gid: data.gid(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn handle(&self, fh: FileHandle) -> io::Result<Arc<Open>> {
        let open = self.open.lock().get(&fh.0).cloned();
        open.ok_or_else(|| io::Error::from_raw_os_error(9))
    }

    /// What is open of a file, or else the file itself.
    fn file(&self, ino: INodeNo, fh: Option<FileHandle>) -> io::Result<Arc<File>> {
        if let Some(fh) = fh {
            return Ok(Arc::clone(&self.handle(fh)?.file));
        }
        let open = self.open.lock();
        if let Some(open) = open.values().find(|open| open.ino == ino.0) {
            return Ok(Arc::clone(&open.file));
        }
        drop(open);
        Ok(Arc::new(File::options().read(true).open(self.path(ino)?)?))
    }

    fn opened(&self, file: File, flags: i32) -> io::Result<FileHandle> {
        let ino = file.metadata()?.ino();
        let sync = OFlags::from_bits_retain(flags as u32).intersects(OFlags::DSYNC | OFlags::SYNC);
        let fh = self.next.fetch_add(1, Ordering::Relaxed);
        let open = Open {
            ino,
            file: Arc::new(file),
            sync,
        };
        self.open.lock().insert(fh, Arc::new(open));
        Ok(FileHandle(fh))
    }

    /// Waits, fails or says that only half should be done, if that is the fault of the moment.
    fn suffer(&self, action: Action, ino: u64) -> io::Result<bool> {
        let path = self.path(INodeNo(ino)).unwrap_or_default();
        let path = path.strip_prefix(&self.root).unwrap_or(&path);
        match self.faults.strikes(action, path) {
            None => Ok(false),
            Some(Wrong::Torn) => Ok(true),
            Some(Wrong::Fails | Wrong::FailsOnce) => Err(broken()),
            Some(Wrong::Takes(time)) => {
                std::thread::sleep(time);
                Ok(false)
            }
        }
    }

    /// The path of a name that is to be changed, unless that fails.
    fn changing(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        let path = self.below(parent, name)?;
        let below = path.strip_prefix(&self.root).unwrap_or(&path);
        match self.faults.strikes(Action::Name, below) {
            None | Some(Wrong::Torn) => {}
            Some(Wrong::Fails | Wrong::FailsOnce) => return Err(broken()),
            Some(Wrong::Takes(time)) => std::thread::sleep(time),
        }
        Ok(path)
    }

    fn written(&self, fh: FileHandle, offset: u64, data: &[u8]) -> io::Result<u32> {
        let open = self.handle(fh)?;
        let torn = self.suffer(Action::Write, open.ino)?;
        let data = if torn { &data[..data.len() / 2] } else { data };
        self.unsynced
            .note(open.ino, &open.file, offset, data.len())?;
        open.file.write_all_at(data, offset)?;
        if torn {
            return Err(broken());
        }
        if open.sync {
            self.suffer(Action::Sync, open.ino)?;
            self.unsynced.synced(open.ino);
        }
        Ok(data.len() as u32)
    }

    fn contents(&self, fh: FileHandle, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        let open = self.handle(fh)?;
        self.suffer(Action::Read, open.ino)?;
        let mut buffer = vec![0; size as usize];
        let mut filled = 0;
        while filled < buffer.len() {
            match open
                .file
                .read_at(&mut buffer[filled..], offset + filled as u64)?
            {
                0 => break,
                read => filled += read,
            }
        }
        buffer.truncate(filled);
        Ok(buffer)
    }

    fn synced(&self, fh: FileHandle) -> io::Result<()> {
        let open = self.handle(fh)?;
        self.suffer(Action::Sync, open.ino)?;
        self.unsynced.synced(open.ino);
        Ok(())
    }

    fn listed(&self, ino: INodeNo) -> io::Result<Vec<(INodeNo, FileType, PathBuf)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.path(ino)?)? {
            let entry = entry?;
            let kind = if entry.file_type()?.is_dir() {
                FileType::Directory
            } else {
                FileType::RegularFile
            };
            let ino = std::os::unix::fs::DirEntryExt::ino(&entry);
            all.push((INodeNo(ino), kind, PathBuf::from(entry.file_name())));
        }
        all.sort_by(|a, b| a.2.cmp(&b.2));
        Ok(all)
    }

    fn moved(&self, from: &Path, to: &Path, parent: INodeNo, name: &OsStr) -> io::Result<()> {
        fs::rename(from, to)?;
        let data = fs::metadata(to)?;
        self.found(parent, name, &data);
        Ok(())
    }
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let data = self.below(parent, name).and_then(fs::symlink_metadata);
        answer!(reply, data, data => {
            reply.entry(&TTL, &self.found(parent, name, &data), Generation(0));
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let data = if ino.0 == 1 {
            fs::metadata(&self.root)
        } else {
            self.file(ino, fh).and_then(|file| file.metadata())
        };
        answer!(reply, data, data => reply.attr(&TTL, &self.attributes(&data)));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        fh: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = || -> io::Result<Metadata> {
            let Some(size) = size else {
                return match ino.0 {
                    1 => fs::metadata(&self.root),
                    _ => self.file(ino, fh)?.metadata(),
                };
            };
            let file = match fh {
                Some(_) => self.file(ino, fh)?,
                None => Arc::new(File::options().write(true).open(self.path(ino)?)?),
            };
            self.unsynced.synced(ino.0);
            file.set_len(size)?;
            file.metadata()
        };
        answer!(reply, set(), data => reply.attr(&TTL, &self.attributes(&data)));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let made = self.changing(parent, name).and_then(|path| {
            fs::create_dir(&path)?;
            fs::metadata(path)
        });
        answer!(reply, made, data => {
            reply.entry(&TTL, &self.found(parent, name, &data), Generation(0));
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let gone = self.changing(parent, name).and_then(fs::remove_file);
        answer!(reply, gone, () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let gone = self.changing(parent, name).and_then(fs::remove_dir);
        answer!(reply, gone, () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let moved = self.changing(parent, name).and_then(|from| {
            let to = self.below(newparent, newname)?;
            self.moved(&from, &to, newparent, newname)
        });
        answer!(reply, moved, () => reply.ok());
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let linked = self.path(ino).and_then(|path| {
            let to = self.changing(newparent, newname)?;
            fs::hard_link(path, &to)?;
            fs::metadata(to)
        });
        answer!(reply, linked, data => {
            reply.entry(&TTL, &self.found(newparent, newname, &data), Generation(0));
        });
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.path(ino).and_then(|path| {
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            self.opened(file, flags.0)
        });
        answer!(reply, opened, fh => reply.opened(fh, FopenFlags::FOPEN_DIRECT_IO));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let created = self.changing(parent, name).and_then(|path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let file = options.open(path)?;
            let data = file.metadata()?;
            Ok((self.opened(file, flags)?, data))
        });
        answer!(reply, created, (fh, data) => {
            let attributes = self.found(parent, name, &data);
            reply.created(&TTL, &attributes, Generation(0), fh, FopenFlags::FOPEN_DIRECT_IO);
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        answer!(reply, self.contents(fh, offset, size), data => reply.data(&data));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        answer!(reply, self.written(fh, offset, data), len => reply.written(len));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.open.lock().remove(&fh.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.synced(fh), () => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        answer!(reply, self.listed(ino), all => {
            for (at, (ino, kind, name)) in all.into_iter().enumerate().skip(offset as usize) {
                if reply.add(ino, at as u64 + 1, kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let space = rustix::fs::statvfs(&self.root).map_err(io::Error::from);
        answer!(reply, space, space => reply.statfs(
            space.f_blocks, space.f_bfree, space.f_bavail, space.f_files, space.f_ffree,
            space.f_bsize as u32, 255, space.f_frsize as u32,
        ));
    }
}
