//! Which keys a command is going to look up, before it is executed: so that they can be fetched first.

use super::execute::resolve;
use super::session::Session;
use super::table::flags;
use crate::resp::Args;

/// Hands the keys that executing the command would look up to `each`; whether it may write. A command
/// that is only queued, or is in error, touches nothing.
pub fn touch<'a>(session: &'a Session, args: Args<'a>, mut each: impl FnMut(&'a [u8])) -> bool {
    let Ok(command) = resolve(args) else {
        return false;
    };
    if !command.takes(args.len()) || !session.authenticated {
        return false;
    }
    match &session.transaction {
        Some(transaction) if command.name == "exec" => {
            if transaction.aborted {
                return false;
            }
            let watched = session.watched.iter().map(|watched| &watched.key[..]);
            watched.for_each(&mut each);
            for (command, args) in &transaction.queue {
                command.keys.of(args.as_args()).for_each(&mut each);
            }
            transaction.flags & flags::WRITE != 0
        }
        Some(_) if !command.has(flags::IMMEDIATE) => false,
        _ => {
            command.keys.of(args).for_each(each);
            command.has(flags::WRITE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    fn touched(session: &Session, line: &str) -> (Vec<String>, bool) {
        let args: OwnedArgs = line.split(' ').collect();
        let mut keys = Vec::new();
        let writes = touch(session, args.as_args(), |key| keys.push(key.to_vec()));
        let text = |key| String::from_utf8(key).unwrap();
        (keys.into_iter().map(text).collect(), writes)
    }

    #[test]
    fn keys_are_named_before_the_command_is_executed() {
        let mut session = Session::new(1, String::new(), String::new(), true);
        let keys = |names: &[&str], writes| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            (names, writes)
        };
        for (line, expected) in [
            ("GET a", keys(&["a"], false)),
            ("MSET a 1 b 2", keys(&["a", "b"], true)),
            ("del a b c", keys(&["a", "b", "c"], true)),
            ("FLUSHALL", keys(&[], true)),
            ("PING", keys(&[], false)),
            ("GET", keys(&[], false)),
            ("NOTHING a", keys(&[], false)),
        ] {
            assert_eq!(touched(&session, line), expected, "{line}");
        }
        let queue = ["GET a", "SET b 1"].map(|line| line.split(' ').collect::<OwnedArgs>());
        let watched = [(b"w".to_vec(), None)];
        session.adopt_transaction(queue.to_vec(), watched.into_iter());
        assert_eq!(touched(&session, "GET a"), keys(&[], false), "it is queued");
        assert_eq!(touched(&session, "EXEC"), keys(&["w", "a", "b"], true));
    }
}
