//! One connection of the load generator: at most one batch of commands is under way on it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Result, bail};

use super::replies::{self, Reply};

/// Commands that were sent together.
#[derive(Clone, Copy)]
pub(super) struct Batch {
    /// When it was to be sent: its latency counts from here.
    pub(super) due: Instant,
    /// Operations that it stands for.
    pub(super) operations: u32,
    /// Replies that are still to come.
    pub(super) replies: u32,
    /// It reads.
    pub(super) reads: bool,
}

pub(super) struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    sent: usize,
    input: Box<[u8]>,
    filled: usize,
    batch: Option<Batch>,
    /// Reads that found nothing.
    pub(super) misses: u64,
}

impl Connection {
    pub(super) fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            out: Vec::new(),
            sent: 0,
            input: vec![0; 32 << 10].into(),
            filled: 0,
            batch: None,
            misses: 0,
        })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a batch, which `write` puts into the buffer.
    pub(super) fn send(&mut self, batch: Batch, write: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        self.out.clear();
        self.sent = 0;
        write(&mut self.out);
        self.batch = Some(batch);
        self.flush()
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) -> Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes what has come; the batch, once all its replies are there.
    pub(super) fn receive(&mut self) -> Result<Option<Batch>> {
        let mut drained = false;
        while !drained {
            match self.stream.read(&mut self.input[self.filled..]) {
                Ok(0) => bail!("the server has closed a connection"),
                Ok(count) => {
                    self.filled += count;
                    // Less than there was room for: the socket is empty, and will tell of more.
                    drained = self.filled < self.input.len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => drained = true,
                Err(error) => return Err(error.into()),
            }
            self.take_replies()?;
        }
        Ok(self.batch.take_if(|batch| batch.replies == 0))
    }

    fn take_replies(&mut self) -> Result<()> {
        let mut at = 0;
        while let Some((reply, length)) = replies::first(&self.input[at..self.filled])? {
            at += length;
            let Some(batch) = self.batch.as_mut().filter(|batch| batch.replies > 0) else {
                bail!("a reply to nothing");
            };
            batch.replies -= 1;
            self.misses += u64::from(reply == Reply::Nothing);
        }
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }
}
