//! The table of commands, and the look-up of one by its name.

use super::*;
use crate::resp::Args;

/// One command, or one subcommand of a container such as CLIENT.
#[derive(Clone, Copy)]
pub struct Command {
    /// In lower case; a subcommand as `client|setname`.
    pub name: &'static str,
    /// Arguments, the name included; `-n` for at least `n`.
    pub arity: i16,
    /// What it does, see [`flags`].
    pub flags: u32,
    /// Where its keys are.
    pub keys: Keys,
    /// Its family.
    pub group: Group,
    /// Version of Redis that first had it.
    pub since: &'static str,
    /// One sentence.
    pub summary: &'static str,
    pub(super) handler: Handler,
    /// Place in the table.
    pub(super) index: u8,
    /// How many of the rows behind it are its subcommands.
    pub(super) children: u8,
}

/// Executes a command whose name, arity and flags were checked.
pub(super) type Handler = for<'a, 'b> fn(&'a mut Call<'b>) -> Handled;

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Positions of a command's keys: the first, the last (from the end if negative) and the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The first key's position, 0 for no keys.
    pub first: i8,
    /// The last key's position, from the end if negative.
    pub last: i8,
    /// From one key to the next.
    pub step: i8,
}

impl Keys {
    /// The keys among a command's arguments.
    pub fn of<'a>(&self, args: Args<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let from_end = usize::from(self.last.unsigned_abs());
        let last = match self.last {
            0.. => from_end,
            _ => args.len().saturating_sub(from_end),
        };
        let first = usize::from(self.first.unsigned_abs());
        let count = if first == 0 {
            0
        } else {
            (last + 1).saturating_sub(first)
        };
        let step = usize::from(self.step.unsigned_abs()).max(1);
        args.skip(first).iter().take(count).step_by(step)
    }
}

/// No keys.
pub(super) const NONE: Keys = Keys {
    first: 0,
    last: 0,
    step: 0,
};
/// The first argument.
pub(super) const ONE: Keys = Keys {
    first: 1,
    last: 1,
    step: 1,
};
/// The first two arguments.
pub(super) const TWO: Keys = Keys {
    first: 1,
    last: 2,
    step: 1,
};
/// The second argument.
pub(super) const SECOND: Keys = Keys {
    first: 2,
    last: 2,
    step: 1,
};
/// Every argument.
pub(super) const ALL: Keys = Keys {
    first: 1,
    last: -1,
    step: 1,
};
/// Every other argument.
pub(super) const PAIRS: Keys = Keys {
    first: 1,
    last: -1,
    step: 2,
};

/// What a command does; the names are those of COMMAND INFO.
pub mod flags {
    /// May change the state.
    pub const WRITE: u32 = 1;
    /// Reads keys and changes nothing.
    pub const READONLY: u32 = 1 << 1;
    /// May need more memory.
    pub const DENYOOM: u32 = 1 << 2;
    /// For administrators.
    pub const ADMIN: u32 = 1 << 3;
    /// Not for scripts.
    pub const NOSCRIPT: u32 = 1 << 4;
    /// Allowed while the state is loading.
    pub const LOADING: u32 = 1 << 5;
    /// Allowed on a follower without a leader.
    pub const STALE: u32 = 1 << 6;
    /// Takes constant or logarithmic time.
    pub const FAST: u32 = 1 << 7;
    /// Allowed before AUTH.
    pub const NO_AUTH: u32 = 1 << 8;
    /// May wait for others.
    pub const BLOCKING: u32 = 1 << 9;
    /// Executed at once, even after MULTI.
    pub const IMMEDIATE: u32 = 1 << 10;
    /// Best kept from ordinary users.
    pub const DANGEROUS: u32 = 1 << 11;

    /// As in COMMAND INFO; the last two have no name there.
    pub(in super::super) const NAMES: [(u32, &str); 10] = [
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENYOOM, "denyoom"),
        (ADMIN, "admin"),
        (NOSCRIPT, "noscript"),
        (BLOCKING, "blocking"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
    ];
}

/// A family of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Any key.
    Generic,
    /// Strings.
    String,
    /// The connection itself.
    Connection,
    /// The process.
    Server,
    /// MULTI and its like.
    Transactions,
    /// Redis Cluster, of which there is none here.
    Cluster,
}

/// Rows of the table: name, arity, flags, keys, since, handler, summary.
macro_rules! rows {
    ($group:ident; $($rest:tt)*) => { rows! { ROWS $group; $($rest)* } };
    ($rows:ident $group:ident; $($name:literal, $arity:literal, $flags:expr, $keys:expr, $since:literal,
        $handler:path, $summary:literal;)*) => {
        /// The family's rows of the table.
        pub(super) const $rows: &[crate::command::Command] = &[$(crate::command::Command {
            name: $name,
            arity: $arity,
            flags: $flags,
            keys: $keys,
            group: crate::command::Group::$group,
            since: $since,
            summary: $summary,
            handler: $handler,
            index: 0,
            children: 0,
        }),*];
    };
}
pub(super) use rows;

