//! Everything from the store: at the start, and after a write failed.

use std::collections::BTreeSet;

use jmp_lease::pool::{Effect, Now, Pool};
use jmp_store::{Query, StoreError, StoreExt};
use jmp_types::resource::{AccessPolicy, Administrator, Client, Exporter, Kind, Lease, Router};

use super::{Engine, Parts};
use crate::routers::OVER;
use crate::view::Viewed;

/// Reads everything and shows it.
pub(super) async fn first(parts: &Parts) -> Result<(Pool, Vec<Effect>), StoreError> {
    read::<Administrator>(parts).await?;
    read::<Router>(parts).await?;
    let exporters = read::<Exporter>(parts).await?;
    let clients = read::<Client>(parts).await?;
    let policies = read::<AccessPolicy>(parts).await?;
    let leases = read::<Lease>(parts).await?;
    let now = Now {
        wall: parts.time.wall(),
        monotonic: parts.time.moment(),
    };
    let settings = parts.pool_settings.clone();
    Ok(Pool::restore(
        settings, exporters, clients, policies, leases, now,
    ))
}

/// Reads the objects of one kind and brings the view up to date.
async fn read<T: Viewed + PartialEq>(parts: &Parts) -> Result<Vec<T>, StoreError> {
    let query = match T::KIND {
        Kind::Lease => Query::live_leases(),
        kind => Query::new(kind),
    };
    let items = parts.store.list::<T>(query).await?.items;
    let found: BTreeSet<_> = items.iter().map(|item| item.metadata().key()).collect();
    for item in &items {
        let present = parts.view.get::<T>(&item.metadata().key());
        if let (Some(before), Some(lease)) = (present.as_deref(), item.as_lease())
            && before
                .as_lease()
                .is_some_and(|before| before.spec.client_ref != lease.spec.client_ref)
        {
            let reason = "permission denied: the lease was transferred";
            parts.routers.close_streams(&lease.key(), reason);
        }
        if present.is_none_or(|present| *present != *item) {
            parts.view.put(item.clone());
        }
    }
    for gone in parts.view.list::<T>(None) {
        if !found.contains(&gone.metadata().key()) {
            // A lease that is not among the live ones has ended: that is news, not a deletion.
            let ended = match gone.as_lease() {
                Some(_) => parts.store.get::<T>(&gone.metadata().key()).await?,
                None => None,
            };
            if gone.as_lease().is_some() {
                // Nobody heard what followed from it when it was written.
                parts.routers.close_lease(&gone.metadata().key(), OVER);
            }
            match ended {
                Some(ended) => {
                    if let Some(lease) = ended.as_lease() {
                        parts.metrics.ended(lease);
                    }
                    parts.view.put(ended);
                }
                None => parts.view.remove((*gone).clone()),
            }
        }
    }
    Ok(items)
}

// === impl Engine ===

impl Engine {
    /// Makes the pool again from what the store has. Says whether that worked; until it does,
    /// everything is refused.
    pub(super) async fn recover(&mut self) -> bool {
        self.healthy.send_replace(false);
        let (pool, mut effects) = match first(&self.parts).await {
            Ok(restored) => restored,
            Err(error) => {
                tracing::error!(%error, "the store cannot be read");
                return false;
            }
        };
        self.pool = pool;
        effects.extend(self.reconnect());
        let open: Vec<_> = self.connected.keys().cloned().collect();
        if let Err(error) = self.try_effects(effects).await {
            tracing::error!(%error, "the store cannot be written");
            return false;
        }
        self.healthy.send_replace(true);
        for exporter in open {
            let notice = self.pool.notice(&exporter);
            self.parts.sessions.notify(&exporter, notice);
        }
        tracing::info!("the store works again; everything was read anew");
        true
    }
}
