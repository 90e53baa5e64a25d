//! Session server, hooks and direct listener
