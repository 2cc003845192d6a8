//! The supervisor and its client against a replica made of a socket.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::operator::replica_client::{HttpAdmin, SILENCE};
use crate::operator::testing;
use crate::replication::admin::{
    Assignment, ProcessStatus, PromiseAnswer, PromiseRequest, Role, Settings, SwitchoverRequest,
};
use crate::replication::types::{Configuration, Epoch, Position};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

fn key() -> StoreKey {
    StoreKey {
        namespace: "shop".into(),
        name: "orders".into(),
    }
}

/// Reads a request; answers its first line and its body.
async fn request(stream: &mut TcpStream) -> (String, String) {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).await.unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.unwrap();
    (first.trim().to_owned(), String::from_utf8(body).unwrap())
}

async fn say(stream: &mut TcpStream, status: &ReplicaStatus) {
    let line = serde_json::to_string(status).unwrap() + "\n";
    // In two pieces, as networks do.
    let (a, b) = line.split_at(line.len() / 2);
    for part in [a, b] {
        let chunk = format!("{:x}\r\n{part}\r\n", part.len());
        stream.write_all(chunk.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
}

async fn open(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (first, _) = request(&mut stream).await;
    assert_eq!(first, "GET /status/stream HTTP/1.1");
    let head = format!("{HEAD}transfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

struct Setup {
    listener: TcpListener,
    supervisor: Supervisor,
    woken: Pin<Box<dyn Stream<Item = StoreKey> + Send>>,
}

use futures::Stream;
use std::pin::Pin;

async fn setup() -> Setup {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let wake = Arc::new(Wake::default());
    let port = listener.local_addr().unwrap().port();
    let supervisor = Supervisor::with_port(Arc::new(HttpAdmin), Arc::clone(&wake), port);
    let target = Target {
        uid: "u".into(),
        ip: Ipv4Addr::LOCALHOST.into(),
    };
    supervisor.attend(&key(), [(0, target)].into());
    Setup {
        listener,
        supervisor,
        woken: Box::pin(wake.stream()),
    }
}

impl Setup {
    async fn woken(&mut self) {
        let woken = tokio::time::timeout(SILENCE * 3, self.woken.next()).await;
        assert_eq!(woken.expect("nobody was woken"), Some(key()));
    }

    async fn asleep(&mut self) {
        let woken = tokio::time::timeout(Duration::from_millis(300), self.woken.next()).await;
        assert!(woken.is_err(), "woken for nothing");
    }

    fn heard(&self) -> Option<Heard> {
        self.supervisor.heard(&key()).remove(&0)
    }
}

#[tokio::test]
async fn what_a_replica_says_is_known_and_what_matters_wakes() {
    let mut setup = setup().await;
    let mut stream = open(&setup.listener).await;
    let mut status = testing::status(7);
    say(&mut stream, &status).await;
    setup.woken().await;
    assert_eq!(setup.heard().unwrap().status, status);
    status.last.lsn = crate::replication::types::Lsn(99);
    say(&mut stream, &status).await;
    setup.asleep().await;
    assert_eq!(
        setup.heard().unwrap().status.last.lsn.0,
        99,
        "known all the same"
    );
    status.role = Role::Leader;
    say(&mut stream, &status).await;
    setup.woken().await;
}

#[tokio::test]
async fn a_replica_that_goes_and_comes_is_lost_and_found() {
    let mut setup = setup().await;
    let mut stream = open(&setup.listener).await;
    say(&mut stream, &testing::status(7)).await;
    setup.woken().await;
    drop(stream);
    setup.woken().await;
    let heard = setup.heard().unwrap();
    assert!(!heard.connected);
    assert_eq!(
        heard.status.id,
        testing::status(7).id,
        "what it said last is kept"
    );
    let mut stream = open(&setup.listener).await;
    say(&mut stream, &testing::status(8)).await;
    setup.woken().await;
    assert!(setup.heard().unwrap().connected);
}

#[test]
fn who_led_and_who_heard_a_leader_is_kept_when_another_process_speaks() {
    let mut leader = testing::status(7);
    leader.role = Role::Leader;
    let before = heard(None, leader.clone());
    let led = before.led.unwrap();
    assert_eq!(
        (led.epoch, led.incarnation),
        (leader.epoch, leader.incarnation)
    );
    let mut successor = testing::status(7);
    successor.incarnation += 1;
    successor.leader_heard = true;
    let after = heard(Some(&before), successor.clone());
    assert_eq!(after.led, before.led);
    let hears = Some((successor.incarnation, successor.epoch));
    assert_eq!(after.heard_leader, hears);
    successor.leader_heard = false;
    assert_eq!(heard(Some(&after), successor).heard_leader, hears);
}

#[tokio::test]
async fn the_parent_of_a_process_and_a_leader_are_asked() {
    let process = ProcessStatus {
        running: None,
        ended: vec![5, 7],
    };
    let (address, asked) = answer("200 OK", serde_json::to_string(&process).unwrap()).await;
    assert_eq!(HttpAdmin.process(address).await.unwrap(), process);
    assert_eq!(asked.await.unwrap().0, "GET /process HTTP/1.1");
    let (address, asked) = answer("409 Conflict", "too busy\n".into()).await;
    let request = SwitchoverRequest {
        epoch: Epoch(4),
        target: testing::status(7).id,
        deadline_ms: 100,
        to: None,
        store: None,
    };
    let refused = HttpAdmin.switchover(address, request).await.unwrap_err();
    assert_eq!(refused.to_string(), "409 Conflict: too busy");
    assert_eq!(asked.await.unwrap().0, "POST /switchover HTTP/1.1");
}

#[tokio::test]
async fn a_replica_that_falls_silent_is_lost() {
    let mut setup = setup().await;
    let mut stream = open(&setup.listener).await;
    say(&mut stream, &testing::status(7)).await;
    setup.woken().await;
    let since = std::time::Instant::now();
    setup.woken().await;
    assert!(!setup.heard().unwrap().connected);
    assert!(since.elapsed() >= SILENCE / 2, "it was not the connection");
}

#[tokio::test]
async fn a_pod_that_is_gone_is_heard_no_more() {
    let mut setup = setup().await;
    let mut stream = open(&setup.listener).await;
    say(&mut stream, &testing::status(7)).await;
    setup.woken().await;
    setup.supervisor.attend(&key(), BTreeMap::new());
    assert_eq!(setup.heard(), None);
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(SILENCE, stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the stream is closed");
}

/// Answers one request with `status` and `body`; returns what was asked.
async fn answer(status: &'static str, body: String) -> (SocketAddr, JoinHandle<(String, String)>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let asked = request(&mut stream).await;
        let text = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        asked
    });
    (address, task)
}

#[tokio::test]
async fn promises_are_asked_and_answered() {
    let promise = PromiseAnswer {
        leases: Vec::new(),
        id: testing::status(7).id,
        granted: true,
        promised: Epoch(4),
        last: Position::default(),
        before: None,
        cut: Epoch(0),
        acknowledged: Vec::new(),
        forgotten: false,
    };
    let (address, asked) = answer("200 OK", serde_json::to_string(&promise).unwrap()).await;
    let request = PromiseRequest {
        epoch: Epoch(4),
        to: None,
        store: None,
    };
    assert_eq!(HttpAdmin.promise(address, request).await.unwrap(), promise);
    let (first, body) = asked.await.unwrap();
    assert_eq!(first, "POST /promise HTTP/1.1");
    assert_eq!(body, r#"{"epoch":4}"#);
}

#[tokio::test]
async fn a_refusal_comes_with_its_reason() {
    let (address, _asked) = answer("409 Conflict", "promised epoch 9\n".into()).await;
    let assignment = Assignment {
        configuration: Configuration::default(),
        members: Vec::new(),
        settings: Settings::default(),
        stamp: 0,
    };
    let error = HttpAdmin.configure(address, &assignment).await.unwrap_err();
    assert_eq!(error.to_string(), "409 Conflict: promised epoch 9");
}
