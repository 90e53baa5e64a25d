//! The controller: leases, exporters, clients and administrators over the pure scheduler and a store.
