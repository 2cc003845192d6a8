//! Which stores are to be reconciled: a set, so that it is bounded by the number of stores however
//! often they are woken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::operator::context::StoreKey;

/// Changes of lag alone wake a store this often at most.
pub const SOFT_PAUSE: Duration = Duration::from_secs(2);
/// And logs that have grown alone this often.
pub const SLOW_PAUSE: Duration = Duration::from_mins(1);

/// Stores that are to be reconciled now, and when others are due.
#[derive(Debug, Default)]
pub struct Wake {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    ready: BTreeSet<StoreKey>,
    due: BTreeMap<StoreKey, Instant>,
    last: BTreeMap<StoreKey, Instant>,
}

impl Wake {
    /// Wakes a store.
    pub fn now(&self, store: &StoreKey) {
        if self.state.lock().ready.insert(store.clone()) {
            self.changed.notify_one();
        }
    }

    /// Wakes a store as soon as [`SOFT_PAUSE`] has passed since it last was.
    pub fn soon(&self, store: &StoreKey) {
        self.after(SOFT_PAUSE, store);
    }

    /// Wakes a store as soon as [`SLOW_PAUSE`] has passed since it last was.
    pub fn later(&self, store: &StoreKey) {
        self.after(SLOW_PAUSE, store);
    }

    fn after(&self, pause: Duration, store: &StoreKey) {
        let mut state = self.state.lock();
        let last = state.last.get(store).copied();
        let due = last.map_or_else(Instant::now, |last| last + pause);
        if state.due.get(store).is_none_or(|known| due < *known) {
            state.due.insert(store.clone(), due);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Forgets a store.
    pub fn forget(&self, store: &StoreKey) {
        let mut state = self.state.lock();
        state.ready.remove(store);
        state.due.remove(store);
        state.last.remove(store);
    }

    /// The next store, or when to look again.
    fn take(&self, now: Instant) -> Result<StoreKey, Option<Instant>> {
        let mut state = self.state.lock();
        let due = state
            .due
            .iter()
            .find(|(_, due)| **due <= now)
            .map(|(store, _)| store.clone());
        let next = state.ready.first().cloned().or(due);
        let Some(store) = next else {
            return Err(state.due.values().min().copied());
        };
        state.ready.remove(&store);
        state.due.remove(&store);
        state.last.insert(store.clone(), now);
        Ok(store)
    }

    /// The stores as they are woken, for ever.
    pub fn stream(self: Arc<Self>) -> impl Stream<Item = StoreKey> + Send + 'static {
        stream::unfold(self, |wake| async move {
            loop {
                // Registered before looking, so that nothing is missed in between.
                let changed = wake.changed.notified();
                match wake.take(Instant::now()) {
                    Ok(store) => {
                        drop(changed);
                        return Some((store, wake));
                    }
                    Err(Some(due)) => {
                        tokio::select! {
                            () = changed => {}
                            () = tokio::time::sleep_until(due) => {}
                        }
                    }
                    Err(None) => changed.await,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    fn key(name: &str) -> StoreKey {
        StoreKey {
            namespace: "shop".into(),
            name: name.into(),
        }
    }

    #[tokio::test]
    async fn lag_waits_and_what_happened_does_not() {
        let wake = Arc::new(Wake::default());
        let mut stream = Box::pin(Arc::clone(&wake).stream());
        let start = Instant::now();
        wake.soon(&key("a"));
        assert_eq!(stream.next().await, Some(key("a")));
        assert!(start.elapsed() < SOFT_PAUSE, "the first is at once");
        wake.soon(&key("a"));
        wake.soon(&key("a"));
        wake.now(&key("b"));
        assert_eq!(stream.next().await, Some(key("b")));
        assert_eq!(stream.next().await, Some(key("a")));
        assert!(start.elapsed() >= SOFT_PAUSE);
        wake.now(&key("a"));
        wake.now(&key("a"));
        assert_eq!(stream.next().await, Some(key("a")));
        let again = tokio::time::timeout(SOFT_PAUSE / 4, stream.next()).await;
        assert!(again.is_err(), "woken once");
        wake.later(&key("a"));
        wake.soon(&key("a"));
        assert_eq!(stream.next().await, Some(key("a")), "the earlier counts");
    }
}
