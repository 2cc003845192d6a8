//! Commands against a state in memory.
//!
//! Most tests are transcripts: what a client sends, and the exact bytes that it gets. The same
//! transcripts are played to a real Redis by [`differential`], where there is one.

mod differential;
mod glob;
mod table;
mod transactions;
mod transcript;
mod view;
mod world;
