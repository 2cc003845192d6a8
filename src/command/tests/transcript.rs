//! Transcripts: what is sent and what comes back, in text files.
//!
//! ```text
//! == name of a case, which begins with an empty state and new connections
//! > SET key "a value"       a command, in the words of redis-cli
//! +OK                       its reply, a line for each line of the protocol; a string on one line,
//!                           with escapes; `""` for an empty line, `...` for whatever follows,
//!                           `(nothing)` for no reply
//! @client 2                 go on with another connection
//! @wait 1500                let milliseconds pass
//! @resp3                    switch the connection to RESP3
//! @ours                     what follows is not as Redis 7.0 has it: do not compare
//! @follower @loading @password   what the replica is
//! ```
//!
//! `UPDATE_TRANSCRIPTS=1 cargo test transcript` writes our replies into the files.

use super::world::{LOADING, READONLY, World};
use crate::command::{Outcome, table};
use crate::resp::{Decoded, Decoder, OwnedArgs, Protocol, parse_i64};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A line of a transcript, and the reply behind it.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The line as it stands.
    pub(super) line: String,
    /// The lines of the reply.
    pub(super) reply: Vec<String>,
}

/// A case: its name and steps.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/command/tests/transcripts")
}

/// Every transcript: its file and cases.
pub(super) fn load() -> Vec<(PathBuf, Vec<Case>)> {
    let mut files: Vec<_> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| (path.clone(), parse(&std::fs::read_to_string(path).unwrap())))
        .collect()
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case {
                name: name.to_owned(),
                steps: Vec::new(),
            });
            continue;
        }
        let steps = &mut cases.last_mut().expect("a file begins with a case").steps;
        if line.starts_with("> ") || line.starts_with('@') {
            steps.push(Step {
                line: line.to_owned(),
                reply: Vec::new(),
            });
        } else {
            steps
                .last_mut()
                .expect("a reply follows a command")
                .reply
                .push(line.to_owned());
        }
    }
    cases
}

fn print(cases: &[Case]) -> String {
    let mut lines = Vec::new();
    for case in cases {
        lines.push(format!("== {}", case.name));
        for Step { line, reply } in &case.steps {
            lines.push(line.clone());
            lines.extend(reply.iter().cloned());
        }
        lines.push(String::new());
    }
    lines.join("\n")
}

/// The arguments of a command line.
pub(super) fn words(line: &str) -> OwnedArgs {
    let line = format!("{line}\n");
    let mut decoder = Decoder::default();
    match decoder.decode(line.as_bytes()) {
        Ok(Decoded::Command { args, .. }) => args.to_owned(),
        other => panic!("{line}: {other:?}"),
    }
}

/// A reply as the lines of a transcript.
pub(super) fn lines(mut reply: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(end) = reply.windows(2).position(|pair| pair == b"\r\n") {
        let (line, rest) = (&reply[..end], &reply[end + 2..]);
        lines.push(printable(line));
        reply = rest;
        let length = parse_i64(&line[1..]).unwrap_or(-1);
        if matches!(line[0], b'$' | b'=') && length >= 0 {
            lines.push(printable(&reply[..length as usize]));
            reply = &reply[length as usize + 2..];
        }
    }
    assert!(reply.is_empty(), "the rest of a reply: {reply:?}");
    if lines.is_empty() {
        lines.push("(nothing)".to_owned());
    }
    lines
}

fn printable(line: &[u8]) -> String {
    if line.is_empty() {
        return "\"\"".to_owned();
    }
    let quotes_need_no_escape = line.escape_ascii().to_string();
    quotes_need_no_escape
        .replace("\\'", "'")
        .replace("\\\"", "\"")
}

/// Whether a reply is as expected.
pub(super) fn agree(reply: &[String], expected: &[String]) -> bool {
    match expected.iter().position(|line| line == "...") {
        Some(end) => reply.len() >= end && reply[..end] == expected[..end],
        None => reply == expected,
    }
}

/// Plays a case to our commands; the replies, one list of lines a step.
fn play(case: &Case) -> Vec<Vec<String>> {
    let mut world = World::default();
    let mut client = 1;
    let mut replies = Vec::new();
    for Step { line, .. } in &case.steps {
        let mut words_of_line = line.split(' ');
        let mut reply = Vec::new();
        match (words_of_line.next().unwrap(), words_of_line.next()) {
            (">", _) => reply = send(&mut world, client, &line[2..]),
            ("@client", number) => client = number.unwrap().parse().unwrap(),
            ("@wait", ms) => world.view.now_ms += ms.unwrap().parse::<u64>().unwrap(),
            ("@resp3", _) => world.session(client).protocol = Protocol::Resp3,
            ("@follower", _) => {
                world.view.follows = true;
                world.view.refuses_writes = Some(READONLY);
            }
            ("@loading", _) => {
                world.view.loading = true;
                world.view.refuses_writes = Some(LOADING);
                world.view.refuses_reads = Some(LOADING);
            }
            ("@password", _) => {
                world.host.password = Some("secret");
                client = world.connect(false);
            }
            ("@ours", _) => {}
            other => panic!("no such line: {other:?}"),
        }
        replies.push(reply);
    }
    replies
}

fn send(world: &mut World, client: usize, line: &str) -> Vec<String> {
    let (reply, outcome) = world.execute(client, &words(line));
    let mut reply = lines(&reply);
    match outcome {
        Outcome::Close => reply.push("(close)".to_owned()),
        Outcome::Wait {
            replicas,
            timeout_ms,
        } => {
            reply = vec![format!("(wait for {replicas}, {timeout_ms} ms)")];
        }
        Outcome::Reply | Outcome::Nothing => {}
    }
    reply
}

#[test]
fn transcripts_are_as_written() {
    let update = std::env::var_os("UPDATE_TRANSCRIPTS").is_some();
    let mut wrong = Vec::new();
    for (path, mut cases) in load() {
        for case in &mut cases {
            let replies = play(case);
            for (step, reply) in case.steps.iter_mut().zip(replies) {
                if !agree(&reply, &step.reply) {
                    wrong.push(format!(
                        "{}: {}\n  {}\n  expected {:?}\n  got      {:?}",
                        path.display(),
                        case.name,
                        step.line,
                        step.reply,
                        reply
                    ));
                    step.reply = reply;
                }
            }
        }
        if update {
            std::fs::write(&path, print(&cases)).unwrap();
        }
    }
    assert!(update || wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_has_a_transcript() {
    let mut played = BTreeSet::new();
    for step in load()
        .iter()
        .flat_map(|(_, cases)| cases)
        .flat_map(|case| &case.steps)
    {
        if let Some(line) = step.line.strip_prefix("> ") {
            let words = words(line);
            let args = words.as_args();
            if let Some(command) = table::find(args.at(0)) {
                played.insert(command.name);
                played.extend(command.subcommand(args.at(1)).map(|command| command.name));
            }
        }
    }
    let missing: Vec<_> = table::all()
        .iter()
        .map(|command| command.name)
        .filter(|name| !played.contains(name))
        .collect();
    assert!(
        missing.is_empty(),
        "commands without a transcript: {missing:?}"
    );
}
