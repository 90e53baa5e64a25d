//! Many tunnels at one time, all of which carry bytes at the beginning and at the end.

use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use jmp_client::{ByteStream, Client};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::lab::{Outcome, Place, line};
use crate::leases::{acquire, connect};

/// Bytes that each tunnel echoes at each turn.
const PAYLOAD: usize = 64 * 1024;
/// Tunnels that are being opened at one time.
const AT_ONCE: usize = 32;

/// One tunnel and what it is used for.
struct Tunnel {
    _client: Client,
    echo: ByteStream,
}

/// Opens them, says `open N`, waits for a line, uses them again and says `alive N`.
pub async fn run(place: &Place, count: usize, leases: usize) -> Outcome<()> {
    let controller = place.controller()?;
    let mut names = Vec::new();
    for _ in 0..leases {
        names.push(acquire(&controller).await?.0);
    }
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut opening = JoinSet::new();
    for name in names.iter().cycle().take(count) {
        let (controller, places, name) = (controller.clone(), Arc::clone(&places), name.clone());
        opening.spawn(async move {
            let _place = places.acquire().await?;
            let client = connect(&controller, &name).await?;
            let echo = client
                .device("echo")?
                .handle()?
                .open_stream("connect")
                .await?;
            Outcome::Ok(Tunnel {
                _client: client,
                echo,
            })
        });
    }
    let mut tunnels = Vec::new();
    while let Some(opened) = opening.join_next().await {
        tunnels.push(opened??);
    }
    let tunnels = use_all(tunnels).await?;
    println!("open {}", tunnels.len());
    line().await;
    let tunnels = use_all(tunnels).await?;
    println!("alive {}", tunnels.len());
    drop(tunnels);
    for name in names {
        controller.delete_lease(&name).await?;
    }
    Ok(())
}

/// Echoes bytes through all of them at the same time.
async fn use_all(tunnels: Vec<Tunnel>) -> Outcome<Vec<Tunnel>> {
    let used = tunnels.into_iter().map(|mut tunnel| async move {
        tunnel
            .echo
            .writer
            .send(Bytes::from(vec![7; PAYLOAD]))
            .await?;
        let mut left = PAYLOAD;
        while left > 0 {
            let chunk = tunnel.echo.reader.next().await.ok_or("a tunnel ended")??;
            left = left.saturating_sub(chunk.len());
        }
        Outcome::Ok(tunnel)
    });
    futures::future::try_join_all(used).await
}
