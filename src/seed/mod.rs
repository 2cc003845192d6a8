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
    /// Bytes that are there.
    pub offset: u64,
    /// XXH3-128 of the whole file, if it is known.
    pub xxh3: Option<u128>,
}

/// What is there of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Have {
    /// All of it, checked.
    Whole,
    /// So many bytes from its beginning on, which are to be checked with the rest.
    Part(u64),
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
    /// Plans the files of `manifest` of which `have` does not say that they are whole, the largest first,
    /// so that parallel streams end together.
    pub fn new(
        manifest: &SeedManifest,
        have: impl Fn(&str, u64) -> Have,
    ) -> Result<Self, ManifestError> {
        let mut missing = Vec::new();
        let mut done = 0;
        for (index, file) in manifest.files.iter().enumerate() {
            check_name(&file.name)?;
            let offset = match have(&file.name, file.size) {
                Have::Whole => {
                    done += file.size;
                    continue;
                }
                Have::Part(bytes) => bytes.min(file.size),
            };
            done += offset;
            missing.push(Fetch {
                file: index as u32,
                name: file.name.clone(),
                size: file.size,
                offset,
                xxh3: file.xxh3.map(u128::from_le_bytes),
            });
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

    /// What was there of a file is wrong: it is fetched from its beginning.
    pub fn start_over(&mut self, fetch: &mut Fetch) {
        self.done -= fetch.offset;
        fetch.offset = 0;
        self.samples.clear();
    }

    /// So many bytes more are there.
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
            xxh3: Some([7; 16]),
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
        let have = |name: &str, _| match name {
            "tables/1" => Have::Whole,
            "current" => Have::Part(4),
            _ => Have::Part(0),
        };
        let mut plan = SeedPlan::new(&manifest, have).unwrap();
        assert_eq!(plan.progress(), (104, 410));
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
        let mut last = plan.take_next().unwrap();
        assert_eq!((last.name.as_str(), last.offset), ("current", 4));
        assert_eq!(plan.take_next(), None);
        assert_eq!(plan.progress(), (404, 410));
        plan.start_over(&mut last);
        assert_eq!((last.offset, plan.progress()), (0, (400, 410)));
    }

    #[test]
    fn names_cannot_leave_the_directory() {
        for name in ["../x", "/etc/x", "a//b", "a/..", "", "a b"] {
            let planned = SeedPlan::new(&manifest(&[(name, 1)]), |_, _| Have::Part(0));
            assert_eq!(planned.err(), Some(ManifestError::Name(name.to_owned())));
        }
    }
}
