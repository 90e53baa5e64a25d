//! The bodies of the fuzz targets as properties, on inputs near to good ones.

use jmp_auth::pki::{Authority, ServerNames};
use jmp_auth::{Subject, fuzz_certificate, fuzz_metadata, fuzz_token};
use jmp_types::Timestamp;
use proptest::prelude::*;

const HEADER_WORDS: [&str; 22] = [
    "authorization:",
    "authorization:Bearer ",
    "bearer ",
    "Authorization:Bearer x",
    "jumpstarter-kind:",
    "jumpstarter-kind:Client",
    "jumpstarter-kind:Exporter",
    "jumpstarter-kind:Admin",
    "jumpstarter-namespace:",
    "jumpstarter-namespace:lab",
    "jumpstarter-name:",
    "jumpstarter-name:hello",
    "dex:system:serviceaccount:lab:ci",
    "dex:A.B@c",
    "é",
    ":",
    "\n",
    "\n",
    "\n",
    "\0",
    "\t",
    "internal:client:lab:hello:1",
];

fn words(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(words), 0..16).prop_map(|chosen| chosen.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_are_a_token(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_token(&data);
    }

    #[test]
    fn no_text_that_looks_like_a_token_is_one(text in "[A-Za-z0-9_-]{0,60}(\\.[A-Za-z0-9_-]{0,80}){0,3}") {
        fuzz_token(text.as_bytes());
    }

    #[test]
    fn one_change_spoils_a_token(data in prop::collection::vec(any::<u8>(), 3)) {
        fuzz_token(&data);
    }

    #[test]
    fn headers_never_panic(text in words(&HEADER_WORDS), noise in prop::collection::vec(any::<u8>(), 0..40)) {
        fuzz_metadata(text.as_bytes());
        fuzz_metadata(&noise);
        fuzz_metadata(&[text.as_bytes(), &noise].concat());
    }

    #[test]
    fn subjects_are_read_back(kind in 0..4, namespace in "[^:\\p{Cc}]{1,9}", name in "[^:\\p{Cc}]{1,9}", uid in "[^:\\p{Cc}]{1,9}") {
        let subject = match kind {
            0 => Subject::client(&namespace, &name, &uid),
            1 => Subject::exporter(&namespace, &name, &uid),
            2 => Subject::administrator(&name, &uid),
            _ => Subject::router(&name, &uid),
        };
        prop_assert_eq!(subject.to_string().parse(), Ok(subject));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn certificates_never_panic(changes in prop::collection::vec((any::<u16>(), any::<u8>()), 0..4), length in any::<u16>()) {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let authority = Authority::in_memory(now).unwrap();
        let leaf = authority.issue(&ServerNames::new(["lab"]).unwrap(), now).unwrap();
        let mut bytes = leaf.certified.cert[0].as_ref().to_vec();
        for (position, byte) in changes {
            let position = usize::from(position) % bytes.len();
            bytes[position] = byte;
        }
        fuzz_certificate(&bytes);
        bytes.truncate(usize::from(length) % (bytes.len() + 1));
        fuzz_certificate(&bytes);
    }
}
