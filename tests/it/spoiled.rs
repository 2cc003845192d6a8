//! Every file of a data directory, each in turn, spoiled in every way: what becomes of it, with a leader at
//! hand and without. Nowhere is anything lost in silence, does a replica end again and again, or give advice
//! that destroys what is left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use replicated_store::replication::ReplicaId;
use replicated_store::replication::admin::Settings;
use replicated_store::resp::reply::Reply;

use super::support::{Client, Replica, SmallDisk, TestStore, eventually, flip, link_to};

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoil {
    Deleted,
    Emptied,
    Cut,
    Head,
    Middle,
    Tail,
    Foreign,
    Directory,
}

const SPOILS: [Spoil; 8] = [
    Spoil::Deleted,
    Spoil::Emptied,
    Spoil::Cut,
    Spoil::Head,
    Spoil::Middle,
    Spoil::Tail,
    Spoil::Foreign,
    Spoil::Directory,
];

impl Spoil {
    fn apply(self, file: &Path, foreign: &Path) {
        // Snapshots share their files with the state.
        let content = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        fs::write(file, content).unwrap();
        // Segments of the log are as long as they may become; what counts is what is written.
        let written = fs::read(file).unwrap();
        let len = written.iter().rposition(|byte| *byte != 0);
        let len = len.map_or(0, |at| at as u64 + 1);
        let cut = |len| {
            let file = fs::OpenOptions::new().write(true).open(file).unwrap();
            file.set_len(len).unwrap();
        };
        match self {
            Self::Deleted => fs::remove_file(file).unwrap(),
            Self::Emptied => cut(0),
            Self::Cut => cut(len / 2),
            Self::Head => flip(file, 9.min(len.saturating_sub(1))),
            Self::Middle => flip(file, len / 2),
            Self::Tail => flip(file, len.saturating_sub(1)),
            Self::Foreign => drop(fs::copy(foreign, file).unwrap()),
            Self::Directory => {
                fs::remove_file(file).unwrap();
                fs::create_dir(file).unwrap();
            }
        }
    }
}

/// What becomes of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// It starts and has everything.
    Whole,
    /// It starts; what cannot be read is answered with an error, and it says what is wrong.
    Errors,
    /// It does not start and says what would be lost; nothing is lost before somebody says so.
    Refuses,
}

use Fate::{Errors as E, Refuses as R, Whole as W};

/// The kind of file, and what becomes of a replica that is alone, in the order of [`SPOILS`]:
/// deleted, emptied, cut, flipped at head, middle and tail, another replica's, a directory.
const ALONE: [(&str, [Fate; 8]); 19] = [
    ("identity", [W, W, W, W, W, W, W, W]),
    ("identity.copy", [W, W, W, W, W, W, W, W]),
    ("hard", [W, W, W, W, W, W, W, W]),
    ("hard.copy", [W, W, W, W, W, W, W, W]),
    ("adopted", [W, W, W, W, W, W, W, W]),
    ("adopted.copy", [W, W, W, W, W, W, W, W]),
    ("memory", [W, W, W, W, W, W, W, W]),
    ("memory.copy", [W, W, W, W, W, W, W, W]),
    ("current", [W, W, W, W, W, W, W, W]),
    ("current.copy", [W, W, W, W, W, W, W, W]),
    ("state/current", [W, W, W, W, W, W, W, W]),
    ("state/v", [W, W, W, W, W, W, W, W]),
    ("state/manifest.copy", [W, W, W, W, W, W, W, W]),
    ("state/tables/", [R, R, R, E, E, R, R, R]),
    // One of a digest may still be there.
    ("snapshots/", [W, W, W, W, W, W, W, W]),
    ("watermark", [W, W, W, W, W, W, W, W]),
    ("log/log-before", [R, R, R, R, R, R, R, R]),
    ("log/log-ready", [W, W, W, W, W, W, W, W]),
    ("log/log-last", [R, R, R, R, R, R, R, R]),
];

/// What depends on how the data came to lie: the block at a table's head may hold what is read at the start, and
/// another tree's copy of the manifest may name tables of numbers that there are here, with other contents.
const OR_REFUSES: [(&str, Spoil); 2] = [
    ("state/tables/", Spoil::Head),
    ("state/manifest.copy", Spoil::Foreign),
];

