//! See `jmp_config::fuzz_exporter_yaml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jmp_config::fuzz_exporter_yaml(data));
