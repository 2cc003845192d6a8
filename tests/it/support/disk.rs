//! A file system of its own, for a replica that is to have little room, or a disk that stalls.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// An ext4 file system in a file, mounted.
pub(crate) struct SmallDisk {
    directory: TempDir,
    mounted: bool,
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    let status = command
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

impl SmallDisk {
    /// `None` where this user may not mount anything.
    pub(crate) fn new(size: u64) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (image, mount) = (
            directory.path().join("image"),
            directory.path().join("mount"),
        );
        std::fs::create_dir(&mount).expect("a directory");
        let file = std::fs::File::create(&image).expect("a file");
        file.set_len(size).expect("a sparse file");
        let mut disk = Self {
            directory,
            mounted: false,
        };
        let (image, mount) = (image.to_str()?, mount.to_str()?);
        disk.mounted =
            run("mkfs.ext4", &["-q", image]) && run("mount", &["-o", "loop", image, mount]);
        disk.mounted.then_some(disk)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    pub(crate) fn freeze(&self, how: &str) -> bool {
        let path = self.path();
        run("fsfreeze", &[how, path.to_str().expect("a path of ours")])
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            self.freeze("-u"); // it fails where it is not frozen
            run(
                "umount",
                &["--lazy", self.path().to_str().expect("a path of ours")],
            );
        }
    }
}

/// The first replicas of a test store have their data there.
pub(crate) fn link_to(root: &Path, disks: impl IntoIterator<Item = PathBuf>) {
    for (number, disk) in disks.into_iter().enumerate() {
        symlink(disk, root.join(format!("replica-{number}"))).expect("a link");
    }
}