/// Room for two replicas; segments of the log are small there, so that some are soon trimmed.
const DISK: u64 = 160 << 20;
const KEYS: u64 = 900;
const VALUE: usize = 10_000;
/// Written after the last flush.
const LATE: u64 = 250;
const NOT_RUN: &str = "not run: it needs to mount a file system, as root";

fn value(key: u64) -> String {
    format!("{key}:{}", "v".repeat(VALUE))
}

fn write(client: &mut Client, keys: std::ops::Range<u64>) {
    for some in keys.collect::<Vec<_>>().chunks(50) {
        for key in some {
            client
                .send(&["SET", &format!("key:{key}"), &value(*key)])
                .unwrap();
        }
        for _ in some {
            assert_eq!(client.reply().unwrap(), Reply::Simple(b"OK".to_vec()));
        }
    }
}

/// What a client finds: how many keys are as they were written, how many errors it gets, how many are absent.
fn read(client: &mut Client) -> (u64, u64, u64) {
    let (mut right, mut errors, mut absent) = (0, 0, 0);
    for key in 0..KEYS + LATE {
        match client.call(&["GET", &format!("key:{key}")]).unwrap() {
            Reply::Bulk(found) => {
                assert_eq!(found, value(key).into_bytes(), "key:{key}");
                right += 1;
            }
            Reply::Error(_) => errors += 1,
            _ => absent += 1,
        }
    }
    (right, errors, absent)
}

fn settings() -> Settings {
    Settings {
        log_retention: 1 << 20,
        ..Settings::default()
    }
}

/// Fills a replica so that there are tables, a log that begins late, and records that are in the log alone.
fn fill(replica: &Replica) {
    let mut client = replica.ready();
    write(&mut client, 0..KEYS / 2);
    replica.digest(); // flushes
    write(&mut client, KEYS / 2..KEYS);
    replica.digest();
    eventually("the log is trimmed", || {
        let status = replica.status()?;
        (status.oldest_lsn.0 > 0).then_some(())
    });
    write(&mut client, KEYS..KEYS + LATE);
    // Replies do not wait for the note, and what is not in it cannot be told from what a crash tore.
    eventually("how far the log is durable is noted", || {
        let last = replica.status()?.last.lsn.0;
        (noted(&replica.dir) >= last).then_some(())
    });
}

/// The LSN in the note beside the log, see `src/log/format.md`.
fn noted(dir: &Path) -> u64 {
    let note = fs::read(dir.join("watermark")).unwrap_or_default();
    let lsn = |slot: &[u8]| slot[40..48].try_into().map(u64::from_le_bytes);
    let all = note.chunks_exact(512).filter_map(|slot| lsn(slot).ok());
    all.max().unwrap_or(0)
}

fn copy_tree(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.unwrap().success());
}

/// Puts the contents of `base` in the place of those of `dir`.
fn restore(base: &Path, dir: &Path) {
    if dir.exists() {
        fs::remove_dir_all(dir).unwrap();
    }
    copy_tree(base, dir);
}

