//! Decoding: what is a command, what is an error, and that the way bytes arrive does not matter.

use crate::resp::{Decoded, Decoder, Limits, OwnedArgs, ProtocolError};
use proptest::prelude::*;

/// Every command in the bytes, which arrive in pieces that end at `cuts`; an error ends them.
fn decode_in_pieces(
    decoder: &mut Decoder,
    bytes: &[u8],
    cuts: &[usize],
) -> (Vec<OwnedArgs>, Option<ProtocolError>) {
    let mut commands = Vec::new();
    let mut begin = 0;
    for &end in cuts.iter().chain([&bytes.len()]) {
        let end = end.min(bytes.len()).max(begin);
        loop {
            match decoder.decode(&bytes[begin..end]) {
                Ok(Decoded::Command { args, consumed }) => {
                    assert!(consumed > 0);
                    commands.push(args.to_owned());
                    begin += consumed;
                }
                Ok(Decoded::Incomplete { needed }) => {
                    assert!(needed > end - begin);
                    break;
                }
                Err(error) => return (commands, Some(error)),
            }
        }
    }
    (commands, None)
}

fn decode(bytes: &[u8]) -> (Vec<OwnedArgs>, Option<ProtocolError>) {
    decode_in_pieces(&mut Decoder::default(), bytes, &[])
}

fn command(words: &[&[u8]]) -> OwnedArgs {
    words.iter().collect()
}

fn frame(words: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        frame.extend(format!("${}\r\n", word.len()).bytes());
        frame.extend(word);
        frame.extend(b"\r\n");
    }
    frame
}

