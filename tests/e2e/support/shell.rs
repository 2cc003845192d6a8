//! Programs that are run as a user runs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::task::spawn_blocking;

/// The repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a program of the PATH, or of the repository if it has a slash. Fails the test with its
/// output if it fails.
pub(crate) async fn sh(program: &str, args: &[&str]) -> String {
    match try_sh(program, args).await {
        Ok(out) => out,
        Err(reason) => panic!("{reason}"),
    }
}

/// As [`sh`], with what went wrong as a value.
pub(crate) async fn try_sh(program: &str, args: &[&str]) -> Result<String, String> {
    let path = if program.contains('/') {
        repository().join(program)
    } else {
        PathBuf::from(program)
    };
    let command = format!("{program} {}", args.join(" "));
    let mut program = Command::new(path);
    program.args(args).stdin(Stdio::null());
    let output = spawn_blocking(move || program.output())
        .await
        .expect("no panic");
    let output = output.map_err(|error| format!("{command}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        Err(format!("{command}: {}\n{out}\n{err}", output.status))
    }
}
