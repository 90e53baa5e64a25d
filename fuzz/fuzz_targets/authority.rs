//! See `jmp_wire::authority::fuzz_authority`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jmp_wire::authority::fuzz_authority(data));
