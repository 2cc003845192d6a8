//! Small tools around a replica: a command line client and a load of writes for demonstrations.
//! They are clients like any other, and know nothing of what runs inside a replica.

mod cli;
mod connection;
mod load;

pub use cli::{CliOptions, cli};
pub use load::{LoadOptions, load};
