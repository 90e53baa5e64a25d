//! `jmp`, also run as `j`.
fn main() {}
