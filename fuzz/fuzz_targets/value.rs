//! See `jmp_wire::value::fuzz_value`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jmp_wire::value::fuzz_value(data));
