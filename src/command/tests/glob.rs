//! Patterns, as `stringmatchlen` of Redis has them.

use crate::command::glob::{matches, matches_ignoring_case};
use proptest::prelude::*;

#[test]
fn patterns_match_as_in_redis() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("", "", true),
        ("", "a", false),
        ("a", "", false),
        ("?", "a", true),
        ("?", "", false),
        ("a*c", "abbc", true),
        ("a*c", "abbcd", false),
        ("*a*b*", "xxaxxbxx", true),
        ("*a*b", "xxaxxbxx", false),
        ("**", "abc", true),
        ("h[ae]llo", "hallo", true),
        ("h[ae]llo", "hillo", false),
        ("h[^e]llo", "hallo", true),
        ("h[^e]llo", "hello", false),
        ("h[a-c]llo", "hbllo", true),
        ("h[c-a]llo", "hbllo", true),
        ("h[a-c]llo", "hdllo", false),
        ("[a-]", "-", false), // the range from a to ]
        ("[a-]", "^", true),
        ("[]", "]", false),
        ("[^]", "x", true),
        ("[\\]]", "]", true),
        ("[ab", "b", true),
        ("[a-", "a", true),
        ("[", "x", false),
        ("\\*", "*", true),
        ("\\*", "a", false),
        ("a\\", "a\\", true),
        ("a\\\\", "a\\", true),
        ("*[a-z]", "12c", true),
        ("*[a-z]", "12C", false),
    ] {
        assert_eq!(
            matches(pattern.as_bytes(), text.as_bytes()),
            expected,
            "{pattern} {text}"
        );
    }
    assert!(matches_ignoring_case(b"MAX*", b"maxmemory"));
}

#[test]
fn many_stars_take_no_time() {
    let pattern = b"a*".repeat(10_000);
    let text = b"a".repeat(20_000);
    assert!(!matches(&[&pattern[..], b"b"].concat(), &text));
}

/// The definition, which tries everything.
fn matches_by_definition(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], _) => text.is_empty(),
        ([b'*', rest @ ..], _) => {
            (0..=text.len()).any(|taken| matches_by_definition(rest, &text[taken..]))
        }
        ([b'?', rest @ ..], [_, text @ ..]) => matches_by_definition(rest, text),
        ([byte, rest @ ..], [other, text @ ..]) => {
            byte == other && matches_by_definition(rest, text)
        }
        (_, []) => false,
    }
}

proptest! {
    #[test]
    fn stars_match_by_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
        let expected = matches_by_definition(pattern.as_bytes(), text.as_bytes());
        prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected);
    }

    #[test]
    fn any_bytes_are_a_pattern(pattern: Vec<u8>, text: Vec<u8>) {
        matches(&pattern, &text);
    }
}
