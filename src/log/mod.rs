//! The replicated log on disk.
//!
//! It must not know what the records mean, nor who else holds a copy.
