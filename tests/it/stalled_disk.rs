//! A disk that does not answer: a small file system of its own for one replica, which is frozen.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use replicated_store::replication::admin::{Role, Settings};
use tempfile::TempDir;

use super::support::{Client, TestStore, eventually};

/// An ext4 file system in a file, mounted.
struct SmallDisk {
    directory: TempDir,
    mounted: bool,
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    let status = command.args(arguments).stdout(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

impl SmallDisk {
    /// `None` where this user may not mount anything.
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (image, mount) = (
            directory.path().join("image"),
            directory.path().join("mount"),
        );
        std::fs::create_dir(&mount).expect("a directory");
        let file = std::fs::File::create(&image).expect("a file");
        file.set_len(1 << 30).expect("a sparse file");
        let mut disk = Self {
            directory,
            mounted: false,
        };
        let (image, mount) = (image.to_str()?, mount.to_str()?);
        disk.mounted =
            run("mkfs.ext4", &["-q", image]) && run("mount", &["-o", "loop", image, mount]);
        disk.mounted.then_some(disk)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    fn freeze(&self, how: &str) -> bool {
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

/// Goal: a leader whose disk stalls does not take the store with it.
/// Method: the leader's disk is frozen under a writer. It steps down by itself within a lease or
/// two and says why; two others elect one of them, which takes writes; after the thaw the old one
/// rejoins, and nothing acknowledged is lost.
#[test]
fn a_leader_whose_disk_stalls_steps_down() {
    let Some(disk) = SmallDisk::new() else {
        println!("not run: it needs to mount a file system, as root");
        return;
    };
    let settings = Settings {
        sync_replicas: 1,
        log_retention: 64 << 20,
        ..Settings::default()
    };
    let link = |root: &Path| {
        std::os::unix::fs::symlink(disk.path(), root.join("replica-0")).expect("a link");
    };
    let mut store = TestStore::start_in(3, settings, link);
    store.everybody_votes(1);
    store.settle();
    let mut client = store.replicas[0].client();
    for i in 0..100 {
        client.set(&format!("key:{i}"), "value").expect("a write");
    }

    assert!(disk.freeze("-f"), "freezing a file system of ours");
    let address = store.replicas[0].client_address();
    let hanging = std::thread::spawn(move || Client::connect(&address)?.set("lost", "maybe"));
    let status = eventually("the leader steps down", || {
        let status = store.replicas[0].status()?;
        (status.role == Role::Follower).then_some(status)
    });
    assert!(status.message.contains("disk"), "{}", status.message);
    assert!(
        hanging.join().expect("no panic").is_err(),
        "no reply, as nobody knows"
    );

    store.promote_by(1, &[1, 2]);
    store.leader_serves();
    let mut client = store.replicas[1].client();
    for i in 0..100 {
        let value = client.get(&format!("key:{i}")).unwrap();
        assert_eq!(value.as_deref(), Some("value"), "key:{i}");
    }
    client.set("after", "1").expect("a write");
    assert!(disk.freeze("-u"), "thawing it");
    store.assert_same();
}
