//! Replies, in the protocol that the client chose.

use super::number::format_f64;

/// The version of the protocol that a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, in which every connection begins.
    #[default]
    Resp2,
    /// RESP3, after `HELLO 3`.
    Resp3,
}

impl Protocol {
    /// Its number: 2 or 3.
    pub fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// Writes replies behind one another into a buffer. What RESP2 lacks is written as Redis does: a map
/// as an array of keys and values, a double as a bulk string, and so on.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
    protocol: Protocol,
}

impl Writer {
    /// An empty writer.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            buffer: Vec::new(),
            protocol,
        }
    }

    /// A writer that appends to `buffer`.
    pub fn with_buffer(buffer: Vec<u8>, protocol: Protocol) -> Self {
        Self { buffer, protocol }
    }

    /// The protocol of the replies to come.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Changes the protocol of the replies to come.
    #[inline]
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// Bytes written so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// What was written.
    pub fn as_slice(&self) -> &[u8] {
        &self.buffer
    }

    /// The buffer itself, for its owner to drain or to reserve.
    pub fn buffer_mut(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// What was written; the writer is empty after it.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Takes back what was written behind the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.buffer.truncate(length);
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.buffer.extend_from_slice(b"+OK\r\n");
    }

    /// A status: `text` has no line end.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error, its code in front. A line end within would break the frame, so it becomes a blank.
    pub fn error(&mut self, message: &[u8]) {
        self.buffer.push(b'-');
        self.buffer.extend(message.iter().map(|&byte| match byte {
            b'\r' | b'\n' => b' ',
            byte => byte,
        }));
        self.buffer.extend_from_slice(b"\r\n");
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        self.number(b':', value);
    }

    /// A string of bytes.
    #[inline]
    pub fn bulk(&mut self, value: &[u8]) {
        self.buffer.reserve(value.len() + 16);
        self.number(b'$', value.len() as i64);
        self.buffer.extend_from_slice(value);
        self.buffer.extend_from_slice(b"\r\n");
    }

    /// An integer as a string.
    pub fn bulk_integer(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    /// No value.
    #[inline]
    pub fn null(&mut self) {
        self.buffer.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// No array.
    pub fn null_array(&mut self) {
        self.buffer.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// The beginning of an array; `length` replies follow.
    #[inline]
    pub fn array(&mut self, length: usize) {
        self.number(b'*', length as i64);
    }

    /// An array of strings.
    pub fn bulk_array<T: AsRef<[u8]>>(&mut self, items: &[T]) {
        self.array(items.len());
        for item in items {
            self.bulk(item.as_ref());
        }
    }

    /// The beginning of a map; `length` keys follow, each with its value.
    pub fn map(&mut self, length: usize) {
        match self.protocol {
            Protocol::Resp2 => self.number(b'*', length as i64 * 2),
            Protocol::Resp3 => self.number(b'%', length as i64),
        }
    }

    /// The beginning of a set; `length` replies follow.
    pub fn set(&mut self, length: usize) {
        match self.protocol {
            Protocol::Resp2 => self.array(length),
            Protocol::Resp3 => self.number(b'~', length as i64),
        }
    }

    /// The beginning of a message that no command asked for; `length` replies follow.
    pub fn push(&mut self, length: usize) {
        match self.protocol {
            Protocol::Resp2 => self.array(length),
            Protocol::Resp3 => self.number(b'>', length as i64),
        }
    }

    /// A floating-point number.
    pub fn double(&mut self, value: f64) {
        let mut text = Vec::with_capacity(24);
        format_f64(&mut text, value);
        match self.protocol {
            Protocol::Resp2 => self.bulk(&text),
            Protocol::Resp3 => self.line(b',', &text),
        }
    }

    /// True or false.
    pub fn boolean(&mut self, value: bool) {
        match self.protocol {
            Protocol::Resp2 => self.integer(i64::from(value)),
            Protocol::Resp3 => self.line(b'#', if value { b"t" } else { b"f" }),
        }
    }

    /// An integer of any size, in decimal digits.
    pub fn big_number(&mut self, digits: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(digits.as_bytes()),
            Protocol::Resp3 => self.line(b'(', digits.as_bytes()),
        }
    }

    /// Text for people; `format` has three letters: `txt` or `mkd`.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.number(b'=', text.len() as i64 + 4);
                self.buffer.extend_from_slice(format.as_bytes());
                self.buffer.push(b':');
                self.buffer.extend_from_slice(text);
                self.buffer.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Bytes that are a reply already.
    pub fn raw(&mut self, reply: &[u8]) {
        self.buffer.extend_from_slice(reply);
    }

    #[inline]
    fn number(&mut self, kind: u8, value: i64) {
        self.line(kind, itoa::Buffer::new().format(value).as_bytes());
    }

    #[inline]
    fn line(&mut self, kind: u8, text: &[u8]) {
        self.buffer.reserve(text.len() + 3);
        self.buffer.push(kind);
        self.buffer.extend_from_slice(text);
        self.buffer.extend_from_slice(b"\r\n");
    }
}
