//! The bookkeeping of a seed at its target: which files are there, which pieces are missing, how
//! fast it goes. It must not know sockets, files or the store: the server's shell carries it out.

use std::collections::VecDeque;
use std::time::Duration;

use crate::replication::message::SeedManifest;

/// Rates are taken over about this time.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// One file to fetch, and from which byte on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Index into the manifest's files.
    pub file: u32,
    /// Path relative to the snapshot.
    pub name: String,
    /// Bytes of the whole file.
    pub size: u64,
    /// Bytes that are there and checked.
    pub offset: u64,
}

/// A seed under way.
#[derive(Debug)]
pub struct SeedPlan {
    missing: VecDeque<Fetch>,
    total: u64,
    done: u64,
    /// Times and values of `done`.
    samples: VecDeque<(Duration, u64)>,
}

/// Why a manifest is not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// A name that would leave the directory of the seed.
    #[error("the snapshot names a file {0:?}, which is not a plain relative path")]
    Name(String),
}

impl SeedPlan {
    /// Plans the files of `manifest` that are not `whole` yet, the largest first, so that parallel
    /// streams end together.
    pub fn new(
        manifest: &SeedManifest,
        whole: impl Fn(&str, u64) -> bool,
    ) -> Result<Self, ManifestError> {
        let mut missing = Vec::new();
        let mut done = 0;
        for (index, file) in manifest.files.iter().enumerate() {
            check_name(&file.name)?;
            if whole(&file.name, file.size) {
                done += file.size;
            } else {
                let (name, size) = (file.name.clone(), file.size);
                missing.push(Fetch {
                    file: index as u32,
                    name,
                    size,
                    offset: 0,
                });
            }
        }
        missing.sort_by(|a, b| b.size.cmp(&a.size).then(a.file.cmp(&b.file)));
        let samples = VecDeque::new();
        Ok(Self {
            missing: missing.into(),
            total: manifest.total_bytes(),
            done,
            samples,
        })
    }

    /// The next file to fetch.
    pub fn take_next(&mut self) -> Option<Fetch> {
        self.missing.pop_front()
    }

    /// A file whose stream was cut goes back, with what is there of it.
    pub fn put_back(&mut self, fetch: Fetch) {
        self.missing.push_front(fetch);
    }

    /// So many bytes more are there and checked.
    pub fn advance(&mut self, bytes: u64, now: Duration) {
        self.done += bytes;
        assert!(self.done <= self.total, "a seed is never more than whole");
        self.samples.push_back((now, self.done));
        while self
            .samples
            .front()
            .is_some_and(|(at, _)| now.saturating_sub(*at) > RATE_WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Bytes that are there and bytes of the whole.
    pub fn progress(&self) -> (u64, u64) {
        (self.done, self.total)
    }

    /// Bytes a second over the last seconds.
    pub fn rate(&self) -> u64 {
        let (Some((from, first)), Some((to, last))) = (self.samples.front(), self.samples.back())
        else {
            return 0;
        };
        let seconds = to.saturating_sub(*from).as_secs_f64();
        if seconds > 0.0 {
            ((last - first) as f64 / seconds) as u64
        } else {
            0
        }
    }
}

/// Accepts `a/b` with plain parts only.
fn check_name(name: &str) -> Result<(), ManifestError> {
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    if name.split('/').all(plain) {
        Ok(())
    } else {
        Err(ManifestError::Name(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::message::SeedFile;
    use crate::replication::{EpochHistory, Lsn};

    fn manifest(files: &[(&str, u64)]) -> SeedManifest {
        let files = files.iter().map(|(name, size)| SeedFile {
            name: (*name).into(),
            size: *size,
        });
        SeedManifest {
            id: 1,
            lsn: Lsn(10),
            chain: 0,
            history: EpochHistory::default(),
            files: files.collect(),
        }
    }

    #[test]
    fn whole_files_are_not_fetched_again_and_large_ones_come_first() {
        let manifest = manifest(&[("current", 10), ("tables/1", 100), ("tables/2", 300)]);
        let mut plan = SeedPlan::new(&manifest, |name, _| name == "tables/1").unwrap();
        assert_eq!(plan.progress(), (100, 410));
        let first = plan.take_next().unwrap();
        assert_eq!((first.name.as_str(), first.file), ("tables/2", 2));
        plan.advance(200, Duration::from_secs(1));
        plan.put_back(Fetch {
            offset: 200,
            ..first
        });
        assert_eq!(plan.take_next().unwrap().offset, 200);
        plan.advance(100, Duration::from_secs(2));
        assert_eq!(plan.rate(), 100);
        assert_eq!(plan.take_next().unwrap().name, "current");
        assert_eq!(plan.take_next(), None);
    }

    #[test]
    fn names_cannot_leave_the_directory() {
        for name in ["../x", "/etc/x", "a//b", "a/..", "", "a b"] {
            let planned = SeedPlan::new(&manifest(&[(name, 1)]), |_, _| false);
            assert_eq!(planned.err(), Some(ManifestError::Name(name.to_owned())));
        }
    }
}
