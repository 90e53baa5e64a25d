//! See `jmp_types::fuzz_selector`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jmp_types::fuzz_selector(data));
