//! What every power driver must do; each driver's tests run it against a real session.

use std::time::Duration;

use futures::StreamExt;
use jmp_driver::ErrorKind;

use super::{PowerClient, PowerReading};

/// How long one step may take.
const LIMIT: Duration = Duration::from_secs(10);

async fn within<T>(step: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, work).await {
        Ok(result) => result,
        Err(_) => panic!("{step}: nothing for {} seconds", LIMIT.as_secs()),
    }
}

async fn first_reading(client: &PowerClient) -> PowerReading {
    let mut readings = within("read", client.read()).await.expect("read");
    let reading = within("first reading", readings.next()).await;
    reading.expect("a reading").expect("a good reading")
}

/// Runs the suite. The device may be in any state before and is off afterwards.
///
/// # Panics
///
/// At the first thing that is not as it must be.
pub async fn check(client: PowerClient) {
    for _ in 0..2 {
        within("on", client.on())
            .await
            .expect("on, also when it is on");
    }
    let reading = first_reading(&client).await;
    assert!(
        reading.voltage.is_finite() && reading.voltage >= 0.0,
        "{reading:?}"
    );
    assert!(
        reading.current.is_finite() && reading.current >= 0.0,
        "{reading:?}"
    );
    for _ in 0..2 {
        within("off", client.off())
            .await
            .expect("off, also when it is off");
    }
    within("cycle", client.cycle(Duration::from_millis(10)))
        .await
        .expect("cycle");
    let together = (0..10).map(|number| {
        let client = client.clone();
        async move {
            if number % 2 == 0 {
                client.on().await
            } else {
                client.off().await
            }
        }
    });
    for result in within("ten calls at once", futures::future::join_all(together)).await {
        result.expect("calls at the same time");
    }
    let unknown = client.handle().call::<()>("no_such_method", ()).await;
    let unknown = unknown.expect_err("an unknown method is refused");
    assert_eq!(unknown.kind(), ErrorKind::MethodNotFound);
    let surplus = client.handle().call::<()>("on", (1,)).await;
    assert!(surplus.is_err(), "a surplus argument is refused");
    within("off", client.off()).await.expect("off");
}
