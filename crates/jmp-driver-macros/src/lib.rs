//! The interface macro
