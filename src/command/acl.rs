//! Who the client is: AUTH, and as much of ACL as one user needs.

use super::table::{self, Command, NONE, flags::*};
use super::{Call, Error, Group, Handled, Outcome, help, rows};

rows! { Connection;
    "auth", -2, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH, NONE, "1.0.0", auth,
        "Authenticates the connection.";
    "acl", -2, 0, NONE, "6.0.0", help,
        "A container for Access List Control commands.";
    "acl|whoami", 2, NOSCRIPT | LOADING | STALE, NONE, "6.0.0", whoami,
        "Returns the authenticated username of the current connection.";
    "acl|list", 2, ADMIN | NOSCRIPT | LOADING | STALE, NONE, "6.0.0", list,
        "Dumps the effective rules in ACL file format.";
    "acl|users", 2, ADMIN | NOSCRIPT | LOADING | STALE, NONE, "6.0.0", users,
        "Lists all ACL users.";
    "acl|cat", -2, NOSCRIPT | LOADING | STALE, NONE, "6.0.0", cat,
        "Lists the ACL categories, or the commands inside a category.";
    "acl|help", 2, LOADING | STALE, NONE, "6.0.0", help,
        "Returns helpful text about the different subcommands.";
}

/// The one user.
const USER: &[u8] = b"default";

fn auth(call: &mut Call<'_>) -> Handled {
    let (user, password) = match call.args.len() {
        2 => (USER, call.args.at(1)),
        3 => (call.args.at(1), call.args.at(2)),
        _ => return Err(Error::SYNTAX),
    };
    if call.args.len() == 2 && !call.host.password_required() {
        return Err(Error::text(
            "ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        ));
    }
    authenticate(call, user, password)?;
    call.out.ok();
    Ok(Outcome::Reply)
}

/// Lets the client in, if user and password are right. Without a password any will do.
pub(super) fn authenticate(call: &mut Call<'_>, user: &[u8], password: &[u8]) -> Result<(), Error> {
    let host = call.host;
    let right = if host.password_required() {
        host.authenticate(user, password)
    } else {
        user == USER
    };
    if !right {
        return Err(Error::text(
            "WRONGPASS invalid username-password pair or user is disabled.",
        ));
    }
    call.session.authenticated = true;
    Ok(())
}

fn whoami(call: &mut Call<'_>) -> Handled {
    call.out.bulk(USER);
    Ok(Outcome::Reply)
}

fn list(call: &mut Call<'_>) -> Handled {
    call.out.array(1);
    // The password's hash, which would stand for `nopass`, is nobody's business.
    call.out.bulk(if call.host.password_required() {
        b"user default on sanitize-payload ~* &* +@all".as_slice()
    } else {
        b"user default on nopass sanitize-payload ~* &* +@all"
    });
    Ok(Outcome::Reply)
}

fn users(call: &mut Call<'_>) -> Handled {
    call.out.array(1);
    call.out.bulk(USER);
    Ok(Outcome::Reply)
}

/// Whether a category holds a command.
type Holds = fn(&Command) -> bool;

/// The categories, and which commands they hold.
const CATEGORIES: [(&str, Holds); 11] = [
    ("keyspace", |command| command.group == Group::Generic),
    ("read", |command| {
        command.has(READONLY) && !command.has(ADMIN)
    }),
    ("write", |command| command.has(WRITE)),
    ("string", |command| command.group == Group::String),
    ("admin", |command| command.has(ADMIN)),
    ("fast", |command| command.has(FAST)),
    ("slow", |command| !command.has(FAST)),
    ("blocking", |command| command.has(BLOCKING)),
    ("dangerous", |command| command.has(ADMIN | DANGEROUS)),
    ("connection", |command| command.group == Group::Connection),
    ("transaction", |command| {
        command.group == Group::Transactions
    }),
];

/// The categories of a command, without the `@`.
pub(super) fn categories(command: &Command) -> impl Iterator<Item = &'static str> + Clone {
    CATEGORIES
        .iter()
        .filter(move |(_, holds)| holds(command))
        .map(|(name, _)| *name)
}

/// Whether the command belongs to a category; `None` for an unknown one.
pub(super) fn in_category(command: &Command, category: &[u8]) -> Option<bool> {
    let (_, holds) = CATEGORIES
        .iter()
        .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(category))?;
    Some(holds(command))
}

fn cat(call: &mut Call<'_>) -> Handled {
    if call.args.len() > 3 {
        return Err(Error::subcommand(call));
    }
    let Some(category) = call.args.get(2) else {
        call.out.array(CATEGORIES.len());
        for (name, _) in CATEGORIES {
            call.out.bulk(name.as_bytes());
        }
        return Ok(Outcome::Reply);
    };
    let mut names = Vec::new();
    for command in table::all() {
        let unknown = || Error::quoting("ERR Unknown category '", category, "'");
        if in_category(command, category).ok_or_else(unknown)? {
            names.push(command.name);
        }
    }
    call.out.bulk_array(&names);
    Ok(Outcome::Reply)
}
