//! See `jmp_controller::login::fuzz_login`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jmp_controller::login::fuzz_login(data));
