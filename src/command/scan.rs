//! Keys by the many: SCAN and KEYS.

use super::glob;
use super::table::{NONE, flags::*};
use super::{Call, Error, Handled, Outcome, Session, rows};
use crate::resp::{Args, Writer, parse_i64};

rows! { Generic;
    "scan", -2, READONLY, NONE, "2.8.0", scan,
        "Iterates over the key names in the database.";
    "keys", 2, READONLY | DANGEROUS, NONE, "1.0.0", keys,
        "Returns all key names that match a pattern.";
}

/// The most keys that one call walks over: it holds the lock of the state for some milliseconds.
const MAX_COUNT: i64 = 100_000;
const TOO_MANY: Error = Error::text(
    "ERR KEYS over more than 100000 keys is not done in one step, as nobody else would be served meanwhile: \
     use SCAN, or KEYS by itself (again, if the leader has changed meanwhile)",
);
/// Keys that KEYS asks for at a time.
const STEP: usize = 4096;

/// Keys that were collected for the KEYS that is executed next.
#[derive(Debug, Default)]
pub struct Collected {
    /// How many there are.
    pub keys: usize,
    /// As they are replied.
    pub encoded: Vec<u8>,
}

impl Collected {
    /// Of keys in any order, each of which may be there several times.
    pub fn of(mut keys: Vec<Vec<u8>>) -> Self {
        keys.sort_unstable();
        keys.dedup();
        let mut encoded = Writer::default();
        keys.iter().for_each(|key| encoded.bulk(key));
        Self {
            keys: keys.len(),
            encoded: encoded.take(),
        }
    }
}

fn scan(call: &mut Call<'_>) -> Handled {
    let cursor = parse_cursor(call.args.at(1)).ok_or(Error::text("ERR invalid cursor"))?;
    let options = Options::parse(call.args)?;
    let (next, mut keys) = call.view.scan(cursor, options.count)?;
    keys.retain(|key| {
        options.strings
            && options
                .pattern
                .is_none_or(|pattern| glob::matches(pattern, key))
    });
    call.out.array(2);
    call.out.bulk(itoa::Buffer::new().format(next).as_bytes());
    call.out.bulk_array(&keys);
    Ok(Outcome::Reply)
}

struct Options<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
    /// Whether strings are of the wanted type; there is nothing but strings.
    strings: bool,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>) -> Result<Self, Error> {
        let mut options = Self {
            count: 10,
            pattern: None,
            strings: true,
        };
        let mut rest = args.skip(2).iter();
        while let Some(option) = rest.next() {
            let argument = rest.next().ok_or(Error::SYNTAX)?;
            if option.eq_ignore_ascii_case(b"count") {
                let count = parse_i64(argument).ok_or(Error::NOT_INTEGER)?;
                if count < 1 {
                    return Err(Error::SYNTAX);
                }
                options.count = count.min(MAX_COUNT) as usize;
            } else if option.eq_ignore_ascii_case(b"match") {
                options.pattern = Some(argument).filter(|&pattern| pattern != b"*");
            } else if option.eq_ignore_ascii_case(b"type") {
                options.strings = argument.eq_ignore_ascii_case(b"string");
            } else {
                return Err(Error::SYNTAX);
            }
        }
        Ok(options)
    }
}

/// Cursor and count of a SCAN that is about to be executed, so that what it will read can be read before.
pub fn scan_ahead(session: &Session, args: Args<'_>) -> Option<(u64, usize)> {
    let named = args.len() >= 2 && args.at(0).eq_ignore_ascii_case(b"scan");
    if !named || !session.authenticated || session.transaction.is_some() {
        return None;
    }
    let options = Options::parse(args).ok()?;
    Some((parse_cursor(args.at(1))?, options.count))
}

/// Decimal digits, as many as 64 bits hold; unlike integers, with leading zeros.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    if text.first().is_none_or(|first| !first.is_ascii_digit()) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The pattern of a KEYS that is about to be executed by itself: its keys can be collected before, in steps,
/// as by SCAN. One that walks over millions holds up everybody else meanwhile.
pub fn keys_ahead(session: &Session, args: Args<'_>) -> Option<Vec<u8>> {
    let named = args.len() == 2 && args.at(0).eq_ignore_ascii_case(b"keys");
    let alone = session.authenticated && session.transaction.is_none();
    (named && alone).then(|| args.at(1).to_vec())
}

/// Whether a key is one that a KEYS with this pattern returns.
pub fn is_wanted(pattern: &[u8], key: &[u8]) -> bool {
    glob::matches(pattern, key)
}

fn keys(call: &mut Call<'_>) -> Handled {
    if let Some(collected) = call.session.collected.take() {
        call.view.len()?; // the reply rests on all that there is
        call.out.array(collected.keys);
        call.out.raw(&collected.encoded);
        return Ok(Outcome::Reply);
    }
    if call.view.len()? > MAX_COUNT as u64 {
        return Err(TOO_MANY);
    }
    let pattern = call.args.at(1);
    let mut found = Vec::new();
    let mut cursor = 0;
    loop {
        let (next, keys) = call.view.scan(cursor, STEP)?;
        found.extend(keys.into_iter().filter(|key| is_wanted(pattern, key)));
        if next == 0 {
            break;
        }
        cursor = next;
    }
    call.out.bulk_array(&found);
    Ok(Outcome::Reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    #[test]
    fn a_keys_by_itself_is_known_before() {
        let mut session = Session::new(1, String::new(), String::new(), true);
        let ahead = |session: &Session, line: &str| {
            let args: OwnedArgs = line.split(' ').collect();
            keys_ahead(session, args.as_args())
        };
        assert_eq!(ahead(&session, "Keys a*"), Some(b"a*".to_vec()));
        assert_eq!(ahead(&session, "KEYS a* b*"), None);
        assert_eq!(ahead(&session, "GETS a*"), None);
        session.transaction = Some(crate::command::session::Transaction::default());
        assert_eq!(ahead(&session, "KEYS a*"), None, "it is queued");
    }

    #[test]
    fn keys_that_were_found_twice_are_told_once() {
        let keys = [&b"b"[..], b"a", b"b"].map(<[u8]>::to_vec);
        let collected = Collected::of(keys.to_vec());
        assert_eq!(collected.keys, 2);
        assert_eq!(collected.encoded, b"$1\r\na\r\n$1\r\nb\r\n");
    }

    #[test]
    fn what_a_scan_will_read_is_known_before() {
        let ahead = |line: &str| {
            let args: OwnedArgs = line.split(' ').collect();
            scan_ahead(
                &Session::new(1, String::new(), String::new(), true),
                args.as_args(),
            )
        };
        assert_eq!(ahead("SCAN 7"), Some((7, 10)));
        assert_eq!(ahead("scan 0 MATCH a* COUNT 500"), Some((0, 500)));
        for other in ["GET 7", "SCAN", "SCAN x", "SCAN 7 COUNT 0", "SCAN 7 COUNT"] {
            assert_eq!(ahead(other), None, "{other}");
        }
    }
}
