//! Commands typed by hand: one line, split as a shell would.

use super::args::Span;
use super::decode::ProtocolError;

/// Splits a line into arguments: blanks between them, `"..."` with escapes, `'...'` without.
pub(super) fn split_line(
    line: &[u8],
    unquoted: &mut Vec<u8>,
    spans: &mut Vec<Span>,
) -> Result<(), ProtocolError> {
    let mut rest = line;
    loop {
        while let [blank, tail @ ..] = rest
            && is_blank(*blank)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Ok(());
        }
        let start = unquoted.len();
        rest = split_argument(rest, unquoted)?;
        spans.push(Span {
            start,
            end: unquoted.len(),
        });
    }
}

/// Moves one argument from the line to `unquoted`; what follows it comes back.
fn split_argument<'a>(
    mut rest: &'a [u8],
    unquoted: &mut Vec<u8>,
) -> Result<&'a [u8], ProtocolError> {
    while let [byte, tail @ ..] = rest {
        match byte {
            b'"' | b'\'' => {
                rest = split_quoted(*byte, tail, unquoted)?;
                // A closing quote ends the argument, or the line is in error.
                return match rest {
                    [next, ..] if !is_blank(*next) => Err(ProtocolError::UnbalancedQuotes),
                    _ => Ok(rest),
                };
            }
            blank if is_blank(*blank) => return Ok(rest),
            _ => unquoted.push(*byte),
        }
        rest = tail;
    }
    Ok(rest)
}

/// What follows an opening quote, up to the closing one.
fn split_quoted<'a>(
    quote: u8,
    mut rest: &'a [u8],
    unquoted: &mut Vec<u8>,
) -> Result<&'a [u8], ProtocolError> {
    loop {
        rest = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [byte, tail @ ..] if *byte == quote => return Ok(tail),
            [b'\\', b'\'', tail @ ..] if quote == b'\'' => {
                unquoted.push(b'\'');
                tail
            }
            [b'\\', b'x', high, low, tail @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                unquoted.push(hex(*high) << 4 | hex(*low));
                tail
            }
            [b'\\', escaped, tail @ ..] if quote == b'"' => {
                unquoted.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                tail
            }
            [byte, tail @ ..] => {
                unquoted.push(*byte);
                tail
            }
        };
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}
