use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reading {
    voltage: f64,
    current: Option<f32>,
    channel: u8,
    tags: Vec<String>,
    by_port: BTreeMap<i32, bool>,
    mode: Mode,
    id: uuid::Uuid,
    nothing: (),
    pair: (i64, char),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Mode {
    Idle,
    Fixed(u16),
    Range(i32, i32),
    Named { name: String, level: Option<i8> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Chain(Option<Box<Chain>>);

/// Bytes as serde sees them, not as a sequence of numbers.
#[derive(Debug, PartialEq)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BlobVisitor;
        impl serde::de::Visitor<'_> for BlobVisitor {
            type Value = Blob;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("bytes")
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_byte_buf(BlobVisitor)
    }
}

fn value(json: serde_json::Value) -> Value {
    json_to_value(json).expect("shallow")
}

fn number(number: f64) -> Value {
    Value {
        kind: Some(Kind::NumberValue(number)),
    }
}

fn error<T: DeserializeOwned + fmt::Debug>(value: Value) -> String {
    from_value::<T>(value).expect_err("refused").to_string()
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Idle),
        any::<u16>().prop_map(Mode::Fixed),
        any::<(i32, i32)>().prop_map(|(low, high)| Mode::Range(low, high)),
        any::<(String, Option<i8>)>().prop_map(|(name, level)| Mode::Named { name, level }),
    ]
}

fn reading() -> impl Strategy<Value = Reading> {
    let numbers = (
        -1e300..1e300f64,
        prop::option::of(-1e30..1e30f32),
        any::<u8>(),
        (-(1i64 << 53)..=1i64 << 53, any::<char>()),
    );
    let containers = (
        vec(any::<String>(), 0..4),
        btree_map(any::<i32>(), any::<bool>(), 0..4),
    );
    (numbers, containers, mode(), any::<u128>()).prop_map(
        |((voltage, current, channel, pair), (tags, by_port), mode, id)| Reading {
            voltage,
            current,
            channel,
            tags,
            by_port,
            mode,
            id: uuid::Uuid::from_u128(id),
            nothing: (),
            pair,
        },
    )
}

fn wire_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(None),
        Just(Some(Kind::NullValue(0))),
        Just(Some(Kind::NullValue(7))),
        any::<bool>().prop_map(|flag| Some(Kind::BoolValue(flag))),
        any::<f64>().prop_map(|number| Some(Kind::NumberValue(number))),
        any::<i32>().prop_map(|number| Some(Kind::NumberValue(number.into()))),
        any::<String>().prop_map(|text| Some(Kind::StringValue(text))),
    ]
    .prop_map(|kind| Value { kind });
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(|values| Kind::ListValue(ListValue { values })),
            btree_map(any::<String>(), inner, 0..6)
                .prop_map(|fields| Kind::StructValue(Struct { fields })),
        ]
        .prop_map(|kind| Value { kind: Some(kind) })
    })
}

proptest! {
    #[test]
    fn typed_values_round_trip(reading in reading()) {
        let wire = to_value(&reading).expect("serializes");
        let decoded = Value::decode(wire.encode_to_vec().as_slice()).expect("decodes");
        prop_assert_eq!(from_value::<Reading>(decoded), Ok(reading));
    }

    #[test]
    fn any_wire_value_converts(value in wire_value()) {
        fuzz_value(&value.encode_to_vec());
        let _ = from_value::<Reading>(value.clone());
        let _ = from_value::<Mode>(value.clone());
        let _ = from_value::<Chain>(value);
    }

    #[test]
    fn any_bytes_are_survived(data in vec(any::<u8>(), 0..200)) {
        fuzz_value(&data);
    }

    #[test]
    fn every_integer_type_takes_what_is_in_its_range(integer in -70_000i64..70_000) {
        let wire = number(integer as f64);
        prop_assert_eq!(from_value::<i8>(wire.clone()).ok(), i8::try_from(integer).ok());
        prop_assert_eq!(from_value::<u16>(wire.clone()).ok(), u16::try_from(integer).ok());
        prop_assert_eq!(from_value::<u64>(wire.clone()).ok(), u64::try_from(integer).ok());
        prop_assert_eq!(from_value::<i128>(wire).ok(), Some(i128::from(integer)));
    }
}

