//! Replies as a client reads them: for tests, and for what a replica asks of another.

use super::number::parse_i64;

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+`: a status.
    Simple(Vec<u8>),
    /// `-` or `!`: an error, its code in front.
    Error(Vec<u8>),
    /// `:`.
    Integer(i64),
    /// `$`: a string.
    Bulk(Vec<u8>),
    /// `_`, or a string or an array of length -1.
    Null,
    /// `*`.
    Array(Vec<Self>),
    /// `%`: keys and values in the order in which they came.
    Map(Vec<(Self, Self)>),
    /// `~`.
    Set(Vec<Self>),
    /// `,`.
    Double(f64),
    /// `#`.
    Boolean(bool),
    /// `>`: a message that no command asked for.
    Push(Vec<Self>),
    /// `(`: decimal digits.
    BigNumber(Vec<u8>),
    /// `=`: text, and what it is written in.
    Verbatim {
        /// Three letters: `txt`, `mkd`.
        format: Vec<u8>,
        /// The text.
        text: Vec<u8>,
    },
}

/// Bytes that are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// No such kind of reply.
    #[error("a reply of unknown kind '{}'", char::from(*.0))]
    UnknownKind(u8),
    /// A count, a number or an end of line that is none.
    #[error("a malformed reply")]
    Malformed,
    /// Nested deeper than any command answers.
    #[error("a reply nested too deep")]
    TooDeep,
}

/// The deepest nesting: COMMAND, the deepest of ours, has six levels.
const MAX_DEPTH: usize = 32;
/// The longest string that is believed.
const MAX_LENGTH: i64 = 512 << 20;

/// The reply at the beginning of `input` and the bytes that it took; `None` if it is not complete.
pub fn decode(input: &[u8]) -> Result<Option<(Reply, usize)>, ReplyError> {
    let mut reader = Reader { input, at: 0 };
    Ok(reader.reply(0)?.map(|reply| (reply, reader.at)))
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn reply(&mut self, depth: usize) -> Result<Option<Reply>, ReplyError> {
        if depth > MAX_DEPTH {
            return Err(ReplyError::TooDeep);
        }
        let Some(line) = self.line()? else {
            return Ok(None);
        };
        let (&kind, text) = line.split_first().ok_or(ReplyError::Malformed)?;
        Ok(Some(match kind {
            b'+' => Reply::Simple(text.to_vec()),
            b'-' => Reply::Error(text.to_vec()),
            b':' => Reply::Integer(parse_i64(text).ok_or(ReplyError::Malformed)?),
            b'(' => Reply::BigNumber(text.to_vec()),
            b',' => Reply::Double(double(text)?),
            b'_' => Reply::Null,
            b'#' => Reply::Boolean(text == b"t"),
            b'$' | b'!' | b'=' | b'*' | b'~' | b'>' | b'%' => {
                let count = parse_i64(text).ok_or(ReplyError::Malformed)?;
                if count == -1 {
                    return Ok(Some(Reply::Null));
                }
                if !(0..=MAX_LENGTH).contains(&count) {
                    return Err(ReplyError::Malformed);
                }
                return self.counted(kind, count as usize, depth);
            }
            other => return Err(ReplyError::UnknownKind(other)),
        }))
    }

    fn counted(
        &mut self,
        kind: u8,
        count: usize,
        depth: usize,
    ) -> Result<Option<Reply>, ReplyError> {
        if matches!(kind, b'$' | b'!' | b'=') {
            let Some(bytes) = self.bytes(count)? else {
                return Ok(None);
            };
            return Ok(Some(match kind {
                b'$' => Reply::Bulk(bytes.to_vec()),
                b'!' => Reply::Error(bytes.to_vec()),
                _ => {
                    let (format, text) = bytes.split_at_checked(4).ok_or(ReplyError::Malformed)?;
                    let format = format.get(..3).unwrap_or_default().to_vec();
                    Reply::Verbatim {
                        format,
                        text: text.to_vec(),
                    }
                }
            }));
        }
        if kind == b'%' {
            let mut pairs = Vec::new();
            for _ in 0..count {
                let Some(key) = self.reply(depth + 1)? else {
                    return Ok(None);
                };
                let Some(value) = self.reply(depth + 1)? else {
                    return Ok(None);
                };
                pairs.push((key, value));
            }
            return Ok(Some(Reply::Map(pairs)));
        }
        let mut items = Vec::new();
        for _ in 0..count {
            let Some(item) = self.reply(depth + 1)? else {
                return Ok(None);
            };
            items.push(item);
        }
        Ok(Some(match kind {
            b'*' => Reply::Array(items),
            b'~' => Reply::Set(items),
            _ => Reply::Push(items),
        }))
    }

    /// The next line without its end.
    fn line(&mut self) -> Result<Option<&'a [u8]>, ReplyError> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\r', rest) else {
            return Ok(None);
        };
        match rest.get(end + 1) {
            None => Ok(None),
            Some(b'\n') => {
                self.at += end + 2;
                Ok(rest.get(..end))
            }
            Some(_) => Err(ReplyError::Malformed),
        }
    }

    /// The next `count` bytes, and a line end behind them.
    fn bytes(&mut self, count: usize) -> Result<Option<&'a [u8]>, ReplyError> {
        let end = self.at + count;
        match self.input.get(end..end + 2) {
            None => Ok(None),
            Some(b"\r\n") => {
                let bytes = self.input.get(self.at..end);
                self.at = end + 2;
                Ok(bytes)
            }
            Some(_) => Err(ReplyError::Malformed),
        }
    }
}

fn double(text: &[u8]) -> Result<f64, ReplyError> {
    let text = std::str::from_utf8(text).map_err(|_| ReplyError::Malformed)?;
    text.parse().map_err(|_| ReplyError::Malformed)
}
