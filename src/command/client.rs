//! CLIENT: what a connection says of itself, and what one may know of the others.

use super::session::{Replies, Session};
use super::table::{NONE, flags::*};
use super::{Call, ClientInfo, Error, Handled, Outcome, help, rows};
use crate::resp::{Args, parse_i64};
use std::fmt::Write;

rows! { Connection;
    "client", -2, 0, NONE, "2.4.0", help,
        "A container for client connection commands.";
    "client|capa", -3, NOSCRIPT | LOADING | STALE, NONE, "8.0.0", capa,
        "Tells what the client can deal with.";
    "client|getname", 2, NOSCRIPT | LOADING | STALE, NONE, "2.6.9", getname,
        "Returns the name of the connection.";
    "client|getredir", 2, NOSCRIPT | LOADING | STALE, NONE, "6.0.0", getredir,
        "Returns the client ID to which the connection's tracking notifications are redirected.";
    "client|id", 2, NOSCRIPT | LOADING | STALE, NONE, "5.0.0", id,
        "Returns the unique client ID of the connection.";
    "client|info", 2, NOSCRIPT | LOADING | STALE, NONE, "6.2.0", info,
        "Returns information about the connection.";
    "client|kill", -3, ADMIN | NOSCRIPT | LOADING | STALE, NONE, "2.4.0", kill,
        "Terminates open connections.";
    "client|list", -2, ADMIN | NOSCRIPT | LOADING | STALE, NONE, "2.4.0", list,
        "Lists open connections.";
    "client|no-evict", 3, ADMIN | NOSCRIPT | LOADING | STALE, NONE, "7.0.0", on_or_off,
        "Sets the client eviction mode of the connection.";
    "client|no-touch", 3, NOSCRIPT | LOADING | STALE, NONE, "7.2.0", on_or_off,
        "Controls whether commands sent by the client affect the LRU/LFU of accessed keys.";
    "client|pause", -3, ADMIN | NOSCRIPT | LOADING | STALE, NONE, "3.0.0", pause,
        "Suspends commands processing.";
    "client|reply", 3, NOSCRIPT | LOADING | STALE, NONE, "3.2.0", reply,
        "Instructs the server whether to reply to commands.";
    "client|setinfo", 4, NOSCRIPT | LOADING | STALE, NONE, "7.2.0", setinfo,
        "Sets information specific to the client or connection.";
    "client|setname", 3, NOSCRIPT | LOADING | STALE, NONE, "2.6.9", setname,
        "Sets the connection name.";
    "client|tracking", -3, NOSCRIPT | LOADING | STALE, NONE, "6.0.0", tracking,
        "Controls server-assisted client-side caching for the connection.";
    "client|trackinginfo", 2, NOSCRIPT | LOADING | STALE, NONE, "6.2.0", trackinginfo,
        "Returns information about server-assisted client-side caching for the connection.";
    "client|unblock", -3, ADMIN | NOSCRIPT | LOADING | STALE, NONE, "5.0.0", unblock,
        "Unblocks a client blocked by a blocking command from a different connection.";
    "client|unpause", 2, ADMIN | NOSCRIPT | LOADING | STALE, NONE, "6.2.0", unpause,
        "Resumes processing commands from paused clients.";
    "client|help", 2, LOADING | STALE, NONE, "5.0.0", help,
        "Returns helpful text about the different subcommands.";
}

fn getname(call: &mut Call<'_>) -> Handled {
    match call.session.name.as_str() {
        "" => call.out.null(),
        name => call.out.bulk(name.as_bytes()),
    }
    Ok(Outcome::Reply)
}

fn setname(call: &mut Call<'_>) -> Handled {
    set_name(call.session, call.args.at(2))?;
    call.out.ok();
    Ok(Outcome::Reply)
}

/// Names the connection; an empty name takes it back.
pub(super) fn set_name(session: &mut Session, name: &[u8]) -> Result<(), Error> {
    session.name = printable(name).ok_or(Error::text(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))?;
    session.changed = true;
    Ok(())
}

/// The text, if every byte of it can stand in a line of CLIENT LIST.
fn printable(text: &[u8]) -> Option<String> {
    text.iter()
        .all(u8::is_ascii_graphic)
        .then(|| text.iter().map(|&byte| char::from(byte)).collect())
}

fn setinfo(call: &mut Call<'_>) -> Handled {
    let (attribute, value) = (call.args.at(2), printable(call.args.at(3)));
    let (place, error) = if attribute.eq_ignore_ascii_case(b"lib-name") {
        let error = "ERR lib-name cannot contain spaces, newlines or special characters.";
        (&mut call.session.lib_name, error)
    } else if attribute.eq_ignore_ascii_case(b"lib-ver") {
        let error = "ERR lib-ver cannot contain spaces, newlines or special characters.";
        (&mut call.session.lib_version, error)
    } else {
        return Err(Error::quoting("ERR Unrecognized option '", attribute, "'"));
    };
    *place = value.ok_or_else(|| Error::text(error))?;
    call.session.changed = true;
    call.out.ok();
    Ok(Outcome::Reply)
}

