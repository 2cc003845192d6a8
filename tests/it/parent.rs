//! The parent of a replica's process tells of its end at once, and starts it again.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use replicated_store::replication::admin::{ProcessStatus, ReplicaStatus};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::support::{eventually, request};

/// A parent with its replica.
struct Family {
    parent: Child,
    process: String,
    admin: String,
    _data: TempDir,
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").to_string()
}

impl Family {
    fn start(restart_after: &str) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let (process, admin) = (free_address(), free_address());
        let parent = Command::new(env!("CARGO_BIN_EXE_replica"))
            .args(["supervise", "--process-listen", &process])
            .args(["--restart-after", restart_after, "--standalone"])
            .args([
                "--listen",
                &free_address(),
                "--admin-listen",
                &admin,
                "--data-dir",
            ])
            .arg(data.path())
            .stderr(Stdio::null())
            .spawn()
            .expect("a parent");
        let family = Self {
            parent,
            process,
            admin,
            _data: data,
        };
        eventually("the replica answers", || family.replica());
        family
    }

    fn replica(&self) -> Option<ReplicaStatus> {
        let (code, body) = request(&self.admin, "GET", "/status", "").ok()?;
        (code == 200).then(|| serde_json::from_str(&body).expect("a status"))
    }

    fn process(&self) -> Option<ProcessStatus> {
        let (code, body) = request(&self.process, "GET", "/process", "").ok()?;
        (code == 200).then(|| serde_json::from_str(&body).expect("a page"))
    }

    fn children(&self) -> Vec<i32> {
        let pid = self.parent.id();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }

    fn kill_child(&self) {
        let children = self.children();
        let [child] = children[..] else {
            panic!("one child, not {children:?}")
        };
        let pid = Pid::from_raw(child).expect("a process id");
        rustix::process::kill_process(pid, Signal::KILL).expect("a signal to our own child");
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let _ = self.parent.kill();
        let _ = self.parent.wait();
    }
}

#[test]
fn a_replica_that_ran_is_started_again_and_its_end_is_told() {
    let family = Family::start("0");
    let first = family.replica().unwrap().incarnation;
    assert_eq!(family.process().unwrap().running, Some(first));
    family.kill_child();
    let told = eventually("its end is told", || {
        family.process().filter(|told| told.ended.contains(&first))
    });
    assert_ne!(told.running, Some(first));
    let second = eventually("another one runs", || family.replica());
    assert_ne!(second.incarnation, first);
}

/// A replica that cannot run is left to whoever watches the parent.
#[test]
fn a_replica_that_ends_at_once_ends_its_parent() {
    let mut family = Family::start("1000");
    family.kill_child();
    let ended = family.parent.wait().expect("its end");
    assert_eq!(ended.code(), Some(128 + 9));
}

#[test]
fn a_stop_is_handed_on() {
    let mut family = Family::start("0");
    let pid = Pid::from_child(&family.parent);
    rustix::process::kill_process(pid, Signal::TERM).expect("a signal to our own child");
    assert!(family.parent.wait().expect("its end").success());
}

/// No replica without its parent: another one could be started on the same data.
#[test]
fn a_replica_ends_with_its_parent() {
    let mut family = Family::start("0");
    let child = family.children()[0];
    family.parent.kill().expect("our own child");
    family.parent.wait().expect("its end");
    eventually("the replica is gone", || {
        let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        (state.is_empty() || state.contains(") Z ")).then_some(())
    });
}
