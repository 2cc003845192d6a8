//! What travels to the leader: commands of one client that are executed in one step. It must not know
//! how they travel.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::command::{Route, Session, route};
use crate::replication::Position;
use crate::replication::message::Watches;
use crate::resp::{Args, Decoded, Decoder, OwnedArgs, Protocol, Writer};

/// A batch has at most so many commands.
const MAX_COMMANDS: usize = 256;
/// Bytes of commands of a batch, unless one alone is larger.
const MAX_BYTES: usize = 1 << 20;
/// A transaction that takes more is not handed over.
const MAX_TRANSACTION: usize = 1 << 29;

/// What is to be done with the bytes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Kind {
    /// Execute the commands.
    Commands,
    /// Execute the commands as EXEC does, if the keys that come before them are unchanged.
    Transaction { watched_bytes: u32 },
    /// Look up the keys of a WATCH.
    Watch,
    /// Wait for followers.
    Wait {
        written: Position,
        replicas: u64,
        timeout_ms: u64,
    },
}

/// Commands of one client.
#[derive(Clone, Debug)]
pub(in crate::server) struct Batch {
    pub(super) kind: Kind,
    /// It may change the state. If not, it can be offered again whatever became of it.
    pub(super) writes: bool,
    pub(super) resp3: bool,
    pub(super) raw: Bytes,
    /// Commands that the client gets a reply to.
    pub(super) commands: usize,
    /// Bytes of the client's input that it stands for.
    pub(super) used: usize,
}

/// The commands for the leader at the beginning of `input`, all of which write or none, as the first
/// does, which takes `first` bytes and has been decoded. The decoder is left behind them.
pub(in crate::server) fn gather(
    decoder: &mut Decoder,
    input: &[u8],
    first: usize,
    session: &Session,
    writes: bool,
) -> Batch {
    let (mut used, mut commands) = (first, 1);
    while !session.mutes_once() && commands < MAX_COMMANDS && used < MAX_BYTES {
        let rest = input.get(used..).unwrap_or_default();
        match decoder.decode(rest) {
            Ok(Decoded::Command { args, consumed })
                if route(session, args) == (Route::Leader { writes }) =>
            {
                used += consumed;
                commands += 1;
            }
            _ => break,
        }
    }
    // What comes behind is decoded anew: it may be decoded as another role, too.
    *decoder = Decoder::default();
    Batch {
        kind: Kind::Commands,
        writes,
        resp3: session.protocol == Protocol::Resp3,
        raw: Bytes::copy_from_slice(input.get(..used).unwrap_or_default()),
        commands,
        used,
    }
}

/// The WATCH at the beginning of `input`, which takes `used` bytes.
pub(in crate::server) fn watch(input: &[u8], used: usize) -> Batch {
    Batch {
        kind: Kind::Watch,
        writes: false,
        resp3: false,
        raw: Bytes::copy_from_slice(input.get(..used).unwrap_or_default()),
        commands: 1,
        used,
    }
}

/// Bytes of the first so many commands of `raw`, which holds whole ones.
pub(super) fn bytes_of(raw: &[u8], commands: usize) -> usize {
    let (mut decoder, mut used) = (Decoder::default(), 0);
    for _ in 0..commands {
        match decoder.decode(raw.get(used..).unwrap_or_default()) {
            Ok(Decoded::Command { consumed, .. }) => used += consumed,
            _ => break,
        }
    }
    used
}

/// The transaction of a session whose EXEC takes `used` bytes of the input; `None` if it is too
/// large.
pub(in crate::server) fn transaction(
    session: &Session,
    used: usize,
    writes: bool,
) -> Option<Batch> {
    let watches: Watches = session
        .watches()
        .map(|(key, lsn)| (key.to_vec(), lsn))
        .collect();
    let encoded = postcard::to_stdvec(&watches).ok()?;
    let watched_bytes = encoded.len() as u32;
    let mut out = Writer::with_buffer(encoded, session.protocol);
    for args in session.queued() {
        out.array(args.len());
        for arg in args.iter() {
            out.bulk(arg);
        }
        if out.len() > MAX_TRANSACTION {
            return None;
        }
    }
    Some(Batch {
        kind: Kind::Transaction { watched_bytes },
        writes,
        resp3: session.protocol == Protocol::Resp3,
        raw: out.take().into(),
        commands: 1,
        used,
    })
}

