//! See `jmp_wire::resource::fuzz_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jmp_wire::resource::fuzz_request(data));
