//! What a failed test leaves to look at: status, objects, events and logs. A summary goes to the
//! test's output, whole logs to files.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use super::shell::{repository, try_sh};
use super::{World, installation};

/// Lines of each log that are shown.
const TAIL: usize = 40;

/// Prints it.
pub(crate) async fn print(world: &World, test: &str) {
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    let files = target.join("e2e").join(test);
    let _ = fs::remove_dir_all(&files);
    let _ = fs::create_dir_all(&files);
    let mut out = format!(
        "\n======== {test} failed: what namespace {} looks like\n",
        world.namespace
    );
    let (ours, operator) = (world.namespace.as_str(), installation::NAMESPACE);
    for (namespace, query) in [
        (ours, "get replicatedstores -o wide"),
        (
            ours,
            "get replicatedstores -o yaml --show-managed-fields=false",
        ),
        (
            ours,
            "get statefulsets,pods,services,endpointslices,pvc -o wide --show-labels",
        ),
        (ours, "get events --sort-by=.metadata.creationTimestamp"),
        (operator, "get pods,leases -o wide"),
    ] {
        let args: Vec<&str> = ["-n", namespace]
            .into_iter()
            .chain(query.split(' '))
            .collect();
        let answer = try_sh("kubectl", &args).await.unwrap_or_else(|error| error);
        let _ = writeln!(out, "\n-------- kubectl {}\n{answer}", args.join(" "));
    }
    for namespace in [ours, operator] {
        let names = [
            "-n",
            namespace,
            "get",
            "pods",
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ];
        let pods = try_sh("kubectl", &names).await.unwrap_or_default();
        for pod in pods.split_whitespace() {
            for previous in [true, false] {
                let mut args = vec!["-n", namespace, "logs", pod, "--timestamps"];
                args.extend(previous.then_some("--previous"));
                // Most Pods have no previous container.
                let Ok(log) = try_sh("kubectl", &args).await else {
                    continue;
                };
                let name = format!("{pod}{}.log", if previous { ".previous" } else { "" });
                let _ = fs::write(files.join(&name), &log);
                let lines: Vec<&str> = log.lines().collect();
                let tail = &lines[lines.len().saturating_sub(TAIL)..];
                let _ = writeln!(out, "\n-------- end of {name}\n{}", tail.join("\n"));
            }
        }
    }
    let _ = fs::write(files.join("summary.txt"), &out);
    eprintln!("{out}\n======== whole logs: {}", files.display());
}
