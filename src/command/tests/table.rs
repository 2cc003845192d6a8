//! The table itself.

use crate::command::table::{self, flags};

#[test]
fn every_command_is_found_in_any_case() {
    for command in table::all() {
        let (name, sub) = command.name.split_once('|').unwrap_or((command.name, ""));
        for name in [name.to_owned(), name.to_ascii_uppercase()] {
            let found = table::find(name.as_bytes()).expect(&name);
            if sub.is_empty() {
                assert_eq!(found.index, command.index);
            } else {
                let upper = sub.to_ascii_uppercase();
                assert_eq!(
                    found.subcommand(upper.as_bytes()).expect(sub).index,
                    command.index
                );
            }
        }
    }
}

#[test]
fn names_that_are_none_are_not_found() {
    for name in [
        "",
        "ge",
        "gett",
        "get ",
        "client|id",
        "a_name_longer_than_any_command_could_have",
    ] {
        assert!(table::find(name.as_bytes()).is_none(), "{name}");
    }
    // Differs from "get" only in a bit that the hash ignores.
    assert!(table::find(b"\x47\x45\x14").is_none());
    assert!(table::find(b"client").unwrap().subcommand(b"").is_none());
}

#[test]
fn rows_are_consistent() {
    for command in table::all() {
        let name = command.name;
        assert_ne!(command.arity, 0, "{name}");
        assert!(
            !(command.has(flags::WRITE) && command.has(flags::READONLY)),
            "{name}"
        );
        assert!(
            !(command.has(flags::WRITE) && command.has(flags::LOADING)),
            "{name}"
        );
        assert_eq!(command.keys.first == 0, command.keys.step == 0, "{name}");
        assert!(
            !command.summary.is_empty() && command.since.split('.').count() == 3,
            "{name}"
        );
        let least = usize::from(command.arity.unsigned_abs());
        assert!(
            usize::from(command.keys.first.unsigned_abs()) < least,
            "{name}"
        );
        assert_eq!(command.name, command.name.to_ascii_lowercase());
        if command.children > 0 {
            assert!(
                command.subcommand(b"help").is_some() || name == "command",
                "{name}"
            );
        }
    }
}
