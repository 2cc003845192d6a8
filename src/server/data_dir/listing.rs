//! What lies in a data directory, and what has no business there. It must not know what is in the files.

use super::*;

impl DataDir {
    /// The names of all state directories.
    pub(in crate::server) fn state_dirs(&self) -> Result<Vec<String>, DataDirError> {
        let mut names = self.entries(".")?;
        names.retain(|name| name.starts_with("state-") && self.path.join(name).is_dir());
        Ok(names)
    }

    /// What lies in the directory and is none of ours.
    pub(in crate::server) fn strangers(&self) -> Result<Vec<String>, DataDirError> {
        let mut names = self.entries(".")?;
        let ours = |name: &str| {
            let plain = name.trim_end_matches(".tmp").trim_end_matches(".copy");
            NAMES.contains(&plain)
                || FILES.contains(&name)
                || DIRECTORIES.contains(&name)
                || name.starts_with("state-")
                || name == "lost+found"
        };
        names.retain(|name| !ours(name));
        Ok(names)
    }

    /// The names in a directory below, in order; none if there is none.
    pub(super) fn entries(&self, below: &str) -> Result<Vec<String>, DataDirError> {
        let list = |source| self.io("listing", source);
        let path = self.path.join(below);
        if !path.is_dir() {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(list)? {
            let name = entry.map_err(list)?.file_name();
            names.push(name.to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}
