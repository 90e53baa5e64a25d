//! A small simulated board: boot ROM, U-Boot, Linux console, storage, power.

pub mod board;
