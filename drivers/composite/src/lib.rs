//! Groups of drivers and references between them
