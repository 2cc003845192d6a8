//! Why a command failed, as the client reads it.

use super::{Call, Outcome, ViewError};
use std::borrow::Cow;

/// What a handler comes back with. On an error, whatever it wrote is taken back.
pub(super) type Handled = Result<Outcome, Error>;

/// An error reply: its code, a blank, its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Error(pub(super) Cow<'static, [u8]>);

impl Error {
    /// A fixed text.
    pub(super) const fn text(text: &'static str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }

    pub(super) const SYNTAX: Self = Self::text("ERR syntax error");
    pub(super) const NOT_INTEGER: Self = Self::text("ERR value is not an integer or out of range");
    pub(super) const NOT_FLOAT: Self = Self::text("ERR value is not a valid float");
    pub(super) const NO_SUCH_KEY: Self = Self::text("ERR no such key");
    pub(super) const DB_INDEX: Self = Self::text("ERR DB index is out of range");
    pub(super) const TOO_LONG: Self =
        Self::text("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

    /// `name` is the command's full name, e.g. `client|setname`.
    pub(super) fn arity(name: &str) -> Self {
        Self::from(format!(
            "ERR wrong number of arguments for '{name}' command"
        ))
    }

    /// A subcommand with arguments that it does not take.
    pub(super) fn subcommand(call: &Call<'_>) -> Self {
        let (container, _) = call.command.name.split_once('|').unwrap_or_default();
        let after = format!("'. Try {} HELP.", container.to_ascii_uppercase());
        let before = "ERR unknown subcommand or wrong number of arguments for '";
        Self::quoting(before, call.args.at(1), &after)
    }

    /// A text around a client's words, which are cut where they are long.
    pub(super) fn quoting(before: &str, words: &[u8], after: &str) -> Self {
        Self(
            [
                before.as_bytes(),
                quoted(words, MAX_QUOTED),
                after.as_bytes(),
            ]
            .concat()
            .into(),
        )
    }

    /// The code: the first word.
    pub(super) fn code(&self) -> &[u8] {
        self.0
            .split(|&byte| byte == b' ')
            .next()
            .unwrap_or_default()
    }
}

impl From<String> for Error {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text.into_bytes()))
    }
}

impl From<ViewError> for Error {
    fn from(error: ViewError) -> Self {
        Self::from(error.to_string())
    }
}

/// Bytes of a client's words that an error repeats.
pub(super) const MAX_QUOTED: usize = 128;

/// As Redis prints a string with `%.*s`: cut at that length, and at a zero byte.
pub(super) fn quoted(text: &[u8], limit: usize) -> &[u8] {
    let text = text.get(..limit).unwrap_or(text);
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}
