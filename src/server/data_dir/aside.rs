//! Where things are kept that must not stay where they were: nothing that may hold somebody's data is
//! thrown away because it is damaged, or in the way.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DIRECTORY: &str = "aside";
/// The oldest goes when there are more: each start after damage may make one.
const MOST: usize = 8;
/// A directory into which somebody still writes is removed after a few tries.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// The directory that this process keeps things in, made when there is something to keep.
#[derive(Debug, Default)]
pub(super) struct Aside(Option<u64>);

impl Aside {
    /// The directory, if there is one already.
    pub(super) fn directory(&self, data: &Path) -> Option<PathBuf> {
        let number = self.0?;
        Some(data.join(DIRECTORY).join(number.to_string()))
    }

    /// Moves what is called `name` in the data directory. Says where to, seen from there.
    pub(super) fn take(&mut self, data: &Path, name: &str) -> io::Result<String> {
        let to = self.path(data, name)?;
        let from = data.join(name);
        fs::rename(&from, &to)?;
        sync(to.parent())?;
        sync(from.parent())?;
        let told = to.strip_prefix(data).unwrap_or(&to);
        Ok(told.to_string_lossy().into_owned())
    }

    /// A path for something of this name, which nothing has yet.
    pub(super) fn path(&mut self, data: &Path, name: &str) -> io::Result<PathBuf> {
        let directory = match self.directory(data) {
            Some(directory) => directory,
            None => self.begin(data)?,
        };
        let plain = name.replace('/', "-");
        let numbered = (1..).map(|number| format!("{plain}.{number}"));
        let mut names = std::iter::once(plain.clone()).chain(numbered);
        let free = names.find(|name| !directory.join(name).exists());
        Ok(directory.join(free.unwrap_or(plain)))
    }

    fn begin(&mut self, data: &Path) -> io::Result<PathBuf> {
        let all = data.join(DIRECTORY);
        if !all.is_dir() {
            fs::create_dir(&all)?;
            sync(Some(data))?;
        }
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&all)? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        let surplus = (numbers.len() + 1).saturating_sub(MOST);
        for oldest in numbers.iter().take(surplus) {
            remove_tree(&all.join(oldest.to_string()));
        }
        let number = numbers.last().map_or(1, |last| last + 1);
        let directory = all.join(number.to_string());
        fs::create_dir(&directory)?;
        sync(Some(&all))?;
        self.0 = Some(number);
        Ok(directory)
    }
}

fn sync(directory: Option<&Path>) -> io::Result<()> {
    directory.map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

/// Removes a directory that nobody needs. A compaction that was interrupted may still write into it.
pub(super) fn remove_tree(path: &Path) {
    for _ in 0..TRIES {
        match fs::remove_dir_all(path) {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                std::thread::sleep(PAUSE);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "could not be removed");
                return;
            }
        }
    }
    tracing::warn!(path = %path.display(), "could not be removed: somebody writes into it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_moved_away_is_kept_and_the_oldest_goes_when_there_is_much() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..MOST + 3 {
            fs::write(dir.path().join("log"), round.to_string()).unwrap();
            let mut aside = Aside::default();
            let to = aside.take(dir.path(), "log").unwrap();
            assert_eq!(
                fs::read_to_string(dir.path().join(to)).unwrap(),
                round.to_string()
            );
            fs::write(dir.path().join("log"), "more").unwrap();
            assert!(aside.take(dir.path(), "log").unwrap().ends_with("log.1"));
        }
        assert_eq!(
            fs::read_dir(dir.path().join(DIRECTORY)).unwrap().count(),
            MOST
        );
    }

    /// Goal: a state that was replaced goes although a compaction of it still ends.
    /// Method: a thread makes files in the directory until it is told to stop by the removal of all of it.
    #[test]
    fn a_directory_into_which_somebody_writes_for_a_moment_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        fs::create_dir(&path).unwrap();
        let written = path.clone();
        let writer = std::thread::spawn(move || {
            for number in 0..300 {
                if fs::write(written.join(number.to_string()), b"table").is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        while !path.join("0").exists() {
            std::thread::yield_now();
        }
        remove_tree(&path);
        writer.join().unwrap();
        assert!(!path.exists());
    }
}
