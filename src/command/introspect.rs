//! COMMAND: the table of commands, for clients.

use super::acl::{categories, in_category};
use super::glob;
use super::table::flags::*;
use super::table::{self, Command, NONE, flags};
use super::{Call, Error, Group, Handled, Outcome, help, rows};
use crate::resp::{Args, Writer};

rows! { Server;
    "command", -1, LOADING | STALE, NONE, "2.8.13", command,
        "Returns detailed information about all commands.";
    "command|count", 2, LOADING | STALE, NONE, "2.8.13", count,
        "Returns a count of commands.";
    "command|info", -2, LOADING | STALE, NONE, "2.8.13", info,
        "Returns information about one, multiple or all commands.";
    "command|docs", -2, LOADING | STALE, NONE, "7.0.0", docs,
        "Returns documentary information about one, multiple or all commands.";
    "command|getkeys", -4, LOADING | STALE, NONE, "2.8.13", getkeys,
        "Extracts the key names from an arbitrary command.";
    "command|getkeysandflags", -4, LOADING | STALE, NONE, "7.0.0", getkeysandflags,
        "Extracts the key names and access flags for an arbitrary command.";
    "command|list", -2, LOADING | STALE, NONE, "7.0.0", list,
        "Returns a list of command names.";
    "command|help", 2, LOADING | STALE, NONE, "5.0.0", help,
        "Returns helpful text about the different subcommands.";
}

/// The commands that are no subcommands.
fn tops() -> impl Iterator<Item = &'static Command> + Clone {
    table::all()
        .iter()
        .filter(|command| !command.name.contains('|'))
}

fn command(call: &mut Call<'_>) -> Handled {
    call.out.array(tops().count());
    tops().for_each(|command| write_info(call.out, command));
    Ok(Outcome::Reply)
}

fn count(call: &mut Call<'_>) -> Handled {
    call.out.integer(tops().count() as i64);
    Ok(Outcome::Reply)
}

fn info(call: &mut Call<'_>) -> Handled {
    let names = call.args.skip(2);
    if names.is_empty() {
        return command(call);
    }
    call.out.array(names.len());
    for name in names.iter() {
        match by_full_name(name) {
            Some(command) => write_info(call.out, command),
            None => call.out.null(),
        }
    }
    Ok(Outcome::Reply)
}

/// The command or subcommand of a name such as `client|list`.
fn by_full_name(name: &[u8]) -> Option<&'static Command> {
    match name.iter().position(|&byte| byte == b'|') {
        None => table::find(name),
        Some(bar) => {
            table::find(name.get(..bar)?)?.subcommand(name.get(bar + 1..).unwrap_or_default())
        }
    }
}

fn write_info(out: &mut Writer, command: &Command) {
    out.array(10);
    out.bulk(command.name.as_bytes());
    out.integer(i64::from(command.arity));
    let names = flags::NAMES.iter().filter(|(flag, _)| command.has(*flag));
    out.set(names.clone().count());
    names.for_each(|(_, name)| out.simple(name));
    out.integer(i64::from(command.keys.first));
    out.integer(i64::from(command.keys.last));
    out.integer(i64::from(command.keys.step));
    let categories = categories(command);
    out.set(categories.clone().count());
    categories.for_each(|category| out.simple(&format!("@{category}")));
    out.array(0); // tips
    out.array(0); // key specifications: the three numbers say it all
    out.array(command.subcommands().len());
    command
        .subcommands()
        .iter()
        .for_each(|command| write_info(out, command));
}

fn docs(call: &mut Call<'_>) -> Handled {
    let names = call.args.skip(2);
    let found: Vec<_> = if names.is_empty() {
        tops().collect()
    } else {
        names.iter().filter_map(by_full_name).collect()
    };
    call.out.map(found.len());
    for command in found {
        write_docs(call.out, command);
    }
    Ok(Outcome::Reply)
}

fn write_docs(out: &mut Writer, command: &Command) {
    let subcommands = command.subcommands();
    out.bulk(command.name.as_bytes());
    out.map(3 + usize::from(!subcommands.is_empty()));
    for (field, value) in [
        ("summary", command.summary),
        ("since", command.since),
        ("group", group_name(command.group)),
    ] {
        out.bulk(field.as_bytes());
        out.bulk(value.as_bytes());
    }
    if !subcommands.is_empty() {
        out.bulk(b"subcommands");
        out.map(subcommands.len());
        for command in subcommands {
            write_docs(out, command);
        }
    }
}

fn group_name(group: Group) -> &'static str {
    match group {
        Group::Generic => "generic",
        Group::String => "string",
        Group::Connection => "connection",
        Group::Server => "server",
        Group::Transactions => "transactions",
        Group::Cluster => "cluster",
    }
}

fn getkeys(call: &mut Call<'_>) -> Handled {
    let (_, keys) = keys_of(call.args.skip(2))?;
    call.out.bulk_array(&keys);
    Ok(Outcome::Reply)
}

fn getkeysandflags(call: &mut Call<'_>) -> Handled {
    let (command, keys) = keys_of(call.args.skip(2))?;
    let flags: &[&str] = if command.has(WRITE) {
        &["RW", "access", "update"]
    } else {
        &["RO", "access"]
    };
    call.out.array(keys.len());
    for key in keys {
        call.out.array(2);
        call.out.bulk(key);
        call.out.set(flags.len());
        for flag in flags {
            call.out.simple(flag);
        }
    }
    Ok(Outcome::Reply)
}

/// The keys among a command's arguments.
fn keys_of(args: Args<'_>) -> Result<(&'static Command, Vec<&[u8]>), Error> {
    let command = table::find(args.at(0)).ok_or(Error::text("ERR Invalid command specified"))?;
    let command = args
        .get(1)
        .and_then(|name| command.subcommand(name))
        .unwrap_or(command);
    if command.keys.first == 0 {
        return Err(Error::text("ERR The command has no key arguments"));
    }
    if !command.takes(args.len()) {
        return Err(Error::text(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    Ok((command, command.keys.of(args).collect()))
}

fn list(call: &mut Call<'_>) -> Handled {
    let mut names: Vec<&str> = Vec::new();
    match (call.args.len(), call.args.get(2)) {
        (2, _) => names.extend(tops().map(|command| command.name)),
        (5, Some(filter)) if filter.eq_ignore_ascii_case(b"filterby") => {
            let (kind, wanted) = (call.args.at(3), call.args.at(4));
            for command in table::all() {
                let takes = if kind.eq_ignore_ascii_case(b"module") {
                    false
                } else if kind.eq_ignore_ascii_case(b"aclcat") {
                    in_category(command, wanted).unwrap_or(false)
                } else if kind.eq_ignore_ascii_case(b"pattern") {
                    glob::matches_ignoring_case(wanted, command.name.as_bytes())
                } else {
                    return Err(Error::SYNTAX);
                };
                if takes {
                    names.push(command.name);
                }
            }
        }
        _ => return Err(Error::SYNTAX),
    }
    call.out.bulk_array(&names);
    Ok(Outcome::Reply)
}
