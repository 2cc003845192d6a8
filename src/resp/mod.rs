//! Frames of the Redis protocol, RESP2 and RESP3: bytes in, bytes out.
//!
//! It must not know what the commands mean, nor where the bytes come from.

mod args;
mod decode;
mod encode;
mod inline;
mod number;
pub mod reply;
#[cfg(test)]
mod tests;

pub use args::{Args, OwnedArgs};
pub use decode::{Decoded, Decoder, Limits, ProtocolError};
pub use encode::{Protocol, Writer};
pub use number::{format_f64, parse_i64};