#[test]
fn the_encoding_is_that_of_the_released_version() {
    let id = uuid::Uuid::from_u128(0x1234);
    let cases = [
        (to_value(&()), json!(null)),
        (to_value(&None::<u8>), json!(null)),
        (to_value(&f64::NAN), json!(null)),
        (to_value(&f32::NEG_INFINITY), json!(null)),
        (to_value(&7u8), json!(7)),
        (to_value(&'x'), json!("x")),
        (to_value(&id), json!("00000000-0000-0000-0000-000000001234")),
        (to_value(&Blob(b"text".to_vec())), json!("text")),
        (to_value(&BTreeMap::from([(true, 1)])), json!({"true": 1})),
        (to_value(&BTreeMap::from([(-3, ())])), json!({"-3": null})),
        (to_value(&(1, "a", [2.5])), json!([1, "a", [2.5]])),
        (to_value(&Mode::Idle), json!("Idle")),
        (to_value(&Mode::Fixed(3)), json!({"Fixed": 3})),
        (to_value(&Mode::Range(1, 2)), json!({"Range": [1, 2]})),
    ];
    for (wire, json) in cases {
        assert_eq!(wire, Ok(value(json)));
    }
    assert_eq!(from_value::<Option<u8>>(Value { kind: None }), Ok(None));
    assert_eq!(from_value::<()>(Value { kind: None }), Ok(()));
    assert_eq!(
        from_value::<Blob>(value(json!("text"))),
        Ok(Blob(b"text".to_vec()))
    );
    assert_eq!(
        from_value::<Mode>(value(json!({"Idle": null}))),
        Ok(Mode::Idle)
    );
}

#[test]
fn integral_doubles_are_integers_where_the_type_is_open() {
    let print = |number: Value| value_to_json(number).expect("shallow").to_string();
    assert_eq!(print(number(5.0)), "5");
    assert_eq!(print(number(-5.0)), "-5");
    assert_eq!(print(number(-0.0)), "0");
    assert_eq!(print(number(2.5)), "2.5");
    assert_eq!(print(number(9_007_199_254_740_992.0)), "9007199254740992");
    assert_eq!(print(number(1e300)), "1e+300");
    assert_eq!(print(number(f64::NAN)), "null");

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u32),
        Text(String),
    }
    assert_eq!(from_value(number(5.0)), Ok(Either::Number(5)));
}

#[test]
fn large_integers_are_taken_as_far_as_their_type_reaches() {
    assert_eq!(from_value::<u64>(number(2f64.powi(63))), Ok(1 << 63));
    assert_eq!(from_value::<i64>(number(-(2f64.powi(63)))), Ok(i64::MIN));
    assert!(from_value::<i64>(number(2f64.powi(63))).is_err());
    assert!(from_value::<u64>(number(2f64.powi(64))).is_err());
    assert_eq!(from_value::<u128>(number(2f64.powi(100))), Ok(1 << 100));
    assert!(from_value::<i128>(number(1e300)).is_err());
    assert!(from_value::<i64>(number(f64::INFINITY)).is_err());
    assert!(from_value::<i64>(number(f64::NAN)).is_err());
}

