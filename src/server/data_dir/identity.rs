//! Who a data directory is: its id, with the hard state that goes with that. It must not know who else there is.

use super::*;

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    id: ReplicaId,
}

impl DataDir {
    /// Identity and hard state: an identity is there only after the files of the hard state are.
    pub(super) fn open_identity(
        &mut self,
        fresh_id: impl FnOnce() -> ReplicaId,
    ) -> Result<(), DataDirError> {
        let identity = self.read_identity()?;
        let others = ["log", "current", "current.copy"];
        let used = identity.is_some() || others.iter().any(|name| self.path.join(name).exists());
        self.used = used;
        let renewal = self.mark("renewal")?.filter(|_| self.access == Access::Use);
        let known = identity.as_ref().map(|identity| identity.id);
        // One that was about to take another id may have written its hard state under that already.
        let found = hard::read(&*self.disk, known.filter(|_| renewal.is_none()));
        let found = found.map_err(|source| self.io("reading the hard state", source))?;
        self.found = found.state;
        if let Some(why) = renewal {
            return self.take_id(fresh_id(), &why);
        }
        let same = known.or(found.id);
        self.id = same.unwrap_or_else(fresh_id);
        if let (true, Some(why)) = (used && same.is_some(), &found.lost) {
            self.note(format!("what it has promised is not known any more: {why}"));
            self.unknown_promises = Some(why.clone());
            // Else the files that are made now would hide it at the next start.
            self.write("unsettled", why)?;
        } else if let (true, Some(why)) = (used, &found.worn) {
            self.note(format!("hard is written again from its second copy: {why}"));
        }
        if self.unknown_promises.is_none() {
            self.unknown_promises = self.mark("unsettled")?;
        }
        let forgotten = self.mark("forgotten")?.is_some();
        self.forgotten.store(forgotten, Ordering::Release);
        if self.access == Access::Use {
            let files = HardFiles::open(&*self.disk, self.id, &found);
            let files = files.map_err(|source| self.io("saving the hard state", source))?;
            *self.hard.lock() = Some(files);
        }
        if known.is_none() {
            if used {
                let same = if found.id.is_some() { "its" } else { "another" };
                self.note(format!(
                    "identity is missing: this replica goes on with {same} id {}",
                    self.id
                ));
            }
            self.write("identity", &Identity { id: self.id })?;
        }
        Ok(())
    }

    /// Takes another id, under which it has promised and acknowledged nothing: whatever was asked of the one of
    /// before is not asked of it. Its log stays, as what it is: a part of the leader's, or not.
    fn take_id(&mut self, id: ReplicaId, why: &str) -> Result<(), DataDirError> {
        self.note(format!(
            "this replica goes on under another id, {id}: {why}"
        ));
        let found = hard::Found {
            state: self.found,
            ..hard::Found::default()
        };
        let files = HardFiles::open(&*self.disk, id, &found);
        let files = files.map_err(|source| self.io("saving the hard state", source))?;
        *self.hard.lock() = Some(files);
        self.id = id;
        self.write("identity", &Identity { id })?;
        self.unknown_promises = None;
        self.remember()?;
        self.remove("claim")?;
        self.remove("unsettled")?;
        self.remove("renewal")
    }

    /// Of two identities that differ, the hard state knows which one is its owner's.
    fn read_identity(&self) -> Result<Option<Identity>, DataDirError> {
        let parsed = |content: &[u8]| serde_json::from_slice::<Identity>(content).ok();
        if let Twice::Found {
            other: Some(other), ..
        } = self.read_raw("identity")?
            && let Some(other) = parsed(&other)
        {
            let found = hard::read(&*self.disk, None);
            let found = found.map_err(|source| self.io("reading the hard state", source))?;
            if found.id == Some(other.id) {
                self.note("identity is another replica's, and written again".to_owned());
                self.write("identity", &other)?;
                return Ok(Some(other));
            }
        }
        self.read("identity")
    }

    /// Whether nobody else votes, as far as this disk knows: nobody else has what it was asked to keep.
    pub(in crate::server) fn votes_alone(&self) -> Result<bool, DataDirError> {
        let adopted = self.adopted()?.configuration;
        Ok(adopted.version > 0 && adopted.all_voters().all(|it| it == self.id))
    }

    /// Whether it may be led by whoever has just this directory.
    pub(in crate::server) fn stands_alone(&self) -> Result<(), DataDirError> {
        match self.adopted()?.configuration.store {
            None => Ok(()),
            Some(store) => Err(DataDirError::OfAStore(self.path.clone(), store)),
        }
    }

    /// Goes on under another id if it does not know what it has promised under this one. `alone` tells whether
    /// nobody else counts on that.
    pub(in crate::server) fn settle_promises(
        &mut self,
        alone: bool,
        fresh_id: impl FnOnce() -> ReplicaId,
    ) -> Result<(), DataDirError> {
        let Some(why) = self.unknown_promises.take() else {
            return Ok(());
        };
        if alone || self.votes_alone()? {
            return self.remove("unsettled");
        }
        let why = format!("what it had promised under the other one is not known any more: {why}");
        self.renew(&why)?;
        self.take_id(fresh_id(), &why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_store_is_not_led_alone() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), Access::Use, || ReplicaId(7)).unwrap();
        dir.stands_alone().unwrap();
        let mut adopted = Adopted::default();
        adopted.configuration.version = 1;
        dir.adopt(&adopted).unwrap();
        dir.stands_alone().unwrap();
        adopted.configuration.store = Some(StoreId(78));
        dir.adopt(&adopted).unwrap();
        let refused = dir.stands_alone().unwrap_err().to_string();
        assert!(refused.contains(&StoreId(78).to_string()), "{refused}");
    }
}
