//! Commands out of the bytes that were read, without a copy of any.

use super::args::{Args, Span};
use super::inline::split_line;
use super::number::parse_i64;

/// What a client may send in one command.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Arguments of a command.
    pub args: usize,
    /// Bytes of one argument.
    pub bulk: usize,
    /// Bytes of an inline command, or of a line with a count.
    pub line: usize,
    /// Bytes of a whole command: what a connection may make us hold before it is answered.
    pub command: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            args: 1 << 20,
            bulk: 512 << 20,
            line: 64 << 10,
            command: 1 << 30,
        }
    }
}

/// Bytes that are no command. Answer with `ERR` and the text, then close: there is no telling where
/// the next command would begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The count of arguments is no number or too large.
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// The line with the count of arguments does not end.
    #[error("Protocol error: too big mbulk count string")]
    MultibulkLineTooLong,
    /// An argument begins with another byte than the dollar.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    /// The length of an argument is no number or too large.
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// The line with the length of an argument does not end.
    #[error("Protocol error: too big bulk count string")]
    BulkLineTooLong,
    /// An argument is longer or shorter than announced.
    #[error("Protocol error: expected CRLF after bulk")]
    ExpectedCrlf,
    /// An inline command does not end.
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    /// An inline command with an open quote.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// The command as a whole is too large.
    #[error("Protocol error: too big command")]
    CommandTooLong,
}

/// What the bytes begin with.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// A command. It may be empty (an empty line, `*0`): there is nothing to do and no reply.
    Command {
        /// Its arguments.
        args: Args<'a>,
        /// Bytes that it took: the next one begins there.
        consumed: usize,
    },
    /// The beginning of a command, or nothing.
    Incomplete {
        /// Bytes that the command needs at the least, counted from where it begins: more than there
        /// were, and worth reserving.
        needed: usize,
    },
}

/// Finds commands in a buffer, and remembers how far it came in one that is not complete, so that
/// no byte is looked at twice.
#[derive(Debug, Default)]
pub struct Decoder {
    limits: Limits,
    spans: Vec<Span>,
    /// Inline arguments with their quotes and escapes undone.
    unquoted: Vec<u8>,
    /// Where the first argument not found yet begins; 0 at the beginning of a command.
    at: usize,
    /// Arguments not found yet.
    missing: usize,
}

/// Spans kept from one command to the next; a larger command's memory is given back.
const KEPT_SPANS: usize = 1024;
/// Unquoted bytes kept.
const KEPT_BYTES: usize = 4096;

