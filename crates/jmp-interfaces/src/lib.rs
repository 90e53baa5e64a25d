//! Shared driver interfaces and their clients
