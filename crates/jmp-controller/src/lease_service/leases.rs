//! The leases of a namespace.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::Stream;
use jmp_proto::jmp::v1::{LeaseChange, LeaseState};
use jmp_types::resource::Lease;
use tonic::Status;

use super::news::{Heard, News};
use super::state;
use crate::client_service::listed_leases;
use crate::context::Context;
use crate::selection::LeaseSelection;
use crate::view::Item;

/// Leases of a page of ended ones.
const PAGE: i32 = 500;

/// All leases that the selection holds, then `synchronized`, then every change. Whoever was too slow
/// gets the whole list once more.
pub fn watch(
    context: Arc<Context>,
    mut news: News,
    namespace: String,
    wanted: LeaseSelection,
) -> impl Stream<Item = Result<LeaseChange, Status>> + Send {
    async_stream::try_stream! {
        // Names that the watcher believes to be among them.
        let mut shown: BTreeSet<String> = BTreeSet::new();
        let mut begin = true;
        loop {
            if begin {
                let mut present = BTreeSet::new();
                for lease in context.view.list::<Lease>(Some(&namespace)) {
                    if wanted.holds(&lease) {
                        present.insert(lease.metadata.name.clone());
                        yield change(state(&context, &lease).await?, false);
                    }
                }
                if !wanted.only_active {
                    let mut token = String::new();
                    loop {
                        let at = (PAGE, token.as_str());
                        let (page, next) =
                            listed_leases(&context, Some(&namespace), &wanted, at, |lease| {
                                crate::convert::lease(lease, &context.settings.labels, context.now())
                            })
                            .await?;
                        for lease in page {
                            let name = lease.name.rsplit('/').next().unwrap_or_default().to_owned();
                            if present.insert(name) {
                                yield change(LeaseState { lease: Some(lease), queue: None }, false);
                            }
                        }
                        if next.is_empty() {
                            break;
                        }
                        token = next;
                    }
                }
                for name in shown.difference(&present) {
                    let mut lease = Lease::default();
                    lease.metadata.name.clone_from(name);
                    lease.metadata.namespace.clone_from(&namespace);
                    yield change(state_of_gone(&context, &lease), true);
                }
                shown = present;
                yield LeaseChange { synchronized: true, ..LeaseChange::default() };
                begin = false;
            }
            let heard = match news.next(None).await? {
                Heard::Change(heard) => heard,
                Heard::Missed => {
                    begin = true;
                    continue;
                }
                Heard::Pause => continue,
            };
            let Item::Lease(lease) = &heard.item else { continue };
            if lease.metadata.namespace != namespace {
                continue;
            }
            if !heard.deleted && wanted.holds(lease) {
                shown.insert(lease.metadata.name.clone());
                yield change(state(&context, lease).await?, false);
            } else if shown.remove(&lease.metadata.name) {
                yield change(state_of_gone(&context, lease), true);
            }
        }
    }
}

fn state_of_gone(context: &Context, lease: &Lease) -> LeaseState {
    LeaseState {
        lease: Some(crate::convert::lease(
            lease,
            &context.settings.labels,
            context.now(),
        )),
        queue: None,
    }
}

fn change(state: LeaseState, removed: bool) -> LeaseChange {
    LeaseChange {
        state: Some(state),
        removed,
        synchronized: false,
    }
}
