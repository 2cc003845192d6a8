//! A blocking client of the Redis protocol.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use replicated_store::resp::reply::{self, Reply};

/// No reply takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends a command without waiting for its reply.
    pub(crate) fn send(&mut self, args: &[&str]) -> io::Result<()> {
        self.send_together(&[args])
    }

    /// Several commands in one write.
    pub(crate) fn send_together(&mut self, commands: &[&[&str]]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for args in commands {
            write!(bytes, "*{}\r\n", args.len())?;
            for arg in *args {
                write!(bytes, "${}\r\n{arg}\r\n", arg.len())?;
            }
        }
        self.stream.write_all(&bytes)
    }

    /// The next reply.
    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        loop {
            let decoded = reply::decode(&self.buffer);
            let decoded = decoded.map_err(|error| io::Error::other(error.to_string()))?;
            if let Some((reply, used)) = decoded {
                self.buffer.drain(..used);
                return Ok(reply);
            }
            let mut chunk = [0; 1 << 13];
            let read = self.stream.read(&mut chunk)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(&chunk[..read]);
        }
    }

    /// The next reply, if it comes before then.
    pub(crate) fn reply_by(&mut self, until: Instant) -> io::Result<Option<Reply>> {
        let left = until.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left))?;
        let reply = self.reply();
        self.stream.set_read_timeout(Some(PATIENCE))?;
        match reply {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            reply => reply.map(Some),
        }
    }

    /// Sends a command and waits for its reply.
    pub(crate) fn call(&mut self, args: &[&str]) -> io::Result<Reply> {
        self.send(args)?;
        self.reply()
    }

    /// Sets a key; an error unless it was acknowledged.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> io::Result<()> {
        match self.call(&["SET", key, value])? {
            Reply::Simple(ok) if ok == b"OK" => Ok(()),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    /// Gets a key.
    pub(crate) fn get(&mut self, key: &str) -> io::Result<Option<String>> {
        match self.call(&["GET", key])? {
            Reply::Bulk(value) => Ok(Some(String::from_utf8_lossy(&value).into_owned())),
            Reply::Null => Ok(None),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }
}

/// What became of commands that were sent together; the last of them counts.
pub(crate) enum Answer {
    Done(Reply),
    /// Nothing was done.
    Refused,
    /// It may have been done, or will be.
    Unknown,
}

/// Codes of errors that say that nothing was done.
const REFUSALS: [&str; 6] = [
    "READONLY",
    "NOREPLICAS",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "EXECABORT",
];

/// Sends commands and waits for their replies. A connection that brought an error is given up: it may
/// be that of a replica that is away, or no leader any more.
pub(crate) fn ask(connection: &mut Option<Client>, commands: &[&[&str]]) -> Answer {
    let Some(mut client) = connection.take() else {
        return Answer::Refused;
    };
    let sent: io::Result<()> = commands.iter().try_for_each(|command| client.send(command));
    let mut replies = commands.iter().map(|_| client.reply());
    let last = sent.and_then(|()| replies.try_fold(Reply::Null, |_, reply| reply));
    match last {
        Ok(Reply::Error(text)) => {
            let text = String::from_utf8_lossy(&text).into_owned();
            let code = text.split(' ').next().unwrap_or_default();
            if REFUSALS.contains(&code) {
                Answer::Refused
            } else {
                Answer::Unknown
            }
        }
        Ok(reply) => {
            *connection = Some(client);
            Answer::Done(reply)
        }
        Err(_) => Answer::Unknown,
    }
}