const FAMILIES: &[&[Command]] = &[
    strings::ROWS,
    counters::ROWS,
    ranges::ROWS,
    keys::ROWS,
    expiry::ROWS,
    scan::ROWS,
    object::ROWS,
    transactions::ROWS,
    connection::ROWS,
    client::ROWS,
    acl::ROWS,
    config::ROWS,
    info::ROWS,
    introspect::ROWS,
    server::ROWS,
    server::CLUSTER_ROWS,
];

const LENGTH: usize = {
    let (mut length, mut family) = (0, 0);
    while family < FAMILIES.len() {
        length += FAMILIES[family].len();
        family += 1;
    }
    length
};

static COMMANDS: [Command; LENGTH] = concatenated();

/// Every command; subcommands follow their container.
pub fn all() -> &'static [Command] {
    &COMMANDS
}

const fn concatenated() -> [Command; LENGTH] {
    let mut commands = [strings::ROWS[0]; LENGTH];
    let (mut at, mut container, mut family) = (0, 0, 0);
    while family < FAMILIES.len() {
        let mut row = 0;
        while row < FAMILIES[family].len() {
            commands[at] = FAMILIES[family][row];
            commands[at].index = at as u8;
            if is_subcommand(commands[at].name) {
                commands[container].children += 1;
            } else {
                container = at;
            }
            at += 1;
            row += 1;
        }
        family += 1;
    }
    commands
}

const fn is_subcommand(name: &str) -> bool {
    let mut at = 0;
    while at < name.len() {
        if name.as_bytes()[at] == b'|' {
            return true;
        }
        at += 1;
    }
    false
}

/// Slots of the hash table of names: several a command, so that a look-up rarely probes twice.
const SLOTS: usize = 512;
/// A slot without a command.
const FREE: u8 = u8::MAX;

const _: () = assert!(LENGTH < FREE as usize, "an index takes one byte");

static INDEX: [u8; SLOTS] = {
    let commands = concatenated();
    let mut index = [FREE; SLOTS];
    let mut at = 0;
    while at < LENGTH {
        if !is_subcommand(commands[at].name) {
            let mut slot = slot_of(commands[at].name.as_bytes());
            while index[slot] != FREE {
                slot = (slot + 1) % SLOTS;
            }
            index[slot] = at as u8;
        }
        at += 1;
    }
    index
};

/// Where the search for a name begins; the same for upper and lower case.
#[inline]
const fn slot_of(name: &[u8]) -> usize {
    let mut hash = name.len() as u32;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ (name[at] | 0x20) as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    // The upper bits of a product are the well-mixed ones.
    (hash >> 16) as usize % SLOTS
}

/// No command has a longer name.
const MAX_NAME: usize = 32;

/// The command of this name, in upper or lower case; not a subcommand.
#[inline]
pub fn find(name: &[u8]) -> Option<&'static Command> {
    if name.len() > MAX_NAME {
        return None;
    }
    let mut slot = slot_of(name);
    loop {
        let command = COMMANDS.get(usize::from(INDEX[slot]))?;
        if command.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(command);
        }
        slot = (slot + 1) % SLOTS;
    }
}

impl Command {
    /// Its subcommands.
    pub fn subcommands(&self) -> &'static [Self] {
        let start = usize::from(self.index) + 1;
        COMMANDS
            .get(start..start + usize::from(self.children))
            .unwrap_or_default()
    }

    /// The subcommand of this name, in upper or lower case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Self> {
        self.subcommands().iter().find(|command| {
            let (_, own) = command.name.split_once('|').unwrap_or_default();
            own.as_bytes().eq_ignore_ascii_case(name)
        })
    }

    /// Whether it has this flag.
    #[inline]
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether it takes that many arguments, the name included.
    #[inline]
    pub fn takes(&self, count: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 {
            count >= arity
        } else {
            count == arity
        }
    }
}

/// HELP of a container: its subcommands. Also the handler of containers themselves, which is never
/// called, as they take a subcommand.
pub(super) fn help(call: &mut Call<'_>) -> Handled {
    let (container, _) = call
        .command
        .name
        .split_once('|')
        .unwrap_or((call.command.name, ""));
    let subcommands = find(container.as_bytes()).map_or(&[][..], Command::subcommands);
    call.out.array(subcommands.len() * 2 + 1);
    let container = container.to_ascii_uppercase();
    call.out.simple(&format!(
        "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for subcommand in subcommands {
        let (_, name) = subcommand.name.split_once('|').unwrap_or_default();
        call.out.simple(&name.to_ascii_uppercase());
        call.out.simple(&format!("    {}", subcommand.summary));
    }
    Ok(Outcome::Reply)
}
