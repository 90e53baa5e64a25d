//! Commands and output formats of jmp and j
