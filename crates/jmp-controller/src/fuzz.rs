//! What fuzzers run: bytes as each request of the services here, read and checked as the handlers do.

/// Reads `data` as every request of the services for clients and administrators, as a manifest, and as
/// what a stranger sends to the login endpoint.
///
/// # Panics
/// Never, which is what a fuzzer looks for.
pub fn fuzz_requests(data: &[u8]) {
    crate::client_service::fuzz(data);
    crate::admin_service::fuzz(data);
    crate::login::fuzz_login(data);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fuzz_requests;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_bytes_are_too_bad(data in prop::collection::vec(any::<u8>(), 0..512)) {
            fuzz_requests(&data);
        }

        #[test]
        fn nor_are_texts(text in "[ -~\n]{0,256}") {
            fuzz_requests(text.as_bytes());
        }
    }
}
