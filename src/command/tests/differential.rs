//! The transcripts, played to a real Redis: ours are only right if Redis says so.

use super::transcript::{Case, Step, agree, lines, load, words};
use crate::resp::reply;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A Redis of our own, which ends with the test.
struct Redis {
    process: Child,
    directory: tempfile::TempDir,
}

impl Redis {
    /// Starts the program that `REDIS_SERVER` names, or else the one on the path; `None` without one.
    fn start() -> Option<Self> {
        let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("redis");
        let process = Command::new(program)
            .args([
                "--port",
                "0",
                "--databases",
                "1",
                "--save",
                "",
                "--unixsocket",
            ])
            .arg(&socket)
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let redis = Self { process, directory };
        let started = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "redis-server does not answer"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(redis)
    }

    fn connect(&self) -> Connection {
        let stream = UnixStream::connect(self.directory.path().join("redis")).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Connection {
            stream,
            received: Vec::new(),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Connection {
    fn send(&mut self, line: &str) {
        let words = words(line);
        let args = words.as_args();
        let mut frame = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args.iter() {
            frame.extend(format!("${}\r\n", arg.len()).bytes());
            frame.extend(arg);
            frame.extend(b"\r\n");
        }
        self.stream.write_all(&frame).unwrap();
    }

    /// The next reply as it came; what came before the end of the connection, if it ended.
    fn receive(&mut self) -> Vec<u8> {
        loop {
            if let Some((_, length)) = reply::decode(&self.received).unwrap() {
                return self.received.drain(..length).collect();
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return std::mem::take(&mut self.received),
                Ok(count) => self.received.extend(&buffer[..count]),
            }
        }
    }
}

/// Plays a case; what was not as written.
fn play(redis: &Redis, path: &Path, case: &Case) -> Vec<String> {
    let mut connections = vec![redis.connect()];
    connections[0].send("FLUSHALL");
    connections[0].receive();
    let mut client = 0;
    let mut wrong = Vec::new();
    for Step {
        line,
        reply: expected,
    } in &case.steps
    {
        let connection = &mut connections[client];
        let argument = || line.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
        match line.split(' ').next().unwrap() {
            ">" => {
                connection.send(&line[2..]);
                let reply = match expected.first() {
                    Some(nothing) if nothing == "(nothing)" => vec![nothing.clone()],
                    _ => lines(&connection.receive()),
                };
                let closes = expected.last().is_some_and(|line| line == "(close)");
                let expected = &expected[..expected.len() - usize::from(closes)];
                if !agree(&reply, expected) {
                    wrong.push(format!(
                        "{}: {}\n  {line}\n  expected {expected:?}\n  Redis    {reply:?}",
                        path.display(),
                        case.name,
                    ));
                }
            }
            "@client" => {
                client = argument() as usize - 1;
                while connections.len() <= client {
                    connections.push(redis.connect());
                }
            }
            "@wait" => std::thread::sleep(Duration::from_millis(argument())),
            "@resp3" => {
                connection.send("HELLO 3");
                connection.receive();
            }
            _ => return wrong,
        }
    }
    wrong
}

#[test]
fn redis_agrees_with_the_transcripts() {
    let Some(redis) = Redis::start() else {
        eprintln!("skipped: there is no redis-server on the path, nor in REDIS_SERVER");
        return;
    };
    let files = load();
    let cases = files
        .iter()
        .flat_map(|(path, cases)| cases.iter().map(move |case| (path, case)));
    let wrong: Vec<_> = cases
        .flat_map(|(path, case)| play(&redis, path, case))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
