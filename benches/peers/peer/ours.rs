//! Replicas of ours, with this program in the place of the operator.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use replicated_store::replication::admin::{Assignment, Member, ReplicaStatus, Settings};
use replicated_store::replication::{Configuration, Epoch};

use super::{Door, System, answers};
use crate::bench::{Bench, within};
use crate::http::request;
use crate::load::{Load, Outcome};
use crate::server::{Server, free_port};

/// The replica of this build, or another one, to compare two states of it.
fn program() -> PathBuf {
    let other = std::env::var_os("REPLICA").map(PathBuf::from);
    other.unwrap_or_else(|| env!("CARGO_BIN_EXE_replica").into())
}

/// One replica; its ports stay when it is started again.
pub(crate) struct Replica {
    pub(crate) server: Option<Server>,
    pub(crate) folder: PathBuf,
    name: String,
    client: u16,
    peer: u16,
    admin: u16,
}

impl Replica {
    fn new(bench: &Bench) -> Self {
        let [client, peer, admin] = [(); 3].map(|()| free_port());
        let name = format!("replica-{client}");
        Self {
            server: None,
            folder: bench.work().join(&name),
            name,
            client,
            peer,
            admin,
        }
    }

    /// Starts it, and waits until it says something of itself.
    pub(crate) fn start(&mut self, bench: &Bench, options: &[&str]) -> Result<()> {
        let line = format!(
            "run --name {} --listen 127.0.0.1:{} --peer-listen 127.0.0.1:{} --admin-listen 127.0.0.1:{}",
            self.name, self.client, self.peer, self.admin
        );
        let fixed = line.split(' ').map(str::to_owned);
        let mut arguments: Vec<String> = fixed.collect();
        arguments.extend(["--data-dir".to_owned(), self.folder.display().to_string()]);
        arguments.extend(options.iter().map(|&option| option.to_owned()));
        let mut server = Server::start(bench, &self.name, &program(), &arguments)?;
        server.await_up(|| self.status().is_ok())?;
        self.server = Some(server);
        Ok(())
    }

    /// Ends its process, at once.
    pub(crate) fn kill(&mut self) {
        self.server = None;
    }

    pub(crate) fn port(&self) -> u16 {
        self.client
    }

    fn http(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let address = format!("127.0.0.1:{}", self.admin);
        let (code, text) = request(&address, method, path, body)?;
        ensure!(code == 200, "{method} {path}: {code} {text}");
        Ok(text)
    }

    pub(crate) fn status(&self) -> Result<ReplicaStatus> {
        Ok(serde_json::from_str(&self.http("GET", "/status", "")?)?)
    }

    fn member(&self) -> Result<Member> {
        Ok(Member {
            id: self.status()?.id,
            name: self.name.clone(),
            peer_address: format!("127.0.0.1:{}", self.peer),
            client_address: format!("127.0.0.1:{}", self.client),
            fenced: false,
        })
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.server = None;
        // The data may be large, and the next one needs the room.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A store: the first replica leads.
pub(crate) struct Store {
    pub(crate) replicas: Vec<Replica>,
    register: Configuration,
    settings: Settings,
}

impl Store {
    /// A leader, told so.
    pub(crate) fn start(bench: &Bench) -> Result<Self> {
        let mut store = Self {
            replicas: Vec::new(),
            register: Configuration::default(),
            settings: Settings::default(),
        };
        store.add(bench)?;
        let leader = store.replicas[0].status()?.id;
        store.register = Configuration {
            version: 1,
            epoch: Epoch(1),
            leader: Some(leader),
            voters: BTreeSet::from([leader]),
            ..Configuration::default()
        };
        store.assign()?;
        store.serves()?;
        Ok(store)
    }

    pub(crate) fn leader(&self) -> &Replica {
        &self.replicas[0]
    }

    /// Starts one more replica, which nobody knows yet.
    pub(crate) fn add(&mut self, bench: &Bench) -> Result<()> {
        let mut replica = Replica::new(bench);
        replica.start(bench, &[])?;
        self.replicas.push(replica);
        Ok(())
    }

    /// Tells every replica who there is.
    pub(crate) fn assign(&self) -> Result<()> {
        let members: Result<Vec<Member>> = self.replicas.iter().map(Replica::member).collect();
        let assignment = Assignment {
            configuration: self.register.clone(),
            members: members?,
            settings: self.settings.clone(),
            stamp: 0,
        };
        let body = serde_json::to_string(&assignment)?;
        for replica in &self.replicas {
            replica.http("PUT", "/configuration", &body)?;
        }
        Ok(())
    }

    fn serves(&self) -> Result<()> {
        let version = self.register.version;
        within(60, "the leader serves", || {
            let status = self.leader().status().ok()?;
            (status.answers && status.established_version == version).then_some(())
        })
    }

    /// A leader and a follower that has all that it has; with `sync` a write is on both disks before it is
    /// acknowledged.
    pub(crate) fn pair(bench: &Bench, sync: u32) -> Result<Self> {
        let mut store = Self::start(bench)?;
        store.add(bench)?;
        store.assign()?;
        within(60, "the follower is ready", || {
            store.replicas[1].status().ok()?.ready.then_some(())
        })?;
        let follower = store.replicas[1].status()?.id;
        store.register.version += 1;
        store.register.voters.insert(follower);
        store.register.sync = sync;
        store.settings.sync_replicas = sync;
        store.assign()?;
        store.serves()?;
        Ok(store)
    }
}

/// One replica that leads by itself.
pub(crate) fn alone(bench: &Bench, options: &[&str]) -> Result<Replica> {
    let mut replica = Replica::new(bench);
    replica.start(bench, &[&["--standalone"], options].concat())?;
    within(60, "the replica serves", || {
        answers(replica.port()).then_some(())
    })?;
    Ok(replica)
}

/// One, or a store, as a system under load.
pub(crate) struct Ours {
    pub(crate) door: Door,
    /// To be kept running.
    _replicas: Vec<Replica>,
}

impl Ours {
    pub(crate) fn alone(bench: &Bench) -> Result<Self> {
        Ok(Self::of(vec![alone(bench, &[])?]))
    }

    pub(crate) fn pair(bench: &Bench) -> Result<Self> {
        Ok(Self::of(Store::pair(bench, 1)?.replicas))
    }

    fn of(replicas: Vec<Replica>) -> Self {
        Self {
            door: Door::new(replicas[0].port(), false),
            _replicas: replicas,
        }
    }
}

impl System for Ours {
    fn column(&self) -> &'static str {
        "ours"
    }

    fn run(&mut self, bench: &Bench, load: &Load) -> Result<Outcome> {
        self.door.run(bench, load)
    }
}

/// Version of the program.
pub(crate) fn title() -> Result<String> {
    let text = crate::bench::output("", &program(), &["--version"])?;
    let version = text.split_whitespace().nth(1).context("no version")?;
    Ok(format!("replicated-store {version}"))
}
