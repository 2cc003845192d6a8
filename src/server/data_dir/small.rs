//! The small files of a data directory, each with its second copy: reading, writing, removing them. It must not
//! know what is in them.

use super::*;

impl DataDir {
    pub(super) fn read_raw(&self, file: &'static str) -> Result<Twice, DataDirError> {
        let read = durable_file::read_twice(&*self.disk, file);
        read.map_err(|source| self.io("reading a small file", source))
    }

    /// The value of a small file. One that is damaged, both copies of it, is told and counts as missing: all
    /// of them can be rebuilt, or are no loss.
    pub(super) fn read<T: for<'de> Deserialize<'de>>(
        &self,
        file: &'static str,
    ) -> Result<Option<T>, DataDirError> {
        let Twice::Found {
            content,
            other,
            worn,
        } = self.read_raw(file)?
        else {
            if self.path.join(file).exists() {
                self.note(format!("{file} is damaged"));
            }
            return Ok(None);
        };
        let parsed = |content: &[u8]| serde_json::from_slice::<T>(content).ok();
        let value = parsed(&content).or_else(|| parsed(&other?));
        if worn && value.is_some() && self.access == Access::Use {
            let written = durable_file::write_twice(&*self.disk, file, &content);
            self.copied(
                file,
                written.map_err(|source| self.io("writing a small file", source)),
            )?;
        }
        Ok(value)
    }

    /// A worn file was written again: reads go on where the disk is too full for that.
    pub(super) fn copied(
        &self,
        file: &str,
        written: Result<(), DataDirError>,
    ) -> Result<(), DataDirError> {
        match written {
            Err(error) if error.is_full() => {
                self.note(format!("{file} has no second copy: {error}"));
                Ok(())
            }
            written => written,
        }
    }

    /// What a mark says; that it is there matters more.
    pub(super) fn mark(&self, file: &'static str) -> Result<Option<String>, DataDirError> {
        Ok(match self.read_raw(file)? {
            Twice::Missing => None,
            Twice::Damaged => Some("nobody knows any more what".to_owned()),
            Twice::Found { content, .. } => {
                let text = serde_json::from_slice(&content);
                Some(text.unwrap_or_else(|_| "it says no more".to_owned()))
            }
        })
    }

    pub(super) fn remove(&self, file: &str) -> Result<(), DataDirError> {
        if self.access == Access::Look {
            return Ok(());
        }
        let mut any = false;
        // The copy first: while one is there, the mark is.
        for name in [durable_file::copy_of(file), file.to_owned()] {
            match self.disk.remove(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => {
                    removed.map_err(|source| self.io("removing a note", source))?;
                    any = true;
                }
            }
        }
        if any {
            let synced = self.disk.sync_dir();
            synced.map_err(|source| self.io("removing a note", source))?;
        }
        Ok(())
    }

    pub(super) fn write<T: Serialize>(
        &self,
        file: &'static str,
        value: &T,
    ) -> Result<(), DataDirError> {
        if self.access == Access::Look {
            return Ok(());
        }
        let bytes = serde_json::to_vec(value).map_err(|error| self.io(file, error.into()))?;
        durable_file::write_twice(&*self.disk, file, &bytes)
            .map_err(|source| self.io("writing a small file", source))
    }

    pub(super) fn write_one<T: Serialize>(
        &self,
        file: &str,
        value: &T,
    ) -> Result<(), DataDirError> {
        let written = serde_json::to_vec(value).map_err(io::Error::from);
        let written =
            written.and_then(|bytes| durable_file::write_small(&*self.disk, file, &bytes));
        written.map_err(|source| self.io("writing a small file", source))
    }

    pub(super) fn io(&self, what: &'static str, source: io::Error) -> DataDirError {
        DataDirError::Io {
            what,
            path: self.path.clone(),
            source,
        }
    }
}
