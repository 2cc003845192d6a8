//! Tests of decoder, encoder and reply reader.

mod decode;
mod encode;
mod number;
