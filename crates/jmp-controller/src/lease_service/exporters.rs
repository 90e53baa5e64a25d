//! The exporters of a namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::Stream;
use jmp_proto::jmp::v1::ExporterChange;
use jmp_proto::jumpstarter::client::v1 as client;
use jmp_types::resource::{Exporter, LabelSelector};
use tonic::Status;

use super::news::{Heard, News};
use crate::context::Context;
use crate::convert;
use crate::view::Item;

/// All exporters that the filter lets through, then `synchronized`, then every change of what clients
/// see. Whoever was too slow gets the whole list once more.
pub fn watch(
    context: Arc<Context>,
    mut news: News,
    namespace: String,
    filter: LabelSelector,
    show_hidden: bool,
) -> impl Stream<Item = Result<ExporterChange, Status>> + Send {
    async_stream::try_stream! {
        let convert = |exporter: &Exporter| {
            convert::exporter(exporter, &context.settings.labels, show_hidden)
        };
        // What the watcher was told last, by name.
        let mut shown: BTreeMap<String, client::Exporter> = BTreeMap::new();
        let mut begin = true;
        loop {
            if begin {
                let mut gone = std::mem::take(&mut shown);
                for exporter in context.view.list::<Exporter>(Some(&namespace)) {
                    if filter.matches(&exporter.metadata.labels) {
                        let found = convert(&exporter);
                        gone.remove(&exporter.metadata.name);
                        shown.insert(exporter.metadata.name.clone(), found.clone());
                        yield change(found, false);
                    }
                }
                for exporter in gone.into_values() {
                    yield change(exporter, true);
                }
                yield ExporterChange { synchronized: true, ..ExporterChange::default() };
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
            let Item::Exporter(exporter) = &heard.item else { continue };
            if exporter.metadata.namespace != namespace {
                continue;
            }
            let name = &exporter.metadata.name;
            if !heard.deleted && filter.matches(&exporter.metadata.labels) {
                let found = convert(exporter);
                // Most writes are about things that clients do not see.
                if shown.get(name) != Some(&found) {
                    shown.insert(name.clone(), found.clone());
                    yield change(found, false);
                }
            } else if shown.remove(name).is_some() {
                yield change(convert(exporter), true);
            }
        }
    }
}

fn change(exporter: client::Exporter, removed: bool) -> ExporterChange {
    ExporterChange {
        exporter: Some(exporter),
        removed,
        synchronized: false,
    }
}
