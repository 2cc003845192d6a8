//! Replies of the Redis protocol, as far as a load generator looks at them: where one ends, whether it
//! is an error, and whether it holds something.

use anyhow::{Context, Result, bail};

/// What a reply was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Something was there, or done.
    Some,
    /// No such key.
    Nothing,
}

/// The first reply of these bytes and its length, if it is there as a whole. An error is one, and so
/// is a zero in a list: that is a WAITAOF that nobody has satisfied.
pub(super) fn first(bytes: &[u8]) -> Result<Option<(Reply, usize)>> {
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return Ok(None);
    };
    let (kind, line) = bytes[..end.saturating_sub(1)].split_at(1);
    let after = end + 1;
    match kind {
        b"+" | b":" => Ok(Some((Reply::Some, after))),
        b"$" if line == b"-1" => Ok(Some((Reply::Nothing, after))),
        b"$" => {
            let whole = after + number(line)? + 2;
            Ok((bytes.len() >= whole).then_some((Reply::Some, whole)))
        }
        b"*" => {
            let mut at = after;
            for _ in 0..number(line)? {
                let Some((_, length)) = first(&bytes[at..])? else {
                    return Ok(None);
                };
                if bytes[at..].starts_with(b":0\r") {
                    bail!("a write is on fewer disks than was asked for");
                }
                at += length;
            }
            Ok(Some((Reply::Some, at)))
        }
        _ => bail!("the server says {}", String::from_utf8_lossy(&bytes[..end])),
    }
}

fn number(digits: &[u8]) -> Result<usize> {
    let text = std::str::from_utf8(digits).context("a length")?;
    text.parse().with_context(|| format!("a length: {text:?}"))
}
