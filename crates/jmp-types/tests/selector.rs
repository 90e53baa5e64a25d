//! Selectors of any text.

use jmp_types::fuzz_selector;
use proptest::prelude::*;

proptest! {
    #[test]
    fn canonical_texts_mean_the_same(text in "[a-c!=(),. innot]{0,40}") {
        fuzz_selector(text.as_bytes());
    }

    #[test]
    fn well_formed_ones_too(
        terms in prop::collection::vec(
            prop_oneof![
                "[a-c]=[1-3]", "[a-c]!=[1-3]", "[a-c] in \\([1-3],[1-3]\\)",
                "[a-c] notin \\([1-3],[1-3]\\)", "[a-c]", "![a-c]",
            ],
            0..6,
        ),
    ) {
        fuzz_selector(terms.join(",").as_bytes());
    }
}
