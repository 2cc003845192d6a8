//! Probes and metrics of the operator itself.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;

/// How far the operator has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is not of use yet; why.
    Waiting(String),
    /// Another Pod is at work, this one would take over.
    Standby,
    /// It is at work.
    Working,
}

/// What the endpoints answer from.
#[derive(Clone)]
pub struct Health {
    readiness: Arc<Mutex<Readiness>>,
    metrics: Arc<Metrics>,
}

impl Health {
    /// At the start.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            readiness: Arc::new(Mutex::new(Readiness::Waiting("starting".to_owned()))),
            metrics,
        }
    }

    /// Says how far it has come.
    pub fn set(&self, readiness: Readiness) {
        self.metrics
            .leading
            .set(i64::from(readiness == Readiness::Working));
        *self.readiness.lock() = readiness;
    }
}

/// Serves until `stop`.
pub async fn serve(
    listen: SocketAddr,
    health: Health,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    tracing::info!(%listen, "serving probes and metrics");
    let router = router(health);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn ready(State(health): State<Health>) -> Response {
    match health.readiness.lock().clone() {
        Readiness::Working => "ok\n".into_response(),
        Readiness::Standby => "ok: standby\n".into_response(),
        Readiness::Waiting(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}

async fn metrics(State(health): State<Health>) -> Response {
    let content = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match health.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, content)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::replica_client::HttpAdmin;
    use crate::operator::supervisor::Supervisor;

    #[tokio::test]
    async fn a_standby_is_ready_and_one_that_waits_says_what_for() {
        let supervisor = Supervisor::new(Arc::new(HttpAdmin), Arc::default());
        let health = Health::new(Arc::new(Metrics::new(Arc::new(supervisor))));
        let readiness = |health: &Health| ready(State(health.clone()));
        assert_eq!(
            readiness(&health).await.status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        health.set(Readiness::Standby);
        assert_eq!(readiness(&health).await.status(), StatusCode::OK);
        health.set(Readiness::Working);
        assert_eq!(readiness(&health).await.status(), StatusCode::OK);
        let text = health.metrics.encode().unwrap();
        assert!(
            text.contains("replicated_store_operator_leading 1"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
