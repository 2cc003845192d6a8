//! The files of the hard state: two slots in each of two files, so that neither a crash nor damage to one of
//! them makes a replica forget what it has promised.

use std::io;

use serde::{Deserialize, Serialize};

use crate::env::durable_file::{copy_of, is_damage};
use crate::env::{Disk, Slots, is_full};
use crate::replication::{Epoch, HardState, ReplicaId};

const FILE: &str = "hard";

#[derive(Debug, Serialize, Deserialize)]
struct Hard {
    promised: Epoch,
    begun: Epoch,
    lease_ms: u32,
    #[serde(default)]
    cut: Epoch,
    /// Whose it is; earlier releases did not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<ReplicaId>,
}

/// What the files hold.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) state: HardState,
    /// Whose it is, as it says itself.
    pub(super) id: Option<ReplicaId>,
    /// Why nothing is known any more of what was in them; not for a directory that is new.
    pub(super) lost: Option<String>,
    /// Why one of them has to be written again.
    pub(super) worn: Option<String>,
}

/// One of the files.
enum Read {
    Hard(Hard),
    /// Made, and nothing was saved yet.
    Unwritten,
    Missing,
    Damaged(String),
}

fn read_one(disk: &dyn Disk, name: &str, owner: Option<ReplicaId>) -> io::Result<Read> {
    let value = match Slots::read(disk, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::Missing),
        Err(error) if is_damage(&error) => return Ok(Read::Damaged(error.to_string())),
        read => read?,
    };
    let Some(bytes) = value else {
        return Ok(Read::Unwritten);
    };
    Ok(match serde_json::from_slice::<Hard>(&bytes) {
        Err(error) => Read::Damaged(format!("{name} makes no sense: {error}")),
        Ok(hard) if owner.is_some() && hard.id.is_some() && hard.id != owner => {
            Read::Damaged(format!("{name} is of another replica"))
        }
        Ok(hard) => Read::Hard(hard),
    })
}

/// Reads both files; what they say of another replica than `owner` does not count.
pub(super) fn read(disk: &dyn Disk, owner: Option<ReplicaId>) -> io::Result<Found> {
    let (one, copy) = (
        read_one(disk, FILE, owner)?,
        read_one(disk, &copy_of(FILE), owner)?,
    );
    let why = |read: &Read| match read {
        Read::Missing => Some("it is missing".to_owned()),
        Read::Damaged(why) => Some(why.clone()),
        Read::Hard(_) | Read::Unwritten => None,
    };
    let mut found = Found {
        worn: why(&one),
        ..Found::default()
    };
    if let (Some(one), Some(_)) = (why(&one), why(&copy)) {
        found.lost = Some(one);
    }
    // A crash may have come between the two, and a promise is never taken back.
    for read in [one, copy] {
        if let Read::Hard(hard) = read {
            let state = &mut found.state;
            state.promised = state.promised.max(hard.promised);
            state.begun = state.begun.max(hard.begun);
            state.lease_ms = state.lease_ms.max(hard.lease_ms);
            state.cut = state.cut.max(hard.cut);
            found.id = found.id.or(hard.id);
        }
    }
    Ok(found)
}

/// The files, open for writing.
#[derive(Debug)]
pub(super) struct HardFiles {
    id: ReplicaId,
    file: Slots,
    /// `None` if there was no room for it: the next start makes it.
    copy: Option<Slots>,
    /// What the second file does not hold yet.
    unmirrored: Option<Vec<u8>>,
}

impl HardFiles {
    /// Opens both, making again what is missing or damaged, and writes to both what was found.
    pub(super) fn open(disk: &dyn Disk, id: ReplicaId, found: &Found) -> io::Result<Self> {
        let open = |name: &str| match Slots::open(disk, name) {
            Err(error) if is_damage(&error) => Slots::anew(disk, name),
            opened => opened.map(|(slots, _)| slots),
        };
        let mut files = Self {
            id,
            file: open(FILE)?,
            copy: match open(&copy_of(FILE)) {
                Err(error) if is_full(&error) => None,
                opened => Some(opened?),
            },
            unmirrored: None,
        };
        // What was read may be in the cache alone, and one of the copies may be damaged.
        if found.state != HardState::default() {
            files.save(found.state)?;
            files.mirror()?;
        }
        Ok(files)
    }

    pub(super) fn save(&mut self, hard: HardState) -> io::Result<()> {
        let hard = Hard {
            promised: hard.promised,
            begun: hard.begun,
            lease_ms: hard.lease_ms,
            cut: hard.cut,
            id: Some(self.id),
        };
        let bytes = serde_json::to_vec(&hard)?;
        self.file.replace(&bytes)?;
        self.unmirrored = Some(bytes);
        Ok(())
    }

    pub(super) fn mirror(&mut self) -> io::Result<()> {
        self.file.mirror()?;
        if let Some(copy) = &mut self.copy
            && let Some(bytes) = self.unmirrored.take()
        {
            copy.replace(&bytes)?;
            copy.mirror()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SimDisk;

    const ID: ReplicaId = ReplicaId(7);

    fn saved() -> (SimDisk, HardState) {
        let disk = SimDisk::new(1);
        let state = HardState {
            promised: Epoch(5),
            begun: Epoch(3),
            lease_ms: 1000,
            cut: Epoch(2),
        };
        let mut files = HardFiles::open(&disk, ID, &Found::default()).unwrap();
        files.save(state).unwrap();
        files.mirror().unwrap();
        (disk, state)
    }

    fn damage(disk: &SimDisk, name: &str) {
        disk.flip(name, 30, 3);
        disk.flip(name, 4096 + 30, 3);
    }

    #[test]
    fn either_file_is_enough() {
        for name in ["hard", "hard.copy"] {
            let (disk, state) = saved();
            damage(&disk, name);
            let found = read(&disk, Some(ID)).unwrap();
            assert_eq!((found.state, found.lost.is_none()), (state, true), "{name}");
            HardFiles::open(&disk, ID, &found).unwrap();
            disk.remove(if name == "hard" { "hard.copy" } else { "hard" })
                .unwrap();
            assert_eq!(read(&disk, Some(ID)).unwrap().state, state, "{name}");
        }
    }

    /// A release before this one kept one file; there may be no room for a second.
    #[test]
    fn where_there_is_no_room_for_the_second_file_the_first_will_do() {
        let (disk, mut state) = saved();
        disk.remove("hard.copy").unwrap();
        disk.set_capacity(1);
        let found = read(&disk, Some(ID)).unwrap();
        let mut files = HardFiles::open(&disk, ID, &found).unwrap();
        state.promised = Epoch(6);
        files.save(state).unwrap();
        files.mirror().unwrap();
        assert_eq!(read(&disk, Some(ID)).unwrap().state, state);
        disk.set_capacity(u64::MAX);
        let found = read(&disk, Some(ID)).unwrap();
        HardFiles::open(&disk, ID, &found).unwrap();
        disk.remove("hard").unwrap();
        assert_eq!(read(&disk, Some(ID)).unwrap().state, state);
    }

    #[test]
    fn without_both_it_is_told_that_promises_are_forgotten() {
        let (disk, _) = saved();
        damage(&disk, "hard");
        disk.remove("hard.copy").unwrap();
        assert!(read(&disk, Some(ID)).unwrap().lost.is_some());
    }

    #[test]
    fn the_promises_of_another_replica_are_not_its_own() {
        let (disk, _) = saved();
        let found = read(&disk, Some(ReplicaId(8))).unwrap();
        assert!(found.lost.is_some() && found.state == HardState::default());
    }
}
