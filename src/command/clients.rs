//! CLIENT: what one may know of other connections, and do to them.

use super::{Call, ClientInfo, Error, Handled, Outcome};
use crate::resp::{Args, parse_i64};
use std::fmt::Write;

pub(super) fn info(call: &mut Call<'_>) -> Handled {
    let clients = clients(call);
    let own = clients.iter().find(|client| client.id == call.session.id);
    let text = own.map(line).unwrap_or_default();
    call.out.verbatim("txt", text.as_bytes());
    Ok(Outcome::Reply)
}

pub(super) fn list(call: &mut Call<'_>) -> Handled {
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

pub(super) fn kill(call: &mut Call<'_>) -> Handled {
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