impl Decoder {
    /// A decoder with other limits than the default ones.
    pub fn with_limits(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Decodes the command at the beginning of `input`. After `Incomplete`, call again with the same
    /// bytes and more behind them; after `Command`, with what follows it.
    #[inline]
    pub fn decode<'a>(&'a mut self, input: &'a [u8]) -> Result<Decoded<'a>, ProtocolError> {
        if self.at == 0 {
            self.forget();
            match input.first() {
                None => return Ok(Decoded::Incomplete { needed: 1 }),
                Some(b'*') => match self.multibulk_header(input)? {
                    Header::Arguments => {}
                    Header::Empty { consumed } => {
                        return Ok(Decoded::Command {
                            args: Args::new(input, &[]),
                            consumed,
                        });
                    }
                    Header::Incomplete => {
                        return Ok(Decoded::Incomplete {
                            needed: input.len() + 1,
                        });
                    }
                },
                Some(_) => return self.inline(input),
            }
        }
        while self.missing > 0 {
            match self.bulk(input)? {
                Some(span) => {
                    self.spans.push(span);
                    self.at = span.end + 2;
                    self.missing -= 1;
                }
                None => {
                    return Ok(Decoded::Incomplete {
                        needed: self.needed(input)?,
                    });
                }
            }
        }
        let consumed = std::mem::take(&mut self.at);
        Ok(Decoded::Command {
            args: Args::new(input, &self.spans),
            consumed,
        })
    }

    /// Drops the arguments of the command before.
    #[inline]
    fn forget(&mut self) {
        self.spans.clear();
        self.spans.shrink_to(KEPT_SPANS);
    }

    /// Reads `*<count>`.
    #[inline]
    fn multibulk_header(&mut self, input: &[u8]) -> Result<Header, ProtocolError> {
        let (count, next) = match count_line(input, 1, self.limits.line) {
            Line::Count(count, next) => (count, next),
            Line::Incomplete => return Ok(Header::Incomplete),
            Line::TooLong => return Err(ProtocolError::MultibulkLineTooLong),
            Line::Invalid => return Err(ProtocolError::InvalidMultibulkLength),
        };
        if count <= 0 {
            return Ok(Header::Empty { consumed: next });
        }
        if count > self.limits.args as i64 {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        self.missing = count as usize;
        self.at = next;
        Ok(Header::Arguments)
    }

    /// Reads `$<length>`, the argument and its line end; `None` if they are not all there.
    #[inline]
    fn bulk(&self, input: &[u8]) -> Result<Option<Span>, ProtocolError> {
        let Some((start, end)) = self.bulk_header(input)? else {
            return Ok(None);
        };
        match input.get(end..end + 2) {
            Some(b"\r\n") => Ok(Some(Span { start, end })),
            Some(_) => Err(ProtocolError::ExpectedCrlf),
            None => Ok(None),
        }
    }

    /// Where the argument will lie, whether it is there or not.
    #[inline]
    fn bulk_header(&self, input: &[u8]) -> Result<Option<(usize, usize)>, ProtocolError> {
        match input.get(self.at) {
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
            None => return Ok(None),
        }
        match count_line(input, self.at + 1, self.limits.line) {
            Line::Count(length, next) => {
                let length = usize::try_from(length)
                    .ok()
                    .filter(|&length| length <= self.limits.bulk)
                    .ok_or(ProtocolError::InvalidBulkLength)?;
                Ok(Some((next, next + length)))
            }
            Line::Incomplete => Ok(None),
            Line::TooLong => Err(ProtocolError::BulkLineTooLong),
            Line::Invalid => Err(ProtocolError::InvalidBulkLength),
        }
    }

    /// Bytes that an incomplete command needs at the least.
    fn needed(&self, input: &[u8]) -> Result<usize, ProtocolError> {
        // Every argument to come takes six bytes, "$0\r\n\r\n".
        let needed = match self.bulk_header(input)? {
            Some((_, end)) => end + 2 + (self.missing - 1) * 6,
            None => self.at + self.missing * 6,
        };
        if needed > self.limits.command {
            return Err(ProtocolError::CommandTooLong);
        }
        Ok(needed.max(input.len() + 1))
    }

    /// A command typed by hand: one line, split at blanks.
    fn inline<'a>(&'a mut self, input: &'a [u8]) -> Result<Decoded<'a>, ProtocolError> {
        let end = match memchr::memchr(b'\n', input) {
            Some(end) if end <= self.limits.line => end,
            None if input.len() <= self.limits.line => {
                return Ok(Decoded::Incomplete {
                    needed: input.len() + 1,
                });
            }
            _ => return Err(ProtocolError::InlineTooLong),
        };
        let line = input.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.unquoted.clear();
        self.unquoted.shrink_to(KEPT_BYTES);
        split_line(line, &mut self.unquoted, &mut self.spans)?;
        Ok(Decoded::Command {
            args: Args::new(&self.unquoted, &self.spans),
            consumed: end + 1,
        })
    }
}

/// What the line with the count of arguments says.
enum Header {
    /// The decoder knows now where the arguments begin.
    Arguments,
    Empty {
        consumed: usize,
    },
    Incomplete,
}

/// A line with a count.
enum Line {
    /// The count, and where the next line begins.
    Count(i64, usize),
    Incomplete,
    TooLong,
    Invalid,
}

/// Reads the count that begins at `start`.
#[inline]
fn count_line(input: &[u8], start: usize, limit: usize) -> Line {
    let line = input.get(start..).unwrap_or_default();
    // Nearly every count has one to three digits.
    if let [digit @ b'0'..=b'9', b'\r', b'\n', ..] = line {
        return Line::Count(i64::from(digit - b'0'), start + 3);
    }
    if let [tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', b'\n', ..] = line {
        return Line::Count(
            i64::from(tens - b'0') * 10 + i64::from(ones - b'0'),
            start + 4,
        );
    }
    long_count_line(line, start, limit)
}

fn long_count_line(line: &[u8], start: usize, limit: usize) -> Line {
    match memchr::memchr(b'\r', line) {
        Some(end) if end > limit => Line::TooLong,
        Some(end) => match (
            line.get(end + 1),
            parse_i64(line.get(..end).unwrap_or_default()),
        ) {
            (None, _) => Line::Incomplete,
            (Some(b'\n'), Some(count)) => Line::Count(count, start + end + 2),
            _ => Line::Invalid,
        },
        None if line.len() > limit => Line::TooLong,
        None => Line::Incomplete,
    }
}
