//! What is committed, for reading: every object that matters now, and news of each change.
//!
//! Only the engine writes here, after the store said that a change is on disk. Ended leases leave the
//! view; the store has them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use jmp_store::Resource;
use jmp_types::resource::{
    AccessPolicy, Administrator, Client, Exporter, Key, Kind, Lease, Router,
};
use tokio::sync::broadcast;

/// News that may wait for a slow reader; one that lags behind lists again.
const NEWS: usize = 4096;

/// One object, of any kind.
#[derive(Clone, Debug)]
pub enum Item {
    /// A lease.
    Lease(Arc<Lease>),
    /// An exporter.
    Exporter(Arc<Exporter>),
    /// A client.
    Client(Arc<Client>),
    /// A policy.
    AccessPolicy(Arc<AccessPolicy>),
    /// An administrator.
    Administrator(Arc<Administrator>),
    /// A router.
    Router(Arc<Router>),
}

/// One change.
#[derive(Clone, Debug)]
pub struct Change {
    /// Counts changes, without gaps, since the start.
    pub number: u64,
    /// The object as it is now, or was last.
    pub item: Item,
    /// It is gone.
    pub deleted: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Tables {
    number: u64,
    leases: BTreeMap<Key, Arc<Lease>>,
    exporters: BTreeMap<Key, Arc<Exporter>>,
    clients: BTreeMap<Key, Arc<Client>>,
    policies: BTreeMap<Key, Arc<AccessPolicy>>,
    administrators: BTreeMap<Key, Arc<Administrator>>,
    routers: BTreeMap<Key, Arc<Router>>,
}

/// A kind that the view has a table of.
pub trait Viewed: Resource {
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn table(tables: &Tables) -> &BTreeMap<Key, Arc<Self>>;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn table_mut(tables: &mut Tables) -> &mut BTreeMap<Key, Arc<Self>>;
    /// The object as one of any kind.
    fn item(object: Arc<Self>) -> Item;
    /// The object, if the item is of this kind.
    fn of(item: &Item) -> Option<&Arc<Self>>;
}

macro_rules! viewed {
    ($type:ident, $table:ident) => {
        impl Viewed for $type {
            #[allow(private_interfaces)]
            fn table(tables: &Tables) -> &BTreeMap<Key, Arc<Self>> {
                &tables.$table
            }
            #[allow(private_interfaces)]
            fn table_mut(tables: &mut Tables) -> &mut BTreeMap<Key, Arc<Self>> {
                &mut tables.$table
            }
            fn item(object: Arc<Self>) -> Item {
                Item::$type(object)
            }
            fn of(item: &Item) -> Option<&Arc<Self>> {
                match item {
                    Item::$type(object) => Some(object),
                    _ => None,
                }
            }
        }
    };
}

viewed!(Lease, leases);
viewed!(Exporter, exporters);
viewed!(Client, clients);
viewed!(AccessPolicy, policies);
viewed!(Administrator, administrators);
viewed!(Router, routers);

/// What is committed.
#[derive(Debug)]
pub struct View {
    tables: RwLock<Tables>,
    news: broadcast::Sender<Change>,
}

// === impl Item ===

impl Item {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Lease(_) => Kind::Lease,
            Self::Exporter(_) => Kind::Exporter,
            Self::Client(_) => Kind::Client,
            Self::AccessPolicy(_) => Kind::ExporterAccessPolicy,
            Self::Administrator(_) => Kind::Administrator,
            Self::Router(_) => Kind::Router,
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Lease(object) => object.metadata.key(),
            Self::Exporter(object) => object.metadata.key(),
            Self::Client(object) => object.metadata.key(),
            Self::AccessPolicy(object) => object.metadata.key(),
            Self::Administrator(object) => object.metadata.key(),
            Self::Router(object) => object.metadata.key(),
        }
    }
}

// === impl View ===

impl Default for View {
    fn default() -> Self {
        Self {
            tables: RwLock::default(),
            news: broadcast::channel(NEWS).0,
        }
    }
}

impl View {
    /// One object; of leases only those that have not ended.
    #[must_use]
    pub fn get<T: Viewed>(&self, key: &Key) -> Option<Arc<T>> {
        T::table(&self.read()).get(key).cloned()
    }

    /// The objects of a namespace, or of all of them, by namespace and name; of leases only those that
    /// have not ended.
    #[must_use]
    pub fn list<T: Viewed>(&self, namespace: Option<&str>) -> Vec<Arc<T>> {
        let tables = self.read();
        let table = T::table(&tables);
        let Some(namespace) = namespace else {
            return table.values().cloned().collect();
        };
        let first = Key::new(namespace, "");
        table
            .range((Bound::Included(first), Bound::Unbounded))
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// The live lease that holds the exporter. Only the leases say so: stored exporters do not.
    #[must_use]
    pub fn lease_of(&self, exporter: &Key) -> Option<Arc<Lease>> {
        let mut leases = self.list::<Lease>(Some(&exporter.namespace)).into_iter();
        leases.find(|lease| lease.exporter().as_ref() == Some(exporter))
    }

    /// The changes from now on. Subscribe first, then list: a change that is in both does no harm.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.news.subscribe()
    }

    /// The number of the last change.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.read().number
    }

    /// Stores the object as committed and tells everybody.
    pub(crate) fn put<T: Viewed>(&self, object: T) {
        let object = Arc::new(object);
        let ended = object.as_lease().is_some_and(|lease| lease.status.ended);
        let key = object.metadata().key();
        let mut tables = self.write();
        if ended {
            T::table_mut(&mut tables).remove(&key);
        } else {
            T::table_mut(&mut tables).insert(key, Arc::clone(&object));
        }
        self.tell(&mut tables, T::item(object), false);
    }

    /// Forgets the object and tells everybody.
    pub(crate) fn remove<T: Viewed>(&self, object: T) {
        let mut tables = self.write();
        T::table_mut(&mut tables).remove(&object.metadata().key());
        self.tell(&mut tables, T::item(Arc::new(object)), true);
    }

    fn tell(&self, tables: &mut Tables, item: Item, deleted: bool) {
        tables.number += 1;
        let number = tables.number;
        // Under the lock, so that news come in the order of their numbers. Nobody may be listening.
        let _ = self.news.send(Change {
            number,
            item,
            deleted,
        });
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}
