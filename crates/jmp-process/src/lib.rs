//! Child processes that die with their owner, pseudo terminals, raw terminals
