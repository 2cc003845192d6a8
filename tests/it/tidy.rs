//! The rules of the house that a program can check: who imports whom, how long a file is, and that
//! each file begins with what it is for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file of `src`, its unit tests apart.
const LONGEST_CODE: usize = 500;
/// Lines of any file.
const LONGEST_FILE: usize = 800;

type Modules = BTreeSet<String>;

/// Goal: the layers of the architecture stay layers.
/// Method: the table in `src/lib.rs` is the law; every `crate::` path in a module's files, comments
/// apart, is held to it.
#[test]
fn modules_import_only_what_the_map_allows() {
    let map = map();
    let mut wrong = Vec::new();
    for file in rust_files("src") {
        let Some(module) = module_of(&file) else {
            continue;
        };
        let allowed = map.get(&module).unwrap_or_else(|| {
            panic!(
                "{} is in module {module}, which the map in src/lib.rs lacks",
                file.display()
            )
        });
        for (number, imported) in imports(&read(&file)) {
            if imported != module && map.contains_key(&imported) && !allowed.contains(&imported) {
                wrong.push(format!(
                    "{}:{number}: {module} imports {imported}",
                    file.display()
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "against the map in src/lib.rs:\n{}",
        wrong.join("\n")
    );
}

/// Goal: the map shows what there is.
/// Method: each row of the table is a module, and each module has a row.
#[test]
fn the_map_names_every_module() {
    let modules: Modules = rust_files("src")
        .iter()
        .filter_map(|file| module_of(file))
        .collect();
    let named: Modules = map().into_keys().collect();
    assert_eq!(
        named, modules,
        "rows of the map in src/lib.rs, and modules in src"
    );
}

/// Goal: a file is read in one sitting.
/// Method: lines are counted.
#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    for file in rust_files("src").into_iter().chain(rust_files("tests")) {
        let text = read(&file);
        let (all, tests) = (
            text.lines().count(),
            text.lines().position(|line| line == "mod tests {"),
        );
        let exempt = module_of(&file).is_none() || file.ends_with("tests.rs");
        let code = tests.unwrap_or(all);
        if (code > LONGEST_CODE && !exempt) || all > LONGEST_FILE {
            wrong.push(format!(
                "{}: {code} lines of code, {all} in all",
                file.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "split these:\n{}", wrong.join("\n"));
}

/// Goal: whoever opens a file learns at once what it is for.
/// Method: the first line is a `//!` comment.
#[test]
fn files_begin_with_what_they_are_for() {
    let files = rust_files("src").into_iter().chain(rust_files("tests"));
    let silent: Vec<PathBuf> = files
        .filter(|file| !read(file).starts_with("//! "))
        .collect();
    assert!(silent.is_empty(), "these do not begin with //!: {silent:?}");
}

/// The table in `src/lib.rs`: what each module may import.
fn map() -> BTreeMap<String, Modules> {
    let text = read(&root().join("src/lib.rs"));
    let rows: Vec<(String, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | [`"))
        .filter_map(|row| {
            let (name, rest) = row.split_once("`]")?;
            Some((name.to_owned(), rest.rsplit('|').nth(1)?))
        })
        .collect();
    let all: Modules = rows.iter().map(|(name, _)| name.clone()).collect();
    assert!(
        all.len() > 5,
        "the table in src/lib.rs is not read rightly: {all:?}"
    );
    rows.into_iter()
        .map(|(name, rule)| (name, allowed(rule, &all)))
        .collect()
}

/// A rule in words: `nothing of ours`, names, or `everything but` names.
fn allowed(rule: &str, all: &Modules) -> Modules {
    let named: Modules = rule
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert!(
        named.is_subset(all),
        "the map speaks of modules that it lacks: {named:?}"
    );
    if rule.contains("everything but") {
        all.difference(&named).cloned().collect()
    } else {
        assert_eq!(
            named.is_empty(),
            rule.contains("nothing of ours"),
            "no rule: {rule:?}"
        );
        named
    }
}

/// Every module of ours that is named by a path from the root of the crate, with its line.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut offset = 0;
    for (number, line) in text.lines().enumerate() {
        let comment = line.trim_start().starts_with("//");
        for (at, _) in line.match_indices("crate::").filter(|_| !comment) {
            let rest = &text[offset + at + "crate::".len()..];
            found.extend(names(rest).into_iter().map(|name| (number + 1, name)));
        }
        offset += line.len() + 1;
    }
    found
}

/// The first segments of what follows `crate::`: of one path, or of each path in braces.
fn names(rest: &str) -> Vec<String> {
    let word = |text: &str| {
        let text = text.trim_start();
        let end = text
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(text.len());
        text[..end].to_owned()
    };
    let Some(list) = rest.strip_prefix('{') else {
        return vec![word(rest)];
    };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(word(&list[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

/// The module that a file of `src` belongs to; none for the programs and the map itself.
fn module_of(file: &Path) -> Option<String> {
    let path = file.strip_prefix(root().join("src")).ok()?;
    let first = path.iter().next()?.to_string_lossy().into_owned();
    let name = first.trim_end_matches(".rs");
    (name != "bin" && name != "lib").then(|| name.to_owned())
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).expect("a file that can be read")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Goal: the checks above see what they are to see.
#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::log::Frame;\n// crate::api is only spoken of\n\
        use crate::{\n    env::{Clock, Disk},\n    store,\n};\nlet x = crate::resp::y(crate::seed::z());\n";
    let found: Vec<String> = imports(text).into_iter().map(|(_, name)| name).collect();
    assert_eq!(found, ["log", "env", "store", "", "resp", "seed"]);
    let all = ["a", "b", "c"].map(str::to_owned).into();
    assert_eq!(
        allowed(" everything but `a` and `b` ", &all),
        ["c".to_owned()].into()
    );
    assert_eq!(
        allowed(" `a`, `b` ", &all),
        ["a".to_owned(), "b".to_owned()].into()
    );
    assert!(allowed(" nothing of ours ", &all).is_empty());
}
