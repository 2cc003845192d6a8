//! Housekeeping beside the writer: segments are prepared ahead of use, and dropped when nobody
//! needs them any more.

use std::sync::Arc;

use super::cut;
use super::error::LogError;
use super::segment;
use super::shared::{Log, Ready, Segment, Spare};
use crate::replication::Lsn;

impl Log {
    /// Sees to it that segments are ready when the writer needs them, so that it never waits for
    /// one. Prepares one at most, which takes as long as writing its size, and says whether it
    /// did: to be called from a thread that has time, until it says no, and again after a while.
    ///
    /// Its failure harms nothing but speed.
    pub fn prepare(&self) -> Result<bool, LogError> {
        let shared = &*self.0;
        let _alone = shared.maintenance.lock();
        let spare = {
            let mut pool = shared.pool.lock();
            if pool.ready.len() >= shared.options.ready {
                return Ok(false);
            }
            pool.spares.pop()
        };
        let spare = match spare {
            Some(spare) => spare,
            // What is left then is for what is really written.
            None if !self.has_space()? => return Ok(false),
            None => self.fill_new()?,
        };
        // The writer takes numbers as well, and uses what is ready first: so the name is given
        // only now, and while the writer cannot.
        let mut pool = shared.pool.lock();
        let number = pool.take_number();
        let name = segment::name(number);
        let renamed = shared.change_directory(|disk| disk.rename(&spare.name, &name));
        if let Err(error) = renamed {
            // Whichever name it has by now: a file without a header is none of the log's.
            let known = shared.disk.open(&name, false, true).is_ok();
            let failed = LogError::io("rename", &spare.name)(error);
            let name = if known { name } else { spare.name };
            let file = spare.file;
            pool.spares.push(Spare { name, file });
            return Err(failed);
        }
        pool.ready.push_back(Ready {
            number,
            file: spare.file,
        });
        shared.count_reserve(&pool);
        Ok(true)
    }

    fn has_space(&self) -> Result<bool, LogError> {
        let space = self.0.disk.space();
        let (free, _) = space.map_err(LogError::io("look at", "the directory"))?;
        Ok(free / 2 >= self.0.options.segment_bytes)
    }

    fn fill_new(&self) -> Result<Spare, LogError> {
        let disk = &self.0.disk;
        let name = self.0.pool.lock().take_spare_name();
        let file = disk
            .open(&name, true, true)
            .map_err(LogError::io("create", &name))?;
        if let Err(error) = cut::zero(&*file, &name, 0, self.0.options.segment_bytes) {
            // Most likely the disk is full: let go of what it took.
            let _ = disk.remove(&name);
            return Err(error);
        }
        Ok(Spare { name, file })
    }

    /// Drops the segments that hold nothing after `below`. Who reads there is told
    /// [`LogError::Trimmed`].
    pub fn trim(&self, below: Lsn) -> Result<(), LogError> {
        let _alone = self.0.maintenance.lock();
        while let Some(segment) = self.take_oldest(below) {
            self.drop_segment(segment)?;
        }
        Ok(())
    }

    /// The oldest segment, if it is not needed, taken from the readers' sight.
    fn take_oldest(&self, below: Lsn) -> Option<Segment> {
        let mut view = self.0.view.write();
        let next = view.segments.get(1)?;
        if next.base() > below {
            return None;
        }
        view.segments.pop_front()
    }

    /// Keeps the file for another use, or removes it. Each is durable before the next one goes:
    /// a crash must not leave a hole.
    fn drop_segment(&self, segment: Segment) -> Result<(), LogError> {
        let shared = &*self.0;
        let name = segment::name(segment.number);
        let file = segment.file;
        let len = file.len().map_err(LogError::io("read", &name))?;
        let wanted = {
            let pool = shared.pool.lock();
            let room = shared.options.ready + shared.options.spares;
            pool.ready.len() + pool.spares.len() < room
        };
        // A reader that has the file open must not see it written over. Nobody can open it any
        // more, so the count can only fall.
        let recycle =
            wanted && len == shared.options.segment_bytes && Arc::strong_count(&file) == 1;
        if !recycle {
            let removed = shared.change_directory(|disk| disk.remove(&name));
            return removed.map_err(LogError::io("remove", &name));
        }
        let spare = shared.pool.lock().take_spare_name();
        let renamed = shared.change_directory(|disk| disk.rename(&name, &spare));
        renamed.map_err(LogError::io("rename", &name))?;
        shared.pool.lock().spares.push(Spare { name: spare, file });
        Ok(())
    }
}
