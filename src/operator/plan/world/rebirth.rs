//! Stores that are made again, and disks that are put back.

use super::{Disk, World};

impl World {
    /// The object is deleted and made again under its name: what runs goes, volumes stay, and nothing is
    /// known of the store but what its disks remember.
    pub(in crate::operator) fn make_again(&mut self, replicas: u32) {
        let all: Vec<u32> = self.replicas.keys().copied().collect();
        for ordinal in all {
            self.delete_pod(ordinal);
        }
        let view = &mut self.view;
        view.store.replicas = replicas;
        (view.register, view.workload) = (None, None);
        view.lost.clear();
        view.known.clear();
        view.held.clear();
        self.forget();
    }

    /// A copy of a disk as it is now.
    pub(in crate::operator) fn copy_of(&self, ordinal: u32) -> Disk {
        self.replicas[&ordinal].clone().into_disk()
    }

    /// The disk is put back to what it was, and a process starts on it.
    pub(in crate::operator) fn put_back(&mut self, ordinal: u32, disk: Disk) {
        let incarnation = self.fresh();
        let replica = disk.start(incarnation, self.revision, self.now);
        self.replicas.insert(ordinal, replica);
    }
}
