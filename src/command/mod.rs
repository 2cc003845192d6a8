//! The commands of the Redis protocol: one file per family, executed against a [`View`].
//!
//! It must not know the log, replication, sockets or tasks.
//!
//! [`execute()`] is the way in. It finds the command in the [`table`], checks what the table says about
//! it, and calls its handler, which reads and changes the state through the view alone.

// Handlers have one type, whether they can fail or not.
#![allow(clippy::unnecessary_wraps)]

mod acl;
mod call;
mod client;
mod clients;
mod config;
mod connection;
mod counters;
mod decimal;
mod error;
mod execute;
mod expiry;
mod forward;
mod glob;
mod host;
mod info;
mod introspect;
mod keys;
mod object;
mod ranges;
mod scan;
mod server;
mod session;
mod stats;
mod strings;
mod table;
#[cfg(test)]
mod tests;
mod touch;
mod transactions;
pub mod view;

pub use execute::{Outcome, execute};
pub use forward::{Route, route};
pub use host::{ClientInfo, Facts, Follower, Host, Link, Replication, Role, ServerInfo};
pub use scan::{Collected, is_wanted, keys_ahead, scan_ahead};
pub use session::Session;
pub use stats::Stats;
pub use table::{Command, Group, Keys, all, find, flags};
pub use touch::touch;
pub use view::{EntryRef, View, ViewError};

use error::{Error, Handled};
use execute::Call;
use table::{help, rows};
