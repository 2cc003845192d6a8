//! Tells those who listen that something has changed: senders, status streams. What it is they look up.

use super::inner::{Inner, Progress};
use super::node::Node;
use super::status::state;

impl Node {
    /// Tells senders and status streams how far the log has come.
    pub(super) fn publish(&self, inner: &Inner) {
        let now = Progress {
            end: inner.core.end(),
            released: inner.core.released(),
        };
        self.progress
            .send_if_modified(|progress| std::mem::replace(progress, now) != now);
    }

    /// Tells the streams if this replica has entered another state.
    pub(super) fn note_state(&self, inner: &mut Inner) {
        let state = state(inner, &inner.core.view());
        if std::mem::replace(&mut inner.state, state) != state {
            let _ = self.states.send(state); // nobody may be listening
            self.changed();
        }
    }

    /// Something happened that a status stream should tell.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}
