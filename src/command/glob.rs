//! Patterns as Redis matches them: `*`, `?`, `[a-z]`, `[^a]`, and a backslash before any of these.

/// Whether the whole of `text` matches. It takes at most `pattern.len() * text.len()` steps: of
/// several stars only the last can need another try.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // What follows the last star, and the text from which it is tried next.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            pattern = rest;
            retry = Some((pattern, text));
            continue;
        }
        let one = match text {
            [] => return pattern.is_empty(),
            [byte, rest @ ..] => match_one(pattern, *byte).map(|pattern| (pattern, rest)),
        };
        if let Some(next) = one {
            (pattern, text) = next;
        } else if let Some((after_star, [_, rest @ ..])) = retry {
            // The star takes one byte more.
            (pattern, text) = (after_star, rest);
            retry = Some((after_star, rest));
        } else {
            return false;
        }
    }
}

/// As [`matches()`], for upper and lower case alike.
pub(super) fn matches_ignoring_case(pattern: &[u8], text: &[u8]) -> bool {
    matches(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
}

/// The pattern behind its first element, if that matches the byte.
fn match_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', b'^', rest @ ..] => match_class(rest, byte, true),
        [b'[', rest @ ..] => match_class(rest, byte, false),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
    }
}

/// The pattern behind the class whose inside it begins with. A class without an end ends with the
/// pattern.
fn match_class(mut pattern: &[u8], byte: u8, negated: bool) -> Option<&[u8]> {
    let mut found = false;
    let rest = loop {
        pattern = match pattern {
            [] => break pattern,
            [b'\\', literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
            [b']', rest @ ..] => break rest,
            [from, b'-', to, rest @ ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest
            }
            [literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
        };
    };
    (found != negated).then_some(rest)
}
