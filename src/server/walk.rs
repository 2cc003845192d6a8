//! Collects the keys for a KEYS before it is executed: in steps, between which others have the lock, so that
//! a walk over millions of keys costs no client its answer and no leader its leases.

use std::sync::{Arc, Weak};

use super::node::Node;
use crate::command::{Collected, is_wanted};
use crate::store::{Deadline, PageReader};

/// Keys of one step.
const STEP: usize = 1024;

/// What was collected, and in which life of the state: what is collected from one state must not be told from
/// another one.
pub(super) struct Walked {
    pub(super) life: u64,
    pub(super) collected: Collected,
}

/// Walks over all keys; `None` if that cannot be done so, or the client has gone. What is there throughout is
/// found, as by SCAN.
pub(super) async fn collect(node: &Arc<Node>, pattern: Vec<u8>) -> Option<Walked> {
    let wanted = Arc::new(());
    let (node, client) = (Arc::clone(node), Arc::downgrade(&wanted));
    let walked = tokio::task::spawn_blocking(move || walk(&node, &pattern, &client)).await;
    drop(wanted);
    walked.ok().flatten()
}

fn walk(node: &Node, pattern: &[u8], client: &Weak<()>) -> Option<Walked> {
    let life = node.with(|inner| inner.life());
    let mut found = Vec::new();
    let mut cursor = 0;
    loop {
        let reader = node.with(|inner| {
            let store = inner.store.as_ref();
            store.and_then(|store| store.page_reader(cursor, STEP))
        });
        let page = reader.map(PageReader::read).transpose().ok()?;
        let (now_ms, (next, keys)) = node.with(|inner| {
            let now_ms = node.judged_ms(inner);
            let same = inner.life() == life && client.strong_count() > 0;
            let store = inner.store.as_mut().filter(|_| same)?;
            if let Some(page) = page {
                store.take_page(page);
            }
            let found = store.scan_with_deadlines(cursor, STEP, now_ms).ok()?;
            Some((now_ms, found))
        })?;
        found.extend(keys.into_iter().filter(|(key, _)| is_wanted(pattern, key)));
        if next == 0 {
            // Meanwhile some have expired.
            let live = |(_, at): &Deadline| *at == 0 || *at > now_ms;
            let keys = found.into_iter().filter(live).map(|(key, _)| key);
            let collected = Collected::of(keys.collect());
            return Some(Walked { life, collected });
        }
        cursor = next;
    }
}
