//! A real Redis client.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};

/// Port for clients.
pub(crate) const PORT: u16 = 6379;
/// A Pod's port at which every answer is the leader's.
pub(crate) const LEADER_PORT: u16 = 6381;

/// Connects to a host, or to a host's port. A command that is not answered within `patience` fails.
pub(crate) async fn connect_within(
    host: &str,
    patience: Duration,
) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(patience.min(Duration::from_secs(2))))
        .set_response_timeout(Some(patience));
    let address = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:{PORT}")
    };
    let client = Client::open(format!("redis://{address}/"))?;
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

/// Connects, with the patience of a test that expects no fault. A Service that has just got its
/// first ready Pod is reached only once every node knows: until then a try is in vain.
pub(crate) async fn connect(host: &str) -> MultiplexedConnection {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match connect_within(host, Duration::from_secs(10)).await {
            Ok(connection) => return connection,
            Err(error) if Instant::now() >= deadline => {
                panic!("connecting to {host}:{PORT}: {error}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Values of many keys, in pieces that no server minds.
pub(crate) async fn get_all(
    connection: &mut MultiplexedConnection,
    keys: &[String],
) -> RedisResult<Vec<Option<String>>> {
    let mut values = Vec::with_capacity(keys.len());
    for piece in keys.chunks(1000) {
        let found: Vec<Option<String>> = redis::cmd("MGET")
            .arg(piece)
            .query_async(connection)
            .await?;
        values.extend(found);
    }
    Ok(values)
}
