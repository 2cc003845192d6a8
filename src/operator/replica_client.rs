//! Talking to replicas: HTTP to their admin port. Decides nothing.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{Stream, stream};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::replication::admin::{
    Assignment, ClaimRequest, ProcessStatus, PromiseAnswer, PromiseRequest, ReplicaStatus,
    SwitchoverRequest,
};

/// A replica in the same cluster accepts a connection at once, or its Pod is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A promise and a new configuration each wait for a sync of the disk.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// The parent of a replica's process does nothing but watch it, and a lead may hang on its answer.
const PROCESS_TIMEOUT: Duration = Duration::from_millis(300);
/// What a leader may need to answer beyond the deadline that it was given.
const SWITCHOVER_MARGIN: Duration = Duration::from_secs(1);
/// A replica says something every second.
pub const SILENCE: Duration = Duration::from_secs(3);
/// Nine followers fill some KiB; more than this is no status.
const MAX_BODY: usize = 1 << 20;

/// Why a replica could not be talked to.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    /// The connection broke.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// It answered that it will not.
    #[error("{status}: {text}")]
    Refused {
        /// The status of the answer.
        status: StatusCode,
        /// Why.
        text: String,
    },
    /// It said what we do not understand.
    #[error("cannot read the answer: {0}")]
    Unreadable(String),
    /// It ended the stream.
    #[error("the stream has ended")]
    Ended,
}

/// The words of one replica as they come.
pub type StatusStream = Pin<Box<dyn Stream<Item = Result<ReplicaStatus, CallError>> + Send>>;

/// What the operator asks of replicas.
pub trait ReplicaAdmin: Send + Sync + 'static {
    /// Asks for a promise.
    fn promise(
        &self,
        at: SocketAddr,
        request: PromiseRequest,
    ) -> BoxFuture<'_, Result<PromiseAnswer, CallError>>;

    /// Hands over the register.
    fn configure<'a>(
        &'a self,
        at: SocketAddr,
        assignment: &'a Assignment,
    ) -> BoxFuture<'a, Result<(), CallError>>;

    /// Tells to which claim a disk belongs.
    fn claim(&self, at: SocketAddr, request: ClaimRequest) -> BoxFuture<'_, Result<(), CallError>>;

    /// Asks a leader to make room; it answers once it has promised, or that it leads on.
    fn switchover(
        &self,
        at: SocketAddr,
        request: SwitchoverRequest,
    ) -> BoxFuture<'_, Result<PromiseAnswer, CallError>>;

    /// Asks the parent of a replica's process what has become of it.
    fn process(&self, at: SocketAddr) -> BoxFuture<'_, Result<ProcessStatus, CallError>>;

    /// Opens the stream of its state. An item is due within [`SILENCE`], or the stream fails.
    fn watch(&self, at: SocketAddr) -> BoxFuture<'_, Result<StatusStream, CallError>>;
}

/// [`ReplicaAdmin`] over HTTP/1.1, a connection a call: calls are rare, and the stream is long.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpAdmin;

impl ReplicaAdmin for HttpAdmin {
    fn promise(
        &self,
        at: SocketAddr,
        request: PromiseRequest,
    ) -> BoxFuture<'_, Result<PromiseAnswer, CallError>> {
        Box::pin(async move {
            let body = json(&request)?;
            let answer = bounded(CALL_TIMEOUT, call(at, Method::POST, "/promise", body)).await?;
            read_json(&answer)
        })
    }

    fn configure<'a>(
        &'a self,
        at: SocketAddr,
        assignment: &'a Assignment,
    ) -> BoxFuture<'a, Result<(), CallError>> {
        Box::pin(async move {
            let body = json(assignment)?;
            bounded(CALL_TIMEOUT, call(at, Method::PUT, "/configuration", body)).await?;
            Ok(())
        })
    }

    fn claim(&self, at: SocketAddr, request: ClaimRequest) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async move {
            let body = json(&request)?;
            bounded(CALL_TIMEOUT, call(at, Method::POST, "/claim", body)).await?;
            Ok(())
        })
    }

    fn switchover(
        &self,
        at: SocketAddr,
        request: SwitchoverRequest,
    ) -> BoxFuture<'_, Result<PromiseAnswer, CallError>> {
        Box::pin(async move {
            let limit = Duration::from_millis(request.deadline_ms) + SWITCHOVER_MARGIN;
            let body = json(&request)?;
            let answer = bounded(limit, call(at, Method::POST, "/switchover", body)).await?;
            read_json(&answer)
        })
    }

    fn process(&self, at: SocketAddr) -> BoxFuture<'_, Result<ProcessStatus, CallError>> {
        Box::pin(async move {
            let asked = call(at, Method::GET, "/process", Bytes::new());
            read_json(&bounded(PROCESS_TIMEOUT, asked).await?)
        })
    }

    fn watch(&self, at: SocketAddr) -> BoxFuture<'_, Result<StatusStream, CallError>> {
        Box::pin(async move {
            let opened = async {
                let mut connection = Connection::open(at).await?;
                let answer = connection
                    .send(Method::GET, "/status/stream", Bytes::new())
                    .await?;
                let (status, body) = (answer.status(), answer.into_body());
                if status.is_success() {
                    return Ok((connection, body));
                }
                let text = collect(body).await?;
                Err(refused(status, &text))
            };
            let (connection, body) = bounded(SILENCE, opened).await?;
            Ok(lines(connection, body))
        })
    }
}