#[test]
fn frames_are_commands() {
    let (commands, error) = decode(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n");
    assert_eq!(commands, [command(&[b"GET", b"a"]), command(&[b"PING"])]);
    assert_eq!(error, None);
    let (commands, _) = decode(b"*2\r\n$0\r\n\r\n$4\r\n\r\n\0\xff\r\n");
    assert_eq!(commands, [command(&[b"", b"\r\n\0\xff"])]);
}

#[test]
fn empty_commands_ask_for_nothing() {
    let (commands, error) = decode(b"*0\r\n*-1\r\n\r\n\n  \r\n*-10\r\nPING\r\n");
    assert_eq!(error, None);
    assert_eq!(commands.len(), 7);
    assert!(
        commands[..6]
            .iter()
            .all(|command| command.as_args().is_empty())
    );
    assert_eq!(commands[6], command(&[b"PING"]));
}

#[test]
fn lines_are_commands() {
    for (line, expected) in [
        ("PING\r\n", vec!["PING"]),
        ("PING\n", vec!["PING"]),
        ("  SET\ta  b \r\n", vec!["SET", "a", "b"]),
        ("SET a \"b c\"\r\n", vec!["SET", "a", "b c"]),
        ("SET a 'b c'\r\n", vec!["SET", "a", "b c"]),
        ("SET a \"\"\r\n", vec!["SET", "a", ""]),
        (
            r#"SET a "\x41\n\r\t\"\\\q""#,
            vec!["SET", "a", "A\n\r\t\"\\q"],
        ),
        (r#"SET a "\b\a\xzz""#, vec!["SET", "a", "\u{8}\u{7}xzz"]),
        (r"SET a 'it\'s \n'", vec!["SET", "a", "it's \\n"]),
        (r#"SET a b"c d""#, vec!["SET", "a", "bc d"]),
        (r"SET a b\n", vec!["SET", "a", "b\\n"]),
    ] {
        let line = format!("{}\n", line.trim_end_matches('\n'));
        let expected: OwnedArgs = expected.iter().collect();
        assert_eq!(decode(line.as_bytes()), (vec![expected], None), "{line}");
    }
}

#[test]
fn errors_are_those_of_redis() {
    let digits = |count| "1".repeat(count);
    for (bytes, expected) in [
        (
            "*x\r\n".to_owned(),
            "Protocol error: invalid multibulk length",
        ),
        (
            "*1048577\r\n".to_owned(),
            "Protocol error: invalid multibulk length",
        ),
        (
            "*99999999999999999999\r\n".to_owned(),
            "Protocol error: invalid multibulk length",
        ),
        (
            "*+1\r\n".to_owned(),
            "Protocol error: invalid multibulk length",
        ),
        (
            "*\r\n".to_owned(),
            "Protocol error: invalid multibulk length",
        ),
        (
            format!("*{}", digits(65_537)),
            "Protocol error: too big mbulk count string",
        ),
        (
            "*1\r\nx".to_owned(),
            "Protocol error: expected '$', got 'x'",
        ),
        (
            "*1\r\n*1\r\n".to_owned(),
            "Protocol error: expected '$', got '*'",
        ),
        (
            "*1\r\n$-1\r\n".to_owned(),
            "Protocol error: invalid bulk length",
        ),
        (
            "*1\r\n$x\r\n".to_owned(),
            "Protocol error: invalid bulk length",
        ),
        (
            "*1\r\n$536870913\r\n".to_owned(),
            "Protocol error: invalid bulk length",
        ),
        (
            format!("*1\r\n${}", digits(65_537)),
            "Protocol error: too big bulk count string",
        ),
        (
            "*1\r\n$1\r\nab\r\n".to_owned(),
            "Protocol error: expected CRLF after bulk",
        ),
        ("a".repeat(65_537), "Protocol error: too big inline request"),
        (
            "GET \"a\n".to_owned(),
            "Protocol error: unbalanced quotes in request",
        ),
        (
            "GET 'a\n".to_owned(),
            "Protocol error: unbalanced quotes in request",
        ),
        (
            "GET \"a\"b\n".to_owned(),
            "Protocol error: unbalanced quotes in request",
        ),
    ] {
        let (commands, error) = decode(bytes.as_bytes());
        assert_eq!(commands, []);
        assert_eq!(error.expect(expected).to_string(), expected);
    }
}

#[test]
fn the_largest_that_are_allowed_are_awaited() {
    let largest = b"*1048576\r\n$536870912\r\n";
    let mut decoder = Decoder::with_limits(Limits {
        command: usize::MAX,
        ..Limits::default()
    });
    match decoder.decode(largest) {
        Ok(Decoded::Incomplete { needed }) => {
            assert_eq!(needed, largest.len() + (512 << 20) + 2 + 1_048_575 * 6);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(decode(&vec![b'a'; 65_536]), (vec![], None));
    assert_eq!(
        decode(format!("*{}", "1".repeat(65_536)).as_bytes()),
        (vec![], None)
    );
}

#[test]
fn a_command_too_large_is_refused_before_it_arrives() {
    let mut decoder = Decoder::with_limits(Limits {
        command: 100,
        ..Limits::default()
    });
    let error = decoder.decode(b"*2\r\n$3\r\nSET\r\n$99\r\n").unwrap_err();
    assert_eq!(error, ProtocolError::CommandTooLong);
    let mut decoder = Decoder::default();
    assert!(decoder.decode(b"*3\r\n$536870912\r\n").is_ok());
    let many = [
        b"*3\r\n$9\r\n123456789\r\n$536870912\r\n".as_slice(),
        &vec![0; 1 << 20],
    ]
    .concat();
    assert!(decode(&many).1.is_none());
}

#[test]
fn needed_is_what_to_reserve() {
    let mut decoder = Decoder::default();
    match decoder.decode(b"*3\r\n$3\r\nSET\r\n$1000\r\nabc") {
        Ok(Decoded::Incomplete { needed }) => assert_eq!(needed, 4 + 9 + 7 + 1002 + 6),
        other => panic!("{other:?}"),
    }
}

fn words() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let word = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12),
        proptest::collection::vec(any::<u8>(), 95..105),
        proptest::collection::vec(any::<u8>(), 1000..1010),
    ];
    proptest::collection::vec(word, 1..6)
}

proptest! {
    #[test]
    fn any_split_gives_the_same_commands(
        commands in proptest::collection::vec(words(), 1..6),
        mut cuts in proptest::collection::vec(0_usize..4000, 0..12),
    ) {
        let bytes = commands.iter().map(|words| frame(words)).collect::<Vec<_>>().concat();
        cuts.sort_unstable();
        let expected: Vec<OwnedArgs> =
            commands.iter().map(|words| words.iter().collect()).collect();
        let mut decoder = Decoder::default();
        let decoded = decode_in_pieces(&mut decoder, &bytes, &cuts);
        prop_assert_eq!(decoded, (expected, None));
    }

    #[test]
    fn any_bytes_in_any_split_give_the_same(
        bytes in "(\\*|\\$|[0-3]|-|\r\n|\n|a|\"|'| |\\\\){0,40}",
        mut cuts in proptest::collection::vec(0_usize..80, 0..8),
    ) {
        cuts.sort_unstable();
        let whole = decode(bytes.as_bytes());
        let decoded = decode_in_pieces(&mut Decoder::default(), bytes.as_bytes(), &cuts);
        prop_assert_eq!(decoded, whole);
    }

    #[test]
    fn byte_by_byte_gives_the_same(words in words()) {
        let bytes = frame(&words);
        let cuts: Vec<usize> = (0..bytes.len()).collect();
        let decoded = decode_in_pieces(&mut Decoder::default(), &bytes, &cuts);
        prop_assert_eq!(decoded, (vec![words.iter().collect()], None));
    }
}
