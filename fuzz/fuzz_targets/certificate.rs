//! See `jmp_auth::fuzz_certificate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jmp_auth::fuzz_certificate(data));
