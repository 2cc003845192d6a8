//! What a command waits for before it is executed, without the lock: that keys which are only on disk
//! are read, or the page of a scan, or all keys for a KEYS, and, if it writes, that the flush has caught up.
//! Reads of what is in memory wait for neither.

use std::sync::Arc;
use std::time::Duration;

use super::inner::Inner;
use super::node::Node;
use super::walk::{self, Walked};
use crate::command::{Session, keys_ahead, scan_ahead, touch};
use crate::resp::{Args, Decoded, Decoder};
use crate::store::{PageReader, Store, Warmer};

/// Commands that are looked at ahead for cold keys.
const MAX_COMMANDS: usize = 256;
/// Cold keys that are read at once.
const MAX_KEYS: usize = 256;
/// Who is not told of relief looks again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What stands before a command.
pub(super) enum Hold {
    /// These keys of the next commands are on disk only.
    Cold(Cold),
    /// The next keys of a scan are.
    Page(PageReader),
    /// Those keys of all that match this pattern are wanted.
    All(Vec<u8>),
    /// Too much waits to be flushed for another write.
    Stalled,
}

/// What was waited for.
#[derive(Default)]
pub(super) struct Held {
    /// The number of commands whose keys have been read.
    pub(super) commands: usize,
    /// For the KEYS that comes next.
    pub(super) walked: Option<Walked>,
}

/// Keys to be read.
pub(super) struct Cold {
    warmer: Warmer,
    keys: Vec<Vec<u8>>,
    /// The commands that they are of.
    commands: usize,
}

/// What the command waits for that is next in `input`, whose arguments are `args`. `read`: its keys
/// have been read, and are looked up on disk if they are gone again.
#[inline]
pub(super) fn before(
    inner: &Inner,
    session: &Session,
    args: Args<'_>,
    input: &[u8],
    read: bool,
) -> Option<Hold> {
    let store = inner.store.as_ref()?;
    if !read {
        if let Some((cursor, count)) = scan_ahead(session, args) {
            return store.page_reader(cursor, count).map(Hold::Page);
        }
        if let Some(pattern) = keys_ahead(session, args) {
            return Some(Hold::All(pattern));
        }
    }
    let stalled = inner.stalls_writers();
    if (read || store.holds_everything()) && !stalled {
        return None;
    }
    let mut cold = false;
    let writes = touch(session, args, |key| cold |= !read && store.is_cold(key));
    if writes && stalled {
        return Some(Hold::Stalled);
    }
    cold.then(|| Hold::Cold(gather(store, session, input)))
}

/// The cold keys of the commands at the beginning of `input`: those of a pipeline are read together.
fn gather(store: &Store, session: &Session, mut input: &[u8]) -> Cold {
    let mut decoder = Decoder::default();
    let (mut keys, mut commands) = (Vec::new(), 0);
    while commands < MAX_COMMANDS && keys.len() < MAX_KEYS {
        let Ok(Decoded::Command { args, consumed }) = decoder.decode(input) else {
            break;
        };
        touch(session, args, |key| {
            if store.is_cold(key) {
                keys.push(key.to_vec());
            }
        });
        commands += 1;
        input = input.get(consumed..).unwrap_or_default();
    }
    let warmer = store.warmer();
    Cold {
        warmer,
        keys,
        commands,
    }
}

impl Hold {
    /// Waits for it.
    pub(super) async fn wait(self, node: &Arc<Node>) -> Held {
        let mut held = Held::default();
        match self {
            Self::Cold(cold) => held.commands = cold.read(node).await,
            Self::Page(reader) => {
                read_page(node, reader).await;
                held.commands = 1;
            }
            Self::All(pattern) => {
                held.walked = walk::collect(node, pattern).await;
                held.commands = 1;
            }
            Self::Stalled => {
                node.upkeep.notify_all();
                let _ = tokio::time::timeout(LOOK_AGAIN, node.relief.notified()).await;
            }
        }
        held
    }
}

impl Cold {
    async fn read(self, node: &Arc<Node>) -> usize {
        read_keys(node, self.warmer, self.keys).await;
        self.commands
    }
}

/// Reads what a SCAN asks for next.
async fn read_page(node: &Arc<Node>, reader: PageReader) {
    match tokio::task::spawn_blocking(|| reader.read()).await {
        Ok(Ok(page)) => node.with(|inner| {
            if let Some(store) = &mut inner.store {
                store.take_page(page);
            }
        }),
        // The scan itself gets the error.
        Ok(Err(error)) => tracing::warn!(%error, "reading keys from the disk"),
        Err(error) => tracing::warn!(%error, "reading keys from the disk"),
    }
}

/// Reads keys into the cache.
pub(super) async fn read_keys(node: &Arc<Node>, warmer: Warmer, keys: Vec<Vec<u8>>) {
    let read = move || warmer.read(keys.iter().map(Vec::as_slice));
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(warm)) => node.with(|inner| {
            if let Some(store) = &mut inner.store {
                store.take_warm(warm);
            }
        }),
        // Whoever looks the key up gets the error.
        Ok(Err(error)) => tracing::warn!(%error, "reading keys from the disk"),
        Err(error) => tracing::warn!(%error, "reading keys from the disk"),
    }
}

/// Reads the cold keys of the commands in `input`, which another replica has sent.
pub(super) async fn read_ahead(node: &Arc<Node>, session: &Session, input: &[u8]) {
    let cold = node.with(|inner| {
        let store = inner.store.as_ref().filter(|_| inner.accepting)?;
        let cold = (!store.holds_everything()).then(|| gather(store, session, input));
        cold.filter(|cold| !cold.keys.is_empty())
    });
    if let Some(cold) = cold {
        cold.read(node).await;
    }
}