fn files_below(dir: &Path, below: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(dir, &path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The kinds of files in a data directory, by path.
fn kinds(dir: &Path) -> BTreeMap<String, String> {
    let files = files_below(dir, "");
    let segments: Vec<_> = files
        .iter()
        .filter(|file| file.starts_with("log/log-"))
        .collect();
    let used = |file: &&&String| {
        // One that is used again bears the number that it had before.
        let head = fs::read(dir.join(file)).unwrap();
        let number = head.get(8..16).and_then(|it| it.try_into().ok());
        let number = number.map(u64::from_le_bytes);
        let name = file.trim_start_matches("log/log-").parse().ok();
        head.starts_with(b"RSLS") && number == name
    };
    let used: Vec<&String> = segments.iter().filter(used).copied().collect();
    let last = used.last().copied().cloned();
    let kind = |file: &String| {
        if let Some(rest) = file.strip_prefix("state-") {
            let rest = rest.split_once('/').unwrap().1;
            let kind = match rest {
                rest if rest.starts_with("tables/") => "tables/",
                rest if rest.starts_with('v') => "v",
                rest => rest,
            };
            return format!("state/{kind}");
        }
        match file {
            file if Some(file) == last.as_ref() => "log/log-last".to_owned(),
            file if used.contains(&file) => "log/log-before".to_owned(),
            file if file.starts_with("snapshots/") => "snapshots/".to_owned(),
            file if file.starts_with("log/log-") => "log/log-ready".to_owned(),
            file if file.starts_with("log/spare") => "log/log-ready".to_owned(),
            file => file.clone(),
        }
    };
    files
        .iter()
        .map(|file| (file.clone(), kind(file)))
        .collect()
}

/// The file of another replica that is most like this one.
fn foreign(dir: &Path, file: &str) -> PathBuf {
    if dir.join(file).is_file() {
        return dir.join(file);
    }
    let kind = |file: &str| {
        file.trim_end_matches(|c: char| c.is_ascii_digit())
            .to_owned()
    };
    let files = files_below(dir, "");
    let similar = files.iter().find(|other| kind(other) == kind(file));
    dir.join(similar.unwrap_or(&files[0]))
}

fn repair(replica: &Replica, more: &[&str]) -> (bool, String) {
    let program = std::env::var_os("IT_REPLICA");
    let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_replica").into());
    let done = Command::new(program)
        .args(["repair", "--data-dir"])
        .arg(&replica.dir)
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&done.stderr).into_owned();
    (done.status.success(), text + &wrong)
}

fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = files_below(dir, "").into_iter();
    files
        .map(|file| (file.clone(), fs::read(dir.join(&file)).unwrap()))
        .collect()
}

/// The advice must not destroy anything, nor speak of replicas that there are not.
fn check_advice(text: &str) {
    for never in [
        "remove the data directory",
        "being seeded",
        "from the leader",
    ] {
        assert!(!text.contains(never), "{never}: {text}");
    }
}

/// Starts a replica that is alone, and sees what becomes of it. One that refuses is repaired.
fn fate_alone(replica: &mut Replica, what: &str) -> Fate {
    let log_before = replica.log().len();
    replica.spawn();
    let ended = eventually(what, || {
        if let Some(ended) = replica.try_wait() {
            return Some(Some(ended));
        }
        let status = replica.status()?;
        status.ready.then_some(None)
    });
    let said = replica.log()[log_before..].to_owned();
    let Some(ended) = ended else {
        let (right, errors, absent) = read(&mut replica.client());
        let message = eventually("it says what is wrong", || {
            let message = replica.status()?.message;
            (errors == 0 || !message.is_empty()).then_some(message)
        });
        check_advice(&message);
        replica.kill();
        assert_eq!(absent, 0, "{what}: lost in silence");
        if errors == 0 {
            assert_eq!(right, KEYS + LATE, "{what}");
            return Fate::Whole;
        }
        assert!(message.contains("replica repair"), "{what}: {message}");
        accepted(replica, what, right);
        return Fate::Errors;
    };
    assert!(!ended.success(), "{what}");
    check_advice(&said);
    assert!(said.contains("would lose data"), "{what}: {said}");
    assert!(!said.contains("panicked"), "{what}: {said}");
    accepted(replica, what, 0);
    Fate::Refuses
}

/// `replica repair` tells and changes nothing; with `--accept-loss` the replica starts, and has at least so many
/// keys as they were.
fn accepted(replica: &mut Replica, what: &str, least: u64) {
    let before = contents(&replica.dir);
    let (whole, told) = repair(replica, &[]);
    assert!(!whole && told.contains("wrong: "), "{what}: {told}");
    assert!(
        before == contents(&replica.dir),
        "{what}: it changed something"
    );
    let (done, told) = repair(replica, &["--accept-loss"]);
    assert!(done, "{what}: {told}");
    assert!(told.contains("is kept in"), "{what}: {told}");
    replica.start();
    let (right, errors, absent) = read(&mut replica.ready());
    replica.kill();
    println!("{what}: {right} keys were kept, {absent} lost");
    assert!(errors == 0 && right >= least, "{what}: {told}");
}

