//! See `jmp_controller::fuzz::fuzz_requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jmp_controller::fuzz::fuzz_requests(data));
