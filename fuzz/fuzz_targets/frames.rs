//! See `jmp_wire::frame::fuzz_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jmp_wire::frame::fuzz_frames(data));