/// Goal: a replica that is alone has everything, or says what is wrong, whatever becomes of one of its files.
/// Method: each file, each way; the table says what is to come of it. What is refused is repaired.
#[test]
fn any_file_may_be_spoiled_where_there_is_no_other_replica() {
    let Some(disk) = SmallDisk::new(DISK) else {
        println!("{NOT_RUN}");
        return;
    };
    let bases = tempfile::tempdir().unwrap();
    let settings_file = bases.path().join("settings.json");
    fs::write(&settings_file, serde_json::to_string(&settings()).unwrap()).unwrap();
    let arguments = [
        "--standalone",
        "--settings",
        settings_file.to_str().unwrap(),
    ];
    for name in ["other", "alone"] {
        let mut replica = Replica::new(&disk.path(), name, &arguments);
        replica.start();
        fill(&replica);
        replica.kill();
        copy_tree(&replica.dir, &bases.path().join(name));
        fs::remove_dir_all(&replica.dir).unwrap();
    }
    let (base, other) = (bases.path().join("alone"), bases.path().join("other"));
    let mut replica = Replica::new(&disk.path(), "alone", &arguments);
    let expected: BTreeMap<_, _> = ALONE.into_iter().collect();
    let mut wrong = Vec::new();
    for (file, kind) in kinds(&base) {
        let fates = SPOILS.map(|spoil| {
            restore(&base, &replica.dir);
            spoil.apply(&replica.dir.join(&file), &foreign(&other, &file));
            fate_alone(&mut replica, &format!("{file} {spoil:?}"))
        });
        println!("{file} ({kind}): {fates:?}");
        let as_expected = expected.get(kind.as_str()).is_some_and(|expected| {
            let mut all = SPOILS.iter().zip(expected.iter().zip(&fates));
            all.all(|(spoil, (expected, fate))| {
                let either = *fate == R && OR_REFUSES.contains(&(kind.as_str(), *spoil));
                fate == expected || either
            })
        });
        if !as_expected {
            wrong.push(format!("{file} ({kind}): {fates:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Goal: a follower is made whole by itself, whatever becomes of one of its files.
/// Method: each file, each way, with a leader that has everything.
#[test]
fn any_file_of_a_follower_may_be_spoiled() {
    let Some(disk) = SmallDisk::new(DISK) else {
        println!("{NOT_RUN}");
        return;
    };
    let inside = ["leader", "follower"].map(|name| disk.path().join(name));
    for path in &inside {
        fs::create_dir(path).unwrap();
    }
    let mut store = TestStore::start_in(2, settings(), |root| link_to(root, inside.clone()));
    fill(&store.replicas[0]);
    store.settle();
    store.replicas[1].digest();
    store.replicas[1].kill();
    let bases = tempfile::tempdir().unwrap();
    let (base, other) = (bases.path().join("follower"), bases.path().join("leader"));
    copy_tree(&inside[1], &base);
    copy_tree(&inside[0], &other);
    for (file, _) in kinds(&base) {
        for spoil in SPOILS {
            let what = format!("{file} {spoil:?}");
            println!("{what}");
            let emptied = fs::read_dir(&inside[1])
                .unwrap()
                .map(|entry| entry.unwrap().path());
            for path in emptied {
                if path.is_dir() {
                    fs::remove_dir_all(path).unwrap();
                } else {
                    fs::remove_file(path).unwrap();
                }
            }
            copy_tree(&base.join("."), &inside[1]);
            spoil.apply(&inside[1].join(&file), &foreign(&other, &file));
            store.replicas[1].start();
            store.assign();
            store.settle();
            // What is found by reading is fetched anew.
            eventually(&what, || {
                let (right, errors, absent) = read(&mut store.replicas[1].client());
                assert!(absent == 0, "{what}: lost in silence");
                (errors == 0 && right == KEYS + LATE).then_some(())
            });
            assert!(!store.replicas[1].status().unwrap().forgotten, "{what}");
            store.replicas[1].kill();
        }
    }
}

/// Goal: a replica that does not know what it has promised goes on under another id, of which nobody was
/// promised anything, with the data that it has.
/// Method: both copies of the hard state go while it is stopped.
#[test]
fn a_follower_that_forgot_its_promises_takes_another_id() {
    let mut store = TestStore::start(2);
    write(&mut store.replicas[0].ready(), 0..100);
    store.settle();
    let before = store.id(1);
    store.replicas[1].kill();
    for name in ["hard", "hard.copy"] {
        fs::remove_file(store.replicas[1].dir.join(name)).unwrap();
    }
    store.replicas[1].start();
    let after = store.replicas[1].status().unwrap().id;
    assert_ne!(before, after);
    store.assign();
    store.assert_same();
    let seeded = store.replicas[1].log().contains("fetches the state");
    assert!(!seeded, "its log goes on");
    store.replicas[1].kill();
    store.replicas[1].start();
    assert_eq!(store.replicas[1].status().unwrap().id, after, "once");
}

/// Goal: a disk knows its claim, and one that is a copy of another claim's takes an id of its own.
#[test]
fn a_copy_of_a_disk_takes_an_id_of_its_own() {
    let mut store = TestStore::start(2);
    write(&mut store.replicas[0].ready(), 0..100);
    store.settle();
    let id = store.id(1);
    let claim = |replica: &Replica, id: ReplicaId, claim: &str, copy| {
        let body = format!(r#"{{"id": "{id}", "claim": "{claim}", "copy": {copy}}}"#);
        replica.http("POST", "/claim", &body).unwrap().0
    };
    let follower = &store.replicas[1];
    assert_eq!(claim(follower, store.id(0), "one", false), 409);
    assert_eq!(claim(follower, id, "", false), 400);
    assert_eq!(claim(follower, id, "one", false), 202);
    let bound = |replica: &Replica, claim: &str| {
        eventually("it knows its claim", || {
            (replica.status()?.claim.as_deref() == Some(claim)).then_some(())
        });
    };
    bound(follower, "one");
    store.replicas[1].kill();
    store.replicas[1].start();
    bound(&store.replicas[1], "one");
    assert_eq!(claim(&store.replicas[1], id, "two", true), 202);
    assert!(!store.replicas[1].wait().success(), "the process ends");
    store.replicas[1].start();
    let status = store.replicas[1].status().unwrap();
    assert_ne!(status.id, id);
    assert_eq!(status.claim, None);
    store.assign();
    store.assert_same();
    assert_eq!(claim(&store.replicas[1], status.id, "two", false), 202);
    bound(&store.replicas[1], "two");
}

/// Goal: `replica repair` says what is none of its business, and leaves it alone.
#[test]
fn a_repair_leaves_alone_what_is_not_the_replicas() {
    let root = tempfile::tempdir().unwrap();
    let mut replica = Replica::new(root.path(), "alone", &["--standalone"]);
    let (done, told) = repair(&replica, &[]);
    assert!(!done && told.contains("there is no directory"), "{told}");
    fs::write(&replica.dir, "a file").unwrap();
    for more in [&[][..], &["--accept-loss"]] {
        let (done, told) = repair(&replica, more);
        assert!(!done && told.contains("is a file"), "{told}");
    }
    replica.spawn();
    assert!(!replica.wait().success());
    assert!(replica.log().contains("is a file"), "{}", replica.log());
    fs::remove_file(&replica.dir).unwrap();
    replica.start();
    write(&mut replica.ready(), 0..10);
    let (done, told) = repair(&replica, &["--accept-loss"]);
    assert!(
        !done && told.contains("in use by another replica process"),
        "{told}"
    );
    replica.kill();
    fs::write(replica.dir.join("notes.txt"), "mine").unwrap();
    for more in [&[][..], &["--accept-loss"]] {
        let (whole, told) = repair(&replica, more);
        assert!(whole && told.contains("notes.txt is none of"), "{told}");
    }
    assert_eq!(
        fs::read_to_string(replica.dir.join("notes.txt")).unwrap(),
        "mine"
    );
    replica.start();
    assert_eq!(replica.ready().get("key:9").unwrap(), Some(value(9)));
}
