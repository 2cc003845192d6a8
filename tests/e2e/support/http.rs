//! A replica's admin interface, as the operator uses it.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use replicated_store::replication::admin::ReplicaStatus;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Port of the admin interface.
pub(crate) const ADMIN: u16 = 8080;

/// To connect and to have the head of an answer. A digest is made of a whole store.
const PATIENCE: Duration = Duration::from_secs(30);

/// GETs JSON.
pub(crate) async fn get<T: DeserializeOwned>(host: &str, path: &str) -> Result<T, String> {
    let text = get_text(host, path).await?;
    serde_json::from_str(&text).map_err(|error| format!("{host}{path}: {error} in {text}"))
}

/// GETs text.
pub(crate) async fn get_text(host: &str, path: &str) -> Result<String, String> {
    let answer = async {
        let response = request(host, path).await?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        if status.is_success() {
            Ok(text)
        } else {
            Err(format!("{status}: {text}"))
        }
    };
    let answer = timeout(PATIENCE, answer)
        .await
        .unwrap_or_else(|_| Err("no answer".to_owned()));
    answer.map_err(|error| format!("GET http://{host}:{ADMIN}{path}: {error}"))
}

/// Calls `each` with every status that the replica streams, until the stream ends.
pub(crate) async fn follow_status(
    host: &str,
    mut each: impl FnMut(ReplicaStatus),
) -> Result<(), String> {
    let mut body = request(host, "/status/stream").await?.into_body();
    let mut buffer = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        buffer.extend_from_slice(&frame.into_data().unwrap_or_default());
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            each(serde_json::from_slice(&line).map_err(|error| error.to_string())?);
        }
    }
    Ok(())
}

async fn request(host: &str, path: &str) -> Result<Response<Incoming>, String> {
    let stream = timeout(Duration::from_secs(2), TcpStream::connect((host, ADMIN))).await;
    let stream = stream
        .map_err(|_| "no connection")?
        .map_err(|error| error.to_string())?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", host)
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    sender
        .send_request(request)
        .await
        .map_err(|error| error.to_string())
}