fn capa(call: &mut Call<'_>) -> Handled {
    // Unknown capabilities are none of our business, as in Valkey.
    call.session.takes_redirects |= call
        .args
        .skip(2)
        .iter()
        .any(|word| word.eq_ignore_ascii_case(b"redirect"));
    call.out.ok();
    Ok(Outcome::Reply)
}

fn id(call: &mut Call<'_>) -> Handled {
    call.out.integer(call.session.id as i64);
    Ok(Outcome::Reply)
}

fn info(call: &mut Call<'_>) -> Handled {
    let clients = clients(call);
    let own = clients.iter().find(|client| client.id == call.session.id);
    let text = own.map(line).unwrap_or_default();
    call.out.verbatim("txt", text.as_bytes());
    Ok(Outcome::Reply)
}

fn list(call: &mut Call<'_>) -> Handled {
    let args = call.args;
    let mut ids = None;
    let mut wanted = true;
    match args.get(2) {
        None => {}
        Some(option) if option.eq_ignore_ascii_case(b"type") && args.len() == 4 => {
            wanted = is_normal(args.at(3))?;
        }
        Some(option) if option.eq_ignore_ascii_case(b"id") && args.len() > 3 => {
            let parse = |id| parse_i64(id).ok_or(Error::text("ERR Invalid client ID"));
            ids = Some(
                args.skip(3)
                    .iter()
                    .map(parse)
                    .collect::<Result<Vec<_>, _>>()?,
            );
        }
        Some(_) => return Err(Error::SYNTAX),
    }
    let mut text = String::new();
    for client in clients(call) {
        if wanted
            && ids
                .as_ref()
                .is_none_or(|ids| ids.contains(&(client.id as i64)))
        {
            text.push_str(&line(&client));
        }
    }
    call.out.verbatim("txt", text.as_bytes());
    Ok(Outcome::Reply)
}

/// Whether connections such as ours are of that type; an error if there is none of that name.
fn is_normal(kind: &[u8]) -> Result<bool, Error> {
    let is = |name: &[u8]| kind.eq_ignore_ascii_case(name);
    if is(b"normal") {
        Ok(true)
    } else if is(b"master") || is(b"replica") || is(b"slave") || is(b"pubsub") {
        Ok(false)
    } else {
        Err(Error::quoting("ERR Unknown client type '", kind, "'"))
    }
}

/// The connections as the host knows them, ours as it is now.
fn clients(call: &Call<'_>) -> Vec<ClientInfo> {
    let mut clients = call.host.clients();
    let mut own = call.session.describe();
    match clients.iter_mut().find(|client| client.id == own.id) {
        Some(known) => {
            (own.age_s, own.input_buffer) = (known.age_s, known.input_buffer);
            *known = own;
        }
        None => clients.push(own),
    }
    clients
}

/// One line of CLIENT LIST.
fn line(client: &ClientInfo) -> String {
    let mut line = String::with_capacity(400);
    let multi = client.queued.map_or(-1, |queued| queued as i64);
    let flags = match client.queued {
        Some(_) => "x",
        None => "N",
    };
    let ClientInfo {
        id,
        address,
        local_address,
        name,
        age_s,
        idle_s,
        ..
    } = client;
    // Writing into a string cannot fail.
    let _ = writeln!(
        line,
        "id={id} addr={address} laddr={local_address} fd=-1 name={name} age={age_s} idle={idle_s} \
         flags={flags} db=0 sub=0 psub=0 ssub=0 multi={multi} watch={} qbuf={} qbuf-free=0 \
         argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={} oll=0 omem=0 tot-mem=0 events=r cmd={} \
         user=default redir=-1 resp={} lib-name={} lib-ver={}",
        client.watched,
        client.input_buffer,
        client.output_buffer,
        client.last_command,
        client.protocol,
        client.lib_name,
        client.lib_version,
    );
    line
}

fn kill(call: &mut Call<'_>) -> Handled {
    let by_address = call.args.len() == 3;
    let filter = if by_address {
        let address = Some(call.args.at(2).to_vec());
        Filter {
            address,
            skip_me: false,
            ..Filter::default()
        }
    } else {
        Filter::parse(call.args.skip(2))?
    };
    let own = call.session.id;
    let mut victims: Vec<u64> = Vec::new();
    for client in clients(call) {
        if filter.matches(&client) && !(filter.skip_me && client.id == own) {
            victims.push(client.id);
        }
    }
    let ours = victims.contains(&own);
    victims.retain(|&id| id != own);
    let killed = call.host.kill(&victims) + u64::from(ours);
    if !by_address {
        call.out.integer(killed as i64);
    } else if killed > 0 {
        call.out.ok();
    } else {
        return Err(Error::text("ERR No such client"));
    }
    Ok(if ours { Outcome::Close } else { Outcome::Reply })
}

