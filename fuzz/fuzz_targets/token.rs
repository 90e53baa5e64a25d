//! See `jmp_auth::fuzz_token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jmp_auth::fuzz_token(data));
