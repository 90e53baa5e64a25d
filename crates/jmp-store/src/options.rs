//! Sizes that a store keeps to.

/// Sizes that a store keeps to.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many changes watchers may fall behind before they must list again. The memory for it is that
    /// of so many objects.
    pub history: usize,
    /// How many events are kept of each object.
    pub events_per_object: usize,
    /// How many reads may run at the same time, each with a connection of its own (SQLite only).
    pub readers: usize,
    /// The largest file in pages of 4096 bytes (SQLite only); up to the disk without.
    pub maximum_pages: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history: 1024,
            events_per_object: 50,
            readers: 4,
            maximum_pages: None,
        }
    }
}
