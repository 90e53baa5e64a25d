//! The board from outside: transcripts, faults and properties.

mod outcomes;
mod player;
mod properties;
mod transcripts;