#[test]
fn errors_name_the_place_and_what_was_expected() {
    assert_eq!(
        error::<i32>(number(1.5)),
        "expected an integer, but 1.5 has a fraction"
    );
    assert_eq!(
        error::<u8>(number(300.0)),
        "invalid value: integer `300`, expected u8"
    );
    assert_eq!(
        error::<BTreeMap<String, Vec<u8>>>(value(json!({"ports": [1, 2, "x"]}))),
        "at `.ports[2]`: invalid type: string \"x\", expected u8"
    );
    assert_eq!(
        error::<BTreeMap<u8, ()>>(value(json!({"x": null}))),
        "at `.x`: invalid value: string \"x\", expected a key that is an integer, not negative"
    );
    assert_eq!(
        error::<(u8, u8)>(value(json!([1, 2, 3]))),
        "expected 2 elements, found 3"
    );
    assert_eq!(
        error::<Mode>(value(json!({"Named": {"name": 5}}))),
        "at `.Named.name`: invalid type: integer `5`, expected a string"
    );
    assert_eq!(
        error::<Mode>(value(json!("Fixed"))),
        "variant \"Fixed\" carries data: send a struct with the variant as only member"
    );
    assert_eq!(
        error::<Mode>(value(json!(1))),
        "invalid type: integer `1`, expected a variant of Mode: its name, or a struct with its \
         name as only member"
    );
    assert_eq!(
        error::<f64>(value(json!(null))),
        "invalid type: null, expected f64"
    );
    let message = to_value(&vec![Blob(vec![b'a', 0xff])]).expect_err("no text");
    assert_eq!(message.path(), "[0]");
    assert!(
        message.to_string().contains("first at offset 1"),
        "{message}"
    );
    let message = to_value(&BTreeMap::from([((1, 2), 3)])).expect_err("no key");
    assert!(message.to_string().contains("not a tuple"), "{message}");
}

fn nested(depth: usize, wrap: impl Fn(Value) -> Kind) -> Value {
    (0..depth).fold(number(1.0), |inner, _| Value {
        kind: Some(wrap(inner)),
    })
}

fn in_list(inner: Value) -> Kind {
    Kind::ListValue(ListValue {
        values: vec![inner],
    })
}

fn in_struct(inner: Value) -> Kind {
    Kind::StructValue(Struct {
        fields: BTreeMap::from([("a".to_owned(), inner)]),
    })
}

#[test]
fn depth_is_limited_in_both_directions() {
    for wrap in [in_list, in_struct] {
        let deepest = nested(MAX_DEPTH, wrap);
        let json = value_to_json(deepest.clone()).expect("at the limit");
        assert_eq!(to_value(&json), Ok(deepest.clone()));
        assert_eq!(json_to_value(json.clone()), Ok(deepest.clone()));
        assert_eq!(from_value(deepest.clone()), Ok(json.clone()));

        // What we accept, a peer can read inside a call.
        let call = as_call(deepest);
        assert!(ListValue::decode(call.encode_to_vec().as_slice()).is_ok());

        let deeper = nested(MAX_DEPTH + 1, wrap);
        assert!(value_to_json(deeper.clone()).is_err());
        assert!(from_value::<serde_json::Value>(deeper).is_err());
        assert!(to_value(&vec![json.clone()]).is_err());
        assert!(json_to_value(json!([json])).is_err());
    }
    let newtypes = (0..100_000).fold(Chain(None), |inner, _| Chain(Some(Box::new(inner))));
    let refused = to_value(&newtypes).is_err();
    // Dropping a chain of that length recursively would overflow by itself.
    let mut rest = newtypes.0;
    while let Some(mut next) = rest {
        rest = next.0.take();
    }
    assert!(refused);
    // A recursive newtype reads the same number over and over.
    assert!(from_value::<Chain>(number(1.0)).is_err());
}

/// A call carries its arguments as a repeated `Value`, which is what a list is.
fn as_call(argument: Value) -> ListValue {
    ListValue {
        values: vec![argument],
    }
}

#[test]
fn ignored_members_may_hold_anything() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Little {
        kept: u8,
    }
    let wire = value(json!({"kept": 1, "other": {"deep": [1, 2]}}));
    assert_eq!(from_value(wire), Ok(Little { kept: 1 }));
}
