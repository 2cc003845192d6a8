//! What a data directory has noted, besides the hard state: each a small file. It must not know why.

use super::*;

impl DataDir {
    /// The configuration that was adopted last, and the members' names as of then.
    pub(in crate::server) fn adopted(&self) -> Result<Adopted, DataDirError> {
        let adopted = self.read("adopted")?;
        if adopted.is_none() && self.path.join("adopted").exists() && !self.forgotten() {
            self.forget("the configuration that it had adopted")?;
        }
        Ok(adopted.unwrap_or_default())
    }

    /// Notes durably that a configuration is adopted.
    pub(in crate::server) fn adopt(&self, adopted: &Adopted) -> Result<(), DataDirError> {
        match self.write_one("adopted", adopted) {
            Err(error) if error.is_full() => {
                let content =
                    serde_json::to_vec(adopted).map_err(|it| self.io("adopted", it.into()))?;
                // The error tells more than that there is no file to write over.
                durable_file::overwrite_twice(&*self.disk, "adopted", &content).map_err(|_| error)
            }
            written => written,
        }
    }

    /// Writes the second copy of it: nothing waits for that.
    pub(in crate::server) fn mirror_adopted(&self, adopted: &Adopted) -> Result<(), DataDirError> {
        self.write_one(&durable_file::copy_of("adopted"), adopted)
    }

    /// UID of the claim that this disk belongs to.
    pub(in crate::server) fn claim(&self) -> Result<Option<String>, DataDirError> {
        self.read("claim")
    }

    /// Notes durably to which claim it belongs.
    pub(in crate::server) fn bind(&self, claim: &str) -> Result<(), DataDirError> {
        self.write("claim", &claim)
    }

    /// Notes durably that the replica takes another id at its next start.
    pub(in crate::server) fn renew(&self, why: &str) -> Result<(), DataDirError> {
        self.write("renewal", &why)
    }

    /// The memory budget that was noted last.
    pub(in crate::server) fn memory(&self) -> Result<Option<u64>, DataDirError> {
        self.read("memory")
    }

    /// Notes the memory budget, for the next start.
    pub(in crate::server) fn note_memory(&self, bytes: u64) -> Result<(), DataDirError> {
        self.write("memory", &bytes)
    }

    /// What is wrong with the current state.
    pub(in crate::server) fn damage(&self) -> Result<Option<String>, DataDirError> {
        self.mark("damaged")
    }

    /// Notes durably that the current state is damaged.
    pub(in crate::server) fn note_damage(&self, what: &str) -> Result<(), DataDirError> {
        self.write("damaged", &what)
    }

    /// The current state is whole again.
    pub(in crate::server) fn forget_damage(&self) -> Result<(), DataDirError> {
        self.remove("damaged")
    }

    /// When everything was verified last.
    pub(in crate::server) fn scrubbed(&self) -> Result<Option<u64>, DataDirError> {
        self.read("scrubbed")
    }

    /// Notes when everything was verified.
    pub(in crate::server) fn note_scrubbed(&self, seconds: u64) -> Result<(), DataDirError> {
        self.write("scrubbed", &seconds)
    }
}
