//! Threads that yield to those of clients and of the log: what they do takes what is left of the processors,
//! and a share of them where nothing is. It must not know what runs on them.

use std::io;
use std::ops::Deref;

use rustix::process::{getpriority_process, setpriority_process};
use tokio::runtime::{Builder, Handle, Runtime};

/// How far threads step back (`nice`) that nothing waits for: next to one that takes all it gets, a tenth of
/// its time is theirs.
pub(super) const FAR: i32 = 10;
/// The same for those that writers may come to wait for: a third of it.
pub(super) const NEAR: i32 = 5;
/// Threads that read and write files for it.
const FILE_THREADS: usize = 4;

/// A runtime for copies of whole states, which ends with this value.
#[derive(Debug)]
pub(super) struct Background(Option<Runtime>, Handle);

impl Background {
    pub(super) fn new() -> io::Result<Self> {
        // A thread begins with the niceness of the one that starts it, which may be one of these.
        let from = getpriority_process(None)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(FILE_THREADS)
            .thread_name("background")
            .on_thread_start(move || set(from + FAR))
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Self(Some(runtime), handle))
    }
}

/// Lowers the priority of the calling thread alone, as is Linux's way. For good: to raise it takes a privilege.
pub(super) fn step_back(by: i32) {
    match getpriority_process(None) {
        Ok(now) => set(now + by),
        Err(error) => tracing::debug!(%error, "cannot tell the priority of a thread"),
    }
}

fn set(niceness: i32) {
    if let Err(error) = setpriority_process(None, niceness) {
        tracing::debug!(%error, "cannot lower the priority of a thread");
    }
}

impl Deref for Background {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.1
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // What blocks ends by itself; waiting for it here would block whoever drops this.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_threads_step_back_and_others_do_not() {
        let niceness = || getpriority_process(None).unwrap();
        let before = niceness();
        let background = Background::new().unwrap();
        let task = background.spawn(async move {
            let blocking = tokio::task::spawn_blocking(niceness).await.unwrap();
            (niceness(), blocking)
        });
        let nice = (before + FAR).min(19);
        assert_eq!(task.await.unwrap(), (nice, nice));
        assert_eq!(niceness(), before);
    }
}
