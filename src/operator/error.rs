//! What can go wrong in a reconcile, and how soon it is tried again.

use std::time::Duration;

/// The longest that one request to the API server may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a reconcile did not finish.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or was not reached.
    #[error("{action}: {}", causes(source))]
    Api {
        /// What was tried.
        action: String,
        /// What came of it.
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("{action}: no answer within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout {
        /// What was tried.
        action: String,
    },
    /// Somebody else wrote the object in between.
    #[error("the object was changed meanwhile")]
    Conflict,
    /// An object that we would make exists, and belongs to somebody else.
    #[error("{kind} {name} exists and does not belong to this store; rename it or the store")]
    NotOurs {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// An object of an earlier store of this name has not been deleted yet.
    #[error("{kind} {name} of an earlier store of this name is still being deleted")]
    Leftover {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The register is not what we wrote.
    #[error(
        "status.configuration is unreadable: {0}; until it is put right no leader is replaced, and no voter is added \
         or removed: remove it, and it is made anew from what the disks remember"
    )]
    Register(#[from] crate::replication::types::InvalidId),
    /// The object cannot be read.
    #[error("the object is unreadable: {0}")]
    Unreadable(String),
}

impl Error {
    /// For metrics.
    pub fn metric_label(&self) -> &'static str {
        match self {
            Self::Api { .. } => "api",
            Self::Timeout { .. } => "timeout",
            Self::Conflict => "conflict",
            Self::NotOurs { .. } => "not_ours",
            Self::Leftover { .. } => "leftover",
            Self::Register(_) => "register",
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// How soon to try again after so many failures in a row.
    pub fn retry_after(&self, failures: u32) -> Duration {
        match self {
            Self::Conflict => Duration::from_millis(50),
            Self::Unreadable(_) => Duration::from_mins(5),
            _ => Duration::from_millis(500 << failures.min(6)),
        }
    }
}

/// Runs one request to the API server, bounded in time, and says what it was if it fails.
pub async fn request<T>(
    action: impl FnOnce() -> String,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(REQUEST_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Api {
            action: action(),
            source: Box::new(source),
        }),
        Err(_) => Err(Error::Timeout { action: action() }),
    }
}

/// An error with what it came from, which `kube` leaves out of its words.
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The HTTP status of a refusal by the API server.
pub fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}
