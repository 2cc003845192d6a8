//! Messages between replicas on a TCP connection: length, CRC, postcard; raw bytes may follow.
//! It must not know what the messages mean.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::replication::message::Message;

/// A message without its raw bytes is never larger.
const MAX_MESSAGE: usize = 4 << 20;
/// Raw bytes after one message are never more.
const MAX_RAW: usize = 1 << 30;
const HEADER: usize = 8;

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The receiving half.
#[derive(Debug)]
pub(in crate::server) struct LinkReader {
    stream: OwnedReadHalf,
    buffer: BytesMut,
}

/// The sending half.
#[derive(Debug)]
pub(in crate::server) struct LinkWriter {
    stream: OwnedWriteHalf,
    buffer: Vec<u8>,
}

/// Splits a connection.
pub(in crate::server) fn split(stream: TcpStream) -> io::Result<(LinkReader, LinkWriter)> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let reader = LinkReader {
        stream: read,
        buffer: BytesMut::with_capacity(1 << 16),
    };
    Ok((
        reader,
        LinkWriter {
            stream: write,
            buffer: Vec::new(),
        },
    ))
}

/// Moves a connection to the runtime in which this is called.
pub(in crate::server) fn adopt(
    reader: LinkReader,
    writer: LinkWriter,
) -> io::Result<(LinkReader, LinkWriter)> {
    let whole = reader.stream.reunite(writer.stream);
    let stream = whole.map_err(io::Error::other)?.into_std()?;
    let (read, write) = TcpStream::from_std(stream)?.into_split();
    let reader = LinkReader {
        stream: read,
        buffer: reader.buffer,
    };
    Ok((
        reader,
        LinkWriter {
            stream: write,
            buffer: writer.buffer,
        },
    ))
}

impl LinkReader {
    async fn fill(&mut self, wanted: usize) -> io::Result<()> {
        if self.buffer.len() < wanted {
            self.buffer.reserve(wanted - self.buffer.len());
        }
        while self.buffer.len() < wanted {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// The next message; an error at the end of the stream.
    pub(in crate::server) async fn message(&mut self) -> io::Result<Message> {
        self.fill(HEADER).await?;
        let length = self.buffer.get_u32_le() as usize;
        let crc = self.buffer.get_u32_le();
        if length > MAX_MESSAGE {
            return Err(invalid(format!("a message of {length} bytes")));
        }
        self.fill(length).await?;
        let body = self.buffer.split_to(length);
        if crc32fast::hash(&body) != crc {
            return Err(invalid("a message with a wrong checksum".to_owned()));
        }
        postcard::from_bytes(&body).map_err(|error| invalid(format!("a message: {error}")))
    }

    /// The raw bytes that a message announced.
    pub(in crate::server) async fn raw(&mut self, length: usize) -> io::Result<Bytes> {
        if length > MAX_RAW {
            return Err(invalid(format!("{length} bytes after a message")));
        }
        self.fill(length).await?;
        Ok(self.buffer.split_to(length).freeze())
    }
}

impl LinkWriter {
    /// Queues a message.
    pub(in crate::server) fn push(&mut self, message: &Message) -> io::Result<()> {
        let at = self.buffer.len();
        self.buffer.extend_from_slice(&[0; HEADER]);
        let buffer = std::mem::take(&mut self.buffer);
        self.buffer = postcard::to_extend(message, buffer)
            .map_err(|error| invalid(format!("encoding a message: {error}")))?;
        let body = self.buffer.get(at + HEADER..).unwrap_or_default();
        let (length, crc) = (body.len() as u32, crc32fast::hash(body));
        let header = self.buffer.get_mut(at..at + HEADER).unwrap_or_default();
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4..].copy_from_slice(&crc.to_le_bytes());
        Ok(())
    }

    /// Queues raw bytes.
    pub(in crate::server) fn push_raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Sends what is queued.
    pub(in crate::server) async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.buffer).await?;
        self.buffer.clear();
        if self.buffer.capacity() > 4 << 20 {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Sends one message at once.
    pub(in crate::server) async fn send(&mut self, message: &Message) -> io::Result<()> {
        self.push(message)?;
        self.flush().await
    }
}
