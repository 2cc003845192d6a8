//! Copies the source of the core with every mistake of the table in it, each behind a switch: so all
//! of them are compiled once, and with all switches off it is the core as it is shipped.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[allow(dead_code, unreachable_pub)] // the library's own
#[path = "mutants.rs"]
mod mutants;

use mutants::{Edit, MUTANTS};

/// An edit with the number of its mistake.
type Numbered = (usize, &'static Edit);

fn main() {
    let variable = |name| PathBuf::from(env::var_os(name).expect("cargo sets it"));
    let source = variable("CARGO_MANIFEST_DIR").join("../../src/replication");
    let target = variable("OUT_DIR").join("replication");
    println!("cargo::rerun-if-changed={}", source.display());
    fs::create_dir_all(&target).expect("OUT_DIR can be written");
    for entry in fs::read_dir(&source).expect("the core's source") {
        let path = entry.expect("an entry").path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => copy(&path, &target),
            Some("md") => document(&path, &target),
            _ => {}
        }
    }
    for mutant in MUTANTS {
        for Edit { file, .. } in mutant.edits {
            let (name, there) = (mutant.name, source.join(file).exists());
            assert!(there, "{name:?}: there is no {file}");
        }
    }
    let module = target.join("mod.rs");
    let module = module.to_str().expect("paths are UTF-8");
    let module = format!("#[path = {module:?}]\npub(crate) mod replication;\n");
    fs::write(target.join("include.rs"), module).expect("OUT_DIR can be written");
}

/// The protocol's text is part of the module's.
fn document(from: &Path, target: &Path) {
    let name = from.file_name().expect("a file has a name");
    fs::copy(from, target.join(name)).expect("OUT_DIR can be written");
}

fn copy(from: &Path, target: &Path) {
    let name = from.file_name().expect("a file has a name");
    let text = fs::read_to_string(from).expect("source is text");
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let numbered = MUTANTS.iter().enumerate();
    let edits =
        numbered.flat_map(|(number, mutant)| mutant.edits.iter().map(move |it| (number, it)));
    let edits: Vec<Numbered> = edits.filter(|(_, edit)| *edit.file == *name).collect();
    fs::write(target.join(name), switched(code, &edits)).expect("OUT_DIR can be written");
}

/// The code with all edits behind their switches.
fn switched(code: &str, edits: &[Numbered]) -> String {
    let mut places: Vec<(usize, Vec<Numbered>)> = Vec::new();
    for (number, edit) in edits {
        let at = place(code, MUTANTS[*number].name, edit);
        match places.iter_mut().find(|(known, _)| *known == at) {
            Some((_, here)) => here.push((*number, edit)),
            None => places.push((at, vec![(*number, edit)])),
        }
    }
    places.sort_by_key(|(at, _)| *at);
    let (mut text, mut end) = (String::new(), 0);
    for (at, here) in places {
        let name = MUTANTS[here[0].0].name;
        let same = here.iter().all(|(_, edit)| edit.before == here[0].1.before);
        assert!(at >= end && same, "{name:?}: two mistakes overlap");
        text.push_str(&code[end..at]);
        text.push_str(&switch(&here));
        end = at + here[0].1.before.len();
    }
    text.push_str(&code[end..]);
    text
}

/// Where the edit's text is: once in its function.
fn place(code: &str, name: &str, edit: &Edit) -> usize {
    let head = format!("fn {}", edit.function);
    let starts: Vec<usize> = code
        .match_indices(&head)
        .map(|(at, _)| at)
        .filter(|at| code[at + head.len()..].starts_with(['(', '<']))
        .collect();
    let count = starts.len();
    assert!(
        count == 1,
        "{name:?}: {} has {count} of {head:?}",
        edit.file
    );
    let body = &code[starts[0]..];
    let ends = ["\n    }\n", "\n}\n"].map(|end| body.find(end).unwrap_or(body.len()));
    let body = &body[..ends[0].min(ends[1])];
    let found: Vec<usize> = body.match_indices(edit.before).map(|(at, _)| at).collect();
    let Edit { before, .. } = edit;
    let count = found.len();
    assert!(
        count == 1,
        "{name:?}: {count} of {before:?}, and not one, in {head:?} of {}",
        edit.file
    );
    starts[0] + found[0]
}

/// All mistakes at one place: statements, or an expression.
fn switch(here: &[Numbered]) -> String {
    let before = here[0].1.before;
    let mut text = String::new();
    for (number, edit) in here {
        let after = edit.after;
        let _ = write!(text, "if crate::switch::on({number}) {{ {after} }} else ");
    }
    let _ = write!(text, "{{ {before} }}");
    if before.ends_with([';', '}']) {
        text
    } else {
        format!("({text})")
    }
}
