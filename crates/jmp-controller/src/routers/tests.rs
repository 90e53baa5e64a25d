//! What is remembered for routers that come back.

use jmp_auth::IdentityKind;

use super::*;
use crate::context::Peer;
use crate::probe::Probe;

fn caller() -> Caller {
    let (_, probe) = Probe::wrap(tokio::io::empty(), CancellationToken::new());
    Caller {
        kind: IdentityKind::Router,
        key: Key::new("default", "east"),
        uid: "1".into(),
        token_id: String::new(),
        expires_at: jmp_types::Timestamp::MAX,
        generation: 1,
        peer: Peer::new(None, probe),
    }
}

/// A busy lab ends more leases while a router is away than may wait for one that is there.
#[tokio::test(start_paused = true)]
async fn a_router_that_was_away_hears_of_everything_that_ended() {
    let routers = Routers::new(Arc::default());
    let lease = |number: usize| Key::new("default", format!("l{number}"));
    for number in 0..OUTBOX + 500 {
        routers.close_lease(&lease(number), OVER);
    }
    let mut joined = routers.join(&caller(), proto::RouterHello::default());
    let told = joined.backlog.iter().map(|order| match &order.instruction {
        Some(Instruction::Close(close)) => close.lease.clone(),
        other => panic!("{other:?}"),
    });
    let wanted = (0..OUTBOX + 500).map(|number| lease(number).to_string());
    assert!(told.eq(wanted));
    // And there is room for what ends from now on.
    for number in 0..OUTBOX {
        routers.close_lease(&lease(number), OVER);
    }
    assert!(!joined.stop.is_cancelled());
    assert!(joined.instructions.try_recv().is_ok());
    tokio::time::advance(REMEMBERED + Duration::from_secs(1)).await;
    let late = routers.join(&caller(), proto::RouterHello::default());
    assert!(late.backlog.is_empty());
    for number in 0..CLOSED + 10 {
        routers.close_lease(&lease(number), OVER);
    }
    assert_eq!(routers.lock().closed.len(), CLOSED);
}
