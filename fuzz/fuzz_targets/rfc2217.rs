//! See `driver_serial::rfc2217::fuzz_rfc2217`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| driver_serial::rfc2217::fuzz_rfc2217(data));
