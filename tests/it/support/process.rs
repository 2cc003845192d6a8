//! One replica as a process.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use replicated_store::replication::ReplicaId;
use replicated_store::replication::admin::{Digest, Member, ReplicaStatus};
use rustix::process::{Pid, Signal};

use super::http::request;
use super::{Client, eventually};

/// A replica: its directory and ports stay when the process is killed and started again.
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    arguments: Vec<String>,
    ports: [u16; 4],
    child: Option<Child>,
    /// What it said of itself last: a frozen one says nothing.
    id: Cell<Option<ReplicaId>>,
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// A port that nobody has, below those that the kernel gives to whoever connects: one of those may be
/// taken again before the replica listens.
fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU16::new(rand::random()));
    loop {
        let port = 10_000 + next.fetch_add(1, Ordering::Relaxed) % 22_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Replica {
    /// A replica that is not running yet, with its data below `root`.
    pub(crate) fn new(root: &Path, name: &str, arguments: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            dir: root.join(name),
            arguments: texts(&[arguments, &["--leave-timeout", "0"]].concat()),
            ports: [(); 4].map(|()| free_port()),
            child: None,
            id: Cell::new(None),
        }
    }

    pub(crate) fn client_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// Where it answers as the leader does.
    pub(crate) fn leader_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[3])
    }

    fn peer_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[1])
    }

    pub(crate) fn admin_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[2])
    }

    /// Starts the process and waits until it answers.
    pub(crate) fn start(&mut self) {
        self.spawn();
        eventually("the replica answers", || {
            let exited = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten());
            assert!(
                exited.is_none(),
                "{} ended: {exited:?}\n{}",
                self.name,
                self.log()
            );
            self.status()
        });
    }

    /// Starts the process.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} is running", self.name);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path());
        let program = std::env::var_os("IT_REPLICA");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_replica").into());
        let child = Command::new(program)
            .args(["run", "--name", &self.name, "--data-dir"])
            .arg(&self.dir)
            .args(["--listen", &self.client_address()])
            .args(["--leader-listen", &self.leader_address()])
            .args(["--peer-listen", &self.peer_address()])
            .args(["--admin-listen", &self.admin_address()])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"))
            .spawn();
        self.child = Some(child.expect("the replica starts"));
    }

    fn log_path(&self) -> PathBuf {
        self.dir.with_extension("log")
    }

    /// What the process wrote.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The process, if it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a running replica");
        let pid = Pid::from_child(child);
        rustix::process::kill_process(pid, signal).expect("a signal to our own child");
    }

    /// Stops the process at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Asks the process to stop; its exit must be a clean one.
    pub(crate) fn terminate(&mut self) {
        self.signal(Signal::TERM);
        let ended = self.wait();
        assert!(
            ended.success(),
            "{} ended with {ended}\n{}",
            self.name,
            self.log()
        );
    }

    /// Kills the process and starts it again with other arguments.
    pub(crate) fn restart_with(&mut self, arguments: &[&str]) {
        self.kill();
        self.arguments = texts(arguments);
        self.start();
    }

    /// Asks the process to stop, and does not wait for it.
    pub(crate) fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// How the process has ended, if it has.
    pub(crate) fn try_wait(&mut self) -> Option<std::process::ExitStatus> {
        let child = self.child.as_mut()?;
        let ended = child.try_wait().expect("our own child");
        if ended.is_some() {
            self.child = None;
        }
        ended
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let mut child = self.child.take().expect("a running replica");
        child.wait().expect("our own child")
    }

    /// Stops every thread of the process where it is.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        let pid = self.child.as_ref().expect("a running replica").id();
        let stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
            let (_, state) = stat.rsplit_once(") ")?;
            state.starts_with('T').then_some(())
        };
        eventually("the process stands still", || {
            let mut tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
            tasks.all(|task| stopped(task).is_some()).then_some(())
        });
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Throws the data away; the process must not be running.
    pub(crate) fn lose_disk(&mut self) {
        assert!(self.child.is_none(), "{} is running", self.name);
        // The directory itself may be a file system's.
        for entry in std::fs::read_dir(&self.dir).expect("the data directory") {
            let path = entry.expect("an entry").path();
            let gone = if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            gone.unwrap_or_else(|error| panic!("{} goes: {error}", path.display()));
        }
    }

    pub(crate) fn http(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> std::io::Result<(u16, String)> {
        request(&self.admin_address(), method, path, body)
    }

    /// A stream of its statuses, of which the first has been read.
    pub(crate) fn watch(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.admin_address()).expect("a connection");
        let request = b"GET /status/stream HTTP/1.1\r\nhost: test\r\n\r\n";
        stream.write_all(request).expect("a request");
        let mut first = [0; 512];
        assert!(stream.read(&mut first).expect("an answer") > 0);
        stream
    }

    /// What it says of itself, if it answers.
    pub(crate) fn status(&self) -> Option<ReplicaStatus> {
        let (code, body) = self.http("GET", "/status", "").ok()?;
        assert_eq!(code, 200, "{body}");
        let status: ReplicaStatus = serde_json::from_str(&body).expect("a status");
        self.id.set(Some(status.id));
        Some(status)
    }

    /// Digest of its state.
    pub(crate) fn digest(&self) -> Digest {
        eventually("a digest", || {
            let (code, body) = self.http("GET", "/digest", "").ok()?;
            (code == 200).then(|| serde_json::from_str(&body).expect("a digest"))
        })
    }

    /// How others know it; it must have run.
    pub(crate) fn member(&self) -> Member {
        Member {
            fenced: false,
            id: self.id.get().expect("a replica that has run"),
            name: self.name.clone(),
            peer_address: self.peer_address(),
            client_address: self.client_address(),
        }
    }

    /// A client, once it serves.
    pub(crate) fn ready(&self) -> Client {
        eventually("the replica serves", || self.status()?.ready.then_some(()));
        self.client()
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.client_address()).expect("the replica accepts clients")
    }

    /// A file of its data directory, for damage.
    pub(crate) fn open(&self, name: &str) -> File {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.dir.join(name));
        file.expect("a file of the replica")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // A panic here, in the course of another one, would end all the tests: it may have ended by itself.
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            println!("--- log of {}:\n{}", self.name, self.log());
        }
    }
}
