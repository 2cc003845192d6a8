//! What cannot work is refused at once, with a message that says what to do.

use std::fs;
use std::path::PathBuf;

use crate::support::shell::{repository, try_sh};
use crate::support::{Gate, World, run};

/// Goal: a wrong object never gets as far as the operator, and its author knows what to write instead.
/// Method: each file of `crds/samples/bad` is applied by `kubectl`, which must refuse it (or its
/// second document, where a change is what is wrong) in the words of the file's first line.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn wrong_objects_are_refused_with_what_to_do() {
    run("validation", Gate::Shared, async |world: &World| {
        let files = samples("bad");
        assert!(files.len() >= 10, "only {files:?}");
        let mut failures = Vec::new();
        for path in files {
            let text = fs::read_to_string(&path).expect("a sample");
            let first = text
                .lines()
                .next()
                .and_then(|line| line.strip_prefix("# refused: "));
            let words = first.expect("the first line tells the message");
            match apply(world, &path, &[]).await {
                Err(message) if message.contains(words) => {}
                Err(message) => failures.push(format!("{path}: no {words:?} in: {message}")),
                Ok(_) => failures.push(format!("{path}: it was taken")),
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    });
}

/// Goal: what is shown as an example can be used.
/// Method: each file of `crds/samples/good` is applied, up to where it would be stored.
#[test]
#[ignore = "needs a cluster: make e2e"]
fn the_samples_are_taken() {
    run("samples", Gate::Shared, async |world: &World| {
        for path in samples("good") {
            let taken = apply(world, &path, &["--dry-run=server"]).await;
            taken.unwrap_or_else(|message| panic!("{path}: {message}"));
        }
    });
}

fn samples(which: &str) -> Vec<String> {
    let folder = repository().join("crds/samples").join(which);
    let entries = fs::read_dir(folder)
        .expect("samples")
        .map(|entry| entry.expect("a file").path());
    let mut files: Vec<PathBuf> = entries.collect();
    files.sort();
    files
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}

async fn apply(world: &World, path: &str, options: &[&str]) -> Result<String, String> {
    let args = ["-n", &world.namespace, "apply", "-f", path];
    try_sh("kubectl", &[args.as_slice(), options].concat()).await
}
