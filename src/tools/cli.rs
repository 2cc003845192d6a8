//! `replica cli`: one command, and its reply for people.

use std::io::Write as _;

use clap::Args;

use super::connection::Connection;
use crate::resp::reply::Reply;

/// Sends one command and prints the reply.
#[derive(Args, Clone, Debug)]
pub struct CliOptions {
    /// Address of the replica.
    #[arg(long, env = "REPLICA_ADDRESS", default_value = "127.0.0.1:6379")]
    pub addr: String,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// Runs it; an error reply is printed and ends the process with code 1.
pub async fn cli(options: CliOptions) -> anyhow::Result<()> {
    let mut connection = Connection::open(&options.addr).await?;
    let reply = connection.call(&options.command).await?;
    let mut text = Vec::new();
    show(&reply, 0, &mut text);
    std::io::stdout().write_all(&text)?;
    if matches!(reply, Reply::Error(_)) {
        std::process::exit(1);
    }
    Ok(())
}

/// Writes a reply, one element a line, nested ones indented.
fn show(reply: &Reply, indent: usize, out: &mut Vec<u8>) {
    let line = |out: &mut Vec<u8>, text: &[u8]| {
        out.extend(std::iter::repeat_n(b' ', indent));
        out.extend_from_slice(text);
        out.push(b'\n');
    };
    match reply {
        Reply::Simple(text)
        | Reply::Bulk(text)
        | Reply::BigNumber(text)
        | Reply::Verbatim { text, .. } => line(out, text),
        Reply::Error(text) => line(out, &[b"(error) ", text.as_slice()].concat()),
        Reply::Integer(number) => line(out, number.to_string().as_bytes()),
        Reply::Double(number) => line(out, number.to_string().as_bytes()),
        Reply::Boolean(value) => line(out, value.to_string().as_bytes()),
        Reply::Null => line(out, b"(nil)"),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            if items.is_empty() {
                line(out, b"(empty)");
            }
            for item in items {
                let deeper = usize::from(matches!(item, Reply::Array(_) | Reply::Map(_))) * 2;
                show(item, indent + deeper, out);
            }
        }
        Reply::Map(pairs) => {
            for (key, value) in pairs {
                show(key, indent, out);
                show(value, indent + 2, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_shown_one_element_a_line() {
        let reply = Reply::Array(vec![
            Reply::Bulk(b"a".to_vec()),
            Reply::Null,
            Reply::Array(vec![Reply::Integer(7)]),
        ]);
        let mut text = Vec::new();
        show(&reply, 0, &mut text);
        assert_eq!(text, b"a\n(nil)\n  7\n");
    }
}
