//! Walks over all keys, at any replica: what is there all the time is met on each.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use replicated_store::resp::reply::Reply;

use super::super::support::Client;
use super::load::Gauges;

/// Keys that are written once.
const STABLE: usize = 300;

fn stable(number: usize) -> String {
    format!("stable:{number}")
}

/// Writes what the walks are to meet.
pub(super) fn prepare(client: &mut Client) {
    for number in 0..STABLE {
        client.set(&stable(number), "there").expect("a write");
    }
}

/// One who walks.
pub(super) struct Walker {
    pub(super) addresses: Arc<Vec<String>>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) random: SmallRng,
    pub(super) pause: Duration,
}

impl Walker {
    /// Walks until it is told to stop, and has come to an end once; how often it has.
    pub(super) fn work(mut self) -> usize {
        let mut walks = 0;
        let told = |gauges: &Gauges| gauges.stop.load(Ordering::Relaxed);
        let wrong = |gauges: &Gauges| gauges.wrong.load(Ordering::Relaxed);
        while !wrong(&self.gauges) && (walks == 0 || !told(&self.gauges)) {
            let at = self.random.random_range(0..self.addresses.len());
            let keys = Client::connect(&self.addresses[at]).ok();
            // A replica that is stopped ends the walk.
            if let Some(found) = keys.and_then(|mut client| scan(&mut client)) {
                let missing: Vec<String> = (0..STABLE)
                    .map(stable)
                    .filter(|key| !found.contains(key))
                    .collect();
                if !missing.is_empty() {
                    self.gauges.wrong.store(true, Ordering::Relaxed);
                }
                assert!(
                    missing.is_empty(),
                    "a walk at {} missed {missing:?}",
                    self.addresses[at]
                );
                walks += 1;
            }
            // A walk's pace, not a wait for anything.
            std::thread::sleep(self.pause);
        }
        walks
    }
}

/// A walk by SCAN, and one by KEYS over a part.
fn scan(client: &mut Client) -> Option<HashSet<String>> {
    let (mut cursor, mut found) = ("0".to_owned(), HashSet::new());
    loop {
        let Reply::Array(mut reply) = client.call(&["SCAN", &cursor, "COUNT", "200"]).ok()? else {
            return None;
        };
        found.extend(names(reply.pop()?));
        let Reply::Bulk(next) = reply.pop()? else {
            return None;
        };
        cursor = String::from_utf8(next).ok()?;
        if cursor == "0" {
            break;
        }
    }
    let part = names(client.call(&["KEYS", "stable:*"]).ok()?);
    // A replica that does not serve now answers with an error.
    if !part.is_empty() && part.len() != STABLE {
        return Some(HashSet::new());
    }
    Some(found)
}

fn names(reply: Reply) -> Vec<String> {
    let Reply::Array(parts) = reply else {
        return Vec::new();
    };
    let name = |part| match part {
        Reply::Bulk(name) => String::from_utf8(name).ok(),
        _ => None,
    };
    parts.into_iter().filter_map(name).collect()
}
