//! Commands of `j` for storage.

pub mod files;
pub mod images;