/// Hands every command in `raw` to `each`, until it breaks off. An error if there is more, or less.
pub(super) fn commands(
    mut raw: &[u8],
    mut each: impl FnMut(Args<'_>) -> ControlFlow<()>,
) -> Result<(), String> {
    let mut decoder = Decoder::default();
    while !raw.is_empty() {
        match decoder.decode(raw) {
            Ok(Decoded::Command { args, consumed }) => {
                if each(args).is_break() {
                    return Ok(());
                }
                raw = raw.get(consumed..).unwrap_or_default();
            }
            Ok(Decoded::Incomplete { .. }) => return Err("half a command".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

/// Takes a transaction apart.
pub(super) fn parts(raw: &[u8], watched_bytes: u32) -> Result<(Vec<OwnedArgs>, Watches), String> {
    let split = raw.split_at_checked(watched_bytes as usize);
    let (watched, rest) = split.ok_or("fewer bytes than watched keys")?;
    let watched = postcard::from_bytes(watched).map_err(|error| error.to_string())?;
    let mut queue = Vec::new();
    commands(rest, |args| {
        queue.push(args.to_owned());
        ControlFlow::Continue(())
    })?;
    Ok((queue, watched))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::new(1, String::new(), String::new(), true)
    }

    fn first(decoder: &mut Decoder, input: &[u8]) -> usize {
        match decoder.decode(input).unwrap() {
            Decoded::Command { consumed, .. } => consumed,
            other @ Decoded::Incomplete { .. } => panic!("{other:?}"),
        }
    }

    #[test]
    fn writes_that_follow_one_another_travel_together() {
        let mut decoder = Decoder::default();
        let input = b"SET a 1\r\nINCR b\r\nGET a\r\nSET c 1\r\n";
        let used = first(&mut decoder, input);
        let batch = gather(&mut decoder, input, used, &session(), true);
        assert_eq!((batch.commands, &batch.raw[..]), (2, &input[..17]));
        assert_eq!(batch.used, 17);
    }

    #[test]
    fn reads_for_the_leader_travel_together_and_not_with_writes() {
        let (mut decoder, mut session) = (Decoder::default(), session());
        session.at_leader = true;
        let input = b"GET a\r\nMGET b c\r\nSET a 1\r\n";
        let used = first(&mut decoder, input);
        let batch = gather(&mut decoder, input, used, &session, false);
        assert_eq!((batch.commands, batch.used, batch.writes), (2, 17, false));
        assert_eq!(bytes_of(&batch.raw, 1), 7);
        assert_eq!(bytes_of(&batch.raw, 2), 17);
        assert_eq!(bytes_of(&batch.raw, 3), 17);
    }

    #[test]
    fn half_a_command_behind_a_batch_is_decoded_anew() {
        let mut decoder = Decoder::default();
        let input = b"*2\r\n$4\r\nINCR\r\n$1\r\nb\r\n*2\r\n$4\r\nINCR\r\n$1";
        let used = first(&mut decoder, input);
        let batch = gather(&mut decoder, input, used, &session(), true);
        assert_eq!((batch.commands, batch.used), (1, 21));
        assert_eq!(first(&mut decoder, input), 21);
    }

    #[test]
    fn a_transaction_arrives_as_it_was_queued() {
        let mut sent = session();
        let queue = ["SET a 1", "GET a"].map(|line| line.split(' ').collect::<OwnedArgs>());
        let watched = [(b"a".to_vec(), Some(7)), (b"b".to_vec(), None)];
        sent.adopt_transaction(queue.to_vec(), watched.clone().into_iter());
        let batch = transaction(&sent, 9, true).unwrap();
        let Kind::Transaction { watched_bytes } = batch.kind else {
            panic!("{batch:?}")
        };
        let (commands, keys) = parts(&batch.raw, watched_bytes).unwrap();
        assert_eq!((commands, keys), (queue.to_vec(), watched.to_vec()));
        assert!(parts(&batch.raw[..batch.raw.len() - 1], watched_bytes).is_err());
        assert!(parts(b"", 1).is_err());
    }
}