/// Which connections CLIENT KILL closes.
struct Filter {
    id: Option<u64>,
    address: Option<Vec<u8>>,
    local_address: Option<Vec<u8>>,
    /// Of that type, and of that user.
    possible: bool,
    min_age_s: u64,
    skip_me: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            id: None,
            address: None,
            local_address: None,
            possible: true,
            min_age_s: 0,
            skip_me: true,
        }
    }
}

impl Filter {
    fn parse(args: Args<'_>) -> Result<Self, Error> {
        let mut filter = Self::default();
        let mut rest = args.iter();
        while let Some(option) = rest.next() {
            let value = rest.next().ok_or(Error::SYNTAX)?;
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            if is(b"id") {
                let id = parse_i64(value).filter(|&id| id > 0);
                let id = id.ok_or(Error::text("ERR client-id should be greater than 0"))?;
                filter.id = Some(id as u64);
            } else if is(b"type") {
                filter.possible &= is_normal(value)?;
            } else if is(b"addr") {
                filter.address = Some(value.to_vec());
            } else if is(b"laddr") {
                filter.local_address = Some(value.to_vec());
            } else if is(b"user") {
                if value != b"default" {
                    return Err(Error::quoting("ERR No such user '", value, "'"));
                }
            } else if is(b"maxage") {
                let age = parse_i64(value).filter(|&age| age > 0);
                filter.min_age_s = age.ok_or(Error::NOT_INTEGER)? as u64;
            } else if is(b"skipme") && value.eq_ignore_ascii_case(b"yes") {
                filter.skip_me = true;
            } else if is(b"skipme") && value.eq_ignore_ascii_case(b"no") {
                filter.skip_me = false;
            } else {
                return Err(Error::SYNTAX);
            }
        }
        Ok(filter)
    }

    fn matches(&self, client: &ClientInfo) -> bool {
        let same = |wanted: &Option<Vec<u8>>, have: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted == have.as_bytes())
        };
        self.possible
            && self.id.is_none_or(|id| id == client.id)
            && same(&self.address, &client.address)
            && same(&self.local_address, &client.local_address)
            && client.age_s >= self.min_age_s
    }
}

fn on_or_off(call: &mut Call<'_>) -> Handled {
    let word = call.args.at(2);
    if !word.eq_ignore_ascii_case(b"on") && !word.eq_ignore_ascii_case(b"off") {
        return Err(Error::SYNTAX);
    }
    // Nothing is evicted by connection, and no use of a key is recorded by who it was.
    call.out.ok();
    Ok(Outcome::Reply)
}

fn pause(_: &mut Call<'_>) -> Handled {
    Err(Error::text("ERR CLIENT PAUSE is not supported"))
}

fn unpause(call: &mut Call<'_>) -> Handled {
    call.out.ok();
    Ok(Outcome::Reply)
}

fn reply(call: &mut Call<'_>) -> Handled {
    let word = call.args.at(2);
    let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
    call.session.replies = match call.session.replies {
        _ if is(b"on") => {
            call.out.ok();
            Replies::On
        }
        _ if is(b"off") => Replies::Off,
        Replies::Off if is(b"skip") => Replies::Off,
        _ if is(b"skip") => Replies::SkipNext,
        _ => return Err(Error::SYNTAX),
    };
    Ok(Outcome::Reply)
}

fn tracking(call: &mut Call<'_>) -> Handled {
    let word = call.args.at(2);
    if word.eq_ignore_ascii_case(b"off") {
        call.out.ok();
        Ok(Outcome::Reply)
    } else if word.eq_ignore_ascii_case(b"on") {
        Err(Error::text("ERR client-side caching is not supported"))
    } else {
        Err(Error::SYNTAX)
    }
}

fn trackinginfo(call: &mut Call<'_>) -> Handled {
    call.out.map(3);
    call.out.bulk(b"flags");
    call.out.set(1);
    call.out.bulk(b"off");
    call.out.bulk(b"redirect");
    call.out.integer(-1);
    call.out.bulk(b"prefixes");
    call.out.array(0);
    Ok(Outcome::Reply)
}

fn getredir(call: &mut Call<'_>) -> Handled {
    call.out.integer(-1);
    Ok(Outcome::Reply)
}

fn unblock(call: &mut Call<'_>) -> Handled {
    let _id = call.integer(2)?;
    let known = match call.args.get(3) {
        None => true,
        Some(how) => how.eq_ignore_ascii_case(b"timeout") || how.eq_ignore_ascii_case(b"error"),
    };
    if !known || call.args.len() > 4 {
        return Err(Error::text(
            "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
        ));
    }
    // Nothing blocks but WAIT, which has a timeout of its own.
    call.out.integer(0);
    Ok(Outcome::Reply)
}
