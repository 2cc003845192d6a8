//! Clock, randomness and disk: the only place that names them, so that a simulation can stand in.
//!
//! It must not know what they are used for.

pub mod clock;
pub mod disk;
pub mod durable_file;
mod overlay;
mod real_disk;
pub mod sim_disk;
pub mod slots;

pub use clock::{Clock, SystemClock};
pub use disk::{DirLock, Disk, File, RealDisk, is_full, make_dir};
pub use overlay::Overlay;
pub use sim_disk::SimDisk;
pub use slots::Slots;
