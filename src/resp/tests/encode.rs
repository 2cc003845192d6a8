//! Encoding, and reading back what was encoded.

use crate::resp::reply::{Reply, ReplyError, decode};
use crate::resp::{Protocol, Writer};
use proptest::prelude::*;

fn written(protocol: Protocol, write: impl Fn(&mut Writer)) -> String {
    let mut writer = Writer::new(protocol);
    write(&mut writer);
    writer.take().escape_ascii().to_string()
}

type Write = fn(&mut Writer);

#[test]
fn replies_are_written_in_either_protocol() {
    let cases: [(Write, &str, &str); 20] = [
        (Writer::ok, r"+OK\r\n", r"+OK\r\n"),
        (|out| out.simple("PONG"), r"+PONG\r\n", r"+PONG\r\n"),
        (
            |out| out.error(b"ERR a\r\nb"),
            r"-ERR a  b\r\n",
            r"-ERR a  b\r\n",
        ),
        (
            |out| out.integer(i64::MIN),
            r":-9223372036854775808\r\n",
            r":-9223372036854775808\r\n",
        ),
        (
            |out| out.bulk(b"a\r\n"),
            r"$3\r\na\r\n\r\n",
            r"$3\r\na\r\n\r\n",
        ),
        (
            |out| out.bulk_integer(-12),
            r"$3\r\n-12\r\n",
            r"$3\r\n-12\r\n",
        ),
        (|out| out.bulk(b""), r"$0\r\n\r\n", r"$0\r\n\r\n"),
        (Writer::null, r"$-1\r\n", r"_\r\n"),
        (Writer::null_array, r"*-1\r\n", r"_\r\n"),
        (|out| out.array(2), r"*2\r\n", r"*2\r\n"),
        (
            |out| out.bulk_array(&["a"]),
            r"*1\r\n$1\r\na\r\n",
            r"*1\r\n$1\r\na\r\n",
        ),
        (|out| out.map(2), r"*4\r\n", r"%2\r\n"),
        (|out| out.set(2), r"*2\r\n", r"~2\r\n"),
        (|out| out.push(2), r"*2\r\n", r">2\r\n"),
        (|out| out.double(1.5), r"$3\r\n1.5\r\n", r",1.5\r\n"),
        (
            |out| out.double(f64::NEG_INFINITY),
            r"$4\r\n-inf\r\n",
            r",-inf\r\n",
        ),
        (|out| out.boolean(true), r":1\r\n", r"#t\r\n"),
        (|out| out.boolean(false), r":0\r\n", r"#f\r\n"),
        (|out| out.big_number("123"), r"$3\r\n123\r\n", r"(123\r\n"),
        (
            |out| out.verbatim("txt", b"ab"),
            r"$2\r\nab\r\n",
            r"=6\r\ntxt:ab\r\n",
        ),
    ];
    for (write, two, three) in cases {
        assert_eq!(written(Protocol::Resp2, write), two);
        assert_eq!(written(Protocol::Resp3, write), three);
    }
}

#[test]
fn replies_that_are_none_are_errors() {
    for (bytes, expected) in [
        ("x\r\n", ReplyError::UnknownKind(b'x')),
        ("\r\n", ReplyError::Malformed),
        (":x\r\n", ReplyError::Malformed),
        (":1\rx", ReplyError::Malformed),
        ("$-2\r\n", ReplyError::Malformed),
        ("$1\r\nab\r\n", ReplyError::Malformed),
        ("=2\r\nab\r\n", ReplyError::Malformed),
        ("$999999999999\r\n", ReplyError::Malformed),
        (",x\r\n", ReplyError::Malformed),
    ] {
        assert_eq!(decode(bytes.as_bytes()), Err(expected), "{bytes}");
    }
    assert_eq!(
        decode("*1\r\n".repeat(40).as_bytes()),
        Err(ReplyError::TooDeep)
    );
}

fn write_all(out: &mut Writer, replies: &[Reply]) {
    for reply in replies {
        write(out, reply);
    }
}

fn write(out: &mut Writer, reply: &Reply) {
    match reply {
        Reply::Simple(text) => out.simple(&String::from_utf8_lossy(text)),
        Reply::Error(text) => out.error(text),
        Reply::Integer(value) => out.integer(*value),
        Reply::Bulk(value) => out.bulk(value),
        Reply::Null => out.null(),
        Reply::Array(items) => {
            out.array(items.len());
            write_all(out, items);
        }
        Reply::Map(pairs) => {
            out.map(pairs.len());
            for (key, value) in pairs {
                write(out, key);
                write(out, value);
            }
        }
        Reply::Set(items) => {
            out.set(items.len());
            write_all(out, items);
        }
        Reply::Push(items) => {
            out.push(items.len());
            write_all(out, items);
        }
        Reply::Double(value) => out.double(*value),
        Reply::Boolean(value) => out.boolean(*value),
        Reply::BigNumber(digits) => out.big_number(&String::from_utf8_lossy(digits)),
        Reply::Verbatim { format, text } => out.verbatim(&String::from_utf8_lossy(format), text),
    }
}

fn reply() -> impl Strategy<Value = Reply> {
    let leaf = prop_oneof![
        "[ -~]{0,10}".prop_map(|text| Reply::Simple(text.into_bytes())),
        "[ -~]{0,10}".prop_map(|text| Reply::Error(text.into_bytes())),
        any::<i64>().prop_map(Reply::Integer),
        any::<Vec<u8>>().prop_map(Reply::Bulk),
        Just(Reply::Null),
        proptest::num::f64::NORMAL.prop_map(Reply::Double),
        any::<bool>().prop_map(Reply::Boolean),
        "[1-9][0-9]{20,30}".prop_map(|digits| Reply::BigNumber(digits.into_bytes())),
        any::<Vec<u8>>().prop_map(|text| Reply::Verbatim {
            format: b"txt".to_vec(),
            text
        }),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        let items = proptest::collection::vec(inner.clone(), 0..5);
        prop_oneof![
            items.clone().prop_map(Reply::Array),
            items.clone().prop_map(Reply::Set),
            items.prop_map(Reply::Push),
            proptest::collection::vec((inner.clone(), inner), 0..4).prop_map(Reply::Map),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(expected in reply()) {
        let mut writer = Writer::new(Protocol::Resp3);
        write(&mut writer, &expected);
        let bytes = writer.take();
        prop_assert_eq!(decode(&bytes), Ok(Some((expected, bytes.len()))));
        for end in 0..bytes.len() {
            prop_assert_eq!(decode(&bytes[..end]), Ok(None));
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
        let _ = decode(&bytes);
    }
}
