//! What a connection carries from one command to the next.

use super::ClientInfo;
use super::scan::Collected;
use super::table::{Command, flags};
use crate::resp::{OwnedArgs, Protocol};

/// The state of one connection, as far as commands know it.
#[derive(Debug)]
pub struct Session {
    /// Its id, unique in the life of the process.
    pub id: u64,
    /// The client's address and port.
    pub address: String,
    /// Our address and port.
    pub local_address: String,
    /// Version of the protocol.
    pub protocol: Protocol,
    /// Whether the client may use commands; set at the start if no password is required.
    pub authenticated: bool,
    /// Name by SETNAME.
    pub name: String,
    /// Library by SETINFO.
    pub lib_name: String,
    /// The library's version by SETINFO.
    pub lib_version: String,
    /// READONLY was given: the client accepts reads from a follower.
    pub reads_followers: bool,
    /// `CLIENT CAPA redirect` was given.
    pub takes_redirects: bool,
    /// What looks at the state is handed to the leader, reads as well as writes. The shell sets it before
    /// commands are routed.
    pub at_leader: bool,
    /// The last command's full name.
    pub last_command: &'static str,
    /// Set whenever something changes that other connections see in CLIENT LIST; the shell clears it.
    pub changed: bool,
    /// For the KEYS that comes next; without it that walks over all keys.
    pub collected: Option<Collected>,
    pub(super) replies: Replies,
    pub(super) transaction: Option<Transaction>,
    pub(super) watched: Vec<Watched>,
}

/// Whether replies go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Replies {
    #[default]
    On,
    Off,
    /// The next command's reply is dropped.
    SkipNext,
    /// This command's reply is dropped.
    Skipping,
}

/// Commands between MULTI and EXEC.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) queue: Vec<(&'static Command, OwnedArgs)>,
    /// Bytes of memory that the queue holds.
    pub(super) footprint: usize,
    /// A command was refused: EXEC must not run the rest.
    pub(super) aborted: bool,
    /// What EXEC will do: `WRITE` if a command writes, `LOADING` if all are allowed while loading.
    pub(super) flags: u32,
}

impl Default for Transaction {
    fn default() -> Self {
        Self {
            queue: Vec::new(),
            footprint: 0,
            aborted: false,
            flags: flags::LOADING,
        }
    }
}

impl Transaction {
    /// Notes what one more command will do.
    pub(super) fn admit(&mut self, command: &Command) {
        self.flags |= command.flags & (flags::WRITE | flags::DENYOOM);
        self.flags &= command.flags | !flags::LOADING;
    }
}

/// A key under WATCH.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) key: Vec<u8>,
    /// LSN of the entry then; `None` if there was none.
    pub(super) lsn: Option<u64>,
}

impl Session {
    /// The session of a new connection.
    pub fn new(id: u64, address: String, local_address: String, authenticated: bool) -> Self {
        Self {
            id,
            address,
            local_address,
            protocol: Protocol::Resp2,
            authenticated,
            name: String::new(),
            lib_name: String::new(),
            lib_version: String::new(),
            reads_followers: false,
            takes_redirects: false,
            at_leader: false,
            last_command: "NULL",
            changed: true,
            collected: None,
            replies: Replies::On,
            transaction: None,
            watched: Vec::new(),
        }
    }

    /// Whether commands are being queued.
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// What other connections see of it. Times and buffers are the shell's to fill in.
    pub fn describe(&self) -> ClientInfo {
        ClientInfo {
            id: self.id,
            address: self.address.clone(),
            local_address: self.local_address.clone(),
            name: self.name.clone(),
            lib_name: self.lib_name.clone(),
            lib_version: self.lib_version.clone(),
            protocol: self.protocol.number(),
            queued: self
                .transaction
                .as_ref()
                .map(|transaction| transaction.queue.len()),
            watched: self.watched.len(),
            last_command: self.last_command,
            ..ClientInfo::default()
        }
    }

    /// RESET: as new, but with its id, its addresses and where it is served.
    pub(super) fn reset(&mut self, authenticated: bool) {
        let fresh = Self::new(
            self.id,
            std::mem::take(&mut self.address),
            std::mem::take(&mut self.local_address),
            authenticated,
        );
        *self = Self {
            at_leader: self.at_leader,
            ..fresh
        };
    }
}
