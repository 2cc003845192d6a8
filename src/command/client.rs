//! CLIENT: what a connection says of itself.

use super::clients::{info, kill, list};
use super::session::{Replies, Session};
use super::table::{NONE, flags::*};
use super::{Call, Error, Handled, Outcome, help, rows};

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