/// A connection with the task that drives it, which ends with it.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    host: String,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    async fn open(at: SocketAddr) -> Result<Self, CallError> {
        let connect = TcpStream::connect(at);
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| CallError::Timeout)?
            .map_err(CallError::Connect)?;
        // Small requests that wait for an answer: nothing to be gained from waiting to fill a packet.
        stream.set_nodelay(true).map_err(CallError::Connect)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // How it ended is told to whoever reads from it.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            driver,
            host: at.to_string(),
        })
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, CallError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, &self.host)
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|err| CallError::Unreadable(err.to_string()))?;
        Ok(self.sender.send_request(request).await?)
    }
}

async fn call(at: SocketAddr, method: Method, path: &str, body: Bytes) -> Result<Bytes, CallError> {
    let mut connection = Connection::open(at).await?;
    let answer = connection.send(method, path, body).await?;
    let status = answer.status();
    let body = collect(answer.into_body()).await?;
    if status.is_success() {
        Ok(body)
    } else {
        Err(refused(status, &body))
    }
}

async fn collect(body: Incoming) -> Result<Bytes, CallError> {
    let limited = Limited::new(body, MAX_BODY).collect().await;
    let collected = limited.map_err(|err| CallError::Unreadable(err.to_string()))?;
    Ok(collected.to_bytes())
}

fn refused(status: StatusCode, text: &[u8]) -> CallError {
    let text = String::from_utf8_lossy(text);
    CallError::Refused {
        status,
        text: text.trim().chars().take(500).collect(),
    }
}

fn json(value: &impl serde::Serialize) -> Result<Bytes, CallError> {
    let text = serde_json::to_vec(value).map_err(|err| CallError::Unreadable(err.to_string()))?;
    Ok(text.into())
}

fn read_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(text).map_err(|err| CallError::Unreadable(err.to_string()))
}

async fn bounded<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    tokio::time::timeout(limit, call)
        .await
        .unwrap_or(Err(CallError::Timeout))
}

/// The body's lines, each a status.
fn lines(connection: Connection, body: Incoming) -> StatusStream {
    struct State {
        body: Incoming,
        buffer: BytesMut,
        _connection: Connection,
    }
    let state = State {
        body,
        buffer: BytesMut::new(),
        _connection: connection,
    };
    Box::pin(stream::try_unfold(state, |mut state| async move {
        let line = bounded(SILENCE, next_line(&mut state.body, &mut state.buffer)).await?;
        let status: ReplicaStatus = read_json(&line)?;
        Ok(Some((status, state)))
    }))
}

async fn next_line(body: &mut Incoming, buffer: &mut BytesMut) -> Result<Bytes, CallError> {
    loop {
        if let Some(end) = memchr::memchr(b'\n', buffer) {
            let line = buffer.split_to(end).freeze();
            buffer.advance(1);
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return Ok(line);
        }
        if buffer.len() > MAX_BODY {
            return Err(CallError::Unreadable("a line without an end".to_owned()));
        }
        let frame = body.frame().await.ok_or(CallError::Ended)??;
        if let Ok(data) = frame.into_data() {
            buffer.extend_from_slice(&data);
        }
    }
}
