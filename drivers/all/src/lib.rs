//! The list of built-in drivers
