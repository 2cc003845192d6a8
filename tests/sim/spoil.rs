//! Planted mistakes that change what the core is told.

use replicated_store::replication::Input;

use super::node::Process;

impl Process {
    /// The input as a planted mistake lets it through, or not at all.
    pub(crate) fn spoil(&mut self, input: Input) -> Option<Input> {
        Some(input)
    }
}
