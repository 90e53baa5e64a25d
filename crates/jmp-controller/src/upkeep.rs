//! What has to be done now and then: pruning, renewing certificates.

use std::sync::Arc;
use std::time::Duration;

use jmp_auth::pki::{Refreshed, ServerCertificate};
use jmp_types::Timestamp;

use crate::context::Context;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(600);
/// Rows that are deleted at once, so that others can write in between.
const ROWS: usize = 500;
/// How often the ends of tokens are compared with a clock that may be set.
const TOKENS: Duration = Duration::from_secs(30);
/// How often certificates are looked at.
const RENEWAL: Duration = Duration::from_secs(6 * 3600);

/// Prunes what is older than the settings say, until the controller stops.
pub(crate) async fn run(context: Arc<Context>) {
    loop {
        prune(&context).await;
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = context.stopping.cancelled() => return,
        }
    }
}

/// Ends the streams of exporters with their tokens, until the controller stops.
pub(crate) async fn expire(context: Arc<Context>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TOKENS) => {}
            () = context.stopping.cancelled() => return,
        }
        context.exporters.expire(context.now());
    }
}

async fn prune(context: &Context) {
    let now = context.now();
    let leases = before(now, context.settings.lease_retention);
    loop {
        match context.store.prune_leases(leases, ROWS).await {
            Ok(pruned) if pruned < ROWS => break,
            Ok(_) if context.stopping.is_cancelled() => return,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "old leases were not deleted");
                break;
            }
        }
    }
    let rows = before(now, context.settings.audit_retention);
    loop {
        match context.audit.prune_audit(rows, ROWS).await {
            Ok(pruned) if pruned < ROWS => break,
            Ok(_) if context.stopping.is_cancelled() => return,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "old audit records were not deleted");
                break;
            }
        }
    }
}

fn before(now: Timestamp, age: Duration) -> Timestamp {
    now.checked_sub(age).unwrap_or(Timestamp::MIN)
}

/// Renews the certificate in time, until the controller stops.
pub(crate) async fn renew(context: Arc<Context>, certificate: Arc<ServerCertificate>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEWAL) => {}
            () = context.stopping.cancelled() => return,
        }
        match certificate.refresh(context.now()) {
            Ok(Refreshed::Unchanged) => {}
            Ok(_) => tracing::info!("the certificate was renewed"),
            Err(error) => tracing::error!(%error, "the certificate cannot be renewed"),
        }
    }
}
