//! One lease until its end.

use std::sync::Arc;

use futures::Stream;
use jmp_proto::jmp::v1::LeaseState;
use jmp_types::resource::{Key, Lease};
use tokio::time::Instant;
use tonic::Status;

use super::news::{Heard, News};
use super::{QUEUE_PAUSE, state};
use crate::context::Context;
use crate::view::Item;

/// The lease now, then after every change, until it has ended. While it waits, also when its place in
/// the queue has changed.
pub fn watch(
    context: Arc<Context>,
    mut news: News,
    key: Key,
) -> impl Stream<Item = Result<LeaseState, Status>> + Send {
    async_stream::try_stream! {
        let mut lease = current(&context, &key).await?;
        let mut last = state(&context, &lease).await?;
        yield last.clone();
        // When to look at the queue again, because something happened that may have changed it.
        let mut again: Option<Instant> = None;
        while !lease.status.ended {
            match news.next(again).await? {
                Heard::Change(change) => match &change.item {
                    Item::Lease(found) if found.key() == key => {
                        if change.deleted && !found.status.ended {
                            Err(gone(&key))?;
                        }
                        // Written before this watch began.
                        if found.metadata.resource_version == lease.metadata.resource_version {
                            continue;
                        }
                        lease = Arc::clone(found);
                        last = state(&context, &lease).await?;
                        yield last.clone();
                        again = None;
                        continue;
                    }
                    _ if waits(&lease) => {
                        again.get_or_insert_with(|| Instant::now() + QUEUE_PAUSE);
                        continue;
                    }
                    _ => continue,
                },
                Heard::Missed => lease = current(&context, &key).await?,
                Heard::Pause => {}
            }
            again = None;
            let found = state(&context, &lease).await?;
            if differs(&found, &last) {
                last = found;
                yield last.clone();
            }
        }
    }
}

fn waits(lease: &Lease) -> bool {
    lease.status.exporter_ref.is_none()
}

/// Time that passes is no news.
fn differs(found: &LeaseState, last: &LeaseState) -> bool {
    let still = |state: &LeaseState| {
        let mut state = state.clone();
        if let Some(lease) = &mut state.lease {
            lease.effective_duration = None;
        }
        state
    };
    still(found) != still(last)
}

async fn current(context: &Context, key: &Key) -> Result<Arc<Lease>, Status> {
    context.lease(key).await?.ok_or_else(|| gone(key))
}

fn gone(key: &Key) -> Status {
    Status::not_found(format!("lease {key} was deleted"))
}
